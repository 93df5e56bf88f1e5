"""Small files of the TIFF family, each in its published layout; most are written by hand, tag by tag."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

T, Z, C, Y, X = 4, 3, 2, 11, 13
ASCII, SHORT, LONG, RATIONAL, LONG8 = 2, 3, 4, 5, 16
_SIZES = {ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, LONG8: 8}
_LETTERS = {SHORT: "H", LONG: "I", LONG8: "Q"}


def counts(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Return counts that all differ, as far as the dtype allows, negative ones among those of signed dtypes."""
    values = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape) * 7 + 3
    if np.dtype(dtype).kind == "f":
        return (values / 8 - 5).astype(dtype)
    if np.dtype(dtype).kind == "i":
        values -= values.max() // 2
    return values.astype(dtype)


def write_tiff(
    path: Path,
    planes: Iterable[np.ndarray],
    *,
    big: bool = False,
    order: str = "<",
    descriptions: Sequence[str] = (),
    tags: Mapping[int, tuple[int, Any]] | None = None,
    behind_header: bytes = b"",
    compress: Callable[[np.ndarray], bytes] | None = None,
    compression: int = 1,
) -> Path:
    """Write a TIFF of one strip a page, every directory before its page, as microscopes do.

    ``descriptions`` are those of the first pages, ``tags`` (code -> type, value) stand on every page,
    ``behind_header`` follows the header of the file.
    """
    planes = list(planes)
    offset_kind, number, header = (LONG8, "Q", 16) if big else (LONG, "I", 8)
    content = bytearray(header) + behind_header
    content += bytes(-len(content) % 16)
    links = []
    for index, plane in enumerate(planes):
        data = compress(plane) if compress else plane.astype(plane.dtype.newbyteorder(order)).tobytes()
        kind = {"u": 1, "i": 2, "f": 3}[plane.dtype.kind]
        entries: dict[int, tuple[int, Any]] = {
            **{256: (LONG, plane.shape[1]), 257: (LONG, plane.shape[0]), 258: (SHORT, plane.dtype.itemsize * 8)},
            **{259: (SHORT, compression), 262: (SHORT, 1), 273: (offset_kind, 0), 277: (SHORT, 1)},
            **{278: (LONG, plane.shape[0]), 279: (LONG, len(data)), 339: (SHORT, kind), **(tags or {})},
        }
        if index < len(descriptions) and descriptions[index]:
            entries[270] = (ASCII, descriptions[index])
        links.append((len(content), len(entries)))
        content += _directory(entries, len(content), order, big)
        place = links[-1][0] + struct.calcsize(f"{order}{'Q' if big else 'H'}")
        row = sorted(entries).index(273) * (20 if big else 12) + (12 if big else 8)
        struct.pack_into(f"{order}{number}", content, place + row, len(content))
        content += data + bytes(-len(data) % 16)
    for (place, count), (following, _) in zip(links, [*links[1:], (0, 0)], strict=True):
        end = place + struct.calcsize(f"{order}{'Q' if big else 'H'}") + count * (20 if big else 12)
        struct.pack_into(f"{order}{number}", content, end, following)
    mark = b"II" if order == "<" else b"MM"
    first = struct.pack(f"{order}HHHQ", 43, 8, 0, links[0][0]) if big else struct.pack(f"{order}HI", 42, links[0][0])
    content[:header] = mark + first
    path.write_bytes(content)
    return path


def _directory(entries: Mapping[int, tuple[int, Any]], offset: int, order: str, big: bool) -> bytes:
    """Return a directory with its longer values behind it."""
    number, room = ("Q", 8) if big else ("I", 4)
    head = struct.pack(f"{order}{'Q' if big else 'H'}", len(entries))
    after = offset + len(head) + len(entries) * (20 if big else 12) + room
    rows, values = b"", b""
    for code, (kind, value) in sorted(entries.items()):
        if kind == ASCII:
            data = (value if isinstance(value, bytes) else value.encode()) + b"\0"
        elif kind == RATIONAL:
            data = struct.pack(f"{order}{len(value)}I", *value)
        else:
            numbers = value if isinstance(value, (tuple, list)) else (value,)
            data = struct.pack(f"{order}{len(numbers)}{_LETTERS[kind]}", *numbers)
        count = len(data) // _SIZES[kind]
        rows += struct.pack(f"{order}HH{number}", code, kind, count)
        if len(data) <= room:
            rows += data.ljust(room, b"\0")
        else:
            rows += struct.pack(f"{order}{number}", after + len(values))
            values += data + bytes(len(data) % 2)
    return head + rows + bytes(room) + values


