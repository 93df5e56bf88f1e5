"""Downloads that go on where they stopped, are checked before they get their name, and never leave the cache."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from niddl_xr.recordings.catalog._schema import LOCAL_HOSTS, RemoteFile
from niddl_xr.schema import NiddlError

CACHE_VARIABLE = "NIDDL_XR_CACHE"
_BLOCK_BYTES = 2**20
_TIMEOUT_S = 60.0
_ATTEMPTS = 5  # without a byte of progress
_PAUSE_S = 0.2
_SPARE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Job:
    """What is fetched where, and what messages call it."""

    entry: str
    file: RemoteFile
    folder: Path
    progress: bool

    @property
    def target(self) -> Path:
        """Where the file lies when it is complete and right."""
        return self.folder / self.file.name

    def fail(self, message: str, cause: BaseException | None = None) -> NiddlError:
        """Return an error that names entry and address."""
        error = NiddlError(f"entry {self.entry!r}, {self.file.url}: {message}")
        error.__cause__ = cause
        return error


class _Refused(Exception):
    """The answer of a server makes no sense to ask again for."""


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection to https addresses only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        parts = urlsplit(newurl)
        from_here = (urlsplit(req.full_url).hostname or "") in LOCAL_HOSTS
        if parts.scheme != "https" and not (from_here and parts.hostname in LOCAL_HOSTS and parts.scheme == "http"):
            raise _Refused(f"the server sends on to {newurl}, which is no https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def cache_folder() -> Path:
    """Return the folder of downloads: that of the environment variable NIDDL_XR_CACHE, else the system's for caches."""
    import pooch

    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser().absolute() if named else Path(pooch.os_cache("niddl_xr")).absolute()


def entry_folder(name: str) -> Path:
    """Return the folder of an entry in the cache, which may not exist yet, after a check that it leads nowhere else."""
    folder = cache_folder() / name
    require_inside(folder)
    return folder


def require_inside(path: Path) -> Path:
    """Return a path below the cache if neither it nor a folder on the way is a link, else raise."""
    root = cache_folder()
    for step in [path, *path.parents]:
        if step == root:
            return path
        if step.is_symlink():
            raise NiddlError(f"expected {step} in the cache as a file or folder, got a link; remove it")
    raise NiddlError(f"expected a path in the cache {root}, got {path}")


def sha256_of(path: Path) -> str:
    """Return the checksum of a file."""
    import pooch

    digest: str = pooch.file_hash(str(path), alg="sha256")
    return digest


def is_right(path: Path, file: RemoteFile) -> bool:
    """Say whether a file is there and has size and checksum; without a checksum, whether it is there."""
    if not path.is_file() or path.is_symlink():
        return False
    if file.size_bytes is not None and path.stat().st_size != file.size_bytes:
        return False
    return file.sha256 is None or sha256_of(path) == file.sha256


def fetch(job: Job) -> Path:
    """Return a file in the cache, downloaded if it is not there or not right; one at a time over all processes."""
    target = require_inside(job.target)
    if is_right(target, job.file):
        return target
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        with locked(_beside(target, ".lock")):
            if not is_right(target, job.file):  # another may have brought it meanwhile
                _bring(job)
    except OSError as error:
        raise job.fail(f"cannot be kept in {job.folder}: {error}; see the variable {CACHE_VARIABLE}", error) from error
    return target


