"""Archives, unpacked only after every member was looked at: no paths that lead out, no links, no bombs."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from niddl_xr.recordings.catalog._download import locked, require_inside
from niddl_xr.schema import NiddlError

_MOST_MEMBERS = 200_000
_MOST_TIMES = 50  # as many bytes may come out as went in; images of counts shrink 2 to 10 times
_LEAST_ALLOWED_BYTES = 64 * 2**20
_LINK = 0o120000
_KIND = 0o170000
_BLOCK_BYTES = 2**20
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError),
    *(NotImplementedError, RuntimeError),
)


def unpack(archive: Path, kind: str) -> Path:
    """Return the folder ``<archive>.unpacked`` beside an archive, made unless it is there.

    Parameters
    ----------
    archive
        A zip or tar file (compressed or not) whose checksum is known to be right.
    kind
        "zip" or "tar".

    Raises
    ------
    NiddlError
        For members that would lie elsewhere, links, devices, members of one name, encrypted or damaged members, more
        than 200,000 of them, and more than 50 times as many bytes (64 MiB in any case) as the archive has.
    """
    folder = require_inside(archive.with_name(archive.name + ".unpacked"))
    with locked(require_inside(archive.with_name(archive.name + ".lock"))):
        if folder.is_dir():
            return folder
        scratch = Path(tempfile.mkdtemp(prefix=f"{archive.name}.", dir=archive.parent))
        try:
            _unpack_into(archive, kind, scratch)
            scratch.rename(folder)  # complete or not at all
        except _DAMAGE as error:
            if isinstance(error, NiddlError):
                raise
            raise NiddlError(
                f"{archive} could not be unpacked as {kind}: {error}; its checksum is right, so make room if that is "
                "what lacks, else unpack it by hand and use .open(path=...)"
            ) from error
        finally:
            if scratch.is_dir():
                shutil.rmtree(scratch)
    return folder


def _unpack_into(archive: Path, kind: str, folder: Path) -> None:
    allowed = max(_MOST_TIMES * archive.stat().st_size, _LEAST_ALLOWED_BYTES)
    if kind == "zip":
        _unpack_zip(archive, folder, allowed)
    else:
        _unpack_tar(archive, folder, allowed)


def _unpack_zip(archive: Path, folder: Path, allowed: int) -> None:
    with zipfile.ZipFile(archive) as packed:
        members = list(_zip_members(packed, archive))
        if sum(info.file_size for info, _ in members) > allowed:
            raise _bomb(archive, allowed)
        for info, name in members:
            with packed.open(info) as source:
                _write(source, folder / name, archive)


def _unpack_tar(archive: Path, folder: Path, allowed: int) -> None:
    left = allowed
    with tarfile.open(archive) as packed:
        for info, name in _tar_members(packed, archive):
            # Known before its bytes are passed: what a header states is what is read.
            left -= info.size
            if left < 0:
                raise _bomb(archive, allowed)
            source = packed.extractfile(info)
            if source is not None:
                with source:
                    _write(source, folder / name, archive)


def _zip_members(packed: zipfile.ZipFile, archive: Path) -> Iterator[tuple[zipfile.ZipInfo, Path]]:
    infos = packed.infolist()
    _require_few(len(infos), archive)
    for info in infos:
        if (info.external_attr >> 16) & _KIND == _LINK:
            raise NiddlError(f"{archive}: expected files, got the link {info.filename!r}; it was not unpacked")
        if info.flag_bits & 1:
            raise NiddlError(f"{archive}: {info.filename!r} is encrypted; unpack it by hand and use .open(path=...)")
        name = _inside(info.filename, archive)
        if not info.is_dir():
            yield info, name


def _tar_members(packed: tarfile.TarFile, archive: Path) -> Iterator[tuple[tarfile.TarInfo, Path]]:
    for number, info in enumerate(packed):
        _require_few(number + 1, archive)
        name = _inside(info.name, archive)
        if info.isreg():
            yield info, name
        elif not info.isdir():
            raise NiddlError(f"{archive}: expected files, got the link or device {info.name!r}; it was not unpacked")


def _require_few(count: int, archive: Path) -> None:
    if count > _MOST_MEMBERS:
        raise NiddlError(f"{archive}: expected at most {_MOST_MEMBERS} files, got more; it was not unpacked")


def _inside(name: str, archive: Path) -> Path:
    """Return a member's name as a path below the folder it is unpacked to, or raise."""
    parts = PurePosixPath(name).parts
    odd = not parts or ".." in parts or name.startswith("/") or any(sign in name for sign in "\\:\0")
    if odd and parts not in ((), (".",)):
        raise NiddlError(f"{archive}: expected files within the archive, got {name!r}; it was not unpacked")
    return Path(*parts)


def _bomb(archive: Path, allowed: int) -> NiddlError:
    return NiddlError(
        f"{archive}: expected at most {allowed} bytes in it, got more, which no archive of images holds; "
        "it was not unpacked"
    )


def _write(source: IO[bytes], path: Path, archive: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise NiddlError(f"{archive}: two members are called {path.name!r}; it was not unpacked") from error
    with opened as file:
        shutil.copyfileobj(source, file, _BLOCK_BYTES)
