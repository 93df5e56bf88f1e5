"""Suspicion and the review queue: mistakes planted into tracks whose truth is known."""

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import mannwhitneyu

from niddl_xr import schema
from niddl_xr.neurons import ANCHOR, AUTO, FILLED, MANUAL, make_tracks
from niddl_xr.schema import NiddlError
from niddl_xr.simulation import whole_brain
from niddl_xr.tracking import _quality_queue, quality, track_quality
from niddl_xr.tracking._kernels import suspicion as kernel
from niddl_xr.tracking._quality_measures import measured

FRAMES, COUNT = 90, 30


def moving(frames: int = FRAMES, count: int = COUNT, *, noise_um: float = 0.2, seed: int = 0) -> np.ndarray:
    """A cloud (t, n, 3) that is moved, turned, stretched and sheared as a whole, at random in each frame."""
    rng = np.random.default_rng(seed)
    cloud = rng.uniform(0, 30, (count, 3))
    places = np.empty((frames, count, 3))
    for t in range(frames):
        places[t] = cloud @ (np.eye(3) + rng.normal(0, 0.15, (3, 3))) + rng.normal(0, 10, 3)
    return places + rng.normal(0, noise_um, places.shape)


def tracks_of(places: np.ndarray, *, provenance: np.ndarray | None = None, det_id: bool = False) -> xr.Dataset:
    observed = np.isfinite(places).all(axis=-1)
    provenance = np.where(observed, AUTO, FILLED) if provenance is None else provenance
    numbers = np.cumsum(observed.ravel()).reshape(observed.shape) - 1
    return make_tracks(
        places,
        observed,
        confidence=0.9 * observed,
        provenance=provenance,
        det_id=np.where(observed & det_id, numbers, -1),
        t=("t", np.arange(len(places)) * 0.25, {"units": "s"}),
        neurons=[f"n{number:03d}" for number in range(places.shape[1])],
    )


def table_of(places: np.ndarray) -> pd.DataFrame:
    frame, neuron = np.nonzero(np.isfinite(places).all(axis=-1))
    points = places[frame, neuron].astype(np.float32).astype(float)
    table = pd.DataFrame({"t_index": frame, "z": points[:, 0], "y": points[:, 1], "x": points[:, 2]})
    table = table.assign(intensity=100.0 + 10 * (neuron % 7), radius_um=2.0)
    table.attrs["frames"] = len(places)
    return table


# ---- kernels


def test_the_expected_place_is_exact_where_all_move_as_one():
    places = moving(noise_um=0.0)
    near, spacing = kernel.around(places)
    expected, usual = kernel.expected_places(places, np.zeros((FRAMES, COUNT), bool), near, spacing)
    assert np.sqrt(((expected - places) ** 2).sum(-1)).max() < 0.3
    assert usual.max() < 0.1


def test_the_expected_place_is_not_led_astray():
    """A neuron that is wrong for 40 of 90 frames is expected where it truly is, and so are its neighbours."""
    truth = moving()
    places = truth.copy()
    places[20:60, 4] += (0, 5, -4)
    places[30:35, 9] = np.nan
    near, spacing = kernel.around(places)
    expected, _ = kernel.expected_places(places, np.zeros((FRAMES, COUNT), bool), near, spacing)
    off = np.sqrt(((expected - truth) ** 2).sum(-1))
    assert np.median(off[20:60, 4]) < 1
    assert np.quantile(off, 0.99) < 1.5
    assert np.isfinite(expected).all()


def test_trusted_points_count_where_they_are():
    """In one frame neuron 4 of 7 is 9 µm away: its neighbours go by it only if a human said so."""
    truth = moving(count=7)
    places = truth.copy()
    places[40, 4] += (0, 9, 0)
    near, spacing = kernel.around(places)
    others = [0, 1, 2, 3, 5, 6]
    for trust, least, most in ((False, 0.0, 1.5), (True, 1.6, 9.0)):
        trusted = np.zeros((FRAMES, 7), bool)
        trusted[40, 4] = trust
        expected, _ = kernel.expected_places(places, trusted, near, spacing)
        off = np.sqrt(((expected - truth)[40, others] ** 2).sum(-1))
        assert least < off.max() < most


def test_neighbours_spacing_and_jumps_by_hand():
    places = np.zeros((4, 3, 3))
    places[:, 1, 2], places[:, 2, 2] = 5, 12
    near, spacing = kernel.around(places)
    assert near[:, 0].tolist() == [1, 0, 1]
    assert spacing.tolist() == [5, 5, 7]
    off = np.zeros((5, 2, 3))
    off[2, 0] = (0, 3, 4)
    off[1, 1] = np.nan
    off[3:, 1] = (1, 0, 0)
    assert kernel.jumps_um(off).T.tolist()[0] == [0, 5, 5, 5, 0]
    np.testing.assert_array_equal(kernel.jumps_um(off)[:, 1], [0, np.nan, 1, 1, 0])


