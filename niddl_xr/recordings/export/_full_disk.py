"""A file for HDF5 that takes every byte: HDF5 crashes the interpreter where closing a file fails, as on a full disk."""

from __future__ import annotations

import io
import os
from pathlib import Path


class PatientFile(io.RawIOBase):
    """A new file that h5py writes through; what the disk refuses is held in memory, and ``error`` says so.

    The caller asks :meth:`require_written` between blocks, so that no more than one block and what HDF5 writes at
    closing is ever held.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._position = self._size = 0
        self._held: list[tuple[int, bytes]] = []
        self.error: OSError | None = None

    def require_written(self) -> None:
        """Raise what the disk answered, if it refused anything."""
        if self.error is not None:
            raise self.error

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def writable(self) -> bool:
        """Say that it can be written."""
        return True

    def seekable(self) -> bool:
        """Say that it has places."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence] + offset
        return self._position

    def tell(self) -> int:
        """Return the place."""
        return self._position

    def write(self, data: object) -> int:
        """Write bytes to the file, or hold them."""
        block = bytes(memoryview(data).cast("B"))  # type: ignore[arg-type]
        if not self._written(block):
            self._held.append((self._position, block))
        self._position += len(block)
        self._size = max(self._size, self._position)
        return len(block)

    def _written(self, block: bytes) -> bool:
        if self.error is not None:
            return False
        done = 0
        try:
            self._file.seek(self._position)
            while done < len(block):
                done += self._file.write(block[done:])
        except OSError as error:
            self.error = error
        return done == len(block)

    def readinto(self, buffer: object) -> int:
        """Read what was written, held bytes included; zeros where nothing was."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        count = max(0, min(len(view), self._size - self._position))
        self._file.seek(self._position)
        stored = self._file.read(count) or b""
        view[:count] = stored + bytes(count - len(stored))
        for start, block in self._held:
            first, last = max(start, self._position), min(start + len(block), self._position + count)
            if first < last:
                view[first - self._position : last - self._position] = block[first - start : last - start]
        self._position += count
        return count

    def truncate(self, size: int | None = None) -> int:
        """Set the size."""
        self._size = self._position if size is None else size
        if self.error is None:
            try:
                self._file.truncate(self._size)
            except OSError as error:
                self.error = error
        return self._size

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