def plain(folder: Path) -> Path:
    return write_tiff(folder / "plain.tif", counts(T, Y, X))


def big_endian_packbits(folder: Path) -> Path:
    return write_tiff(
        folder / "motorola.tif",
        counts(T, Y, X, dtype="int16"),
        order=">",
        compress=lambda plane: imagecodecs.packbits_encode(plane.astype(">i2").tobytes()),
        compression=32773,
    )


def big_lzw(folder: Path) -> Path:
    path = folder / "big.btf"
    tifffile.imwrite(
        path,
        counts(T, 40, 52),
        bigtiff=True,
        compression="lzw",
        predictor=True,
        metadata=None,
        photometric="minisblack",
        rowsperstrip=9,
    )
    return path


def tiles_zstd(folder: Path) -> Path:
    path = folder / "tiles.tif"
    tifffile.imwrite(
        path,
        counts(T, 40, 52, dtype="float32"),
        tile=(16, 32),
        compression="zstd",
        metadata=None,
        photometric="minisblack",
    )
    return path


def deflate_float(folder: Path) -> Path:
    path = folder / "float.tif"
    tifffile.imwrite(
        path,
        counts(T, Y, X, dtype="float32"),
        compression="zlib",
        predictor=True,
        metadata=None,
        photometric="minisblack",
    )
    return path


def jpeg(folder: Path) -> Path:
    path = folder / "jpeg.tif"
    tifffile.imwrite(
        path, counts(T, 32, 48, dtype="uint8"), compression="jpeg", metadata=None, photometric="minisblack"
    )
    return path


def colours_apart(folder: Path) -> Path:
    path = folder / "colours.tif"
    tifffile.imwrite(path, counts(T, 3, Y, X, dtype="uint8"), photometric="rgb", planarconfig="separate", metadata=None)
    return path


def pyramid(folder: Path) -> Path:
    path = folder / "pyramid.ome.tif"
    values = counts(T, 32, 48)
    with tifffile.TiffWriter(path) as writer:
        options: dict[str, Any] = {"photometric": "minisblack", "tile": (16, 16)}
        writer.write(values, subifds=1, metadata={"axes": "TYX"}, **options)
        writer.write(values[:, ::2, ::2], subfiletype=1, **options)
    return path


def imagej(folder: Path) -> Path:
    path = folder / "hyperstack.tif"
    metadata = {"axes": "TZCYX", "spacing": 1.5, "finterval": 0.25, "unit": "um", "Labels": ["a"] * T * Z * C}
    tifffile.imwrite(path, counts(T, Z, C, Y, X), imagej=True, resolution=(4, 2), metadata=metadata)
    return path


def ome(folder: Path) -> Path:
    path = folder / "movie.ome.tif"
    metadata = {
        "axes": "TZCYX",
        **{"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 1.5, "TimeIncrement": 0.1},
        "Channel": {"Name": ["GCaMP", "RFP"]},
    }
    tifffile.imwrite(path, counts(T, Z, C, Y, X), compression="zlib", metadata=metadata)
    return path


def ome_xml(
    sizes: Mapping[str, int],
    blocks: str,
    *,
    order: str = "XYZCT",
    uuid: str = "urn:uuid:0",
    inside: str = '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>',
    pixels: str = "",
    before: str = "",
    image: str = "",
) -> str:
    """Return the metadata of one image; ``blocks`` are its TiffData."""
    stated = " ".join(f'Size{axis}="{size}"' for axis, size in sizes.items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="{uuid}" Creator="a microscope">{before}<Image ID="Image:0">{image}<Pixels ID="Pixels:0" '
        f'DimensionOrder="{order}" Type="uint16" {stated} {pixels}>{inside}{blocks}</Pixels></Image></OME>'
    )


def ome_of_files(folder: Path) -> Path:
    """A file a time point, and the whole metadata in each, as Bio-Formats writes them."""
    values, names = counts(T, Z, Y, X), [f"movie_T{t}.ome.tif" for t in range(T)]
    blocks = "".join(
        f'<TiffData FirstT="{t}" FirstZ="0" FirstC="0" IFD="0" PlaneCount="{Z}"><UUID FileName="{name}">urn:uuid:{t}'
        "</UUID></TiffData>"
        for t, name in enumerate(names)
    )
    for t, name in enumerate(names):
        xml = ome_xml({"X": X, "Y": Y, "Z": Z, "C": 1, "T": T}, blocks, uuid=f"urn:uuid:{t}")
        write_tiff(folder / name, values[t], descriptions=[xml])
    return folder / names[1]


def ome_companion(folder: Path) -> Path:
    values = counts(T, Y, X)
    blocks = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="t{t}.ome.tif">urn:uuid:{t}</UUID></TiffData>'
        for t in range(T)
    )
    xml = ome_xml({"X": X, "Y": Y, "Z": 1, "C": 1, "T": T}, blocks, uuid="urn:uuid:master")
    (folder / "movie.companion.ome").write_text(xml)
    for t in range(T):
        stub = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{t}">'
            '<BinaryOnly MetadataFile="movie.companion.ome" UUID="urn:uuid:master"/></OME>'
        )
        write_tiff(folder / f"t{t}.ome.tif", values[t : t + 1], descriptions=[stub])
    return folder / "t2.ome.tif"


