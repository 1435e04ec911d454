"""Archives of images, read as streams: nothing is unpacked to a disk."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final, cast

from trainer.data.class_folders import IMAGE_SUFFIXES
from trainer.data.decode import ImageBytes
from trainer.data.preparing.inflate import Inflated
from trainer.data.preparing.tar import DamagedArchiveError, TarStream
from trainer.errors import InputError, on_one_line
from trainer.limits import IMAGE_FILE_BYTES
from trainer.storage import Stat, Storage
from trainer.storage.object_file import ObjectFile

_TAR_GZ: Final = (".tar.gz", ".tgz")
SUFFIXES: Final = (*_TAR_GZ, ".tar", ".zip")
"""Suffixes of the archives that are read."""

_BUFFER_BYTES: Final = 1 << 20
_ENCRYPTED: Final = 0x1
"""Flag of an encrypted member. Source: PKWARE's APPNOTE, 4.4.4."""


def is_archive(key: str) -> bool:
    """Whether a file is an archive, by its name."""
    return key.lower().endswith(SUFFIXES)


@dataclass
class Ignored:
    """Members of an archive that are not read."""

    unlabelled: int = 0
    """Images that no label file names."""
    in_files: int = 0
    """Images that are there as files, too."""
    odd: list[str] = field(default_factory=list)
    """Links, devices and the like with the name of an image, and names that point outside."""


@dataclass(frozen=True)
class Archive:
    """An archive in a directory or a bucket."""

    storage: Storage
    key: str
    stat: Stat
    first: int = 0
    last: int | None = None
    """Members that are read, of an archive with a directory: from `first` to before `last`, in the order of the directory."""

    def pieces(self, most: int) -> list["Archive"]:
        """This archive in pieces of at most so many members; whole where it has no directory. Raises: as `images`."""
        if not self._is_zip:
            return [self]
        with self._errors(), self._opened() as file, zipfile.ZipFile(file) as archive:
            count = len(archive.infolist())
        return [replace(self, first=first, last=first + most) for first in range(0, max(count, 1), most)]

    def images(
        self, image_of: Callable[[str], str | None], without: frozenset[str], ignored: Ignored
    ) -> Generator[tuple[str, ImageBytes]]:
        """Name in the label files and content of each image, in the order of the archive.

        `image_of` gives the image that a member is; images in `without` are left out. What is not read is counted in
        `ignored`. A member that is too large has no content: decoding it fails.

        Raises: InputError for a damaged or incomplete archive, and an image that is in it twice; RemoteError, ChangedError.
        """
        first_place: dict[str, str] = {}
        with self._errors(), closing(self._members(image_of, without, ignored)) as members:
            for name, entry in members:
                place, content = entry.place, entry.read()
                if name in first_place:
                    raise InputError(
                        f"cannot read images from `{self._shown}`: `{name}` is in it twice, as `{first_place[name]}` and `{place}`",
                        hint="remove one of them, or the archive that holds copies",
                    )
                first_place[name] = place
                yield name, ImageBytes(f"{self.key}/{place}", content, entry.size_bytes)

    def listed(self) -> list[str] | None:
        """Places of the images, from the archive's directory; None for a kind that has none. Raises: as `images`."""
        if not self._is_zip:
            return None
        with self._errors(), closing(self._zipped()) as entries:
            return [entry.place for entry in entries if _is_readable(entry)]

    @property
    def _is_zip(self) -> bool:
        return self.key.lower().endswith(".zip")

    def _members(
        self, image_of: Callable[[str], str | None], without: frozenset[str], ignored: Ignored
    ) -> Generator[tuple[str, "_Entry"]]:
        """Image and member."""
        walk = self._zipped() if self._is_zip else self._tarred()
        with closing(walk) as entries:
            for entry in entries:
                name = _image(entry, image_of, without, ignored)
                if name is not None:
                    yield name, entry

    def _tarred(self) -> Generator["_Entry"]:
        with self._opened() as file:
            stream = file
            if self.key.lower().endswith(_TAR_GZ):
                stream = cast("BinaryIO", io.BufferedReader(Inflated(file), _BUFFER_BYTES))
            for member in TarStream(stream).members():
                yield _Entry(member.name, member.is_file, member.size_bytes, member.read)

    def _zipped(self) -> Generator["_Entry"]:
        with self._opened() as file, zipfile.ZipFile(file) as archive:
            for info in archive.infolist()[self.first : self.last]:
                if info.flag_bits & _ENCRYPTED:
                    raise DamagedArchiveError("it is encrypted")
                kind = (
                    info.external_attr >> 28
                ) & 0xF  # type of a Unix file; 0 where another system made it, 8 of a regular file
                is_file = not info.is_dir() and kind in {0, 8}

                def read(info: zipfile.ZipInfo = info) -> bytes:
                    with archive.open(info) as member:
                        return member.read(IMAGE_FILE_BYTES + 1)

                yield _Entry(info.filename, is_file, info.file_size, read)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        with io.BufferedReader(ObjectFile(self.storage, self.key, self.stat), _BUFFER_BYTES) as file:
            yield cast("BinaryIO", file)

    @property
    def _shown(self) -> str:
        return on_one_line(f"{self.storage.url.rstrip('/')}/{self.key}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (
            *(EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError),
            *(RuntimeError, ValueError, OverflowError, struct.error, OSError),  # of positions that are none
        ) as problem:
            reason = str(problem) or type(problem).__name__
            raise InputError(
                f"cannot read the archive `{self._shown}` of {self.stat.size_bytes:,} bytes: {reason[:1].lower()}{reason[1:]}",
                hint="it is damaged or incomplete; download it again. Parts that are prepared are kept",
            ) from problem


@dataclass(frozen=True)
class _Entry:
    place: str
    is_file: bool
    size_bytes: int
    content: Callable[[], bytes]

    def read(self) -> bytes:
        """The content; empty for a file that is too large for an image."""
        return b"" if self.size_bytes > IMAGE_FILE_BYTES else self.content()


def _image(
    entry: _Entry, image_of: Callable[[str], str | None], without: frozenset[str], ignored: Ignored
) -> str | None:
    """The image that an entry is, None where it is not to be read, which is counted."""
    if not _has_image_name(entry.place):
        return None
    if not _is_readable(entry):
        ignored.odd.append(entry.place)
        return None
    name = image_of(entry.place)
    if name is None:
        ignored.unlabelled += 1
    elif name in without:
        ignored.in_files += 1
        return None
    return name


def _has_image_name(place: str) -> bool:
    """Whether a member has the name of an image, and is none of the files that other programs hide in archives."""
    parts = _parts(place)
    is_hidden = any(part.startswith(".") and part not in {".", ".."} for part in parts) or "__MACOSX" in parts
    return not is_hidden and place.lower().endswith(IMAGE_SUFFIXES)


def _is_readable(entry: _Entry) -> bool:
    """Whether a member is the file of an image, and inside the archive."""
    is_inside = ".." not in _parts(entry.place) and not entry.place.startswith("/")
    return entry.is_file and is_inside and _has_image_name(entry.place)


def _parts(place: str) -> list[str]:
    return place.replace("\\", "/").split("/")