def _beside(target: Path, suffix: str) -> Path:
    return require_inside(target.with_name(target.name + suffix))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file that other threads and processes wait for; the system frees it when a process dies."""
    with path.open("a+b") as file:
        while not _try_lock(file):
            time.sleep(_PAUSE_S)
        yield


def _try_lock(file: IO[bytes]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _bring(job: Job) -> None:
    """Download, check, and only then give the file its name; where a continued one is wrong, once more from 0."""
    part = _beside(job.target, ".part")
    continued = _download(job, part)
    if not is_right(part, job.file) and continued:
        _forget(part)
        _download(job, part)
    if not is_right(part, job.file):
        found, size = sha256_of(part), part.stat().st_size
        _forget(part)
        raise job.fail(
            f"expected {job.file.size_bytes or 'any number of'} bytes with sha256 {job.file.sha256 or 'unknown'}, got "
            f"{size} bytes with sha256 {found}: the file on the server is another one, nothing was kept; "
            "ask those who publish it, or correct the catalogue"
        )
    os.replace(part, job.target)
    _forget(part)


def _forget(part: Path) -> None:
    for path in (part, part.with_name(part.name + ".state")):
        path.unlink(missing_ok=True)


def _download(job: Job, part: Path) -> bool:
    """Fill a .part file; return whether it was continued. Dropped connections are taken up again."""
    attempts, continued = 0, False
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            continued = _receive(job, part) or continued
            return continued
        except _Refused as error:
            raise job.fail(str(error), error) from error
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and before:
                _forget(part)  # what is here is longer than what is there
                continue
            if error.code < 500 and error.code not in (408, 429):
                raise job.fail(
                    f"the server answers {error.code} {_said(error.reason)}; see the entry's homepage", error
                ) from error
            failure: Exception = error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            failure = error
        after = part.stat().st_size if part.is_file() else 0
        attempts = 0 if after > before else attempts + 1
        if attempts >= (_ATTEMPTS if after else 2):
            reason = getattr(failure, "reason", failure)
            kept = f"; {after} bytes are kept, and the next fetch goes on from there" if after else ""
            raise job.fail(f"could not be downloaded: {reason}. Is there a connection?{kept}", failure) from failure
        time.sleep(_PAUSE_S * (attempts + 1))


def _receive(job: Job, part: Path) -> bool:
    """Receive what is missing of a .part file; return whether what was there before is part of it."""
    state_path = part.with_name(part.name + ".state")
    require_inside(state_path)
    have, state = _kept(job, part, state_path)
    headers = {"Accept-Encoding": "identity", "User-Agent": "niddl-xr"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if state.get("validator"):
            headers["If-Range"] = state["validator"]
    opener = urllib.request.build_opener(_SafeRedirects)
    request = urllib.request.Request(job.file.url, headers=headers)  # the scheme was checked with the schema
    with opener.open(request, timeout=_TIMEOUT_S) as answer:
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise _Refused(
                f"expected the bytes as they are, the server packs them: {_said(answer.headers['Content-Encoding'])}"
            )
        start, total = _offered(answer, have)
        limit = job.file.size_bytes if job.file.size_bytes is not None else total
        if None not in (total, job.file.size_bytes) and total != job.file.size_bytes:
            raise _Refused(f"expected {job.file.size_bytes} bytes, the server offers {total}; correct the catalogue")
        room = shutil.disk_usage(part.parent).free
        if limit is not None and limit - start + _SPARE_BYTES > room:
            raise _Refused(f"needs {limit - start} bytes, but only {room} are free in {part.parent}")
        validator = _validator(answer)
        state_path.write_text(json.dumps({"url": job.file.url, "validator": validator, "total": total}))
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            _copy(answer, file, start, limit, room - _SPARE_BYTES, job)
            size = file.tell()
    if limit is not None and size < limit:
        raise http.client.IncompleteRead(b"", limit - size)
    return start > 0


def _kept(job: Job, part: Path, state_path: Path) -> tuple[int, dict[str, Any]]:
    """Return how many bytes of a .part file can be gone on from, and what the server said of it."""
    if not part.is_file() or not state_path.is_file():
        return 0, {}
    try:
        state = json.loads(state_path.read_text())
    except ValueError:
        return 0, {}
    # Without a validator only a checksum would notice that the file on the server has changed.
    known = isinstance(state, dict) and state.get("url") == job.file.url
    if not known or not (state.get("validator") or job.file.sha256):
        return 0, {}
    return part.stat().st_size, state


def _offered(answer: Any, have: int) -> tuple[int, int | None]:
    """Return from where on the server sends, and how many bytes the whole file has."""
    length = answer.headers.get("Content-Length", "")
    if answer.status != 206:
        return 0, _size(length)
    unit, _, what = answer.headers.get("Content-Range", "").partition(" ")
    span, _, total = what.partition("/")
    if unit != "bytes" or _size(span.partition("-")[0]) != have:
        raise _Refused(f"asked for bytes from {have} on, the server sends {_said(answer.headers.get('Content-Range'))}")
    return have, _size(total)


def _said(text: Any) -> str:
    """Return what a server says as one short line that no terminal takes for a command."""
    return "".join(character for character in str(text)[:80] if character.isprintable())


def _size(stated: str) -> int | None:
    """Return a number of bytes that a server states, None for what is no such number."""
    return int(stated) if re.fullmatch("[0-9]{1,18}", stated) else None


def _validator(answer: Any) -> str | None:
    """Return what tells whether the file on the server is still the same; a weak tag does not."""
    tag = answer.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    changed = answer.headers.get("Last-Modified")
    return str(changed) if changed else None


def _copy(answer: Any, file: IO[bytes], start: int, limit: int | None, room: int, job: Job) -> None:
    from tqdm.auto import tqdm

    size = start
    most = start + room if limit is None else limit
    bar = tqdm(
        total=limit, initial=start, unit="B", unit_scale=True, desc=job.file.name, disable=not job.progress, leave=False
    )
    with bar:
        # What has come so far is written before a broken connection is known as such.
        while block := answer.read1(_BLOCK_BYTES):
            size += len(block)
            if size > most:
                why = "" if limit is not None else ", which is all the room in the cache,"
                raise _Refused(f"expected {most} bytes{why} at most, the server sends more")
            file.write(block)
            bar.update(len(block))
