"""Headers of JPEG and JPEG 2000 images, read without decoding: size, and the cost of decoding.

Covers JPEG with its lossless kinds, JPEG-LS and JPEG 2000. Decoders trust these headers, so they are checked first.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from trainer.limits import J2K_BLOCKS

_START, _END_OF_IMAGE, _SCAN, _TEMPORARY = 0xD8, 0xD9, 0xDA, 0x01
_RESTARTS: Final = range(0xD0, 0xD8)
_FRAMES: Final = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header. Source: ITU-T T.81 table B.1; T.87 for JPEG-LS."""

_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_MARKER_AFTER_SCAN = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")

_COD, _COC, _TILE_PART, _TILE_DATA, _J2K_END = 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9
"""Source: ITU-T T.800 table A.2."""

_TILE_IN_BLOCKS: Final = 40
"""Memory of a decoder per tile, in blocks: 10 kB, measured with OpenJPEG 2.5."""

_J2K: Final = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream, and the marker that must follow. Source: ITU-T T.800 A.4.1, A.5.1."""


class CodestreamError(ValueError):
    """Reason why an image must not be decoded."""


@dataclass(frozen=True)
class Frame:
    """Size and cost of an image according to its headers."""

    width: int
    height: int
    components: int
    scans: int = 1
    """Passes over the image; 1 for JPEG 2000."""


def read_frame(content: bytes) -> Frame:
    """Read the headers of an image. Raises: CodestreamError when they are missing or contradictory."""
    at = content.find(_J2K, 0, 4096)  # a DICOM fragment may, against the standard, start with the boxes of a .jp2 file
    return _j2k(content[at + 4 :]) if at >= 0 else _jpeg(content)


def _jpeg(content: bytes) -> Frame:
    sizes, scans = set(), 0
    for marker, at in _segments(content):
        if marker in _FRAMES:
            head = content[at + 3 : at + 8]
            if len(head) < 5:
                raise CodestreamError("its JPEG data is truncated")
            sizes.add((int.from_bytes(head[2:4], "big"), int.from_bytes(head[:2], "big"), head[4]))
        scans += marker == _SCAN
    if len(sizes) != 1:
        raise CodestreamError("its JPEG data has no size" if not sizes else "its JPEG data has several sizes")
    return Frame(*sizes.pop(), scans=scans)


def _segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Each marker and the start of its segment, as decoders find them: bytes between segments are skipped."""
    at, pattern = 0, _MARKER
    while match := pattern.search(content, at):
        marker, at = match[1][0], match.end()
        pattern = _MARKER
        if marker == _END_OF_IMAGE:
            return
        if marker in {_START, _TEMPORARY, *_RESTARTS}:
            continue
        yield marker, at
        at += max(2, int.from_bytes(content[at : at + 2], "big"))
        if marker == _SCAN:
            pattern = _MARKER_AFTER_SCAN


def _j2k(content: bytes) -> Frame:
    """Frame of a JPEG 2000 codestream without its first two markers. Source: ITU-T T.800 A.5.1 (SIZ), A.6.1 (COD), A.6.2 (COC)."""
    if len(content) < 38:
        raise CodestreamError("its JPEG 2000 data is truncated")
    right, low, left, top, tile_width, tile_height = (_u32(content, 4 + 4 * number) for number in range(6))
    components = int.from_bytes(content[36:38], "big")
    width, height = right - left, low - top
    if width <= 0 or height <= 0 or not tile_width or not tile_height or not 1 <= components <= 4:
        raise CodestreamError("its JPEG 2000 data has an unsupported size")
    tiles = math.ceil(right / tile_width) * math.ceil(low / tile_height)
    blocks = _TILE_IN_BLOCKS * tiles + _blocks(content, components, width, height)
    if blocks * components > J2K_BLOCKS:
        raise CodestreamError(f"its JPEG 2000 data has more than {J2K_BLOCKS:,} blocks")
    return Frame(width, height, components)


def _u32(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 4], "big")


def _blocks(content: bytes, components: int, width: int, height: int) -> int:
    """Largest number of precincts and code-blocks of one component: components and tiles may have their own coding styles."""
    most = 0
    for marker, body in _j2k_headers(content):
        if marker == _COD:
            style = _style(body[5:], has_precincts=bool(body[:1] and body[0] & 1))
        elif marker == _COC:
            at = 1 if components <= 256 else 2
            style = _style(body[at + 1 :], has_precincts=bool(body[at : at + 1] and body[at] & 1))
        else:
            continue
        most = max(most, _blocks_of(style, width, height))
    return most


def _j2k_headers(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of the segments of the main header (after the SIZ marker) and of every tile-part header."""
    at, next_part = 0, 0
    for _ in range(J2K_BLOCKS):
        at += int.from_bytes(content[at : at + 2], "big") or 2
        if _u16(content, at) == _TILE_DATA:
            if next_part <= at:  # this is the last tile-part
                return
            at = next_part
        marker, at = _u16(content, at), at + 2
        if marker < 0xFF00 or marker == _J2K_END:
            return
        if marker == _TILE_PART:
            length = _u32(content, at + 4)
            next_part = at - 2 + length if length else 0
        yield marker, content[at + 2 : at + _u16(content, at)]


def _u16(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 2], "big")


def _style(style: bytes, *, has_precincts: bool) -> bytes:
    """The coding style from the number of levels on. Raises: CodestreamError for a wrong length."""
    if len(style) < 5 or style[0] > 32 or len(style) < 5 + (style[0] + 1) * has_precincts:
        raise CodestreamError("its JPEG 2000 data is damaged")
    return style[: 5 + (style[0] + 1) * has_precincts]


def _blocks_of(style: bytes, width: int, height: int) -> int:
    """Blocks of a coding style: levels, code-block width and height, two flags, one byte per precinct size."""
    levels, precincts = style[0], style[5:] or bytes([0xFF]) * (style[0] + 1)
    total = 0
    for level, size in enumerate(precincts):
        wide, high = (math.ceil(side / 2 ** (levels - level)) for side in (width, height))
        across, down = size & 15, size >> 4
        total += math.ceil(wide / 2**across) * math.ceil(high / 2**down)
        block = 2 ** min((style[1] & 15) + 2, across) * 2 ** min((style[2] & 15) + 2, down)
        total += math.ceil(wide * high / block)
    return total
