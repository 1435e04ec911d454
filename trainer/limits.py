"""How much of what others wrote is read: every limit on the size and shape of input, and the readers that keep them.

A limit is checked before the work that it bounds: from a header, from the size of what is packed, or while the input comes. What is
over one is bad input, named with the limit; a file of a usual data set or run is far below all of them.
"""

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

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

GZIP_MEMBERS: Final = 10_000
"""Of one packed file. `bgzip` makes one of each 64 KiB; a file of empty ones is unpacked for minutes, to nothing."""

LINE_CHARS: Final = 1 << 20
"""Of a row of a table, and so of a line."""

TABLE_COLUMNS: Final = 4096
"""Of a table; MIMIC-CXR's have some 20, and predictions one for each finding."""

TABLE_ROWS: Final = 2_000_000
"""Of a table. The largest public data set has 377,110 images."""

JSON_BYTES: Final = 64 << 20
"""Of a document of a run or a pack. The longest names 112,120 images."""

JSON_NODES: Final = 4_000_000
"""Values of such a document, counted by what separates them: 64 MiB of `{},` would take 1.5 GB."""

API_BYTES: Final = 512 << 20
"""Of an answer of the Kubernetes API: a list of all pods, were there 20,000 of them."""

CHANGE_BYTES: Final = 16 << 20
"""Of a change of one object that the API tells. etcd takes objects of 1.5 MiB."""

LOG_LINE_BYTES: Final = 1 << 20
"""Of a line of a container's log; what comes after is left out."""

API_NODES: Final = 32_000_000
"""Values of such an answer."""

MANIFEST_BYTES: Final = 1 << 20
"""Of what commits a checkpoint, counts starts or tells a run's owner; ours have some 300 bytes."""

STATE_BYTES: Final = 4 << 30
"""Of a training state or a file of weights. VGG16's with the moments of Adam, the largest, has 1.6 GB."""

STATE_ENTRIES: Final = 1_000_000
"""Tensors of a training state; each worker adds the 364 of DenseNet-121's BatchNorm."""

PICKLE_BYTES: Final = 128 << 20
"""Of what ties those tensors together, 150 bytes each."""

JSON_DEPTH: Final = 64
"""Of lists and mappings inside each other; ours have 6."""

YAML_BYTES: Final = 1 << 20
"""Of settings, an overlay or a kubeconfig."""

YAML_NODES: Final = 100_000
"""Of such a file with every alias written out; nine lines of aliases of aliases have a billion."""

YAML_DEPTH: Final = 64
"""Of lists and mappings inside each other; a pod template has 12."""

CREDENTIAL_BYTES: Final = 1 << 20
"""Of a file with credentials, or with what botocore's profiles are."""

CERTIFICATE_BYTES: Final = 16 << 20
"""Of a bundle of certificates. Mozilla's has 200 KiB."""

ANSWER_BYTES: Final = 64 << 20
"""Of an answer of an S3 server that is no object. A page of 1,000 names of 1,024 bytes has 4 MiB."""

NUMBER_CHARS: Final = 64
"""Of a number in such a file: longer ones take Python minutes to read, and nobody means them."""

LISTED_OBJECTS: Final = 2_000_000
"""Of one listing of a bucket. The largest public data set has 377,110 images."""


class LimitError(ValueError):
    """What is read is over a limit; the text says which, and ends a sentence that begins with the file's name."""


def in_words(size_bytes: int) -> str:
    """A limit in bytes as people read it."""
    if size_bytes < 1 << 10:
        return f"{size_bytes} bytes"
    return f"{size_bytes >> 20} MiB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KiB"


def read_at_most(file: BinaryIO, most_bytes: int) -> bytes:
    """All that a file holds. Raises: LimitError before more than `most_bytes` are in memory."""
    if _size_of(file) > most_bytes:
        raise LimitError(f"it has more than {in_words(most_bytes)}")
    pieces: list[bytes] = []
    left = most_bytes + 1
    # Not all at once: `read` sets aside as much as it is asked for, however little there is.
    while left and (piece := file.read(min(left, max(_PIECE_BYTES, _size_of(file) + 1)))):
        pieces.append(piece)
        left -= len(piece)
    if not left:
        raise LimitError(f"it has more than {in_words(most_bytes)}")
    return b"".join(pieces)


_PIECE_BYTES: Final = 1 << 20


def _size_of(file: BinaryIO) -> int:
    """A file's size, so that one piece is all of it; 0 of what is no file."""
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:  # BytesIO and others have no descriptor
        return 0


