"""XML within files of other formats, from which nothing may expand."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError, fromstring

from niddl_xr.schema import NiddlError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MALFORMED = (ParseError, ValueError, LookupError)  # the last two are about its encoding


def declares_entities(data: bytes) -> bool:
    """Say whether an XML text has a document type, which may define entities that expand without an end."""
    return any("<!DOCTYPE".encode(encoding) in data for encoding in ("utf-8", "utf-16-le", "utf-16-be"))


def require_no_entities(data: bytes, what: str) -> None:
    """Refuse a document type."""
    if declares_entities(data):
        raise NiddlError(f"{what} defines XML entities: refused")


def parse_xml(data: bytes, what: str) -> Element:
    """Return the root of an XML text, which may end in zeros."""
    require_no_entities(data, what)
    try:
        return fromstring(data.rstrip(b"\0"))
    except MALFORMED as error:
        raise NiddlError(f"{what} is damaged: {error}; copy it again from its origin") from error