SCANIMAGE = {
    "SI.VERSION_MAJOR": "2020",
    "SI.VERSION_MINOR": "1",
    "SI.hChannels.channelName": "{'Green';'Red';'Channel 3';'Channel 4'}",
    "SI.hChannels.channelSave": "[1;3]",
    "SI.hFastZ.enable": "true",
    "SI.hFastZ.discardFlybackFrames": "true",
    "SI.hFastZ.numDiscardFlybackFrames": "1",
    "SI.hFastZ.numVolumes": "1000",
    "SI.hRoiManager.imagingFovUm": f"[{-X} {-Y};{X} {-Y};{X} {Y};{-X} {Y}]",
    "SI.hRoiManager.mroiEnable": "false",
    "SI.hRoiManager.scanFrameRate": "30",
    "SI.hRoiManager.scanVolumeRate": "7.5",
    "SI.hScan2D.logAverageFactor": "1",
    "SI.hStackManager.enable": "true",
    "SI.hStackManager.actualNumSlices": str(Z),
    "SI.hStackManager.numSlices": "11",
    "SI.hStackManager.framesPerSlice": "1",
    "SI.hStackManager.numFramesPerVolume": str(Z),
    "SI.hStackManager.numFramesPerVolumeWithFlyback": str(Z + 1),
    "SI.hStackManager.stackZStepSize": "-4.5",
    "SI.objectiveResolution": "15",
}


def write_scanimage(
    path: Path,
    planes: np.ndarray,
    settings: Mapping[str, str],
    *,
    channels: int = 1,
    first: int = 0,
    period_s: float = 1 / 30,
) -> Path:
    """Write a BigTIFF of ScanImage, version 4 of its layout: pages in the order of the file."""
    text = "\n".join(f"{name} = {value}" for name, value in settings.items()).encode() + b"\0"
    regions = b'{"RoiGroups": {}}\0'
    header = struct.pack("<IIII", 117637889, 4, len(text), len(regions)) + text + regions
    descriptions = []
    for page in range(len(planes)):
        frame = first + page // channels
        lines = [
            f"frameNumbers = {frame + 1}",
            "acquisitionNumbers = 1",
            f"frameNumberAcquisition = {frame + 1}",
            f"frameTimestamps_sec = {frame * period_s:.9f}",
            "acqTriggerTimestamps_sec = -1.000000000",
            "endOfAcquisition = 0",
            "epoch = [2026  8  3 12 35 19.847]",
            "auxTrigger0 = []",
            "I2CData = {}",
        ]
        descriptions.append("\n".join(lines))
    tags = {305: (ASCII, text[:-1]), 315: (ASCII, regions[:-1])}
    return write_tiff(path, planes, big=True, descriptions=descriptions, tags=tags, behind_header=header)


def scanimage_pages() -> np.ndarray:
    """Pages of T volumes of Z slices and one frame of flyback, of two channels; negative counts among them."""
    pages = counts(T, Z + 1, C, Y, X, dtype="int16")
    pages[:, Z] = -9999  # the flyback
    return pages.reshape(-1, Y, X)


