"""Cleanup of XMP: remove or update what no longer holds for a restyled photo."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any
from xml.dom import minidom
from xml.parsers.expat import ExpatError

logger = logging.getLogger("clipmamba")

_PANORAMA = "http://ns.google.com/photos/1.0/panorama/"
_STALE_SPACES = (  # gain maps, motion photos, depth maps and other dropped parts of the file
    "http://ns.adobe.com/hdr-gain-map/",
    "http://ns.google.com/photos/",
    "http://ns.apple.com/HDRGainMap/",
    "http://ns.apple.com/pixeldatainfo/",
    "http://ns.adobe.com/xmp/note/",
)
_LAYOUT = (
    *("ImageWidth", "ImageLength", "Orientation", "BitsPerSample", "Compression", "NativeDigest"),
    *("PhotometricInterpretation", "SamplesPerPixel", "PlanarConfiguration"),
    *("YCbCrSubSampling", "YCbCrPositioning"),
)
_STALE_NAMES = {  # namespace -> names in it
    "http://ns.adobe.com/tiff/1.0/": frozenset(_LAYOUT),
    "http://ns.adobe.com/exif/1.0/": frozenset(
        {"PixelXDimension", "PixelYDimension", "NativeDigest"}
    ),
    "http://ns.adobe.com/xap/1.0/": frozenset({"Thumbnails"}),
}
_MARKS = re.compile(
    rb"hdr-gain-map|ns\.google\.com/photos|ns\.apple\.com/|xmp/note|ns\.adobe\.com/tiff|"
    rb"PixelXDimension|PixelYDimension|NativeDigest|Thumbnails"
)


def without_stale(xmp: bytes, *, turned: bool) -> bytes | None:
    """Remove entries for gain maps, motion photos, thumbnails and the old file's layout.

    Args:
        xmp: an XMP packet.
        turned: whether the photo was rotated or flipped; panorama sizes are then removed too.

    Returns:
        The packet, byte for byte the same if nothing was removed; None if it may need changes but
        can't be parsed.
    """
    if not _MARKS.search(xmp):
        return xmp
    document = _parsed(xmp)
    if document is None:
        logger.warning("unreadable XMP left out")
        return None
    changed = False
    for element in list(_elements(document)):
        for attribute in list(element.attributes.values()):
            declares = attribute.name.startswith("xmlns:")
            space = attribute.value if declares else attribute.namespaceURI
            if _is_stale(space, None if declares else attribute.localName, turned):
                element.removeAttributeNode(attribute)
                changed = True
        if _is_stale(element.namespaceURI, element.localName, turned) and element.parentNode:
            element.parentNode.removeChild(element)
            changed = True
    cleaned = _written(document) if changed else xmp
    if cleaned is None:
        logger.warning("unreadable XMP left out")
    return cleaned


def fit_panorama(xmp: bytes, size: tuple[int, int]) -> bytes:
    """Rescale a panorama's sizes in XMP to a picture of this width and height."""
    document = _parsed(xmp) if _PANORAMA.encode() in xmp else None
    if document is None:
        return xmp
    nodes = [node for node in _properties(document) if node.namespaceURI == _PANORAMA]
    measures = {node.localName: node for node in nodes if _number(node) is not None}
    changed = False
    for ends, length in ((("WidthPixels", "LeftPixels"), size[0]),
                         (("HeightPixels", "TopPixels"), size[1])):  # fmt: skip
        names = (f"{part}{ends[0]}" for part in ("CroppedAreaImage", "FullPano"))
        before = next((_number(measures[name]) for name in names if name in measures), None)
        if not before or before == length:
            continue
        for name, node in measures.items():
            if name.endswith(ends):
                _set_number(node, round((_number(node) or 0) * length / before))
                changed = True
    return (_written(document) if changed else None) or xmp


def _is_stale(space: str | None, name: str | None, turned: bool) -> bool:
    if not space:
        return False
    if space == _PANORAMA:
        return turned
    return space.startswith(_STALE_SPACES) or name in _STALE_NAMES.get(space, ())


def _parsed(xmp: bytes) -> Any:
    """Parse a packet; None if it is not XML, or declares entities, which could expand."""
    if b"<!" in xmp:
        return None
    try:
        return minidom.parseString(xmp.rstrip(b"\0"))
    except (ExpatError, RecursionError, ValueError, LookupError):
        return None


def _written(document: Any) -> bytes | None:
    """Serialize a document to a packet; None if it is nested too deeply."""
    try:
        return "".join(node.toxml() for node in document.childNodes).encode("utf-8")
    except RecursionError:
        return None


def _elements(document: Any) -> Iterator[Any]:
    """Yield all elements, parents before children."""
    rest = [document.documentElement]
    while rest:
        element = rest.pop()
        yield element
        rest += [child for child in element.childNodes if child.nodeType == child.ELEMENT_NODE]


def _properties(document: Any) -> Iterator[Any]:
    for element in _elements(document):
        yield element
        yield from element.attributes.values()


def _number(node: Any) -> int | None:
    text = node.value if node.nodeType == node.ATTRIBUTE_NODE else _text(node)
    return int(text) if re.fullmatch(r"\s*\d{1,9}\s*", text) else None


def _text(element: Any) -> str:
    return "".join(child.data for child in element.childNodes if child.nodeType == child.TEXT_NODE)


def _set_number(node: Any, number: int) -> None:
    if node.nodeType == node.ATTRIBUTE_NODE:
        node.value = str(number)
    else:
        node.firstChild.data = str(number)