def gunzipped(packed: bytes, *, most_bytes: int = TEXT_BYTES) -> bytes:
    """The content of a gzip file, of several members too.

    Raises: LimitError before more than `most_bytes` are in memory; zlib.error, EOFError for a damaged file.
    """
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
    """What a JSON document holds; of UTF-8 text as RFC 8259 has it, with finite numbers and each key once.

    Raises: LimitError when it is too long, too deep or has a number too large for a float; ValueError when it is no JSON.
    """
    if len(content) > most_bytes:
        raise LimitError(f"it has more than {in_words(most_bytes)}")
    if sum(content.count(mark) for mark in (b",", b"[", b"{")) > most_nodes:
        raise LimitError(f"it has more than {most_nodes:,} values")
    try:
        document = json.loads(
            content.decode("utf-8"),
            parse_int=_whole,
            parse_float=_real,
            parse_constant=_constant,
            object_pairs_hook=_each_once,
        )
    except RecursionError:
        raise LimitError("it is nested too deeply") from None
    if depth_of(document) > JSON_DEPTH:
        raise LimitError(f"it is nested more than {JSON_DEPTH} deep")
    if b"\\ud" in content or b"\\uD" in content:  # half a character can be neither printed nor written
        json.dumps(document, ensure_ascii=False).encode()
    return document


def depth_of(document: object) -> int:
    """How many lists and mappings are inside each other."""
    depth, level = 0, [document]
    while level := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    return depth


def parsed_yaml(text: str, loader: Any) -> Any:  # noqa: ANN401 - any of PyYAML's safe loaders, any YAML
    """What a YAML document holds.

    Its aliases are counted as what they stand for before anything is built of them.

    Raises: LimitError when it is too long, too deep, too large or refers to itself; yaml.YAMLError when it is no YAML; ValueError
    when a value is not of the type that it claims.
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
        raise ValueError("a value is not of the type that its tag or its form claims") from problem
    except RecursionError:
        raise LimitError("it is nested too deeply") from None
    finally:
        reader.dispose()


def _check_events(reader: Any) -> None:  # noqa: ANN401 - as above
    """Raises: LimitError; as the loader for what is no YAML."""
    sizes: dict[str | None, int] = {}
    around: list[tuple[str | None, int]] = []
    """Anchor of each list and mapping that is not over, and how many values came before it."""
    total = 0
    for event in _events(reader):
        anchor, kind = getattr(event, "anchor", None), type(event).__name__
        if kind == "AliasEvent":
            if any(anchor == each for each, _ in around):
                raise LimitError("it refers to itself")
            total += sizes.get(anchor, 0)  # of one that is nowhere the loader says it better
        elif kind == "ScalarEvent":
            total, sizes[anchor] = total + 1, 1
        elif kind.endswith("StartEvent") and hasattr(event, "anchor"):
            around.append((anchor, total))
            total += 1
        elif kind in {"SequenceEndEvent", "MappingEndEvent"}:
            anchor, before = around.pop()
            sizes[anchor] = total - before
        _check_size(total, len(around))


def _check_size(nodes: int, depth: int) -> None:
    if nodes > YAML_NODES:
        raise LimitError(f"it has more than {YAML_NODES:,} values, with its aliases written out")
    if depth > YAML_DEPTH:
        raise LimitError(f"it is nested more than {YAML_DEPTH} deep")


def _events(reader: Any) -> Iterator[object]:  # noqa: ANN401 - as above
    try:
        while reader.check_event():
            yield reader.get_event()
    finally:
        reader.dispose()


def _check_scalars(node: Any) -> None:  # noqa: ANN401 - as above
    """Raises: ValueError; LimitError for a number that takes too long to read; `1:1:1…` is one, to the base of 60."""
    seen, left = set(), [node]
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node.value, list):
            left += [each for child in node.value for each in (child if isinstance(child, tuple) else (child,))]
            continue
        node.value.encode()  # half a character, `"\\ud800"`, can be neither printed nor sent
        if node.tag.endswith((":int", ":float")) and len(node.value) > NUMBER_CHARS:
            raise LimitError(f"it has a number of {len(node.value):,} characters")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a key twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > 20:  # of 64 bits and a sign
        raise LimitError(f"it has a number of {len(digits):,} digits")
    return int(digits)


def _real(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise LimitError("it has a number that is too large")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number")