def scanimage(folder: Path) -> Path:
    return write_scanimage(folder / "scan_00001.tif", scanimage_pages(), SCANIMAGE, channels=C)


def scanimage_files(folder: Path) -> Path:
    pages = scanimage_pages()
    half = 5 * C  # frames, in the middle of a volume
    write_scanimage(folder / "scan_00001_00001.tif", pages[:half], SCANIMAGE, channels=C)
    write_scanimage(folder / "scan_00001_00002.tif", pages[half:], SCANIMAGE, channels=C, first=5)
    return folder


def scanimage_3(folder: Path) -> Path:
    settings = {
        "state.software.version": "3.8",
        "state.acq.numberOfChannelsSave": str(C),
        "state.acq.numberOfZSlices": "1",
        "state.acq.numberOfFrames": str(T),
        "state.acq.averaging": "0",
        "state.acq.frameRate": "4",
        "state.acq.zStepSize": "2",
    }
    text = "\r".join(f"{name}={value}" for name, value in settings.items()) + "\r"
    return write_tiff(folder / "old001.tif", counts(T * C, Y, X), descriptions=[text] * T * C)


def prairie_xml(sequences: str, *, version: str = "5.5.64.500", state: str | None = None) -> str:
    """Return a PVScan."""
    state = PRAIRIE_STATE if state is None else state
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<PVScan version="{version}" date="8/3/2026 2:35:19 PM" notes="">\n<SystemIDs SystemID="4521"/>\n{state}'
        f"{sequences}</PVScan>\n"
    )


PRAIRIE_STATE = """<PVStateShard>
  <PVStateValue key="bitDepth" value="13" />
  <PVStateValue key="dwellTime" value="4" />
  <PVStateValue key="framePeriod" value="0.25" />
  <PVStateValue key="laserWavelength"><IndexedValue index="0" value="920" description="Imaging" /></PVStateValue>
  <PVStateValue key="linesPerFrame" value="11" />
  <PVStateValue key="micronsPerPixel">
    <IndexedValue index="XAxis" value="0.5" />
    <IndexedValue index="YAxis" value="0.625" />
    <IndexedValue index="ZAxis" value="3" />
  </PVStateValue>
  <PVStateValue key="objectiveLens" value="Olympus 20x" />
  <PVStateValue key="objectiveLensMag" value="20" />
  <PVStateValue key="objectiveLensNA" value="0.95" />
  <PVStateValue key="positionCurrent">
    <SubindexedValues index="ZAxis"><SubindexedValue subindex="0" value="7" description="Focus" /></SubindexedValues>
  </PVStateValue>
</PVStateShard>
"""
STUB = (  # what Prairie View 5.7 writes into every TIFF: the name of a file that need not be there
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
    'UUID="urn:uuid:7"><BinaryOnly MetadataFile="elsewhere.companion.ome" UUID="urn:uuid:8"/></OME>'
)


def prairie_volumes(folder: Path, *, bidirectional: bool = True) -> Path:
    """T z-series of Z planes and two channels, a file a plane; every second one recorded from the other end."""
    values = counts(T, Z, C, Y, X)
    sequences = ""
    for t in range(T):
        frames = ""
        for index in range(Z):
            z = Z - 1 - index if bidirectional and t % 2 else index
            files = ""
            for c in range(C):
                name = f"{folder.name}_Cycle{t + 1:05}_Ch{c + 1}_{index + 1:06}.ome.tif"
                write_tiff(folder / name, values[t, z, c][None], descriptions=[STUB])
                files += f'<File channel="{c + 1}" channelName="Ch{c + 1}" page="1" filename="{name}" />'
            seconds = t * 1.0 + index * 0.25
            frames += (
                f'<Frame relativeTime="{index * 0.25}" absoluteTime="{2.5 + seconds}" index="{index + 1}" '
                f'parameterSet="CurrentSettings">{files}<ExtraParameters lastGoodFrame="0" /><PVStateShard /></Frame>\n'
            )
        sequences += (
            f'<Sequence type="TSeries ZSeries Element" cycle="{t + 1}" time="14:35:19.0" '
            f'bidirectionalZ="{bidirectional}">{frames}</Sequence>\n'
        )
    (folder / f"{folder.name}.xml").write_text(prairie_xml(sequences))
    return folder / f"{folder.name}.xml"


