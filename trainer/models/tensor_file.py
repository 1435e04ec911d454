"""Reader of files written by `torch.save` or safetensors; checked as bytes before torch loads them, and as tensors afterwards.

torch's `weights_only` prevents code execution. But it accepts entries that inflate to gigabytes, tensors larger than their stored
data, and objects that do not belong into a state; and its errors advise to turn it off.
"""

import io
import pickletools
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from safetensors.torch import load as _from_safetensors
from torch import Tensor, nn
from torch.serialization import safe_globals

from trainer.formats.file_kind import HEAD_BYTES, ForeignFormat, foreign_format, tail_of
from trainer.limits import JSON_BYTES, PICKLE_BYTES, STATE_BYTES, LimitError, in_words, parsed_json
from trainer.models.zip_archive import ArchiveError, stored_entries

STATE_OBJECTS: Final = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch \w+Storage"
)
"""Objects in our training states, as named in pickles."""

WEIGHTS_OBJECTS: Final = re.compile(
    f"{STATE_OBJECTS.pattern}|collections Counter|_codecs encode|numpy dtype|numpy\\._?core\\.multiarray scalar"
    "|torch\\.storage \\w+Storage|torch (Size|device|u?int\\d+|b?float\\d+|bool|half|double)|torch\\._utils _rebuild_(tensor|parameter_with_state)"
    "|torch\\.nn\\.parameter Parameter|(__builtin__|builtins) (set|complex)"
)
"""Objects in public weights. `weights_only` would allow others, some of which allocate gigabytes for a number in the file."""

_UNSIZED: Final = re.compile(r"torch(\.storage)? (Untyped|Typed)Storage")
"""Storages that torch would allocate with a size from the file; states name theirs by type."""

_REFUSED_OPCODES: Final = frozenset({"EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ_EX", "STACK_GLOBAL", "PERSID"})

_TRANSCODERS: Final = frozenset(
    {"base64", "base64codec", "bz2", "bz2codec", "hex", "hexcodec", "quopri", "quopricodec", "quotedprintable"}
    | {"rot13", "uu", "uucodec", "zip", "zlib", "zlibcodec"}
)
"""Codecs from bytes to bytes; each `hex` of `hex` of `hex` doubles its input. Source: Python's encodings.aliases."""

_LEGACY_PICKLES: Final = 5
"""Pickles in a file: magic number, protocol, system, the objects, the names of their storages. Source:
torch.serialization._legacy_save.
"""


class NoStateError(ValueError):
    """Not a file of tensors saved by torch; the text completes a sentence that begins with the file's name."""


class ForeignFormatError(NoStateError):
    """A file of another known format, with what to give in its place."""

    def __init__(self, found: ForeignFormat) -> None:
        super().__init__(found.what)
        self.hint = found.hint


class ForeignObjectError(NoStateError):
    """An object of a class that is not data."""

    def __init__(self, name: str) -> None:
        super().__init__(f"it contains an object of `{name}`, and files are read as data, never executed")
        self.name = name


def load(content: bytes, *, objects: re.Pattern[str] = STATE_OBJECTS, trusted: Collection[Any] = ()) -> object:
    """The tensors, numbers, texts and containers saved by torch, on the CPU; no code in the file is executed.

    `objects` matches the names of allowed objects; `trusted` are functions that torch may call in addition to its own.

    Raises: LimitError before more memory is used than the file has bytes; NoStateError for any other problem.
    """
    if len(content) > STATE_BYTES:
        raise LimitError(f"it has more than {in_words(STATE_BYTES)}")
    with _foreign_formats_named(content):
        return _loaded(content, objects, trusted)


def _loaded(content: bytes, objects: re.Pattern[str], trusted: Collection[Any]) -> object:
    try:
        _check_pickles(content, objects)
        with safe_globals(list(trusted)):
            loaded: object = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        for tensor in tensors_in(loaded):
            _check_tensor(tensor)
    except (LimitError, NoStateError):
        raise
    except ArchiveError as problem:
        raise NoStateError(str(problem)) from problem
    except Exception as problem:  # of any kind, from pickle or torch; torch's message advises to execute the file
        kind = type(problem).__name__
        raise NoStateError(f"it is damaged, or not a file of tensors saved by torch ({kind})") from problem
    return loaded


