"""Names of units in files, as µm and s. A unit that is not here counts as not stated."""

from __future__ import annotations

_UM: dict[tuple[str, ...], float] = {
    ("µm", "um", "micron", "microns", "micrometer", "micrometre", "micrometers", "micrometres"): 1.0,
    ("nm", "nanometer", "nanometre", "nanometers", "nanometres"): 1e-3,
    ("pm", "picometer", "picometre"): 1e-6,
    ("å", "angstrom"): 1e-4,
    ("mm", "millimeter", "millimetre", "millimeters", "millimetres"): 1e3,
    ("m", "meter", "metre", "meters", "metres"): 1e6,
}
_CENTIMETRE: dict[tuple[str, ...], float] = {("cm", "centimeter", "centimetre", "centimeters", "centimetres"): 1e4}
_S: dict[tuple[str, ...], float] = {
    ("s", "sec", "second", "seconds"): 1.0,
    ("ms", "msec", "millisecond", "milliseconds"): 1e-3,
    ("µs", "us", "microsecond", "microseconds"): 1e-6,
    ("ns", "nanosecond", "nanoseconds"): 1e-9,
    ("min", "minute", "minutes"): 60.0,
    ("h", "hour", "hours"): 3600.0,
    ("d", "day", "days"): 86400.0,
}


def um_per(unit: str | None, *, print_units: bool = True) -> float | None:
    """Return how many µm a unit of length is, or None for pixels and unknown units.

    Without ``print_units`` the centimetre is unknown: ImageJ copies it from the dots per inch of a plain TIFF.
    """
    found = _look_up(_UM, unit)
    return _look_up(_CENTIMETRE, unit) if found is None and print_units else found


def s_per(unit: str | None) -> float | None:
    """Return how many s a unit of time is, or None for frames and unknown units."""
    return _look_up(_S, unit)


def _look_up(table: dict[tuple[str, ...], float], unit: str | None) -> float | None:
    if not isinstance(unit, str):
        return None
    plain = unit.strip().rstrip("\0").lower()
    for micro in ("\\u00b5", "\\u03bc", "\N{GREEK SMALL LETTER MU}"):  # ImageJ escapes the sign
        plain = plain.replace(micro, "\N{MICRO SIGN}")
    return next((value for names, value in table.items() if plain in names), None)