def prairie_movie(folder: Path) -> Path:
    """One long sequence of frames, several to a file."""
    values, frames = counts(7, Y, X), ""
    for part, (first, stop) in enumerate([(0, 4), (4, 7)]):
        name = f"{folder.name}_Cycle00001_Ch2_{part + 1:06}.ome.tif"
        write_tiff(folder / name, values[first:stop], descriptions=[STUB])
        for index in range(first, stop):
            frames += (
                f'<Frame relativeTime="{index * 0.25}" absoluteTime="{1 + index * 0.25}" index="{index + 1}">'
                f'<File channel="2" channelName="Ch2" page="{index - first + 1}" filename="{name}" /></Frame>\n'
            )
    sequence = f'<Sequence type="TSeries Timed Element" cycle="1">{frames}</Sequence>\n'
    (folder / f"{folder.name}.xml").write_text(prairie_xml(sequence, version="5.7.64.300"))
    return folder


def prairie_old(folder: Path) -> Path:
    """Before 5.1: settings are keys within frames, and a frame is a sequence."""
    values, sequences = counts(T, Y, X), ""
    for t in range(T):
        name = f"{folder.name}_Cycle{t + 1:03}_CurrentSettings_Ch1_000001.tif"
        write_tiff(folder / name, values[t : t + 1])
        keys = {"micronsPerPixel_XAxis": 0.5, "micronsPerPixel_YAxis": 0.625, "positionCurrent_ZAxis": "-9,62.45"}
        state = "".join(f'<Key key="{k}" permissions="Read, Write, Save" value="{v}" />' for k, v in keys.items())
        sequences += (
            f'<Sequence type="TSeries Timed Element" cycle="{t + 1}"><Frame relativeTime="0" absoluteTime="{t * 0.5}" '
            f'index="1" label="CurrentSettings"><File channel="1" channelName="Ch1" filename="{name}" />'
            f"<PVStateShard>{state}</PVStateShard></Frame></Sequence>\n"
        )
    (folder / f"{folder.name}.xml").write_text(prairie_xml(sequences, version="4.0.0.43", state=""))
    return folder


def lsm(folder: Path) -> Path:
    """A time series of Zeiss: two channels apart in every page, and a thumbnail behind each."""
    head = struct.Struct("<Ii8i6dHH5Id8I")
    stamps = struct.pack(f"<ii{T}d", 8 + 8 * T, T, *(0.5 * t for t in range(T)))
    info = head.pack(
        *(67127628, head.size, X, Y, 1, C, T, 2, 4, 4),
        *(0.25e-6, 0.5e-6, 0.0, 0.0, 0.0, 0.0, 3, 0, 0, 0, 0, 0, 0, 0.5),
        *(0, 0, 0, 16, 0, 0, 0, 0),
    )
    content = bytearray(b"II" + struct.pack("<HI", 42, 0) + bytes(8)) + stamps
    values, links, previous = counts(T, C, Y, X), [], 4
    for t in range(T):
        for planes, kind in ((values[t], 0), (np.zeros((C, 4, 4), "uint16"), 1)):
            starts = []
            for plane in planes:
                starts.append(len(content))
                content += plane.tobytes() + bytes(plane.nbytes % 2)
            entries: dict[int, tuple[int, Any]] = {
                **{254: (LONG, kind), 256: (LONG, planes.shape[2]), 257: (LONG, planes.shape[1])},
                **{258: (SHORT, (16, 16, 16)), 259: (SHORT, 1), 262: (SHORT, 1), 273: (LONG, starts), 277: (SHORT, C)},
                **{279: (LONG, [plane.nbytes for plane in planes]), 284: (SHORT, 2)},
            }
            if t == 0 and kind == 0:
                entries[34412] = (ASCII, info[:-1])
            struct.pack_into("<I", content, previous, len(content))
            previous = len(content) + 2 + 12 * len(entries)
            content += _directory(entries, len(content), "<", False)
            links.append(previous)
    (folder / "series.lsm").write_bytes(content)
    return folder / "series.lsm"


