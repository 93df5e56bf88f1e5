"""The command niddl-xr: convert, train, denoise, info, formats, demo. Each is a public verb with its arguments."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr


_VALUES = ("series", "position", "scene")  # numbers where they look like numbers, else names
_NAMED = ("axes", "channel", "voxel_um", "dt_s", "dataset", "variable", *_VALUES, "sizes", "gaps")


def _recording_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--axes", help="order of the file's axes where it does not say, such as tzyx")
    parser.add_argument("--channel", help="name or number, where there are several")
    parser.add_argument("--voxel-um", type=float, nargs=3, metavar=("Z", "Y", "X"), help="voxel size in µm")
    parser.add_argument("--dt-s", type=float, help="time between frames in s")
    parser.add_argument("--dataset", help="name of the array in a file that holds several, such as HDF5")
    parser.add_argument("--variable", help="name of the array in a store that holds several, such as zarr")
    parser.add_argument("--series", type=_value, help="which image, where a file holds several")
    parser.add_argument("--position", type=_value, help="which position of the stage, where there are several")
    parser.add_argument("--scene", type=_value, help="which scene, where there are several")
    parser.add_argument("--sizes", type=_sizes, metavar="Z=30,…", help="sizes that the pages of a TIFF are split into")
    parser.add_argument("--gaps", choices=["error", "skip"], help="what to do when numbered files are missing")
    parser.add_argument(
        "--option",
        type=_option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other option of a format (see: niddl-xr formats), the value as JSON or text; may be repeated",
    )


def _value(text: str) -> Any:
    """Return what a text says as JSON, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, _value(value)


