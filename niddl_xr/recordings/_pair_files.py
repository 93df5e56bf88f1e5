"""Which files are noisy and clean images of the same scene: by the names of folders and files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from niddl_xr.recordings.sessions import natural
from niddl_xr.schema import NiddlError

WORDS = {
    "noisy": {"noisy", "low", "input", "inputs", "raw"},
    "clean": {"clean", "gt", "high", "target", "targets", "truth", "groundtruth"},
}
HALVES = ("noisy", "clean")
_LISTED = 8
_LEVELS = 4  # folders below the one that was named
_STACK = re.compile(r"img_\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Stacks:
    """The files of one half of the pairs: for every stack, its planes' numbers (or 0 for a whole file) to names."""

    folder: Path
    files: Mapping[str, Mapping[int, str]]
    nested: bool


Session = dict[str, Stacks]  # one of each of HALVES, with the same stacks


def find_sessions(folder: Path, names: Mapping[str, str | None], pattern: str | None) -> dict[str, Session]:
    """Return the sessions in a folder by their path in it, "" for the folder itself where it is one.

    Parameters
    ----------
    folder
        It holds a folder of noisy and one of clean images, or like-named files of both, or folders that do.
    names
        Names of the folders of each half, or the word by which the names of files differ; None to recognise them.
    pattern
        Only files whose name fits.
    """
    own = _session(folder, names, pattern)
    if own is not None:
        return {"": own}
    found = dict(_below(folder, folder, names, pattern, 1))
    if not found:
        choose_folders(folder, names)  # says what is unclear
    return found


def _below(
    root: Path, folder: Path, names: Mapping[str, str | None], pattern: str | None, level: int
) -> Iterator[tuple[str, Session]]:
    for child in sorted(_folders(folder), key=lambda path: natural(path.name)):
        if child.is_symlink() or _STACK.fullmatch(child.name):
            continue
        session = _session(child, names, pattern)
        if session is not None:
            yield child.relative_to(root).as_posix(), session
            continue
        deeper = list(_below(root, child, names, pattern, level + 1)) if level < _LEVELS else []
        recognised = [half for half in HALVES if _candidates(child, half, names[half])]
        if not deeper and recognised and names["noisy"] is None:
            choose_folders(child, names)  # half a session would be left out in silence
        yield from deeper


def _session(folder: Path, names: Mapping[str, str | None], pattern: str | None) -> Session | None:
    """Return the session that a folder is by itself, or None."""
    if all(len(_candidates(folder, half, names[half])) == 1 for half in HALVES):
        chosen = choose_folders(folder, names)
        session = {half: _find_stacks(folder / name, pattern) for half, name in chosen.items()}
    else:
        session = _like_named(folder, names, pattern) or {}
    if not session:
        return None
    _require_partners(session["noisy"], session["clean"])
    return session


def _folders(folder: Path) -> list[Path]:
    return [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]


def _candidates(folder: Path, half: str, name: str | None) -> list[str]:
    present = sorted(child.name for child in _folders(folder))
    return [other for other in present if (other == name if name is not None else _words(other) & WORDS[half])]


def choose_folders(folder: Path, given: Mapping[str, str | None]) -> dict[str, str]:
    """Return the names of the folders of noisy and of clean images: as given, else by the words in their names."""
    listed = ", ".join(sorted(child.name for child in _folders(folder))) or "none"
    chosen = {}
    for half, name in given.items():
        found = _candidates(folder, half, name)
        if name is not None and not found:
            raise NiddlError(f"{folder} has no folder {name!r} for {half}=; its folders: {listed}")
        if len(found) != 1:
            raise NiddlError(
                f"expected one folder of {half} images in {folder}, recognised {found or 'none'}; name the folders "
                f"with noisy= and clean=. Its folders: {listed}"
            )
        chosen[half] = found[0]
    if chosen["noisy"] == chosen["clean"]:
        raise NiddlError(
            f"the folder {chosen['noisy']!r} of {folder} would be both noisy and clean; name the folders with noisy= "
            f"and clean=. Its folders: {listed}"
        )
    return chosen


