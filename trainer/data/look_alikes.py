"""Files that look like images, whatever their names end in."""

from pathlib import Path
from typing import Final

from trainer.storage.files import open_regular

_SUFFIXES: Final = frozenset(
    {
        *(".jpe", ".jfif", ".jif", ".jp2", ".j2k", ".jpx", ".jpf", ".heic", ".heif", ".avif", ".pgm", ".ppm", ".pnm"),
        *(".npy", ".nii", ".nrrd", ".mha", ".mhd", ".tga", ".exr", ".dic", ".ima"),
    }
)
"""Usual suffixes of images that are not read."""

_HEADS: Final = (
    *((0, b"\x89PNG\r\n"), (0, b"\xff\xd8\xff"), (0, b"GIF8"), (0, b"II*\0"), (0, b"MM\0*"), (8, b"WEBPVP8")),
    *((4, b"jP  \r\n"), (0, b"\xff\x4f\xff\x51"), (4, b"ftyphei"), (4, b"ftypavif"), (128, b"DICM")),
)
"""Bytes at a position of PNG, JPEG, GIF, TIFF (twice), WebP, JPEG 2000 (twice), HEIF, AVIF and DICOM. Source: file(1)."""

_HEAD_BYTES: Final = 132


def looks_like_image(path: Path) -> bool:
    """Whether suffix or first bytes are those of an image. Reads nothing but regular files; False where that fails."""
    if path.suffix.lower() in _SUFFIXES or path.name.lower().endswith(".nii.gz"):
        return True
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    is_bmp = head.startswith(b"BM") and head[6:10] == bytes(4)  # two reserved numbers
    return is_bmp or any(head[at : at + len(magic)] == magic for at, magic in _HEADS)