def load_safetensors(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a safetensors file.

    Raises: LimitError, NoStateError.
    """
    if len(content) > STATE_BYTES:
        raise LimitError(f"it has more than {in_words(STATE_BYTES)}")
    with _foreign_formats_named(content):
        try:
            return _from_safetensors(content), safetensors_header(content)
        except Exception as problem:  # errors of the Rust library, or of torch for shapes that it accepts
            kind = type(problem).__name__
            raise NoStateError(f"it is truncated, or not a safetensors file ({kind})") from problem


def is_safetensors(content: bytes, name: str) -> bool:
    """Whether to read a file as safetensors: by its content, whose header is JSON, and by its name where that is no torch file."""
    if content[8:9] == b"{" and 2 <= int.from_bytes(content[:8], "little") <= len(content) - 8:
        return True
    return name.lower().endswith(".safetensors") and not content.startswith((b"PK\x03\x04", b"\x80"))


@contextmanager
def _foreign_formats_named(content: bytes) -> Iterator[None]:
    """Raises: ForeignFormatError for a file that cannot be read in the block, if it has another known format."""
    try:
        yield
    except (LimitError, NoStateError) as problem:
        found = foreign_format(content[:HEAD_BYTES], tail_of(content))
        if found is None:
            raise
        raise ForeignFormatError(found) from problem


def safetensors_header(content: bytes) -> dict[str, str]:
    """The metadata in the header of a safetensors file.

    Raises: ValueError, KeyError, TypeError for a damaged header; LimitError for an oversized one. Source: the format's
    description: length in eight bytes, little-endian, then JSON with `__metadata__`.
    """
    head = parsed_json(content[8 : 8 + header_bytes(content)])
    return {str(key): str(value) for key, value in dict(head.get("__metadata__") or {}).items()}


def header_bytes(content: bytes) -> int:
    """Length of the header according to the first eight bytes. Raises: LimitError."""
    length = int.from_bytes(content[:8], "little")
    if length > JSON_BYTES:
        raise LimitError(f"its header has more than {in_words(JSON_BYTES)}")
    return length


def tensors_in(container: object) -> Iterator[Tensor]:
    """Every tensor in nested containers; each container is visited once."""
    seen: set[int] = set()
    pending = [container]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            pending += value


def named_tensors(value: object, name: str) -> dict[str, Tensor]:
    """The object, if it is a mapping of names to tensors. Raises: ValueError that calls it `name`."""
    if not isinstance(value, dict) or not all(
        isinstance(key, str) and isinstance(each, Tensor) for key, each in value.items()
    ):
        raise ValueError(f"`{name}` must have tensors by name")
    return dict(value)


def finite_weights(value: object) -> dict[str, Tensor]:
    """The object, if it is the weights of a network, all of them finite. Raises: ValueError."""
    weights = named_tensors(value, "model")
    bad = [name for name, each in weights.items() if each.is_floating_point() and not bool(each.isfinite().all())]
    if bad:
        raise ValueError(f"`model.{bad[0][:200]}` is not finite")
    return weights


def _check_pickles(content: bytes, objects: re.Pattern[str]) -> None:
    if content[:2] == b"PK":
        pickles = [entry for name, entry in stored_entries(content).items() if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise NoStateError(f"it is an archive of {len(pickles)} states")
        if len(pickles[0]) > PICKLE_BYTES:
            raise LimitError(f"it has more than {in_words(PICKLE_BYTES)} besides its tensors")
        _check_pickle(io.BytesIO(pickles[0]), objects)
        return
    file = io.BytesIO(content)
    for _ in range(_LEGACY_PICKLES):
        _check_pickle(file, objects)


def _check_pickle(file: io.BytesIO, objects: re.Pattern[str]) -> None:
    """Check the opcodes of one pickle to its end, without building objects. Raises: NoStateError, LimitError."""
    ends_at = file.tell() + PICKLE_BYTES
    encodes, transcodes = False, False
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in _REFUSED_OPCODES:
            raise NoStateError("it contains objects that torch never writes")
        if opcode.name == "GLOBAL":
            named = str(argument)
            if not objects.fullmatch(named) or _UNSIZED.fullmatch(named):
                raise ForeignObjectError(named.replace(" ", ".")[:200])
            encodes |= named == "_codecs encode"
        elif isinstance(argument, str) and len(argument) < 32:
            transcodes |= re.sub(r"[^a-z0-9]+", "", argument.lower()) in _TRANSCODERS
        if file.tell() > ends_at:
            raise LimitError(f"it has more than {in_words(PICKLE_BYTES)} besides its tensors")
    if encodes and transcodes:
        raise NoStateError("it nests encodings of bytes")


def _check_tensor(tensor: Tensor) -> None:
    """Raises: NoStateError for a tensor that is not plain numbers in memory; LimitError for one larger than its storage."""
    if type(tensor) not in {Tensor, nn.Parameter} or tensor.layout != torch.strided or tensor.is_quantized:
        raise NoStateError("it contains a tensor of an unsupported kind")
    if not tensor.is_cpu:  # such as `meta`, which map_location does not change
        raise NoStateError("it contains a tensor without stored data")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise LimitError("it contains a tensor that is larger than its stored data")
