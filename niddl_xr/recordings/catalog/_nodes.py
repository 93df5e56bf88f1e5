"""YAML as plain values that know their line, so that an error in a catalogue can say where it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from niddl_xr.schema import NiddlError

MOST_BYTES = 4 * 2**20
_MOST_NODES = 100_000
_MOST_LEVELS = 20
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}


@dataclass(frozen=True)
class Value:
    """A value of a YAML file: text, number, truth value or None, a list of values, or a mapping of names to values.

    ``where`` names file and line, ``name`` the entry and key, as a message says them.
    """

    data: Any
    where: str
    name: str

    def fail(self, message: str) -> NoReturn:
        """Raise an error that names file, line, entry and key."""
        raise NiddlError(f"{self.where}, {self.name}: {message}")

    def mapping(self, known: Mapping[str, str] | None = None, required: tuple[str, ...] = ()) -> dict[str, Value]:
        """Return the values by key; keys beyond ``known`` (name to what it is) are errors, so are missing ones."""
        if not isinstance(self.data, dict):
            self.fail(f"expected a mapping of keys to values, got {self.shown()}")
        found: dict[str, Value] = self.data
        for key, value in found.items() if known is not None else ():
            if key not in (known or {}):
                close = get_close_matches(key, known or {}, n=1, cutoff=0.6)
                hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known or {})}"
                value.fail(f"unknown key {key!r}; {hint}")
        for key in required:
            if key not in found:
                self.fail(f"the key {key!r} is missing: expected {(known or {}).get(key, 'a value')}")
        return found

    def items(self) -> list[Value]:
        """Return the values of a list."""
        if not isinstance(self.data, list):
            self.fail(f"expected a list, got {self.shown()}")
        return list(self.data)

    def text(self) -> str:
        """Return a text that is not empty."""
        if not isinstance(self.data, str) or not self.data.strip():
            self.fail(f"expected a text, got {self.shown()}" + self._quote())
        return str(self.data).strip()

    def truth(self) -> bool:
        """Return True or False."""
        if not isinstance(self.data, bool):
            self.fail(f"expected true or false, got {self.shown()}")
        return bool(self.data)

    def whole(self) -> int:
        """Return a whole number above 0."""
        if not isinstance(self.data, int) or isinstance(self.data, bool) or self.data < 1:
            self.fail(f"expected a whole number above 0, got {self.shown()}")
        return int(self.data)

    def positive(self) -> float:
        """Return a number above 0."""
        number = self.data
        if not isinstance(number, (int, float)) or isinstance(number, bool) or not 0 < number < float("inf"):
            self.fail(f"expected a number above 0, got {self.shown()}")
        return float(number)

    def plain(self) -> Any:
        """Return the value without its lines."""
        if isinstance(self.data, dict):
            return {key: value.plain() for key, value in self.data.items()}
        if isinstance(self.data, list):
            return [value.plain() for value in self.data]
        return self.data

    def shown(self) -> str:
        """Return the value as a message shows it."""
        return f"{self.plain()!r:.80}"

    def _quote(self) -> str:
        return "; put it in quotes" if isinstance(self.data, (int, float, bool)) else ""


def read_values(path: Path) -> Value:
    """Return what a YAML file holds.

    Only plain YAML is read: no tags that would make objects, no merge keys, nothing beyond 4 MiB, 100,000 values (an
    alias counts each time) or 20 levels; a key that stands twice is an error.
    """
    import yaml

    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise FileNotFoundError(f"no catalogue at {path}: there is no such file") from None
    if not path.is_file() or size > MOST_BYTES:
        raise NiddlError(f"expected a catalogue, a YAML file of at most {MOST_BYTES >> 20} MiB, got {path}")
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark is not None else str(path)
        reason = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise NiddlError(f"{where}: expected YAML, got what cannot be read as such: {reason}") from error
    if root is None:
        raise NiddlError(f"{path} is empty: expected a catalogue with the keys metadata and sources")
    return _value(root, path, "the catalogue", 0, iter(range(_MOST_NODES)))


def _value(node: Any, path: Path, name: str, level: int, budget: Iterator[int]) -> Value:
    import yaml

    where = f"{path}, line {node.start_mark.line + 1}"
    empty = Value(None, where, name)
    if next(budget, None) is None or level > _MOST_LEVELS:
        empty.fail(f"expected at most {_MOST_NODES} values in at most {_MOST_LEVELS} levels; aliases count each time")
    if isinstance(node, yaml.ScalarNode):
        if node.tag not in _PLAIN:
            kind = node.tag.rsplit(":", 1)[-1]
            empty.fail(
                f"expected a text, a number, true, false or null, got a value of type {kind!r}; put it in quotes"
            )
        try:
            return Value(yaml.SafeLoader("").construct_object(node), where, name)
        except (ValueError, yaml.YAMLError) as error:
            empty.fail(f"expected a text or a number, got {node.value!r:.80}: {error}")
    if isinstance(node, yaml.SequenceNode) and node.tag.endswith(":seq"):
        children = enumerate(node.value)
        return Value([_value(child, path, f"{name}[{i}]", level + 1, budget) for i, child in children], where, name)
    if not isinstance(node, yaml.MappingNode) or not node.tag.endswith(":map"):
        empty.fail(f"expected plain YAML, got the tag {node.tag!r}")
    found: dict[str, Value] = {}
    for key, child in node.value:
        line = Value(None, f"{path}, line {key.start_mark.line + 1}", name)
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
            line.fail(f"expected a text as key, got {shown!r:.80}; put it in quotes")
        if key.value in found:
            line.fail(f"the key {key.value!r} stands twice, first in {found[key.value].where.rsplit(', ', 1)[-1]}")
        inner = _value(child, path, _named(name, key.value, level), level + 1, budget)
        # The line of the key: that of an empty value would be the next one.
        found[key.value] = Value(inner.data, line.where, inner.name)
    return Value(found, where, name)


def _named(name: str, key: str, level: int) -> str:
    """Return what a message calls a key: entry 'worm', key metadata.files."""
    if level == 0:
        return f"key {key!r}"
    if name == "key 'sources'":
        return f"entry {key!r}"
    return f"{name}.{key}" if ", key " in name else f"{name}, key {key}"
