"""What a curator sees of a frame: from above, from the side, and the neuron in the frames before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import Range1d

from niddl_xr.plots._curation_figure import Let, Projection
from niddl_xr.plots._curation_frames import SLAB_UM, Frames, Picture
from niddl_xr.plots._curation_points import Columns, chosen_of, points_of, those
from niddl_xr.plots._planes import contrast

if TYPE_CHECKING:
    from niddl_xr.curation import Curation

TILE_PX = 152
TILE_UM = 8.0  # half the side of a tile: the neuron and its neighbours
SHORTEST_PX = 60


class Pictures:
    """The figures of one page. ``plane`` None: maximum over z; ``cut``: the side view is about the neuron."""

    def __init__(
        self,
        model: Curation,
        *,
        percentiles: tuple[float, float],
        palette: str,
        edge_px: int,
        let_above: Let,
        let_aside: Let,
    ) -> None:
        self.model = model
        self.frames = Frames(model.recording)
        self.plane: int | None = None
        self.cut = True
        self.colouring = "suspicion"
        self._percentiles = percentiles
        self._limits: tuple[float, float] | None = None
        self._drawn: dict[str, Any] = {}
        sides = {dim: self.frames.edges(dim) for dim in ("z", "y", "x")}
        lengths = {dim: high - low for dim, (low, high) in sides.items()}
        px_um = edge_px / max(lengths["y"], lengths["x"])
        width, height, depth = (max(SHORTEST_PX, round(lengths[dim] * px_um)) for dim in ("x", "y", "z"))
        (left, right), (top, bottom), (above, below) = sides["x"], sides["y"], sides["z"]
        x_range = Range1d(start=left, end=right)
        shared: dict[str, Any] = {"width_px": width, "palette": palette, "x_range": x_range}
        self.above = Projection((left, top, right, bottom), vertical="y", height_px=height, let=let_above, **shared)
        self.aside = Projection((left, above, right, below), vertical="z", height_px=depth, let=let_aside, **shared)
        self.aside.figure.visible = len(self.frames.places_um["z"]) > 1
        tile: dict[str, Any] = {"width_px": TILE_PX, "height_px": TILE_PX, "palette": palette, "let": None}
        self.tiles = [Projection((0, 0, 1, 1), vertical="y", small=True, **tile) for _ in range(3)]

    @property
    def all(self) -> list[Projection]:
        """From above, from the side, then the tiles."""
        return [self.above, self.aside, *self.tiles]

    def renew_contrast(self) -> None:
        """Take the contrast of the picture from above as it is now; it stays until the next time."""
        self._limits = contrast(self.frames.xy(self.model.t_index, self.plane).values, self._percentiles)

    def draw(self) -> None:
        """Draw the present frame; pixels that are drawn already are not sent again."""
        model, t = self.model, self.model.t_index
        if self._limits is None:
            self.renew_contrast()
        points = points_of(model, t, colouring=self.colouring)
        chosen = chosen_of(points, model.neuron)
        self._draw_above(t, points, chosen)
        self._draw_aside(t, points, chosen)
        self._draw_tiles(t, points)

    def _draw_above(self, t: int, points: Columns, chosen: Columns) -> None:
        if self.plane is not None:
            depth, near = self.frames.places_um["z"][self.plane], max(1.5 * self.frames.step_um("z"), 1.5)
            points = those(points, np.abs(points["z"] - depth) <= near)
        self._show("above", self.above, self.frames.xy(t, self.plane), (t, self.plane), points, chosen)

    def _draw_aside(self, t: int, points: Columns, chosen: Columns) -> None:
        if not self.aside.figure.visible:
            return
        y = float(self.model.position_um()[1])
        middle = y if self.cut and np.isfinite(y) else None
        if middle is not None:
            points = those(points, np.abs(points["y"] - middle) <= SLAB_UM)
        self._show("aside", self.aside, self.frames.xz(t, middle), (t, middle), points, chosen)

    def _draw_tiles(self, t: int, points: Columns) -> None:
        """Draw the neuron's place in this frame and in those beside it; lost here, the place where it was near."""
        model = self.model
        beside = [frame for frame in (t - 1, t + 1) if 0 <= frame < len(self.frames)]
        places = [model.position_um(t_index=frame) for frame in (t, *beside)]
        centre = next((place for place in places if np.isfinite(place).all()), None)
        for number, (tile, frame) in enumerate(zip(self.tiles, (t - 1, t, t + 1), strict=True)):
            shown = 0 <= frame < len(self.frames) and centre is not None
            tile.figure.visible = shown
            if not shown or centre is None:
                continue
            picture = self.frames.around(frame, centre, TILE_UM)
            here = points if frame == t else points_of(model, frame, colouring=self.colouring)
            left, top, right, bottom = picture.edges
            tile.figure.x_range.update(start=left, end=right)
            tile.figure.y_range.update(start=bottom, end=top)
            lost = "" if model.neuron in here["neuron"] else ": nowhere"
            tile.figure.title.text = f"{'now, ' if frame == t else ''}frame {frame}{lost}"
            place = (frame, *np.round(centre, 2).tolist())
            self._show(f"tile {number}", tile, picture, place, here, chosen_of(here, model.neuron))

    def _show(
        self, name: str, projection: Projection, picture: Picture, what: Any, points: Columns, chosen: Columns
    ) -> None:
        limits = self._limits or (0.0, 1.0)
        expected = self.model.expected_um()
        projection.show_points(
            self.model.t_index, points, chosen, expected if name != "tile 0" and name != "tile 2" else None
        )
        if self._drawn.get(name) != (what, limits):
            projection.show_picture(picture, limits)
            self._drawn[name] = (what, limits)
