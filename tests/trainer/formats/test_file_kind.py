"""What a file is that should be one of weights, told from its bytes."""

import io

import pytest
import torch
from safetensors.torch import save

from trainer.formats.file_kind import HEAD_BYTES, foreign_format, tail_of


def saved(**how):
    buffer = io.BytesIO()
    torch.save({"model": {"features.weight": torch.ones(3)}}, buffer, **how)
    return buffer.getvalue()


WEIGHTS = {
    "torch": saved(),
    "torch of 2017": saved(_use_new_zipfile_serialization=False),
    "safetensors": save({"features.weight": torch.ones(3)}, metadata={"format": "pt"}),
    "safetensors of one tensor": save({"a": torch.ones(1)}),
}


@pytest.mark.parametrize("content", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_are_no_foreign_format(content):
    """`doctor` sees the first bytes only, and must not refuse what the trainer reads."""
    assert foreign_format(content[:HEAD_BYTES]) is None
    assert foreign_format(content[:HEAD_BYTES], tail_of(content)) is None
    assert foreign_format(content[: len(content) // 2]) is None


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git-LFS pointer"),
        (b"../../.git/annex/objects/a/b/MD5-s1", "git-annex pointer"),
        (b"outs:\n- md5: 0\n  path: w.pt\n", "DVC pointer"),
        (b"\n\n<HTML><HEAD>", "HTML page"),
        (b"<!-- saved from -->\n<!DOCTYPE html>", "HTML page"),
        (b"[1, 2]", "text file"),
        (b'[{"a": 1}]', "JSON document"),
        (b"{}", "JSON document"),
        ("é".encode() * 3000, "text file"),
        (bytes(4) + b"TFL3", "TensorFlow Lite"),
        (b"\x08\x07\x3a\x00", "ONNX"),
        (bytes(257) + b"ustar\x0000", "tar archive"),
        (b"\x93NUMPY\x01\x00", "NumPy array"),
    ],
)
def test_other_formats_are_named_by_their_first_bytes(head, what):
    """Also where a character is cut off at the end of what was read."""
    found = foreign_format(head[: HEAD_BYTES - 1])
    assert what in found.what
    assert found.hint


def test_unknown_bytes_are_not_named():
    """A guess would send the user the wrong way."""
    assert foreign_format(b"\x00\x01\x02\x03" * 99) is None