def _words(name: str) -> set[str]:
    """Return the words of a name, lowSNR and low_snr alike."""
    return {word.lower() for word in _WORD.findall(name)}


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def _like_named(folder: Path, names: Mapping[str, str | None], pattern: str | None) -> Session | None:
    """Return the pairs among the files of one folder whose names differ by a word, or None where there are none."""
    from niddl_xr.recordings.readers.planes import image_names

    wanted = {half: WORDS[half] if names[half] is None else {str(names[half])} for half in HALVES}
    files: dict[str, dict[str, str]] = {half: {} for half in HALVES}
    for name in sorted(image_names(folder)):
        if pattern is not None and not fnmatch(name, pattern):
            continue
        said = {half: _without(Path(name).stem, wanted[half], names[half] is not None) for half in HALVES}
        found = {half: rest for half, rest in said.items() if rest is not None}
        if len(found) > 1:
            raise NiddlError(
                f"{folder / name} would be both noisy and clean by its name; choose files with pattern=, or say by "
                "which word they differ with noisy= and clean="
            )
        for half, rest in found.items():
            if rest in files[half]:
                raise NiddlError(f"two {half} files of {folder} are called alike: {files[half][rest]} and {name}")
            files[half][rest] = name
    if not all(files.values()):
        return None
    if all(len(found) == 1 for found in files.values()):
        # One of each is a pair, whatever else their names say, such as how many frames were averaged.
        files = {half: {next(iter(files["noisy"])): name for name in found.values()} for half, found in files.items()}
    _require_counterparts(folder, files)
    stacks = {half: {rest or half: {0: name} for rest, name in found.items()} for half, found in files.items()}
    if "" in files["noisy"]:  # the word is the whole name
        stacks = {half: {folder.name: next(iter(found.values()))} for half, found in stacks.items()}
    return {half: Stacks(folder, found, nested=False) for half, found in stacks.items()}


def _without(stem: str, words: set[str], exact: bool) -> str | None:
    """Return a name without the one word of ``words`` in it, and one separator; None where it has none."""
    if exact:
        (word,) = words
        place = stem.lower().find(word.lower())
        span = (place, place + len(word)) if place >= 0 else None
    else:
        found = [match.span() for match in _WORD.finditer(stem) if match.group().lower() in words]
        span = found[0] if found else None
    if span is None:
        return None
    left, right = stem[: span[0]].rstrip("_-. "), stem[span[1] :].lstrip("_-. ")
    return "_".join(part for part in (left, right) if part)


def _require_counterparts(folder: Path, files: Mapping[str, Mapping[str, str]]) -> None:
    alone = [
        name
        for half, other in (HALVES, HALVES[::-1])
        for rest, name in sorted(files[half].items())
        if rest not in files[other]
    ]
    if alone:
        shown = ", ".join(alone[:_LISTED]) + (", ..." if len(alone) > _LISTED else "")
        raise NiddlError(
            f"expected files in {folder} whose names differ by one word, such as noisy and clean, but "
            f"{len(alone)} have no partner: {shown}; add the missing ones or choose files with pattern="
        )


def _find_stacks(folder: Path, pattern: str | None) -> Stacks:
    """Return the stacks of a folder: NIDDL's nested ones where there are any, else one a file."""
    from niddl_xr.recordings.readers.niddl_layout import plane_names, stack_folders
    from niddl_xr.recordings.readers.planes import image_names

    def fits(name: str) -> bool:
        return pattern is None or fnmatch(Path(name).name, pattern)

    files: dict[str, dict[int, str]] = {}
    nested = stack_folders(folder)
    for stack in nested:
        planes = [name for name in plane_names(stack) if fits(name)]
        numbers = {int(re.findall(r"\d+", Path(name).stem)[0]): name for name in planes}
        if len(numbers) != len(planes):
            raise NiddlError(f"two planes of {stack} have the same number: {', '.join(sorted(planes))}")
        if numbers:
            files[stack.name] = numbers
    if not nested:
        for name in sorted(filter(fits, image_names(folder))):
            stem = Path(name).stem
            if stem in files:
                raise NiddlError(f"two files of {folder} are called {stem}: {files[stem][0]} and {name}; set pattern=")
            files[stem] = {0: name}
    if not files:
        which = f" that fits pattern={pattern!r}" if pattern else ""
        raise NiddlError(f"found no .tif or .png file{which} in {folder}, nor NIDDL's img_<n>/z_<k>.tif")
    return Stacks(folder, files, bool(nested))


def _require_partners(noisy: Stacks, clean: Stacks) -> None:
    """Raise one error that names every file without a partner."""
    if noisy.nested != clean.nested:
        one, other = (noisy, clean) if noisy.nested else (clean, noisy)
        raise NiddlError(f"{one.folder} is in NIDDL's layout img_<n>/z_<k>.tif, but {other.folder} holds plain files")
    missing = []
    for have, lack in ((noisy, clean), (clean, noisy)):
        names = [
            name
            for stack in sorted(have.files, key=natural)
            for number, name in sorted(have.files[stack].items())
            if number not in lack.files.get(stack, {})
        ]
        if names:
            missing.append(f"{len(names)} of {have.folder.name} have no partner in {lack.folder.name}: {_short(names)}")
    if missing:
        raise NiddlError(
            f"expected files of equal names in both folders of {noisy.folder.parent}, but {'; '.join(missing)}; "
            "add the missing ones or choose files with pattern="
        )


def _short(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