def _sizes(text: str) -> dict[str, int]:
    sizes = dict(_option(part) for part in text.split(","))
    if not all(isinstance(size, int) for size in sizes.values()):
        raise argparse.ArgumentTypeError(f"expected sizes of axes, such as z=30, got {text!r}")
    return sizes


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of open_recording that were given."""
    given = {name: getattr(options, name) for name in _NAMED}
    if given["channel"] is not None and given["channel"].isdecimal():
        given["channel"] = int(given["channel"])
    if given["voxel_um"] is not None:
        given["voxel_um"] = tuple(given["voxel_um"])
    if "path" in dict(options.option):
        raise ValueError("--option path=… cannot be: the file is named by itself")
    return {name: value for name, value in given.items() if value is not None} | dict(options.option)


def _open(recording: Any, options: argparse.Namespace) -> xr.DataArray:
    import niddl_xr as nx

    return nx.open_recording(recording, **_given(options))


def _convert(options: argparse.Namespace) -> int:
    import niddl_xr as nx

    out, progress = Path(options.out), not options.quiet
    files = options.recordings if len(options.recordings) > 1 else options.recordings[0]
    name = out.name.lower()
    stores = not out.suffix or (name.endswith(".zarr") and not name.endswith(".ome.zarr"))
    if stores and options.out_option:
        raise ValueError(f"--out-option is for files of other tools; the store {out} has none")
    if taken := {"obj", "path", "overwrite", "progress"} & set(dict(options.out_option)):
        raise ValueError(f"--out-option takes no {', '.join(sorted(taken))}; see --overwrite and --quiet")
    if not stores and options.no_pyramid:
        raise ValueError(f"--no-pyramid is for stores (*.zarr); for {out} see --out-option")
    recording = _open(files, options)
    if stores:
        stored = recording.niddl.save(
            out, overwrite=options.overwrite, pyramid=not options.no_pyramid, progress=progress
        )
        what = f"{_sizes_in_words(stored)} {stored.dtype}"
    else:
        nx.export(recording, out, overwrite=options.overwrite, progress=progress, **dict(options.out_option))
        what = _sizes_in_words(recording)
    print(f"{out}: {what}, {_bytes_in_words(_bytes_of(out))}")
    return 0


def _sizes_in_words(recording: xr.DataArray) -> str:
    return ", ".join(f"{dim} {size:,}" for dim, size in recording.sizes.items())


def _bytes_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _bytes_in_words(size: int) -> str:
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if size >= 10**power:
            return f"{size / 10**power:.3g} {unit}"
    return f"{size} bytes"


def _train(options: argparse.Namespace) -> int:
    import niddl_xr as nx

    denoiser = nx.train(
        nx.open_pairs(options.pairs),
        network=options.network,
        mode=options.mode,
        depth=options.depth,
        loss=options.loss,
        epochs=options.epochs,
        time_limit_s=options.time_limit_s,
        validation=options.validation,
        seed=options.seed,
        device=options.device,
        resume=options.resume,
        out=options.out,
    )
    training = denoiser.card["training"]
    print(f"{options.out}: best loss {training['best_loss']:.4g} in epoch {training['best_epoch']}")
    return 0


def _denoise(options: argparse.Namespace) -> int:
    import niddl_xr as nx
    from niddl_xr.denoising.classical import FILTERS

    denoiser = nx.classical(options.denoiser) if options.denoiser in FILTERS else nx.load_denoiser(options.denoiser)
    stored = _open(options.recording, options).niddl.denoise(
        denoiser,
        to=options.out,
        device=options.device,
        precision=options.precision,
        memory=options.memory,
        resume=not options.no_resume,
        check_voxel=not options.no_check_voxel,
    )
    print(f"{options.out}: {_sizes_in_words(stored)} {stored.dtype}")
    return 0


def _info(options: argparse.Namespace) -> int:
    """Show one file after the other; what is wrong with one does not hide the others."""
    shown: list[Any] = []
    failed = False
    for number, path in enumerate(options.recordings):
        try:
            facts = _info_of(Path(path), options)
        except (ValueError, OSError) as error:
            failed = True
            _show_error(error)
            facts = {"path": path, "error": str(error)}
        else:
            if not options.json:
                print("\n" if number else "", end="")
                print(facts if isinstance(facts, str) else json.dumps(facts, indent=2))
        shown.append(facts)
    if options.json:
        print(json.dumps(shown if len(shown) > 1 else shown[0], indent=2, ensure_ascii=False))
    return int(failed)


def _info_of(path: Path, options: argparse.Namespace) -> Any:
    """Return what a file is, as text, or as plain values for JSON."""
    import niddl_xr as nx

    if path.suffix == ".safetensors":
        denoiser = nx.load_denoiser(path)
        card = json.loads(json.dumps(denoiser.card))
        return card if options.json else f"{denoiser}\n{json.dumps(denoiser.card, indent=2)}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            recording = _open(path, options)
        except ValueError:
            pairs = _pairs_in(path)
            if pairs is None:
                raise
            return _pairs_facts(pairs) if options.json else _pairs_text(pairs)
    # What is missing stands in the description, with what sets it.
    said = [_one_line(item.message) for item in caught if not str(item.message).endswith("coordinates are indices")]
    description = nx.describe(recording, planes=options.planes)
    if options.json:
        return {"path": str(path), **description.to_dict(), "warned_when_opened": said}
    return "\n".join([repr(description), *(f"\nWarned when it was opened: {text}" for text in said)])


def _pairs_in(path: Path) -> xr.Dataset | None:
    """Return the pairs in a folder, None where there are none: then the error of the recording tells more."""
    import niddl_xr as nx

    if not path.is_dir():
        return None
    try:
        return nx.open_pairs(path)
    except ValueError:
        return None


def _pairs_facts(pairs: xr.Dataset) -> dict[str, Any]:
    from niddl_xr.schema import voxel_um

    return {
        "path": pairs.attrs.get("source"),
        "pairs": pairs.sizes["stack"],
        "sizes": {str(dim): size for dim, size in pairs.noisy.sizes.items()},
        "dtypes": {half: str(pairs[half].dtype) for half in ("noisy", "clean")},
        "voxel_um": voxel_um(pairs.noisy),
        "stacks": [str(name) for name in pairs["stack"].values],
    }


def _pairs_text(pairs: xr.Dataset) -> str:
    facts = _pairs_facts(pairs)
    names = facts["stacks"]
    listed = ", ".join(names if len(names) <= 8 else [*names[:4], "…", *names[-3:]])
    voxel = ", ".join(f"{dim} {size:.4g} µm" for dim, size in facts["voxel_um"].items())
    dtypes = facts["dtypes"]
    return "\n".join(
        [
            f"{facts['path']}: {facts['pairs']} pairs of noisy and clean images",
            f"  sizes   {_sizes_in_words(pairs.noisy)}",
            f"  dtypes  noisy {dtypes['noisy']}, clean {dtypes['clean']}",
            f"  voxel   {voxel or 'not stated (set voxel_um= of open_pairs)'}",
            f"  stacks  {listed}",
        ]
    )


def _formats(options: argparse.Namespace) -> int:
    import niddl_xr as nx

    table = nx.readers()
    for name, row in table.iterrows():
        options_of = f"; options: {', '.join(row['options'].split())}" if row["options"] else ""
        extra = f' (pip install "niddl-xr[{row["extra"]}]")' if row["extra"] else f" (pip install {row['needs']})"
        print(f"{name}: {row['what']}")
        print(f"    {row['suffixes'] or 'known by what it holds'}{options_of}{'' if row['installed'] else extra}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from niddl_xr.demo import run_demo

    parameters: dict[str, Any] = {"opening": _given(options)}
    if options.recording is not None:
        _open(options.recording, options)  # an error here costs no folder
        parameters["recording_path"] = str(Path(options.recording).absolute())
    if options.training_seconds is not None:
        parameters["training_seconds"] = options.training_seconds
    folder = run_demo(options.out, parameters)
    print(f"{folder}: look at {folder / 'demo.html'}")
    return 0


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line, without the line of code that raised it."""
    print(f"niddl-xr: {_one_line(message)}", file=sys.stderr)


