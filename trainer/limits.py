"""Limits on the size and shape of input, and bounded readers of gzip, JSON and YAML.

A limit is checked before the work that it bounds: against a header, or while reading. Exceeding one is an InputError
that names the limit. Usual data sets and runs stay far below all of them.
"""

import io
import json
import os
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

MOST_PIXELS: Final = 80_000_000
"""Pixels of an image. More than any chest X-ray has: a film of 35 x 43 cm at 50 micrometres has 60 million."""

MOST_ELONGATED: Final = 10
"""Longest aspect ratio of an image: a line of pixels would take gigabytes when its short side is resized."""

IMAGE_FILE_BYTES: Final = 192 << 20
"""Size of an image file, and of an inflated DICOM file. 80 million uncompressed 16-bit pixels have 153 MiB."""

DECODED_BYTES: Final = 384 << 20
"""Size of a decoded image in its own mode. 80 million pixels of red, green, blue and padding have 305 MiB."""

SCANS: Final = 100
"""Scans of a JPEG, each a pass over the whole picture. Encoders write 10 by default.

Source: libjpeg-turbo, jcparam.c (jpeg_simple_progression: 10 scans for colours, 6 for gray); its fuzzers stop at 500.
"""

SCANNED_PIXELS: Final = 2_000_000_000
"""Scans times pixels of a JPEG: about ten seconds. 10 scans of the largest allowed picture are 800 million."""

J2K_BLOCKS: Final = 400_000
"""Tiles, precincts and code-blocks of a JPEG 2000 picture; a decoder needs some hundred bytes for each. The largest
picture has 80,000 blocks of 32 x 32, the smallest that encoders use by default.
"""

TABLE_VALUES: Final = 1 << 16
"""Entries of a DICOM lookup table of gray values. Source: DICOM PS3.3 C.11.1.1.1: the count has 16 bits."""

FOLDER_DEPTH: Final = 100
"""Nesting depth of folders in a data set."""

TEXT_BYTES: Final = 256 << 20
"""Size of a label list or another table, uncompressed. ChestX-ray14's has 8 MB, MIMIC-CXR's (377,110 images) 60 MB."""

GZIP_MEMBERS: Final = 10_000
"""Members of a gzip file. `bgzip` makes one per 64 KiB; a file of empty members takes minutes and yields nothing."""

LINE_CHARS: Final = 1 << 20
"""Length of a table row, and so of a line."""

TABLE_COLUMNS: Final = 4096
"""Columns of a table; MIMIC-CXR's tables have about 20, predictions one per finding."""

TABLE_ROWS: Final = 2_000_000
"""Rows of a table. The largest public data set has 377,110 images."""

JSON_BYTES: Final = 64 << 20
"""Size of a JSON document of a run or a pack. The longest lists 112,120 images."""

JSON_NODES: Final = 4_000_000
"""Values of such a document, counted by separators: 64 MiB of `{},` would take 1.5 GB of memory."""

API_BYTES: Final = 512 << 20
"""Size of a response of the Kubernetes API: a list of 20,000 pods."""

API_NODES: Final = 32_000_000
"""Values of such a response."""

CHANGE_BYTES: Final = 16 << 20
"""Size of one watch event of the Kubernetes API. etcd accepts objects of 1.5 MiB."""

LOG_LINE_BYTES: Final = 1 << 20
"""Length of a line of a container's log; the rest of the line is dropped."""

SMALL_JSON_BYTES: Final = 1 << 20
"""Size of a checkpoint manifest, of the attempts file and of the owner record; ours have about 300 bytes."""

STATE_BYTES: Final = 4 << 30
"""Size of a training state or a file of weights. The largest, VGG16 with Adam's moments, has 1.6 GB."""

STATE_ENTRIES: Final = 1_000_000
"""Tensors of a training state; each worker adds DenseNet-121's 364 of BatchNorm."""

PICKLE_BYTES: Final = 128 << 20
"""Size of the pickle that describes those tensors, 150 bytes each."""