def test_runs_by_hand():
    flags = np.array([0, 1, 1, 0, 1, 0, 0, 0, 1], bool)
    assert kernel.runs(flags) == [(1, 3), (4, 5), (8, 9)]
    assert kernel.runs(flags, bridged=1) == [(1, 5), (8, 9)]
    assert kernel.runs(flags, bridged=3) == [(1, 9)]
    assert kernel.runs(flags[:1]) == []
    assert kernel.run_lengths(flags[:, None])[:, 0].tolist() == [0, 2, 2, 0, 1, 0, 0, 0, 1]


def test_changes_of_brightness_are_relative():
    rng = np.random.default_rng(0)
    values = np.exp(rng.normal(0, 0.1, (200, 6))) * np.array([1, 5, 30, 2, 9, 4])
    values[50, 2] *= 3
    values[3, 4] = np.nan
    jumps = kernel.log_jumps(values, 15)
    assert np.unravel_index(np.nanargmax(jumps), jumps.shape) == (50, 2)
    assert 8 < jumps[50, 2] < 14  # log 3 is 11 times 0.1
    assert np.isnan(jumps[3, 4])


# ---- the verb


def test_forty_wrong_frames_are_one_item():
    places = moving()
    places[20:60, 4] += (0, 5, -4)
    quality = track_quality(tracks_of(places))
    first = quality.queue.iloc[0]
    assert (first.neuron, first.t_start, first.t_end, first.frames) == ("n004", 20, 59, 40)
    assert 20 <= first.t_index <= 59
    assert "from where its neighbours expect it" in first.reason or "jumps" in first.reason
    assert (quality.queue["neuron"] == "n004").sum() == 1
    truth = moving()[first.t_index, 4]
    assert np.linalg.norm(first[["expected_z", "expected_y", "expected_x"]].astype(float) - truth) < 1.5
    np.testing.assert_allclose(first[["z", "y", "x"]].astype(float), places[first.t_index, 4], atol=1e-4)
    suspicion = quality.suspicion["suspicion"].values
    assert suspicion[20:60, 4].min() > suspicion[:20].max()


def test_two_that_were_exchanged_name_each_other():
    places = moving()
    near, _ = kernel.around(places)
    other = int(near[4, 0])
    places[30:42, [4, other]] = places[30:42, [other, 4]]
    quality = track_quality(tracks_of(places))
    top = quality.queue.head(2)
    assert set(top["neuron"]) == {"n004", f"n{other:03d}"}
    assert set(top["exchange_with"]) == set(top["neuron"])
    assert all(
        f"{name} stands where it is expected" in reason for name, reason in top[["exchange_with", "reason"]].values
    )
    inside = quality.suspicion["exchange_with"].values
    assert (inside[30:42, 4] == other).all()
    assert (inside[:30] == -1).all()


def test_what_a_human_said_is_beyond_suspicion():
    places = moving()
    places[20:60, 4] += (0, 5, -4)
    places[20:60, 5] += (0, -6, 2)
    provenance = np.full((FRAMES, COUNT), AUTO)
    provenance[20:60, 4], provenance[20:60, 5] = MANUAL, ANCHOR
    quality = track_quality(tracks_of(places, provenance=provenance))
    assert not quality.suspicion["suspicion"].values[20:60, 4:6].any()
    queue = quality.queue[quality.queue["neuron"].isin(["n004", "n005"])]
    assert not ((queue["t_index"] >= 20) & (queue["t_index"] < 60)).any()


def test_another_detection_that_fits_better():
    """Neuron 4 was put on a false detection; its own is in the table, unused."""
    truth = moving()
    places = truth.copy()
    places[40, 4] += (0, 2.5, 0)
    table = table_of(places)
    table.loc[len(table)] = [40, *truth[40, 4], 140.0, 2.0]
    table["t_index"] = table["t_index"].astype(int)
    table.attrs["frames"] = FRAMES
    tracks = tracks_of(places, det_id=True)
    found = track_quality(tracks, table).suspicion
    ambiguity = found["ambiguity"].values
    assert ambiguity[40, 4] > 0.8  # 2.5 µm away, against some tenths
    assert np.quantile(ambiguity[np.arange(FRAMES) != 40], 0.99) < 0.5
    by_hand = found["residual_um"].values[40, 4]
    assert by_hand == pytest.approx(2.5, abs=0.7)
    without = track_quality(tracks).suspicion
    assert np.isnan(without["ambiguity"]).all()
    assert float(found["suspicion"][40, 4]) > float(without["suspicion"][40, 4])
    by_place = track_quality(tracks.drop_vars("det_id"), table).suspicion
    np.testing.assert_allclose(by_place["ambiguity"], ambiguity, atol=1e-6)


