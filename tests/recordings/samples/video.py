"""Movies, written by FFmpeg: codecs with and without loss, gray and colour, with and without reordered frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def write_movie(
    path: Path,
    frames: np.ndarray,
    codec: str,
    *,
    given: str = "gray",
    stored: str | None = None,
    times: Sequence[int] | None = None,
    rate: int = 20,
    options: dict[str, str] | None = None,
    gop: int | None = None,
) -> Path:
    """Write frames (t, y, x) or (t, y, x, colour) of the pixel format ``given`` as ``stored``.

    ``times`` are those of the frames in ms; by default they are ``1 / rate`` s apart.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = stored or given
        if gop:
            stream.codec_context.gop_size = gop
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, values in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(values, format=given)
            if stored:
                frame = frame.reformat(format=stored)
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def noise(frames: int, height: int, width: int, *colours: int, dtype: str = "uint8") -> np.ndarray:
    """Return counts that tell every frame from its neighbours."""
    return np.random.default_rng(5).integers(0, np.iinfo(dtype).max, (frames, height, width, *colours)).astype(dtype)


def moving(frames: int, height: int, width: int) -> np.ndarray:
    """Return frames of a spot that moves over a ramp, which codecs with loss keep well."""
    t, y, x = np.ogrid[:frames, :height, :width]
    spot = 120 * np.exp(-(((y - height / 2) ** 2 + (x - 5 - 1.5 * t) ** 2) / 40))
    return (40 + 50 * x / width + 0 * y + spot).astype("uint8")


def raw_gray(folder: Path) -> Path:
    return write_movie(folder / "raw.avi", noise(7, 12, 18), "rawvideo")


def deep_gray(folder: Path) -> Path:
    """16 bits, without loss."""
    return write_movie(folder / "deep.mkv", noise(6, 12, 18, dtype="uint16"), "ffv1", given="gray16le")


def photo_jpeg(folder: Path) -> Path:
    return write_movie(folder / "photo.avi", moving(9, 32, 48), "mjpeg", stored="yuvj420p")


def reordered(folder: Path) -> Path:
    """H.264 with frames that are stored in another order than shown, a keyframe every 8."""
    options = {"bf": "2", "x264-params": "scenecut=0"}
    return write_movie(
        folder / "reordered.mp4", moving(30, 32, 48), "libx264", stored="yuv420p", gop=8, options=options
    )


def irregular(folder: Path) -> Path:
    """Frames at times of their own."""
    times = [0, 50, 100, 230, 260, 300]
    return write_movie(folder / "irregular.mkv", noise(6, 12, 18), "ffv1", times=times)


def coloured(folder: Path) -> Path:
    return write_movie(folder / "coloured.mkv", noise(4, 12, 18, 3), "ffv1", given="rgb24", stored="bgr0")


def gray_as_rgb(folder: Path) -> Path:
    frames = np.repeat(noise(5, 12, 18)[..., np.newaxis], 3, axis=3)
    return write_movie(folder / "gray_as_rgb.avi", frames, "huffyuv", given="rgb24")


def miniscope(folder: Path) -> Path:
    """Three movies of a Miniscope (software of version 4) with their time stamps."""
    session = folder / "miniscope"
    session.mkdir()
    frames = noise(11, 12, 18)
    for number, part in enumerate((frames[:4], frames[4:8], frames[8:])):
        write_movie(session / f"{number}.avi", part, "ffv1")
    rows = [f"{frame},{frame * 50 + 7 * (frame > 5)},{frame % 3}" for frame in range(11)]
    (session / "timeStamps.csv").write_text("\n".join(["Frame Number,Time Stamp (ms),Buffer Index", *rows]) + "\n")
    (session / "metaData.json").write_text('{"frameRate": "20FPS"}')
    return session


SAMPLES: dict[str, Callable[[Path], Path]] = {
    function.__name__: function
    for function in (
        raw_gray,
        deep_gray,
        photo_jpeg,
        reordered,
        irregular,
        coloured,
        gray_as_rgb,
        miniscope,
    )
}
OPTIONS: dict[str, dict[str, Any]] = {"coloured": {"channel": "green"}}
