"""JPEG XR, decoded in a process of its own: the decoder (jxrlib) takes the interpreter with it at a damaged image."""

from __future__ import annotations

import faulthandler
import math
import struct
import subprocess
import sys
import threading

import numpy as np

from niddl_xr.schema import NiddlError

_DECODING_S = 8.0  # beside the time for 2 MB of counts a second, after which a decoder hangs
_DECODERS = threading.local()  # one process in every thread
_COLOURS = 3


def decode_jpeg_xr(data: bytes, shape: tuple[int, int, int], stored: str, where: str) -> np.ndarray:
    """Return the counts of a JPEG XR tile as (y, x, component), decoded by a process of its own.

    The decoder (jxrlib) takes the interpreter with it when it meets a damaged tile.
    """
    if _jpeg_xr_size(data) != shape[:2]:
        raise NiddlError(f"{where} is damaged: its JPEG XR image is not of the {shape[:2]} pixels (y, x) of the tile")
    expected = math.prod(shape) * np.dtype(stored).itemsize
    decoded = _ask_decoder(struct.pack("<QQ", len(data), expected) + data)
    if len(decoded) != expected:
        raise NiddlError(f"{where} is damaged: its JPEG XR image cannot be decoded into {shape} counts {stored}")
    values = np.frombuffer(decoded, stored).reshape(shape)
    return values[:, :, ::-1] if shape[2] == _COLOURS else values  # the decoder gives red first


def _ask_decoder(question: bytes) -> bytes:
    """Return what the process of this thread answers, nothing where it does not survive the question."""
    process: subprocess.Popen[bytes] | None = getattr(_DECODERS, "process", None)
    if process is None or process.poll() is not None:
        command = [sys.executable, "-c", f"from {__name__} import decode_for_parent; decode_for_parent()"]
        pipe = subprocess.PIPE
        process = _DECODERS.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    source, sink = process.stdout, process.stdin
    if source is None or sink is None:
        raise NiddlError("the process that decodes JPEG XR has no pipes")
    try:
        sink.write(question)
        sink.flush()
        size = int.from_bytes(source.read(8).ljust(8, b"\xff"), "little")
        answer = source.read(size) if size < 1 << 62 else None
    except OSError:  # the pipe broke
        answer = None
    if answer is None or len(answer) < size:
        process.kill()
        process.wait()
        return b""
    return answer


def _jpeg_xr_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) that the container of a JPEG XR image states (ITU-T T.832, annex A)."""
    begin = int.from_bytes(data[4:8], "little")
    found = {}
    for entry in range(int.from_bytes(data[begin : begin + 2], "little")):
        tag, _, _, value = struct.unpack_from("<HHII", data, begin + 2 + 12 * entry)
        found[tag] = value
    return found.get(0xBC81, 0), found.get(0xBC80, 0)


def decode_for_parent() -> None:
    """Decode JPEG XR images that come through stdin until it ends: the whole work of a process of its own."""
    import imagecodecs

    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(16)) == 16:
        length, expected = struct.unpack("<QQ", head)
        faulthandler.dump_traceback_later(_DECODING_S + expected / 2e6, exit=True)
        try:
            decoded = np.ascontiguousarray(imagecodecs.jpegxr_decode(source.read(length))).tobytes()
        except (RuntimeError, ValueError, MemoryError):
            decoded = b""
        faulthandler.cancel_dump_traceback_later()
        sink.write(struct.pack("<Q", len(decoded)) + decoded)
        sink.flush()