JSON_DEPTH: Final = 64
"""Nesting depth of a JSON document; ours have 6."""

YAML_BYTES: Final = 1 << 20
"""Size of settings, an overlay or a kubeconfig."""

YAML_NODES: Final = 100_000
"""Values of such a file with every alias expanded; nine lines of nested aliases expand to a billion."""

YAML_DEPTH: Final = 64
"""Nesting depth of such a file; a pod template has 12."""

NUMBER_CHARS: Final = 64
"""Length of a number in such a file: Python takes minutes to parse much longer ones."""

CREDENTIAL_BYTES: Final = 1 << 20
"""Size of a file with credentials or botocore profiles."""

CERTIFICATE_BYTES: Final = 16 << 20
"""Size of a bundle of certificates. Mozilla's has 200 KiB."""

RESPONSE_BYTES: Final = 64 << 20
"""Size of an S3 response that is not an object. A page of 1,000 names of 1,024 bytes has 4 MiB."""

LISTED_OBJECTS: Final = 2_000_000
"""Objects of one bucket listing. The largest public data set has 377,110 images."""


class LimitError(ValueError):
    """Input over a limit. The text names the limit and completes a sentence that begins with the file's name."""


def in_words(size_bytes: int) -> str:
    """A number of bytes in the largest unit that fits."""
    if size_bytes < 1 << 10:
        return f"{size_bytes} bytes"
    return f"{size_bytes >> 20} MiB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KiB"


def read_at_most(file: BinaryIO, most_bytes: int) -> bytes:
    """The content of a file. Raises: LimitError before more than `most_bytes` are in memory."""
    if _size_of(file) > most_bytes:
        raise LimitError(f"it has more than {in_words(most_bytes)}")
    pieces: list[bytes] = []
    left = most_bytes + 1
    # In pieces: `read` allocates as much as requested, even when there is little to read.
    while left and (piece := file.read(min(left, max(_PIECE_BYTES, _size_of(file) + 1)))):
        pieces.append(piece)
        left -= len(piece)
    if not left:
        raise LimitError(f"it has more than {in_words(most_bytes)}")
    return b"".join(pieces)


_PIECE_BYTES: Final = 1 << 20


def _size_of(file: BinaryIO) -> int:
    """A file's size, to read it in one piece; 0 without a descriptor."""
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:  # such as BytesIO
        return 0


def gunzipped(packed: bytes, *, most_bytes: int = TEXT_BYTES) -> bytes:
    """The content of a gzip file, which may have several members.

    Raises: LimitError before more than `most_bytes` are in memory; zlib.error, EOFError for a damaged file.
    """
    import gzip  # noqa: PLC0415 - the launcher reads settings without it

    if packed.count(b"\x1f\x8b\x08") > GZIP_MEMBERS:
        raise LimitError(f"it is packed in more than {GZIP_MEMBERS:,} pieces")
    content = bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            while piece := file.read(1 << 20):
                content += piece
                if len(content) > most_bytes:
                    raise LimitError(f"it unpacks to more than {in_words(most_bytes)}")
    except gzip.BadGzipFile as problem:
        raise zlib.error(str(problem)) from problem
    return bytes(content)


def parsed_json(content: bytes, *, most_bytes: int = JSON_BYTES, most_nodes: int = JSON_NODES) -> Any:  # noqa: ANN401 - any JSON
    """Parse a JSON document: UTF-8, finite numbers, and no duplicate key in an object (RFC 8259).

    Raises: LimitError when it is too long, too deep or has a number too large for a float; ValueError when it is not JSON.
    """
    if len(content) > most_bytes:
        raise LimitError(f"it has more than {in_words(most_bytes)}")
    if sum(content.count(separator) for separator in (b",", b"[", b"{")) > most_nodes:
        raise LimitError(f"it has more than {most_nodes:,} values")
    try:
        document = json.loads(
            content.decode("utf-8"),
            parse_int=_whole,
            parse_float=_real,
            parse_constant=_constant,
            object_pairs_hook=_without_duplicates,
        )
    except RecursionError:
        raise LimitError("it is nested too deeply") from None
    if depth_of(document) > JSON_DEPTH:
        raise LimitError(f"it is nested more than {JSON_DEPTH} deep")
    if b"\\ud" in content or b"\\uD" in content:  # a lone surrogate can be neither printed nor written
        json.dumps(document, ensure_ascii=False).encode()
    return document


