"""What `torch.save` wrote, read back as data: looked through before anything of it is built, and all that is built looked at.

`weights_only` keeps code out. It does not keep out entries that inflate to gigabytes, tensors that claim more than is stored of
them, or objects that are no part of a state; and its errors advise to turn it off.
"""

import io
import pickletools
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import torch
from safetensors.torch import load as _from_safetensors
from torch import Tensor, nn
from torch.serialization import safe_globals

from trainer.archive import ArchiveError, stored_entries
from trainer.limits import JSON_BYTES, PICKLE_BYTES, STATE_BYTES, LimitError, in_words, parsed_json

STATE_OBJECTS: Final = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch \w+Storage"
)
"""Of what objects a state of ours is made, as pickles name them."""

WEIGHTS_OBJECTS: Final = re.compile(
    f"{STATE_OBJECTS.pattern}|collections Counter|_codecs encode|numpy dtype|numpy\\._?core\\.multiarray scalar"
    "|torch\\.storage \\w+Storage|torch (Size|device|u?int\\d+|b?float\\d+|bool|half|double)|torch\\._utils _rebuild_(tensor|parameter_with_state)"
    "|torch\\.nn\\.parameter Parameter|(__builtin__|builtins) (set|complex)"
)
"""Of what those of public weights are. Nothing else that `weights_only` calls: some of it makes gigabytes of a number."""

_UNSIZED: Final = re.compile(r"torch(\.storage)? (Untyped|Typed)Storage")
"""Storages that torch would call with a size out of the file; those of states are named by their type."""

_REFUSED_OPCODES: Final = frozenset({"EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ_EX", "STACK_GLOBAL", "PERSID"})

_TRANSCODERS: Final = frozenset(
    {"base64", "base64codec", "bz2", "bz2codec", "hex", "hexcodec", "quopri", "quopricodec", "quotedprintable"}
    | {"rot13", "uu", "uucodec", "zip", "zlib", "zlibcodec"}
)
"""Codecs from bytes to bytes; `hex` of `hex` of `hex` doubles what it is given each time. Source: Python's encodings.aliases."""

_LEGACY_PICKLES: Final = 5
"""Magic number, protocol, system, the objects, the names of their storages. Source: torch.serialization._legacy_save."""


class NoStateError(ValueError):
    """It is nothing that torch saves of data; the text ends a sentence that begins with the file's name."""


class ForeignObjectError(NoStateError):
    """It holds an object of a class that is no data."""

    def __init__(self, name: str) -> None:
        super().__init__(f"it holds an object of `{name}`, and files are read as data, never executed")
        self.name = name


def load(content: bytes, *, objects: re.Pattern[str] = STATE_OBJECTS, trusted: Collection[Any] = ()) -> object:
    """The tensors, numbers, texts and containers that torch saved, on the processor; nothing of it is executed.

    `objects` says what objects may be in it, `trusted` what is called for them beside torch's own.

    Raises: LimitError before more memory is used than the file has bytes; NoStateError for whatever else is wrong with it.
    """
    if len(content) > STATE_BYTES:
        raise LimitError(f"it has more than {in_words(STATE_BYTES)}")
    try:
        _check_pickles(content, objects)
        with safe_globals(list(trusted)):
            found: object = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        for tensor in tensors_in(found):
            _check_tensor(tensor)
    except (LimitError, NoStateError):
        raise
    except ArchiveError as problem:
        raise NoStateError(str(problem)) from problem
    except (
        Exception
    ) as problem:  # pickle and torch raise whatever they meet, and torch's words advise to execute the file
        kind = type(problem).__name__
        raise NoStateError(f"it is damaged, or nothing that torch saves of tensors ({kind})") from problem
    return found


def load_safetensors(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors in a safetensors file, and what its header says beside them.

    Raises: LimitError, NoStateError.
    """
    if len(content) > STATE_BYTES:
        raise LimitError(f"it has more than {in_words(STATE_BYTES)}")
    try:
        return _from_safetensors(content), safetensors_header(content)
    except Exception as problem:  # the library is written in another language, and torch refuses shapes that it takes
        kind = type(problem).__name__
        raise NoStateError(f"it is truncated, or no safetensors file ({kind})") from problem


def safetensors_header(content: bytes) -> dict[str, str]:
    """What the head of a safetensors file says beside its tensors.

    Raises: ValueError, KeyError, TypeError for what is none; LimitError for a head that is too long.
    Source: the format's description: eight bytes of length, little end first, then JSON with `__metadata__`.
    """
    head = parsed_json(content[8 : 8 + header_bytes(content)])
    return {str(key): str(value) for key, value in dict(head.get("__metadata__") or {}).items()}


def header_bytes(content: bytes) -> int:
    """How long the head says it is that begins with these bytes. Raises: LimitError."""
    length = int.from_bytes(content[:8], "little")
    if length > JSON_BYTES:
        raise LimitError(f"its header has more than {in_words(JSON_BYTES)}")
    return length


def tensors_in(found: object) -> Iterator[Tensor]:
    """Every tensor within containers, each once, however often they refer to each other."""
    seen: set[int] = set()
    left = [found]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            left += value


def _check_pickles(content: bytes, objects: re.Pattern[str]) -> None:
    if content[:2] == b"PK":
        pickles = [entry for name, entry in stored_entries(content).items() if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise NoStateError(f"it is an archive of {len(pickles)} states")
        if len(pickles[0]) > PICKLE_BYTES:
            raise LimitError(f"it has more than {in_words(PICKLE_BYTES)} beside its tensors")
        _check_pickle(io.BytesIO(pickles[0]), objects)
        return
    file = io.BytesIO(content)
    for _ in range(_LEGACY_PICKLES):
        _check_pickle(file, objects)


def _check_pickle(file: io.BytesIO, objects: re.Pattern[str]) -> None:
    """Read one pickle to its end without building anything of it. Raises: NoStateError, LimitError."""
    ends_at = file.tell() + PICKLE_BYTES
    encodes, transcodes = False, False
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in _REFUSED_OPCODES:
            raise NoStateError("it holds objects as torch writes none")
        if opcode.name == "GLOBAL":
            named = str(argument)
            if not objects.fullmatch(named) or _UNSIZED.fullmatch(named):
                raise ForeignObjectError(named.replace(" ", ".")[:200])
            encodes |= named == "_codecs encode"
        elif isinstance(argument, str) and len(argument) < 32:
            transcodes |= re.sub(r"[^a-z0-9]+", "", argument.lower()) in _TRANSCODERS
        if file.tell() > ends_at:
            raise LimitError(f"it has more than {in_words(PICKLE_BYTES)} beside its tensors")
    if encodes and transcodes:
        raise NoStateError("it encodes bytes as bytes")


def _check_tensor(tensor: Tensor) -> None:
    """Raises: NoStateError for one that is more than numbers in memory; LimitError where these are fewer than it claims."""
    if type(tensor) not in {Tensor, nn.Parameter} or tensor.layout != torch.strided or tensor.is_quantized:
        raise NoStateError("it holds a tensor of a kind that no model here has")
    if not tensor.is_cpu:  # `meta`, say, which no mapping changes
        raise NoStateError("it holds a tensor that is not stored in it")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise LimitError("it holds a tensor that is larger than what is stored of it")
