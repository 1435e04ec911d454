"""Files that are something else than weights: what they are, from their bytes, and what to give in their place."""

import re
from dataclasses import dataclass
from typing import Final

HEAD_BYTES: Final = 4096
"""Bytes from the beginning of a file that show most formats."""

_DIRECTORY_BYTES: Final = 1 << 20
"""Bytes at the end of a zip archive in which the names of its entries are, or enough of them."""

_STATE_DICT: Final = "in the program that made it: torch.save(model.state_dict(), 'weights.pt'), then use weights.pt"
_UNPACK: Final = "unpack it, and use the file of weights in it"
_OTHER_PROGRAM: Final = "use weights of a PyTorch model; those of TensorFlow and Keras cannot be read"
_AGAIN: Final = "download the file itself: the address may be that of a page about it, or need a login"
_DATA: Final = "use the file of weights itself: a state dict (.pt, .pth.tar), or a model.safetensors"
_TORCHSCRIPT: Final = (
    "where you trust it: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt'), then use weights.pt"
)
_ONNX: Final = "use the state dict of the PyTorch model that was exported"


@dataclass(frozen=True)
class ForeignFormat:
    """What a file is."""

    what: str
    """Completes a sentence that begins with the file's name."""
    hint: str
    """What to give instead."""


_EMPTY: Final = ForeignFormat("it is empty", "download or copy it again")
_TEXT: Final = ForeignFormat("it is a text file", _DATA)
_ARCHIVE: Final = ForeignFormat("it is a zip archive that torch did not write", _UNPACK)

_BY_BEGINNING: Final = (
    (
        rb"version https://git-lfs|version https://hawser",
        "it is a git-LFS pointer, a text in the place of the file",
        "git lfs pull, in the repository that it is from",
    ),
    (
        rb"/?(?:\.\./)*(?:\.git)?/?annex/objects/",
        "it is a git-annex pointer, a text in the place of the file",
        "git annex get, in the repository that it is from",
    ),
    (
        rb"outs:\s|md5: ",
        "it is a DVC pointer, a text in the place of the file",
        "dvc pull, in the repository that it is from",
    ),
    (rb"(?is)\s*(?:<!--.*?-->\s*)?<(?:!doctype\s+html|html|head|body)\b", "it is an HTML page", _AGAIN),
    (rb"\s*<\?xml|\s*<Error>", "it is an XML document, as a server answers a refused download", _AGAIN),
    (rb"\s*[{\[]\s*[\"{\[\]}]", "it is a JSON document", _DATA),
    (rb"\x89HDF\r\n\x1a\n", "it is an HDF5 file, as Keras and TensorFlow write", _OTHER_PROGRAM),
    (rb"(?s).{4}TFL3", "it is a TensorFlow Lite model", _OTHER_PROGRAM),
    (rb"\x08\x01\x12", "it is a TensorFlow SavedModel", _OTHER_PROGRAM),
    (rb"\x08[\x02-\x20](?:\x12|\x3a)", "it is an ONNX model", _ONNX),
    (rb"GGUF", "it is a GGUF file", _DATA),
    (rb"\x93NUMPY", "it is a NumPy array", _DATA),
    (rb"\x1f\x8b", "it is compressed with gzip", _UNPACK),
    (rb"BZh[1-9]", "it is compressed with bzip2", _UNPACK),
    (rb"\xfd7zXZ\x00", "it is compressed with xz", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "it is compressed with zstd", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "it is a 7z archive", _UNPACK),
    (rb"Rar!\x1a\x07", "it is a RAR archive", _UNPACK),
    (rb"(?s).{257}ustar", "it is a tar archive", _UNPACK),
)
"""Pattern of the first bytes, what the file is, and the hint. Sources: the formats' descriptions; `ir_version` and
`producer_name` or `graph` begin an ONNX model, `saved_model_schema_version` 1 and `meta_graphs` a SavedModel."""

_BY_ENTRY: Final = (
    (rb"constants\.pkl", "it is a TorchScript archive, which is a program", _TORCHSCRIPT),
    (rb"\.data/extern_modules", "it is an archive of torch.package, which is a program", _STATE_DICT),
    (
        rb"models/model\.json|serialized_exported_program\.json",
        "it is a program exported by torch.export",
        _STATE_DICT,
    ),
    (rb"model\.weights\.h5", "it is a Keras model", _OTHER_PROGRAM),
    (rb"MAR-INF/", "it is an archive of TorchServe", _UNPACK),
    (rb"\.npyPK", "it is an archive of NumPy arrays", _DATA),
)
"""Pattern of a name in a zip archive's list of entries."""


def foreign_format(head: bytes, tail: bytes = b"") -> ForeignFormat | None:
    """What a file is that begins with `head`; None where it may be one of weights, or is nothing that is known.

    `tail` is the end of the file, which names the entries of a zip archive.
    """
    if not head:
        return _EMPTY
    if head.startswith(b"PK\x03\x04"):
        return _of_archive(tail)
    for pattern, what, hint in _BY_BEGINNING:
        if re.match(pattern, head[:HEAD_BYTES]):
            return ForeignFormat(what, hint)
    return _TEXT if _is_text(head[:HEAD_BYTES]) else None


def tail_of(content: bytes) -> bytes:
    """The end of a file, as needed by `foreign_format`."""
    return content[-_DIRECTORY_BYTES:]


def _of_archive(tail: bytes) -> ForeignFormat | None:
    for pattern, what, hint in _BY_ENTRY:
        if re.search(pattern, tail):
            return ForeignFormat(what, hint)
    return _ARCHIVE if b"PK\x01\x02" in tail and b"data.pkl" not in tail else None


def _is_text(head: bytes) -> bool:
    """Whether these are printable characters, in UTF-8 up to a character that is cut off."""
    text = head.decode(errors="replace").removesuffix("�")
    return all(character.isprintable() or character in "\t\r\n\f" for character in text) and "�" not in text
