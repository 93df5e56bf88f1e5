"""Catalogues: truth is what the test wrote and what its own server sent."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import tarfile
import threading
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

import niddl_xr as nx
from niddl_xr.recordings import catalog as module
from niddl_xr.recordings.catalog import _archives, _download

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_017, dtype="uint8").tobytes()


@dataclass
class Served:
    """What the server has, how it behaves, and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    address: str = ""
    ranges: bool = True
    tag: str | None = '"one"'
    drop_after: list[int] = field(default_factory=list)  # bytes of the next answers, after which the line breaks
    redirect: str | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def served():
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            if state.redirect:
                self.send_response(302)
                self.send_header("Location", state.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = 0
            fresh = self.headers.get("If-Range") in (None, state.tag)
            if wanted and state.ranges and fresh:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start > len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if state.tag:
                self.send_header("ETag", state.tag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            if state.drop_after:
                self.wfile.write(body[: state.drop_after.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                return
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("NIDDL_XR_CACHE", str(folder))
    monkeypatch.setattr(_download, "_PAUSE_S", 0.001)
    return folder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def catalogue(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text("metadata:\n  version: 1\nsources:\n" + text)
    return path


def one_file(folder, served, content=CONTENT, *, name="data.bin", more="", sha=None, size=None):
    served.files[f"/{name}"] = content
    return nx.open_catalog(
        catalogue(
            folder,
            f"""  data:
    description: bytes
    driver: niddl_xr:open_recording
    metadata:
      files:
        - url: {served.address}/{name}
          sha256: {sha or sha256(content)}
          size_bytes: {size or len(content)}
{more}""",
        )
    )["data"]


# --- the schema


def test_the_shipped_catalogue():
    catalog = nx.open_catalog()
    table = catalog.to_frame()
    assert list(table.index) == list(catalog)
    assert isinstance(table, pd.DataFrame)
    drivers = {entry.driver for entry in catalog.values() if entry.kind == "simulated"}
    assert drivers == {"whole_brain", "freely_moving", "neurite", "two_photon", "training_pairs"}
    public = table[table["kind"] != "simulated"]
    assert public["unverified"].all()
    assert (public["licence"] != "").all()
    assert public["homepage"].str.startswith("https://").all()
    assert not table.loc[table["kind"] == "simulated", "unverified"].any()
    for record in (
        "6254739",
        "6299096",
        "8332083",
        "7812544",
        "8176722",
        "8185377",
        "000692",
        "2395t",
        "mw5zs",
        "t7dzu",
    ):
        assert public["homepage"].str.contains(record).sum() == 1, record
    html = catalog._repr_html_()
    assert "whole_brain_demo" in html
    assert "unverified" in html
    assert "unverified" in repr(catalog["kato2015"])


@pytest.mark.parametrize("name", [name for name, entry in nx.open_catalog().items() if entry.kind == "simulated"])
def test_simulated_entries_open(name):
    entry = nx.open_catalog()[name]
    opened = entry.open()
    recording = opened["noisy"] if entry.driver == "training_pairs" else opened["recording"]["F"]
    assert list(recording.shape[-3:]) == entry.args["shape"]
    assert nx.schema.voxel_um(recording).get("x") == pytest.approx(entry.metadata["voxel_um"][2])
    with pytest.raises(nx.NiddlError, match=f"'{name}' is simulated, there is nothing to fetch"):
        entry.fetch()


def test_intake_lists_and_describes_it():
    intake = pytest.importorskip("intake")
    theirs = intake.open_catalog(str(nx.open_catalog().path))
    assert list(theirs) == list(nx.open_catalog())
    described = theirs._entries["deepcad_rt_mouse_spines"].describe()
    assert described["description"] == nx.open_catalog()["deepcad_rt_mouse_spines"].description
    assert described["metadata"] == nx.open_catalog()["deepcad_rt_mouse_spines"].metadata
    assert theirs._entries["whole_brain_demo"].describe()["args"] == nx.open_catalog()["whole_brain_demo"].args


def test_a_recording_of_ones_own(tmp_path, counts):
    values = counts(4, 7, 13)
    np.save(tmp_path / "movie.npy", values)
    for driver in ("niddl_xr:open_recording", "niddl_xr.open_recording"):
        path = catalogue(
            tmp_path,
            f"  movie:\n    description: mine\n    driver: {driver}\n"
            "    args: {path: movie.npy, axes: tyx, voxel_um: [null, 0.5, 0.4], dt_s: 0.1}\n",
        )
        entry = nx.open_catalog(path)["movie"]
        assert entry.kind == "local"
        recording = entry.open(dt_s=0.2)
        np.testing.assert_array_equal(recording[:, 0], values)
        assert float(recording.t[1]) == 0.2
        assert nx.schema.voxel_um(recording) == pytest.approx({"y": 0.5, "x": 0.4})
    for half in ("noisy", "clean"):
        (tmp_path / "pairs" / half).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "pairs" / half / "a.tif", values[0])
    path = catalogue(tmp_path, "  p:\n    description: x\n    driver: niddl_xr:open_pairs\n    args: {path: pairs}\n")
    np.testing.assert_array_equal(nx.open_catalog(path)["p"].open().noisy[0, 0], values[0])


def test_entries_by_hand(tmp_path, cache, counts):
    text = """  far:
    description: elsewhere
    driver: niddl_xr:open_recording
    args: {axes: tyx, dt_s: 1, voxel_um: [1, 1, 1]}
    metadata: {homepage: "https://example.org/data", unverified: true}
"""
    entry = nx.open_catalog(catalogue(tmp_path, text))["far"]
    message = (
        r"'far' has no address of a file.* by hand from https://example.org/data \(an address that nobody has checked"
    )
    for call in (entry.fetch, entry.open):
        with pytest.raises(nx.NiddlError, match=message):
            call()
    np.save(tmp_path / "got.npy", counts(3, 7, 5))
    with pytest.warns(module.UnverifiedWarning, match="entry 'far' is unverified"):
        recording = entry.open(path=tmp_path / "got.npy")
    np.testing.assert_array_equal(recording[:, 0], counts(3, 7, 5))


def test_a_mapping(tmp_path):
    catalog = nx.open_catalog()
    with pytest.raises(KeyError, match="did you mean 'whole_brain_demo'?") as caught:
        catalog["whole_brain_dem"]
    assert isinstance(caught.value, nx.NiddlError)
    assert not str(caught.value).startswith('"')
    assert "nothing" not in catalog
    assert catalog.get("nothing") is None
    with pytest.raises(FileNotFoundError, match=r"no catalogue at .*gone\.yaml"):
        nx.open_catalog(tmp_path / "gone.yaml")
    empty = tmp_path / "empty.yaml"
    empty.write_text("metadata: {version: 1}\nsources: {}\n")
    assert len(nx.open_catalog(empty)) == 0
    assert list(nx.open_catalog(empty).to_frame().columns)[:2] == ["description", "kind"]


ENTRY = "  a:\n    description: x\n    driver: niddl_xr:open_recording\n"
FILES = ENTRY + "    metadata:\n      files:\n        - "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY + "    drivr: x\n", r"line 7, entry 'a', key drivr: unknown key 'drivr'; did you mean 'driver'\?"),
        ("  a:\n    driver: niddl_xr:open_recording\n", r"line 4, entry 'a': the key 'description' is missing"),
        (
            "  a:\n    description: 3\n    driver: niddl_xr:open_pairs\n",
            "line 5, .*description: expected a text, got 3",
        ),
        ("  a:\n    description: x\n    driver: os.system\n", r"line 6, entry 'a', key driver: .*got 'os\.system'"),
        ("  a:\n    description: x\n    driver: niddl_xr.cli.main\n", r"line 6.*got 'niddl_xr\.cli\.main'"),
        ("  a:\n    description: x\n    driver: niddl_xr.whole_brain\n", r"line 6.*got 'niddl_xr\.whole_brain'"),
        (ENTRY + "    description: y\n", r"line 7, entry 'a': the key 'description' stands twice, first in line 5"),
        (ENTRY + ENTRY, r"line 7, .*: the key 'a' stands twice, first in line 4"),
        (ENTRY + "    metadata:\n      license: x\n", r"line 8, .*metadata\.license: .*did you mean 'licence'"),
        (ENTRY + "    metadata:\n      voxel_um: [1, 2]\n", r"line 8, .*voxel_um: expected three sizes"),
        (ENTRY + "    metadata:\n      voxel_um: [1, 2, -3]\n", r"line 8, .*voxel_um\[2\]: expected a number above 0"),
        (ENTRY + "    metadata:\n      dt_s: fast\n", r"line 8, .*dt_s: expected a number above 0, got 'fast'"),
        (ENTRY + "    metadata:\n      unverified: maybe\n", r"line 8, .*expected true or false, got 'maybe'"),
        (ENTRY + "    metadata:\n      doi: https://doi.org/10.1/x\n", r"line 8, .*expected a DOI such as"),
        (ENTRY + "    metadata:\n      homepage: ftp://x.org\n", r"line 8, .*expected an https address"),
        (
            ENTRY + "    metadata:\n      notes: 2020-01-01\n",
            r"line 8, .*a value of type 'timestamp'; put it in quotes",
        ),
        (
            ENTRY + "    metadata:\n      notes: !!python/object:os.x {}\n",
            r"line 8, .*expected plain YAML, got the tag",
        ),
        (ENTRY + "    args: [1]\n", r"line 7, entry 'a', key args: expected a mapping"),
        (ENTRY + "    args: {1: 2}\n", r"line 7, entry 'a', key args: expected a text as key, got '1'"),
        ("  ../up:\n    description: x\n    driver: niddl_xr:open_pairs\n", r"line 4.*plain name.*got '\.\./up'"),
        ("  nul:\n    description: x\n    driver: niddl_xr:open_pairs\n", r"line 4.*plain name.*got 'nul'"),
        (FILES + "url: http://example.org/a\n", r"line 9, .*files\[0\]\.url: expected an https address"),
        (FILES + "url: file:///etc/passwd\n", r"line 9, .*expected an https address"),
        (FILES + "url: https://me:secret@x.org/a\n", r"line 9, .*without a user name"),
        (FILES + "url: https://x.org/\n", r"line 9, .*expected a plain name.*got ''"),
        (FILES + "url: https://x.org/%2e%2e\n", r"line 9, .*expected a plain name.*got '\.\.'"),
        (FILES + "{url: https://x.org/a, name: ../a}\n", r"line 9, .*name: expected a plain name"),
        (FILES + "{url: https://x.org/a, name: /a}\n", r"line 9, .*name: expected a plain name"),
        (FILES + "{url: https://x.org/a, name: 'c:a'}\n", r"line 9, .*name: expected a plain name"),
        (FILES + "{url: https://x.org/a, name: a.part}\n", r"line 9, .*a suffix that the cache uses itself"),
        (FILES + "{url: https://x.org/a, sha256: 12ab}\n", r"line 9, .*sha256: expected a checksum of 64"),
        (FILES + "{url: https://x.org/a, size_bytes: -1}\n", r"line 9, .*size_bytes: expected a whole number above 0"),
        (FILES + "{url: https://x.org/a, unpack: rar}\n", r"line 9, .*unpack: expected zip or tar"),
        (
            FILES + "{url: https://x.org/a}\n        - {url: https://y.org/A}\n",
            r"line 10, .*two files would be called 'a'",
        ),
        (FILES + "{url: https://x.org/a}\n    args: {path: ../../x}\n", r"line 10, .*path: expected a path within"),
    ],
)
def test_errors_name_line_entry_and_key(tmp_path, text, message):
    with pytest.raises(nx.NiddlError, match=r"mine\.yaml, " + message):
        nx.open_catalog(catalogue(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: {}\n", r"line 1, the catalogue: the key 'metadata' is missing"),
        ("metadata: {version: 2}\nsources: {}\n", r"line 1, .*expected version 1 of the schema, got 2"),
        (
            "metadata: {version: 1}\nsources: {}\nsorces: {}\n",
            r"line 3, .*unknown key 'sorces'; did you mean 'sources'",
        ),
        ("metadata: {version: 1\nsources: {}\n", r"line 2: expected YAML"),
        ("- 1\n", r"line 1, the catalogue: expected a mapping"),
        ("", "is empty: expected a catalogue"),
        ("[" * 3000, "expected YAML|levels"),
        ("a: &a [1, *a]\n", "levels|unknown key"),
        ("\x00", "expected YAML"),
    ],
)
def test_files_that_are_no_catalogue(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(nx.NiddlError, match=message):
        nx.open_catalog(path)


def test_bombs_of_aliases_and_binary_files(tmp_path):
    path = tmp_path / "c.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path.write_text("\n".join(lines))
    with pytest.raises(nx.NiddlError, match="at most 100000 values"):
        nx.open_catalog(path)
    path.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(nx.NiddlError, match=r"c\.yaml.*expected YAML"):
        nx.open_catalog(path)
    path.write_bytes(b"#" * (5 * 2**20))
    with pytest.raises(nx.NiddlError, match="of at most 4 MiB"):
        nx.open_catalog(path)


# --- downloads


def test_fetch_and_offline_afterwards(tmp_path, cache, served):
    entry = one_file(tmp_path, served)
    assert entry.in_cache is False
    with pytest.raises(nx.NiddlError, match=r"'data' is not in the cache .* fetch it first with \.fetch\(\), 3\.0 MB"):
        entry.open()
    path = entry.fetch(progress=False)
    assert path == cache / "data" / "data.bin"
    assert entry.in_cache
    assert path.read_bytes() == CONTENT
    assert served.asked == [("/data.bin", None)]
    assert entry.fetch(progress=False) == path
    assert len(served.asked) == 1, "a right file needs no network"
    assert {child.name for child in path.parent.iterdir()} == {"data.bin", "data.bin.lock"}
    path.write_bytes(CONTENT[:-1] + b"x")
    assert entry.fetch(progress=False).read_bytes() == CONTENT
    assert len(served.asked) == 2


def test_progress_is_shown(tmp_path, cache, served, capsys):
    one_file(tmp_path, served).fetch()
    assert "data.bin" in capsys.readouterr().err


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_connections_are_taken_up_again(tmp_path, cache, served, ranges):
    served.ranges = ranges
    served.drop_after = [1_000_000, 700_000]
    entry = one_file(tmp_path, served)
    assert entry.fetch(progress=False).read_bytes() == CONTENT
    starts = [wanted for _, wanted in served.asked]
    assert starts[0] is None
    assert starts[1] == "bytes=1000000-"
    assert starts[2] == ("bytes=1700000-" if ranges else "bytes=700000-")


def test_a_download_goes_on_in_another_process(tmp_path, cache, served, monkeypatch):
    monkeypatch.setattr(_download, "_ATTEMPTS", 1)
    served.drop_after = [1_200_000, 0]
    entry = one_file(tmp_path, served)
    with pytest.raises(
        nx.NiddlError,
        match=r"entry 'data', http://127.0.0.1.*/data.bin: could not be downloaded.*1200000 bytes are kept",
    ):
        entry.fetch(progress=False)
    assert not (cache / "data" / "data.bin").exists()
    assert (cache / "data" / "data.bin.part").stat().st_size == 1_200_000
    assert entry.fetch(progress=False).read_bytes() == CONTENT
    assert served.asked[-1][1] == "bytes=1200000-"


def test_a_file_that_changed_on_the_server_starts_anew(tmp_path, cache, served, monkeypatch):
    monkeypatch.setattr(_download, "_ATTEMPTS", 1)
    old = bytes(len(CONTENT))
    served.drop_after = [1_000_000, 0]
    entry = one_file(tmp_path, served)
    served.files["/data.bin"] = old
    with pytest.raises(nx.NiddlError, match="could not be downloaded"):
        entry.fetch(progress=False)
    served.files["/data.bin"], served.tag = CONTENT, '"two"'
    assert entry.fetch(progress=False).read_bytes() == CONTENT
    # Without a tag the checksum tells, and the download starts anew by itself.
    (cache / "data" / "data.bin").unlink()
    served.drop_after, served.tag = [1_000_000, 0], None
    served.files["/data.bin"] = old
    with pytest.raises(nx.NiddlError, match="could not be downloaded"):
        entry.fetch(progress=False)
    served.files["/data.bin"] = CONTENT
    assert entry.fetch(progress=False).read_bytes() == CONTENT
    assert served.asked[-1][1] is None


def test_wrong_files_are_not_kept(tmp_path, cache, served):
    entry = one_file(tmp_path, served, sha="ab" * 32)
    message = rf"entry 'data', .*expected 3000017 bytes with sha256 (ab){{32}}, got .* sha256 {sha256(CONTENT)}"
    with pytest.raises(nx.NiddlError, match=message):
        entry.fetch(progress=False)
    assert {child.name for child in (cache / "data").iterdir()} == {"data.bin.lock"}
    with pytest.raises(nx.NiddlError, match="expected 5 bytes, the server offers 3000017"):
        one_file(tmp_path, served, size=5).fetch(progress=False)


def test_errors_of_the_server_are_one_clear_one(tmp_path, cache, served):
    entry = one_file(tmp_path, served)
    served.files.clear()
    with pytest.raises(nx.NiddlError, match=r"entry 'data', http://.*: the server answers 404 Not Found"):
        entry.fetch(progress=False)
    served.redirect = "http://example.org/elsewhere"
    with pytest.raises(nx.NiddlError, match="sends on to http://example.org/elsewhere, which is no https address"):
        entry.fetch(progress=False)
    served.redirect = "file:///etc/passwd"
    with pytest.raises(nx.NiddlError, match="entry 'data'"):
        entry.fetch(progress=False)
    text = ENTRY.replace("  a:", "  gone:") + (
        f"    metadata:\n      files:\n        - {{url: 'http://127.0.0.1:9/x', sha256: {'ab' * 32}}}\n"
    )
    with pytest.raises(nx.NiddlError, match=r"entry 'gone', http://127.0.0.1:9/x: could not be downloaded: .*refused"):
        nx.open_catalog(catalogue(tmp_path, text))["gone"].fetch(progress=False)


def test_no_room(tmp_path, cache, served, monkeypatch):
    entry = one_file(tmp_path, served)
    monkeypatch.setattr(_download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(nx.NiddlError, match="needs 3000017 bytes, but only 1000 are free"):
        entry.fetch(progress=False)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.undo()
    monkeypatch.setenv("NIDDL_XR_CACHE", str(cache))
    monkeypatch.setattr(_download, "_copy", full)
    with pytest.raises(nx.NiddlError, match=r"entry 'data', .*cannot be kept in .*No space left.*NIDDL_XR_CACHE"):
        entry.fetch(progress=False)


def test_entries_without_checksum(tmp_path, cache, served):
    served.files["/a.bin"] = CONTENT
    text = ENTRY + f"    metadata:\n      files:\n        - url: {served.address}/a.bin\n"
    entry = nx.open_catalog(catalogue(tmp_path, text))["a"]
    with pytest.raises(nx.NiddlError, match=r"no sha256 is known for http.*fetch\(allow_unchecked=True\)"):
        entry.fetch(progress=False)
    assert not served.asked
    with pytest.warns(module.UncheckedDownloadWarning, match=f"sha256: {sha256(CONTENT)}, size_bytes: 3000017"):
        assert entry.fetch(progress=False, allow_unchecked=True).read_bytes() == CONTENT


def test_many_at_once_do_not_spoil_each_other(tmp_path, cache, served):
    entry = one_file(tmp_path, served)
    with ThreadPoolExecutor(6) as pool:
        paths = list(pool.map(lambda _: entry.fetch(progress=False), range(6)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert len(served.asked) == 1


def test_links_in_the_cache_are_refused(tmp_path, cache, served):
    entry = one_file(tmp_path, served)
    outside = tmp_path / "outside"
    outside.mkdir()
    cache.mkdir()
    (cache / "data").symlink_to(outside)
    with pytest.raises(nx.NiddlError, match=r"expected .*cache/data in the cache as a file or folder, got a link"):
        entry.fetch(progress=False)
    (cache / "data").unlink()
    (cache / "data").mkdir()
    for suffix in ("", ".part", ".part.state", ".lock"):
        link = cache / "data" / f"data.bin{suffix}"
        link.unlink(missing_ok=True)
        link.symlink_to(outside / "victim")
        with pytest.raises(nx.NiddlError, match="got a link; remove it"):
            entry.fetch(progress=False)
        link.unlink()
    assert not list(outside.iterdir())


def test_several_files_and_a_path_among_them(tmp_path, cache, served, counts):
    np.save(tmp_path / "a.npy", counts(3, 7, 5))
    content = (tmp_path / "a.npy").read_bytes()
    served.files.update({"/a.npy": content, "/b.txt": b"notes"})
    text = ENTRY + (
        "    args: {path: a.npy, axes: tyx, dt_s: 1, voxel_um: [1, 1, 1]}\n    metadata:\n      files:\n"
        f"        - {{url: '{served.address}/a.npy', sha256: {sha256(content)}}}\n"
        f"        - {{url: '{served.address}/b.txt', sha256: {sha256(b'notes')}, name: c.txt}}\n"
    )
    entry = nx.open_catalog(catalogue(tmp_path, text))["a"]
    assert [path.name for path in entry.fetch(progress=False)] == ["a.npy", "c.txt"]
    np.testing.assert_array_equal(entry.open()[:, 0], counts(3, 7, 5))


# --- archives


def packed_zip(members: dict[str, bytes], *, link: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            packed.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def packed_members(*names: str) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as packed:
        warnings.simplefilter("ignore", UserWarning)  # zipfile's own, of names that stand twice
        for name in names:
            packed.writestr(name, b"x")
    return buffer.getvalue()


def spoilt(compression: int) -> bytes:
    """A zip whose only member is damaged in its middle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as packed:
        packed.writestr("a", CONTENT[:5000])
    return buffer.getvalue()[:100] + bytes(100) + buffer.getvalue()[200:]


def packed_tar(members: dict[str, bytes], *odd: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
        for info in odd:
            packed.addfile(info)
    return buffer.getvalue()


def link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("a")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_are_unpacked(tmp_path, cache, served, counts, kind):
    half = io.BytesIO()
    tifffile.imwrite(half, counts(7, 13))
    members = {"pairs/noisy/a.tif": half.getvalue(), "pairs/clean/a.tif": half.getvalue()}
    content = packed_zip(members) if kind == "zip" else packed_tar(members)
    entry = one_file(
        tmp_path, served, content, name="p.arc", more=f"          unpack: {kind}\n    args: {{axes: yx}}\n"
    )
    folder = entry.fetch(progress=False)
    assert folder == cache / "data" / "p.arc.unpacked"
    np.testing.assert_array_equal(nx.open_pairs(folder).noisy[0, 0], counts(7, 13))
    assert entry.fetch(progress=False) == folder
    assert sorted(child.name for child in folder.parent.iterdir()) == ["p.arc", "p.arc.lock", "p.arc.unpacked"]


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("zip", packed_zip({"../up": b"x"}), r"got '\.\./up'"),
        ("zip", packed_zip({"/root": b"x"}), "got '/root'"),
        ("zip", packed_zip({"c:x": b"x"}), "got 'c:x'"),
        ("zip", packed_zip({"a\\..\\b": b"x"}), "expected files within|got"),
        ("zip", packed_zip({"ok": b"x"}, link="a"), "got the link 'a'"),
        ("zip", packed_zip({"a": bytes(70 * 2**20)}), "expected at most 67108864 bytes in it"),
        ("zip", b"PK\x03\x04 nonsense", "could not be unpacked as zip"),
        ("zip", packed_members("a.tif", "a.tif"), "two members are called 'a.tif'"),
        ("zip", packed_members("a", "a/b"), "two members are called 'b'"),
        ("zip", packed_members("a/b", "a"), "two members are called 'a'"),
        ("zip", packed_members("a" * 300), "could not be unpacked as zip: .*too long"),
        ("zip", spoilt(zipfile.ZIP_LZMA), "could not be unpacked as zip"),
        ("zip", spoilt(zipfile.ZIP_BZIP2), "could not be unpacked as zip"),
        ("tar", packed_tar({"../up": b"x"}), r"got '\.\./up'"),
        ("tar", packed_tar({"/root": b"x"}), "got '/root'"),
        ("tar", packed_tar({}, link(tarfile.SYMTYPE)), "got the link or device 'a'"),
        ("tar", packed_tar({}, link(tarfile.LNKTYPE)), "got the link or device 'a'"),
        ("tar", packed_tar({}, link(tarfile.CHRTYPE)), "got the link or device 'a'"),
        ("tar", packed_tar({"a": bytes(70 * 2**20)}), "expected at most 67108864 bytes in it"),
        ("tar", packed_tar({"a": b"x" * 99999})[:60], "could not be unpacked as tar"),
        ("tar", b"nonsense", "could not be unpacked as tar"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,  # archives hold the time, an id must not
)
def test_archives_that_are_not_to_be_trusted(tmp_path, cache, served, kind, content, message):
    entry = one_file(tmp_path, served, content, name="p.arc", more=f"          unpack: {kind}\n")
    with pytest.raises(nx.NiddlError, match=message):
        entry.fetch(progress=False)
    assert sorted(child.name for child in (cache / "data").iterdir()) == ["p.arc", "p.arc.lock"]
    assert sorted(child.name for child in tmp_path.iterdir()) == ["cache", "mine.yaml"]


def test_the_table_states_exact_sizes_where_they_are_known(tmp_path, cache, served):
    entry = one_file(tmp_path, served, more="      approximate_gb: 7\n")
    catalog = nx.open_catalog(tmp_path / "mine.yaml")
    assert catalog.to_frame().loc["data", ["size_gb", "in_cache"]].tolist() == [0.003000017, False]
    entry.fetch(progress=False)
    assert catalog.to_frame().loc["data", "in_cache"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_of_too_many_files_or_bytes(tmp_path, cache, served, monkeypatch, kind):
    packed = {"zip": packed_zip, "tar": packed_tar}[kind]({"a": bytes(600), "b": bytes(500), "c": b"x"})
    entry = one_file(tmp_path, served, packed, name="p.arc", more=f"          unpack: {kind}\n")
    with monkeypatch.context() as changed:
        changed.setattr(_archives, "_MOST_MEMBERS", 2)
        with pytest.raises(nx.NiddlError, match="expected at most 2 files, got more"):
            entry.fetch(progress=False)
    with monkeypatch.context() as changed:
        changed.setattr(_archives, "_MOST_TIMES", 0)
        changed.setattr(_archives, "_LEAST_ALLOWED_BYTES", 1100)  # each fits, all of them do not
        with pytest.raises(nx.NiddlError, match="expected at most 1100 bytes in it, got more"):
            entry.fetch(progress=False)
        changed.setattr(_archives, "_LEAST_ALLOWED_BYTES", 1101)
        assert len(list(entry.fetch(progress=False).iterdir())) == 3


def test_an_unchecked_file_is_never_made_of_two(tmp_path, cache, served, monkeypatch):
    monkeypatch.setattr(_download, "_ATTEMPTS", 1)
    served.files["/a.bin"], served.drop_after = bytes(len(CONTENT)), [1_000_000, 0]
    text = ENTRY + f"    metadata:\n      files:\n        - url: {served.address}/a.bin\n"
    entry = nx.open_catalog(catalogue(tmp_path, text))["a"]
    with pytest.raises(nx.NiddlError, match="could not be downloaded"):
        entry.fetch(progress=False, allow_unchecked=True)
    served.files["/a.bin"], served.tag = CONTENT, '"two"'
    with pytest.warns(module.UncheckedDownloadWarning, match="was not checked"):
        assert entry.fetch(progress=False, allow_unchecked=True).read_bytes() == CONTENT


@pytest.mark.filterwarnings("ignore::niddl_xr.MissingMetadataWarning")
def test_what_lies_in_the_cache_is_looked_at_when_opened(tmp_path, cache, served, counts):
    buffer = io.BytesIO()
    np.save(buffer, counts(3, 5, 7))
    entry = one_file(tmp_path, served, buffer.getvalue(), name="a.npy", more="    args: {path: a.npy, axes: tyx}\n")
    path = entry.fetch(progress=False)
    assert entry.in_cache
    np.testing.assert_array_equal(entry.open()[:, 0], counts(3, 5, 7))
    path.write_bytes(buffer.getvalue()[:-1])
    assert not entry.in_cache
    with pytest.raises(nx.NiddlError, match=r"is not in the cache .*: fetch it first with \.fetch\(\)"):
        entry.open()
    entry.fetch(progress=False)
    np.save(tmp_path / "mine.npy", counts(3, 5, 7))
    (path.parent / "link").symlink_to(tmp_path)
    leading_out = one_file(
        tmp_path, served, buffer.getvalue(), name="a.npy", more="    args: {path: link/mine.npy, axes: tyx}\n"
    )
    with pytest.raises(nx.NiddlError, match="expected a path within .*, got 'link/mine.npy'"):
        leading_out.open()


def test_the_cache_of_the_system_is_the_default(monkeypatch):
    import pooch

    monkeypatch.delenv("NIDDL_XR_CACHE", raising=False)
    assert _download.cache_folder() == Path(pooch.os_cache("niddl_xr")).absolute()


def test_unverified_is_said_when_fetched(tmp_path, cache, served):
    entry = one_file(tmp_path, served, more="      unverified: true\n")
    with pytest.warns(module.UnverifiedWarning, match="entry 'data' is unverified"):
        entry.fetch(progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", module.UnverifiedWarning)
        one_file(tmp_path, served).fetch(progress=False)


@pytest.mark.parametrize("length", ["²", "9" * 5000])
def test_sizes_that_are_no_numbers_are_not_believed(tmp_path, cache, length):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(CONTENT)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    entry = one_file(tmp_path, Served(address=f"http://127.0.0.1:{server.server_port}"))
    try:
        assert entry.fetch(progress=False).read_bytes() == CONTENT
    finally:
        server.shutdown()
        server.server_close()


def test_a_stream_without_end_stops_where_the_room_does(tmp_path, cache, served, monkeypatch):
    served.files["/data.bin"] = CONTENT
    url = f"{served.address}/data.bin"
    text = "  data: {description: d, driver: niddl_xr:open_recording, metadata: {files: [{url: '" + url + "'}]}}\n"
    entry = nx.open_catalog(catalogue(tmp_path, text))["data"]
    monkeypatch.setattr(_download, "_offered", lambda *_: (0, None))
    usage = shutil.disk_usage(tmp_path)._replace(free=_download._SPARE_BYTES + 1_000_000)
    monkeypatch.setattr(_download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(nx.NiddlError, match="expected 1000000 bytes, which is all the room in the cache, at most"):
        entry.fetch(progress=False, allow_unchecked=True)
    assert (cache / "data" / "data.bin.part").stat().st_size <= 1_000_000


def test_what_a_server_says_is_no_command_to_a_terminal():
    assert _download._said("\x1b[31mGone\n" + "x" * 200) == "[31mGone" + "x" * 70


def test_an_argument_that_pairs_do_not_have(tmp_path):
    text = "  p:\n    description: d\n    driver: niddl_xr:open_pairs\n    args: {path: ., foo: 1}\n"
    with pytest.raises(nx.NiddlError, match=r"line 4, entry 'p', key args: open_pairs has no argument foo; it has"):
        nx.open_catalog(catalogue(tmp_path, text))["p"].open()
