"""Limits on the size and shape of input, and the readers of gzip, JSON and YAML that keep them.

Each limit is checked before the work that it bounds: against a header, or while the input is read. Input over a limit is bad input,
and the message names the limit. Usual data sets and runs are far below all of them.
"""

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

API_NODES: Final = 32_000_000
"""Values of such an answer."""

CHANGE_BYTES: Final = 16 << 20
"""Of a change of one object that the API tells. etcd takes objects of 1.5 MiB."""

LOG_LINE_BYTES: Final = 1 << 20
"""Of a line of a container's log; what comes after is left out."""

MANIFEST_BYTES: Final = 1 << 20
"""Of a checkpoint's manifest, the count of starts and the owner's record; ours have some 300 bytes."""

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

NUMBER_CHARS: Final = 64
"""Of a number in such a file: longer ones take Python minutes to read, and nobody means them."""

CREDENTIAL_BYTES: Final = 1 << 20
"""Of a file with credentials, or with what botocore's profiles are."""

CERTIFICATE_BYTES: Final = 16 << 20
"""Of a bundle of certificates. Mozilla's has 200 KiB."""

ANSWER_BYTES: Final = 64 << 20
"""Of an answer of an S3 server that is no object. A page of 1,000 names of 1,024 bytes has 4 MiB."""

LISTED_OBJECTS: Final = 2_000_000
"""Of one listing of a bucket. The largest public data set has 377,110 images."""


class LimitError(ValueError):
    """Input over a limit; the text names the limit, and completes a sentence that begins with the file's name."""


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
    # Not all at once: `read` sets aside as much as it is asked for, however little there is.
    while left and (piece := file.read(min(left, max(_PIECE_BYTES, _size_of(file) + 1)))):
        pieces.append(piece)
        left -= len(piece)
    if not left:
        raise LimitError(f"it has more than {in_words(most_bytes)}")
    return b"".join(pieces)


_PIECE_BYTES: Final = 1 << 20


def _size_of(file: BinaryIO) -> int:
    """A file's size, so that one piece is all of it; 0 without a descriptor."""
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:  # BytesIO and others have no descriptor
        return 0


def gunzipped(packed: bytes, *, most_bytes: int = TEXT_BYTES) -> bytes:
    """The content of a gzip file, of several members too.

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
    """The value of a JSON document: UTF-8, finite numbers, and no key twice in an object (RFC 8259).

    Raises: LimitError when it is too long, too deep or has a number too large for a float; ValueError when it is not JSON.
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
    """The nesting depth of lists and mappings."""
    depth, level = 0, [document]
    while level := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    return depth


def parsed_yaml(text: str, loader: Any) -> Any:  # noqa: ANN401 - any of PyYAML's safe loaders, any YAML
    """The value of a YAML document. Each alias is counted with the size of its target before anything is built.

    Raises: LimitError when it is too long, too deep, too large or refers to itself; yaml.YAMLError when it is not YAML; ValueError
    when a value does not have the type of its tag.
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
    """Anchor of each open list and mapping, and the number of values before it."""
    total = 0
    for event in _events(reader):
        anchor, kind = getattr(event, "anchor", None), type(event).__name__
        if kind == "AliasEvent":
            if any(anchor == each for each, _ in around):
                raise LimitError("it refers to itself")
            total += sizes.get(anchor, 0)  # an undefined one is left to the loader
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