def test_jumps_of_brightness_and_size():
    places = moving()
    table = table_of(places)
    rng = np.random.default_rng(1)
    table["intensity"] *= np.exp(rng.normal(0, 0.1, len(table)))
    table["radius_um"] *= np.exp(rng.normal(0, 0.1, len(table)))
    row = 50 * COUNT + 7
    table.loc[row, ["intensity", "radius_um"]] *= 4
    found = track_quality(tracks_of(places, det_id=True), table)
    for name in ("intensity_jump", "radius_jump"):
        values = found.suspicion[name].values
        assert np.unravel_index(np.nanargmax(values), values.shape) == (50, 7)
    suspicion = found.suspicion["suspicion"].values
    assert suspicion[50, 7] > 4 * np.median(suspicion)
    bare = track_quality(tracks_of(places, det_id=True), table[["t_index", "z", "y", "x"]])
    assert np.isnan(bare.suspicion["intensity_jump"]).all()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("residual", r"^\d\.\d µm from where its neighbours expect it$"),
        ("lasting", r"^for several frames \d\.\d µm from where"),
        ("usual", r"^moves otherwise than its neighbours in all frames \(by 0\.\d µm\)$"),
        ("jump", r"^jumps by \d\.\d µm against its neighbours$"),
        ("ambiguity", r"µm from where its neighbours expect it, another detection is about as near$"),
        ("disagreement", r"^found with a confidence of 0\.90$"),
        ("intensity", r"^brightness changes \d+ times as much as is usual$"),
        ("radius", r"^size changes \d+ times as much as is usual$"),
        ("unassigned", r"^only 97% of the neurons are found in this frame$"),
        ("frame", r"^all neurons of this frame are far from where they are expected$"),
    ],
)
def test_every_reason_has_words(kind, words):
    places = moving(frames=20)
    places[7, 3] = np.nan
    text = _quality_queue._words(kind, measured(tracks_of(places, det_id=True), table_of(places)), 7, 5)
    assert re.search(words, text), text
    assert kind in quality._OBSERVED


def test_positions_without_a_detection():
    places = moving()
    observed = np.ones((FRAMES, COUNT), bool)
    observed[30:37, 3] = False
    places[30:37, 3] += (0, 8, 8)
    places[60:64, 8] = np.nan
    tracks = tracks_of(places)
    tracks["observed"] = (("t", "neuron"), observed & np.isfinite(places).all(-1))
    quality = track_quality(tracks)
    assert quality.suspicion["unobserved_run"].values[30:37, 3].tolist() == [7] * 7
    assert np.isnan(quality.suspicion["suspicion"].values[60:64, 8]).all()
    assert np.isnan(quality.suspicion["disagreement"].values[33, 3])
    item = quality.queue.set_index("neuron").loc["n003"]
    assert item["reason"].startswith("not detected for 7 frames")
    assert quality.frames["observed_fraction"].values[[0, 31, 61]] == pytest.approx([1, 29 / 30, 29 / 30])


def test_the_table_of_frames():
    places = moving()
    table = table_of(places)
    extra = pd.DataFrame(
        {"t_index": [9] * 10, "z": 200.0, "y": np.arange(10.0), "x": 0, "intensity": 1, "radius_um": 2}
    )
    table = pd.concat([table, extra], ignore_index=True)
    table.attrs["frames"] = FRAMES
    frames = track_quality(tracks_of(places, det_id=True), table).frames
    assert frames["t_index"].tolist() == list(range(FRAMES))
    assert frames["used_fraction"].values[[8, 9]] == pytest.approx([1, 30 / 40])
    assert frames["t"].iloc[4] == 1.0
    assert (frames["residual_um"] < 0.6).all()


def planted(seed: int) -> tuple[xr.Dataset, np.ndarray]:
    """True tracks of a freely moving head with jitter, gaps, and 15 exchanges of near neurons for 1 to 20 frames."""
    head = whole_brain(shape=(30, 512, 512), frames=80, neurons=70, motion="free", seed=seed)
    places = head["tracks"]["position"].values.astype(float)
    rng = np.random.default_rng(seed)
    places += rng.normal(0, 0.35, places.shape)
    near, _ = kernel.around(places)
    name = np.tile(np.arange(70), (80, 1))
    for _ in range(15):
        first, start = int(rng.integers(70)), int(rng.integers(79))
        second, end = int(near[first, rng.integers(3)]), start + int(rng.integers(1, 21))
        for array in (places, name):
            array[start:end, [first, second]] = array[start:end, [second, first]]
    places[rng.random((80, 70)) < 0.07] = np.nan
    return tracks_of(places), name != np.arange(70)


