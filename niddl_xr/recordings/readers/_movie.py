"""The frames of a movie: an index made without decoding, and decoders that seek to the keyframe before a frame."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from niddl_xr.recordings.readers._lazy import DAMAGE, damage_named
from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_FORMATS = "avi,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2"  # no playlists: these name other files and addresses
_TYPED_CODECS = ("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3")  # whose packets say how they are reordered
_IDLE_DECODERS = 4  # kept open, so that a block goes on where the block before it ended


@dataclass(frozen=True)
class Index:
    """The frames of a movie in the order in which they are shown.

    ``times`` are in units of ``tick_s``; ``keys[i]`` is the time of the keyframe to seek to for frame i. A movie that
    is not ``ordered`` states no times for its packets: it is decoded from its start. ``announced`` is the number of
    frames that the header states, 0 where it states none.
    """

    times: np.ndarray
    keys: np.ndarray
    tick_s: float
    ordered: bool
    announced: int

    def __len__(self) -> int:
        return len(self.times)

    @property
    def longest_run(self) -> int:
        """The largest number of frames that one keyframe begins."""
        return int(np.unique(self.keys, return_counts=True)[1].max(initial=1)) if self.ordered else 1


@contextmanager
def damage_of_movie_named(what: str) -> Iterator[None]:
    """Name the file in what FFmpeg raises for damage."""
    from av.error import FFmpegError

    with damage_named(what, (*DAMAGE, FFmpegError)):
        yield


def open_movie(path: str) -> tuple[InputContainer, VideoStream]:
    import av

    container = av.open(path, options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"})
    if not container.streams.video:
        container.close()
        raise NiddlError(f"{path} has no pictures; expected a movie")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        container.close()
        raise NiddlError(f"{path} is in a codec that FFmpeg does not know; save it as FFV1 or H.264")
    return container, stream


@lru_cache(maxsize=64)
def index_of(path: str, modified_ns: int) -> Index:
    """Return the index of the frames of a movie, without decoding them.

    Parameters
    ----------
    path
        The file.
    modified_ns
        When it was last written: a file that changed is read again.
    """
    with damage_of_movie_named(f"{path} is not a movie that can be read"):
        container, stream = open_movie(path)
        with container:
            tick_s = float(stream.time_base) if stream.time_base else 0.0
            announced, rate = stream.frames, float(stream.average_rate or 0)
            listed = _listed(stream, Path(path).stat().st_size)
            if listed is not None:
                return Index(listed, listed, tick_s, True, announced)
            packets = [
                (packet.pts, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.size and not packet.is_discard and not packet.is_corrupt
            ]
            reordered = container.format.name == "avi" and stream.codec_context.has_b_frames
            stated = not reordered or stream.codec_context.name in _TYPED_CODECS
    times = [packet[0] for packet in packets]
    if not stated or None in times or len(set(times)) < len(times) or not packets:
        count = np.arange(len(packets), dtype=np.int64)
        return Index(count, np.zeros_like(count), 1 / rate if rate else 0.0, False, announced)
    order = np.argsort(np.array(times, dtype=np.int64))
    shown = np.array(times, dtype=np.int64)[order]
    is_key = np.array([packet[1] for packet in packets])[order]
    keys = np.maximum.accumulate(np.where(is_key, shown, shown[0]))
    return Index(shown, keys, tick_s, True, announced)


def _listed(stream: VideoStream, size: int) -> np.ndarray | None:
    """Return the times of the frames by the table in the file, where it lists all of them and all are keyframes."""
    entries = list(getattr(stream, "index_entries", ()))
    if not entries or len(entries) != stream.frames or stream.codec_context.has_b_frames:
        return None
    if not all(entry.is_keyframe and entry.size and entry.pos + entry.size <= size for entry in entries):
        return None
    times = np.array([entry.timestamp for entry in entries], dtype=np.int64)
    return times if np.all(np.diff(times) > 0) else None


class Decoder:
    """An open movie that stands before frame ``position``; used by one thread at a time."""

    def __init__(self, path: str, index: Index) -> None:
        self.path, self.index, self.position = path, index, 0
        self._container, self._stream = open_movie(path)
        self._frames = self._container.decode(self._stream)

    def close(self) -> None:
        self._container.close()

    def frame(self, number: int) -> VideoFrame:
        """Return frame ``number`` after seeking to its keyframe, where going on from here would take longer."""
        index = self.index
        key = int(index.keys[number])
        passed = self.position > number
        if index.ordered and (passed or (self.position < len(index) and int(index.times[self.position]) < key)):
            self._container.seek(key, stream=self._stream, backward=True)
            self._frames = self._container.decode(self._stream)
            first = next(self._frames, None)
            place = -1 if first is None or first.pts is None else int(np.searchsorted(index.times, first.pts))
            if first is not None and 0 <= place <= number and index.times[place] == first.pts:
                self.position = place
                self._frames = chain([first], self._frames)
            else:  # the table of the file led elsewhere
                self._restart()
        elif passed:
            self._restart()
        return self._forward(number)

    def _restart(self) -> None:
        self._container.close()
        self.__init__(self.path, self.index)  # type: ignore[misc]

    def _forward(self, number: int) -> VideoFrame:
        for frame in self._frames:
            place = self.position
            if self.index.ordered:
                place = len(self.index) if frame.pts is None else int(np.searchsorted(self.index.times, frame.pts))
            self.position = place + 1
            if place == number and not frame.is_corrupt:
                return frame
            if place >= number:
                break
        raise NiddlError(f"frame {number} of {self.path} cannot be decoded; copy the file again from its origin")


_LOCK = threading.Lock()
_IDLE: list[tuple[tuple[int, str, int], Decoder]] = []  # (process, path, time of the file), the oldest first


@contextmanager
def decoder_of(path: str, modified_ns: int, first: int) -> Iterator[Decoder]:
    """Lend a decoder that stands at or before frame ``first`` if there is one, else a new one."""
    owner = (os.getpid(), path, modified_ns)
    with _LOCK:
        fitting = [entry for entry in _IDLE if entry[0] == owner and entry[1].position <= first]
        chosen = max(fitting, key=lambda entry: entry[1].position, default=None)
        if chosen is not None:
            _IDLE.remove(chosen)
    decoder = chosen[1] if chosen is not None else Decoder(path, index_of(path, modified_ns))
    try:
        yield decoder
    except BaseException:
        decoder.close()
        raise
    with _LOCK:
        _IDLE.append((owner, decoder))
        surplus = [_IDLE.pop(0) for _ in range(len(_IDLE) - _IDLE_DECODERS)]
    for _, old in surplus:
        old.close()