def depth_of(document: object) -> int:
    """The nesting depth of lists and mappings."""
    depth, level = 0, [document]
    while level := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    return depth


def parsed_yaml(text: str, loader: Any) -> Any:  # noqa: ANN401 - any of PyYAML's safe loaders, any YAML
    """Parse a YAML document. Aliases are counted with the size of their target before anything is built.

    Raises: LimitError when it is too long, too deep, too large or refers to itself; yaml.YAMLError when it is not YAML;
    ValueError when a value does not have the type of its tag.
    """
    if len(text) > YAML_BYTES:
        raise LimitError(f"it has more than {in_words(YAML_BYTES)}")
    _check_events(loader(text))
    reader = loader(text)
    try:
        node = reader.get_single_node()
        if node is None:
            return None
        _check_scalars(node)
        return reader.construct_document(node)
    except (KeyError, AttributeError, TypeError, OverflowError, IndexError) as problem:  # `!!timestamp x`, `!!bool x`
        raise ValueError("a value does not have the type of its tag or its form") from problem
    except RecursionError:
        raise LimitError("it is nested too deeply") from None
    finally:
        reader.dispose()


def _check_events(reader: Any) -> None:  # noqa: ANN401 - as above
    """Raises: LimitError; as the loader for invalid YAML."""
    sizes: dict[str | None, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    """Anchor of each open list and mapping, and the number of values before it."""
    total = 0
    for event in _events(reader):
        anchor, kind = getattr(event, "anchor", None), type(event).__name__
        if kind == "AliasEvent":
            if any(anchor == each for each, _ in open_nodes):
                raise LimitError("it refers to itself")
            total += sizes.get(anchor, 0)  # an undefined alias is left to the loader
        elif kind == "ScalarEvent":
            total, sizes[anchor] = total + 1, 1
        elif kind.endswith("StartEvent") and hasattr(event, "anchor"):
            open_nodes.append((anchor, total))
            total += 1
        elif kind in {"SequenceEndEvent", "MappingEndEvent"}:
            anchor, before = open_nodes.pop()
            sizes[anchor] = total - before
        _check_size(total, len(open_nodes))


def _check_size(nodes: int, depth: int) -> None:
    if nodes > YAML_NODES:
        raise LimitError(f"it has more than {YAML_NODES:,} values, with its aliases expanded")
    if depth > YAML_DEPTH:
        raise LimitError(f"it is nested more than {YAML_DEPTH} deep")


def _events(reader: Any) -> Iterator[object]:  # noqa: ANN401 - as above
    try:
        while reader.check_event():
            yield reader.get_event()
    finally:
        reader.dispose()


def _check_scalars(node: Any) -> None:  # noqa: ANN401 - as above
    """Raises: ValueError; LimitError for a number that takes too long to parse, such as `1:1:1…` in base 60."""
    seen, left = set(), [node]
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node.value, list):
            left += [each for child in node.value for each in (child if isinstance(child, tuple) else (child,))]
            continue
        node.value.encode()  # a lone surrogate, `"\\ud800"`, can be neither printed nor sent
        if node.tag.endswith((":int", ":float")) and len(node.value) > NUMBER_CHARS:
            raise LimitError(f"it has a number of {len(node.value):,} characters")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("it has a duplicate key")
    return mapping


def _whole(digits: str) -> int:
    if len(digits) > 20:  # 64 bits and a sign
        raise LimitError(f"it has a number of {len(digits):,} digits")
    return int(digits)


def _real(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise LimitError("it has a number that is too large")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")