@pytest.mark.parametrize("seed", [0, 1])
def test_real_mistakes_come_first(seed):
    tracks, wrong = planted(seed)
    quality = track_quality(tracks)
    seen = tracks["observed"].values
    suspicion = quality.suspicion["suspicion"].values[seen]
    truth = wrong[seen]
    area = mannwhitneyu(suspicion[truth], suspicion[~truth]).statistic / (truth.sum() * (~truth).sum())
    assert area > 0.95
    number = {name: n for n, name in enumerate(tracks["neuron"].values.tolist())}
    top = quality.queue.head(20)
    hits = [wrong[t, number[name]] for t, name in zip(top["t_index"], top["neuron"], strict=True)]
    assert np.mean(hits) >= 0.9
    assert 0.01 < wrong.mean() < 0.1  # chance


# ---- edges


def test_dims_in_another_order_and_lazy_tracks_give_the_same():
    tracks = tracks_of(moving(frames=20))
    wanted = track_quality(tracks)
    got = track_quality(tracks.transpose("space", "neuron", "t").isel(space=[2, 1, 0]).chunk(t=7, neuron=11))
    np.testing.assert_array_equal(got.suspicion["suspicion"].values, wanted.suspicion["suspicion"].values)
    pd.testing.assert_frame_equal(got.queue, wanted.queue)
    assert got.suspicion["suspicion"].dims == ("t", "neuron")


@pytest.mark.parametrize(("frames", "count"), [(9, 0), (9, 1), (9, 2), (9, 3), (1, 8), (0, 4)])
def test_few_neurons_and_few_frames(frames, count):
    places = moving(frames=max(frames, 1), count=max(count, 1))[:frames, :count]
    tracks = tracks_of(places)
    quality = track_quality(tracks, table_of(places))
    assert quality.suspicion["suspicion"].shape == (frames, count)
    assert not np.isnan(quality.suspicion["suspicion"]).any()
    assert len(quality.frames) == frames
    assert (quality.queue["suspicion"] >= 0.2).all()


def test_frames_and_neurons_without_any_point():
    places = moving(frames=20)
    places[6] = np.nan
    places[:, 2] = np.nan
    quality = track_quality(tracks_of(places), table_of(places))
    suspicion = quality.suspicion["suspicion"].values
    assert np.isnan(suspicion[6]).all()
    assert np.isnan(suspicion[:, 2]).all()
    assert np.isfinite(np.delete(np.delete(suspicion, 6, 0), 2, 1)).all()
    assert quality.frames["observed_fraction"].iloc[6] == 0
    assert np.isnan(track_quality(tracks_of(places * np.nan)).suspicion["suspicion"]).all()


def test_two_points_at_one_place():
    places = moving(frames=20)
    places[:, 3] = places[:, 4]
    assert np.isfinite(track_quality(tracks_of(places)).suspicion["suspicion"]).all()


def test_tracks_of_others_need_no_confidence_and_no_provenance():
    places = moving(frames=20)
    plain = tracks_of(places)[["position", "observed"]]
    quality = track_quality(plain)
    assert np.isnan(quality.suspicion["disagreement"]).all()
    assert np.isfinite(quality.suspicion["suspicion"]).all()


def test_the_history_goes_on():
    tracks = schema.with_history(tracks_of(moving(frames=20)), "track", {"method": "vote"})
    quality = track_quality(tracks)
    assert [entry["verb"] for entry in schema.history(quality.suspicion)] == ["track", "track_quality"]
    assert quality.queue.attrs[schema.HISTORY] == quality.suspicion.attrs[schema.HISTORY]
    assert quality.suspicion.attrs["version_id"] == tracks.attrs["version_id"]


def test_what_does_not_fit_together():
    places = moving(frames=20)
    tracks, table = tracks_of(places, det_id=True), table_of(places)
    unknown = tracks.copy(deep=True)
    del unknown["position"].attrs["units"]
    with pytest.raises(NiddlError, match="expected position in µm .*, got units None"):
        track_quality(unknown)
    with pytest.raises(NiddlError, match="expected detections of the 12 frames of the tracks, got 20 frames"):
        track_quality(tracks.isel(t=slice(12)), table)
    with pytest.raises(NiddlError, match=r"a table in which 600 of 600 points stand elsewhere"):
        track_quality(tracks, table.assign(x=table["x"] + 40))
    other = table.copy()
    other.attrs |= {"recording_id": "b"}
    with pytest.raises(NiddlError, match="detections of the recording a of the tracks, got those of b"):
        track_quality(tracks.assign_attrs(recording_id="a"), other)
    with pytest.raises(NiddlError, match="expected detections with the columns"):
        track_quality(tracks, table.drop(columns="x"))
    with pytest.raises(NiddlError, match="expected tracks, a Dataset"):
        track_quality(tracks["position"])