def _show_error(error: Exception) -> None:
    print(f"niddl-xr: {_one_line(error)}", file=sys.stderr)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="niddl-xr", description="Denoise recordings of neurons in faint light.")
    commands = parser.add_subparsers(required=True, metavar="command")

    convert = commands.add_parser(
        "convert",
        help="any readable file into a store, or a file of another tool",
        description="Several files are one session, joined in the order given. A store (*.zarr) that was stopped is "
        "finished by the same command.",
    )
    convert.add_argument("recordings", nargs="+", metavar="recording")
    convert.add_argument("out", help="what to make: a store (*.zarr), or *.ome.tif, *.tif, *.ome.zarr, *.mp4, …")
    convert.add_argument("--overwrite", action="store_true", help="replace what exists, once the new one is complete")
    convert.add_argument("--no-pyramid", action="store_true", help="a store without smaller levels for viewers")
    convert.add_argument("--quiet", action="store_true", help="no progress bar")
    convert.add_argument(
        "--out-option", type=_option, action="append", default=[], metavar="NAME=VALUE", help="option of export()"
    )
    _recording_arguments(convert)
    convert.set_defaults(run=_convert)

    train = commands.add_parser("train", help="a denoiser from a folder of noisy and clean images")
    train.add_argument("pairs")
    train.add_argument("out", help="file to make, usually *.safetensors")
    train.add_argument("--network", default="niddl_fast")
    train.add_argument("--mode", default="2d", help="2d, 2.5d, 3d, or max_projection")
    train.add_argument("--depth", type=int, help="planes that the network sees, in the modes 2.5d and 3d")
    train.add_argument("--loss", default="l1")
    train.add_argument("--epochs", type=int, default=30)
    train.add_argument("--time-limit-s", type=float)
    train.add_argument("--validation", type=float, default=0.2, help="fraction of the stacks that is set aside")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", default="auto")
    train.add_argument("--resume", help="checkpoint of an interrupted training")
    train.set_defaults(run=_train)

    denoise = commands.add_parser("denoise", help="a recording into a store; the same command resumes")
    denoise.add_argument("recording")
    denoise.add_argument("denoiser", help="file of a denoiser, or worm-sim, median, gaussian, nlm, bm3d")
    denoise.add_argument("out", help="store to make, usually *.zarr")
    denoise.add_argument("--device", default="auto")
    denoise.add_argument("--precision", default="auto")
    denoise.add_argument("--memory", help="for a network's activations, such as '2 GiB'")
    denoise.add_argument("--no-check-voxel", action="store_true", help="accept voxels unlike those of the training")
    denoise.add_argument("--no-resume", action="store_true", help="refuse to continue an existing store")
    _recording_arguments(denoise)
    denoise.set_defaults(run=_denoise)

    info = commands.add_parser("info", help="what files hold, where that is known from, and what looks wrong")
    info.add_argument("recordings", nargs="+", metavar="file", help="a recording, pairs, or the file of a denoiser")
    info.add_argument("--json", action="store_true", help="one JSON object, or a list of several")
    info.add_argument("--planes", type=int, default=16, help="how many planes to look at; 0 reads no pixels")
    _recording_arguments(info)
    info.set_defaults(run=_info)

    formats = commands.add_parser("formats", help="which files can be opened, with which options")
    formats.set_defaults(run=_formats)

    demo = commands.add_parser("demo", help="the whole job as an executed notebook and a page")
    demo.add_argument("--out", default="demo", help="folder to make")
    demo.add_argument("--recording", help="your file in place of the simulated movie")
    demo.add_argument("--training-seconds", type=float)
    _recording_arguments(demo)
    demo.set_defaults(run=_demo)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; errors of use are one line on stderr and exit status 1."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # pipes of some systems have no µ
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            done: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # what reads the output, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        _show_error(error)
        return 1
    except KeyboardInterrupt:
        print("niddl-xr: stopped; what is complete stays, and the same command goes on", file=sys.stderr)
        return 130
    return done


if __name__ == "__main__":
    sys.exit(main())