def stk(folder: Path) -> Path:
    """A stack of MetaMorph: one page header, the planes behind each other, µm in its tags."""
    values = counts(Z, Y, X)
    data, unit = values.tobytes(), struct.pack("<I", 3) + b"um\0"
    first = 8
    places = {"unit": first + len(data), "scale": first + len(data) + 8, "settings": first + len(data) + 16}
    settings = struct.pack("<6I", 4, places["scale"], 5, places["scale"], 6, places["unit"])
    list_place = places["settings"] + len(settings)
    rows = b"".join(struct.pack("<6I", 3 * (z > 0), 2, 2_461_000, 1000 * z, 2_461_000, 1000 * z) for z in range(Z))
    content = bytearray(b"II" + struct.pack("<HI", 42, 0)) + data + unit.ljust(8, b"\0") + struct.pack("<2I", 1, 4)
    content += settings + rows
    entries: dict[int, tuple[int, Any]] = {
        **{254: (LONG, 0), 256: (LONG, X), 257: (LONG, Y), 258: (SHORT, 16), 259: (SHORT, 1), 262: (SHORT, 1)},
        **{273: (LONG, first), 277: (SHORT, 1), 278: (LONG, Y), 279: (LONG, Y * X * 2)},
        **{33628: (LONG, 0), 33629: (LONG, 0)},
    }
    place = len(content) + len(content) % 2
    content += bytes(place - len(content))
    struct.pack_into("<I", content, 4, place)
    directory = bytearray(_directory(entries, place, "<", False))
    for code, kind, count, where in ((33628, LONG, 3, places["settings"]), (33629, RATIONAL, Z, list_place)):
        row = 2 + 12 * sorted(entries).index(code)
        struct.pack_into("<HHII", directory, row, code, kind, count, where)
    (folder / "stack.stk").write_bytes(content + directory)
    return folder / "stack.stk"


def stk_like(path: Path, values: np.ndarray, description: str) -> Path:
    """Planes behind each other, and the one page header at the end of the file."""
    content = bytearray(b"II" + struct.pack("<HI", 42, 0)) + values.tobytes()
    content += bytes(len(content) % 2)
    entries: dict[int, tuple[int, Any]] = {
        **{256: (LONG, values.shape[2]), 257: (LONG, values.shape[1]), 258: (SHORT, 16), 259: (SHORT, 1)},
        **{262: (SHORT, 1), 270: (ASCII, description), 273: (LONG, 8), 277: (SHORT, 1)},
        **{278: (LONG, values.shape[1]), 279: (LONG, values[0].nbytes)},
    }
    struct.pack_into("<I", content, 4, len(content))
    path.write_bytes(content + _directory(entries, len(content), "<", False))
    return path


def planes(folder: Path) -> Path:
    for t in range(T):
        for z in range(Z):
            write_tiff(folder / f"worm_t{t:03}_z{z:02}.tif", counts(T, Z, Y, X)[t, z][None])
    return folder


def planes_png(folder: Path) -> Path:
    for t in range(T):
        (folder / f"img_{t}.png").write_bytes(imagecodecs.png_encode(counts(T, Y, X)[t]))
    return folder


def niddl_layout(folder: Path) -> Path:
    for t in range(T):
        (folder / f"img_{t + 1}").mkdir()
        for z in range(Z):
            write_tiff(folder / f"img_{t + 1}" / f"z_{z + 1}.tif", counts(T, Z, Y, X)[t, z][None])
    return folder


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "tiff plain": plain,
    "tiff big-endian packbits": big_endian_packbits,
    "tiff big lzw": big_lzw,
    "tiff tiles zstd": tiles_zstd,
    "tiff deflate float": deflate_float,
    "tiff jpeg": jpeg,
    "tiff colours apart": colours_apart,
    "tiff pyramid": pyramid,
    "imagej": imagej,
    "ome-tiff": ome,
    "ome-tiff of files": ome_of_files,
    "ome-tiff companion": ome_companion,
    "scanimage": scanimage,
    "scanimage files": scanimage_files,
    "scanimage 3": scanimage_3,
    "prairie volumes": prairie_volumes,
    "prairie movie": prairie_movie,
    "prairie old": prairie_old,
    "lsm": lsm,
    "stk": stk,
    "planes tiff": planes,
    "planes png": planes_png,
    "niddl layout": niddl_layout,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "tiff colours apart": {"channel": "green"},
    "imagej": {"channel": 1},
    "ome-tiff": {"channel": "RFP"},
    "scanimage": {"channel": 1},
    "scanimage files": {"channel": "Channel 3"},
    "scanimage 3": {"channel": 0},
    "prairie volumes": {"channel": "Ch2"},
    "lsm": {"channel": 1},
}
