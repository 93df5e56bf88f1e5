"""The command niddl-xr: convert, train, denoise, info, demo. Every command is a public verb with its arguments."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr


def _recording_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--axes", help="order of the file's axes where it does not say, such as tzyx")
    parser.add_argument("--channel", help="name or number, where there are several")
    parser.add_argument("--dataset", help="name of the array in a file that holds several, such as HDF5")
    parser.add_argument("--voxel-um", type=float, nargs=3, metavar=("Z", "Y", "X"), help="voxel size in µm")
    parser.add_argument("--dt-s", type=float, help="time between frames in s")
    parser.add_argument("--gaps", choices=["error", "skip"], help="what to do when numbered files are missing")


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of open_recording that were given."""
    given = {name: getattr(options, name) for name in ("axes", "channel", "dataset", "voxel_um", "dt_s", "gaps")}
    if given["channel"] is not None and given["channel"].isdigit():
        given["channel"] = int(given["channel"])
    if given["voxel_um"] is not None:
        given["voxel_um"] = tuple(given["voxel_um"])
    return {name: value for name, value in given.items() if value is not None}


def _open(options: argparse.Namespace) -> xr.DataArray:
    import niddl_xr as nx

    return nx.open_recording(options.recording, **_given(options))


def _convert(options: argparse.Namespace) -> None:
    stored = _open(options).niddl.save(options.out, overwrite=options.overwrite)
    print(f"{options.out}: {dict(stored.sizes)} {stored.dtype}")


def _train(options: argparse.Namespace) -> None:
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


def _denoise(options: argparse.Namespace) -> None:
    import niddl_xr as nx
    from niddl_xr.denoising.classical import FILTERS

    denoiser = nx.classical(options.denoiser) if options.denoiser in FILTERS else nx.load_denoiser(options.denoiser)
    stored = _open(options).niddl.denoise(
        denoiser,
        to=options.out,
        device=options.device,
        precision=options.precision,
        memory=options.memory,
        resume=not options.no_resume,
        check_voxel=not options.no_check_voxel,
    )
    print(f"{options.out}: {dict(stored.sizes)} {stored.dtype}")


def _info(options: argparse.Namespace) -> None:
    import niddl_xr as nx

    path = Path(options.recording)
    if path.suffix == ".safetensors":
        denoiser = nx.load_denoiser(path)
        print(denoiser)
        print(json.dumps(denoiser.card, indent=2))
        return
    recording = _open(options)
    print(f"{path}: {recording.dtype}, {recording.nbytes / 2**20:.1f} MiB")
    for dim, size in recording.sizes.items():
        coordinate = recording[dim]
        unit = coordinate.attrs["units"]
        print(f"  {dim}: {size} from {float(coordinate[0]):g} to {float(coordinate[-1]):g} {unit}")
    for name, value in recording.attrs.items():
        print(f"  {name}: {value}")


def _demo(options: argparse.Namespace) -> None:
    from niddl_xr.demo import run_demo

    parameters = _given(options)
    if options.recording is not None:
        _open(options)  # an error here costs no folder
        parameters["recording_path"] = str(Path(options.recording).absolute())
    if options.training_seconds is not None:
        parameters["training_seconds"] = options.training_seconds
    folder = run_demo(options.out, parameters)
    print(f"{folder}: look at {folder / 'demo.html'}")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line, without the line of code that raised it."""
    print(f"niddl-xr: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="niddl-xr", description="Denoise recordings of neurons in faint light.")
    commands = parser.add_subparsers(required=True, metavar="command")

    convert = commands.add_parser("convert", help="any readable file into a store (zarr, OME-Zarr)")
    convert.add_argument("recording")
    convert.add_argument("out", help="store to make, usually *.zarr")
    convert.add_argument("--overwrite", action="store_true", help="replace an existing store")
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

    info = commands.add_parser("info", help="what a file holds, and what it says of itself")
    info.add_argument("recording", help="a recording, or the file of a denoiser")
    _recording_arguments(info)
    info.set_defaults(run=_info)

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
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            options.run(options)
    except (ValueError, OSError) as error:
        print(f"niddl-xr: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("niddl-xr: stopped; what is complete stays, and the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
