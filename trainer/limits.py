"""How much of what others wrote is read: every limit on the size and shape of input, and the readers that keep them.

A limit is checked before the work that it bounds: from a header, from the size of what is packed, or while the input comes. What is
over one is bad input, named with the limit; a file of a usual data set or run is far below all of them.
"""

import json
import zlib
from typing import Any, Final

MOST_PIXELS: Final = 80_000_000
"""Of an image. More than any chest X-ray has: a film of 35 x 43 cm at 50 micrometres has 60 million."""

MOST_ELONGATED: Final = 10
"""How many times longer than wide an image may be; a line of pixels grows to gigabytes when its short side is resized."""

IMAGE_FILE_BYTES: Final = 192 << 20
"""Of an image's file, and of what a deflated DICOM file unpacks to. 80 million pixels of 16 bits without compression have 153 MiB."""

DECODED_BYTES: Final = 384 << 20
"""Of an image in memory, in the mode that it is decoded to. 80 million pixels of red, green, blue and padding have 305 MiB."""

SCANS: Final = 100
"""Of a JPEG: each is a pass over the whole picture. Encoders write 10 at most unless told otherwise.

Source: libjpeg-turbo, jcparam.c (jpeg_simple_progression: 10 scans for colours, 6 for gray); its fuzzers stop at 500.
"""

SCANNED_PIXELS: Final = 2_000_000_000
"""Scans times pixels of a JPEG: some ten seconds. 10 scans of the largest picture are 800 million."""

J2K_BLOCKS: Final = 400_000
"""Tiles, precincts and code-blocks of a JPEG 2000 picture; a decoder keeps some hundred bytes of each. Blocks of 32 x 32, the
smallest that encoders write on their own, are 80,000 in the largest picture."""

TABLE_VALUES: Final = 1 << 16
"""Of a DICOM table of gray values. Source: DICOM PS3.3 C.11.1.1.1: the number of entries has 16 bits."""

FOLDER_DEPTH: Final = 100
"""Of folders inside each other below a data set's."""

TEXT_BYTES: Final = 256 << 20
"""Of a label list or any other table, unpacked. ChestX-ray14's is 8 MB, that of MIMIC-CXR's 377,110 images 60 MB."""

JSON_BYTES: Final = 64 << 20
"""Of a document of a run or a pack. The longest names 112,120 images."""

JSON_DEPTH: Final = 64
"""Of lists and mappings inside each other; ours have 6."""

YAML_BYTES: Final = 1 << 20
"""Of settings, an overlay or a kubeconfig."""

YAML_NODES: Final = 100_000
"""Of such a file with every alias written out; nine lines of aliases of aliases have a billion."""

LISTED_OBJECTS: Final = 2_000_000
"""Of one listing of a bucket. The largest public data set has 377,110 images."""


class LimitError(ValueError):
    """What is read is over a limit; the text says which, and ends a sentence that begins with the file's name."""


def in_words(size_bytes: int) -> str:
    """A limit in bytes as people read it."""
    return f"{size_bytes >> 20} MiB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KiB"


def gunzipped(packed: bytes, *, most_bytes: int = TEXT_BYTES) -> bytes:
    """The content of a gzip file, of several members too.

    Raises: LimitError before more than `most_bytes` are in memory; zlib.error, EOFError for a damaged file.
    """
    content = bytearray()
    while packed:
        member = zlib.decompressobj(wbits=31)
        content += member.decompress(packed, most_bytes + 1 - len(content))
        if len(content) > most_bytes:
            raise LimitError(f"it unpacks to more than {in_words(most_bytes)}")
        if not member.eof:
            raise EOFError("it breaks off")
        packed = member.unused_data.lstrip(b"\0")
    return bytes(content)


def parsed_json(content: bytes) -> Any:  # noqa: ANN401 - any JSON
    """What a JSON document holds.

    Raises: LimitError when it is too long, too deep or has a number too large for a float; ValueError when it is no JSON.
    """
    if len(content) > JSON_BYTES:
        raise LimitError(f"it has more than {in_words(JSON_BYTES)}")
    try:
        document = json.loads(content, parse_int=_whole, parse_float=_real)
    except RecursionError:
        raise LimitError("it is nested too deeply") from None
    if depth_of(document) > JSON_DEPTH:
        raise LimitError(f"it is nested more than {JSON_DEPTH} deep")
    return document


def depth_of(document: object) -> int:
    """How many lists and mappings are inside each other."""
    depth, level = 0, [document]
    while level := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    return depth


def _whole(digits: str) -> int:
    if len(digits) > 20:  # of 64 bits and a sign
        raise LimitError(f"it has a number of {len(digits):,} digits")
    return int(digits)


def _real(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise LimitError("it has a number that is too large")
    return value
