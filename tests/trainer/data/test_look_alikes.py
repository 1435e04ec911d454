"""Files that look like images."""

import os

import pytest

from trainer.data.look_alikes import looks_like_image


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x", b"\x89PNG\r\n\x1a\n"),
        ("x.jfif", b""),
        ("x.jpe", b""),
        ("x.nii.gz", b""),
        ("x.bak", b"\xff\xd8\xff\xe0"),
        ("1.2.840.1", b"\0" * 128 + b"DICM"),
        ("x.dat", b"II*\0"),
        ("scan", b"BM\x36\x10\0\0\0\0\0\0\x36"),
        ("x.img", b"RIFF\0\0\0\0WEBPVP8 "),
    ],
)
def test_images_are_recognised_by_suffix_or_first_bytes(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert looks_like_image(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4", b"\0" * 200])
def test_other_files_are_not(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    assert not looks_like_image(tmp_path / "x")


def test_pipes_and_missing_files_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert not looks_like_image(tmp_path / "pipe")
    assert not looks_like_image(tmp_path / "none")
