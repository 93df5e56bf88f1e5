"""The cache of matches: found by content, safe on disk, bounded in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from niddl_xr.schema import NiddlError
from niddl_xr.tracking import _matches
from niddl_xr.tracking._matches import Matches, _Memory, digest_of, forget

KIND = np.dtype([("moving", np.uint16), ("probability", np.float32)])


def entry(*numbers: int) -> np.ndarray:
    return np.array([(number, number / 8) for number in numbers], KIND)


@pytest.fixture(autouse=True)
def _no_memory() -> None:
    forget()


def test_a_digest_stands_for_shape_dtype_and_order():
    numbers = np.arange(6.0)
    digests = [
        digest_of(numbers),
        digest_of(numbers.reshape(2, 3)),
        digest_of(numbers.astype(np.float32)),
        digest_of(numbers[::-1]),
        digest_of("ab", "c"),
        digest_of("a", "bc"),
    ]
    assert len(set(digests)) == len(digests)
    assert digest_of(np.asfortranarray(numbers.reshape(2, 3))) == digests[1]


def test_entries_of_every_length_come_back_from_the_folder_in_another_process(tmp_path: Path):
    keys = [digest_of(str(number)) for number in range(3)]
    entries = [entry(4, 1), entry(), entry(7)]
    with Matches("pairs", KIND, tmp_path / "matches") as cache:
        for key, value in zip(keys, entries, strict=True):
            cache.put(key, value)
    forget()
    with Matches("pairs", KIND, tmp_path / "matches") as cache:
        for key, value in zip(keys, entries, strict=True):
            np.testing.assert_array_equal(cache.get(key), value)
        assert cache.get(digest_of("other")) is None
    with Matches("poses", KIND, tmp_path / "matches") as cache:
        assert cache.get(keys[0]) is None


def test_what_was_in_memory_is_written_to_a_folder_named_later(tmp_path: Path):
    with Matches("pairs", KIND) as cache:
        cache.put(b"key", entry(3))
    with Matches("pairs", KIND, tmp_path / "new") as cache:
        assert cache.get(b"key") is not None
    forget()
    with Matches("pairs", KIND, tmp_path / "new") as cache:
        np.testing.assert_array_equal(cache.get(b"key"), entry(3))


def test_killed_while_writing_loses_the_last_part_alone(tmp_path: Path):
    with Matches("pairs", KIND, tmp_path) as cache:
        cache.put(b"first", entry(1))
    whole = next(tmp_path.glob("*.npz"))
    (tmp_path / "pairs-matches-0123.unfinished").write_bytes(whole.read_bytes()[:40])
    (tmp_path / "pairs-matches-torn.npz").write_bytes(whole.read_bytes()[:-30])
    forget()
    with pytest.warns(UserWarning, match=r"torn\.npz cannot be read .*computed again"):
        cache = Matches("pairs", KIND, tmp_path).__enter__()
    np.testing.assert_array_equal(cache.get(b"first"), entry(1))


def test_a_part_is_written_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_matches, "_PART_ENTRIES", 2)
    with Matches("pairs", KIND, tmp_path) as cache:
        for number in range(3):
            cache.put(bytes([number]), entry(number))
        assert len(list(tmp_path.glob("*.npz"))) == 1
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_memory_gives_up_what_was_not_used_for_longest():
    memory = _Memory(limit_bytes=3 * (8 + _matches._OVERHEAD_BYTES))
    for name in (b"a", b"b", b"c"):
        memory.put(name, np.zeros(1))
    memory.get(b"a")
    memory.put(b"d", np.zeros(1))
    assert [name for name in (b"a", b"b", b"c", b"d") if memory.get(name) is None] == [b"b"]
    assert memory.used_bytes <= memory.limit_bytes


def test_folders_of_others_and_wrong_entries_are_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(NiddlError, match=r"folder of their own, got .* which holds \['notes.txt'\]"):
        Matches("pairs", KIND, tmp_path)
    with pytest.raises(NiddlError, match=r"expected matches as a folder, got the file"):
        Matches("pairs", KIND, tmp_path / "notes.txt")
    with pytest.raises(NiddlError, match="expected an entry of one dimension"):
        Matches("pairs", KIND).put(b"key", np.zeros((2, 3)))
