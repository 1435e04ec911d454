"""A data set to prepare: its labels, its archives, and the image files that are there, in a directory or a bucket."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from trainer.data.class_folders import IMAGE_SUFFIXES, unreadable_folder
from trainer.data.directory_walk import files_below
from trainer.data.labels import SPLITS
from trainer.data.layouts import Source, read_raw_labels
from trainer.data.locate import found_images
from trainer.data.packs.index import CHECKSUMS, INDEX
from trainer.data.packs.prepared import LABELS, is_prepared
from trainer.data.preparing.archives import Archive, is_archive
from trainer.data.preparing.image_names import image_finder
from trainer.errors import InputError, listing
from trainer.label_choices import LabelChoices
from trainer.limits import TEXT_BYTES
from trainer.location import Location
from trainer.prepare_config import PrepareConfig
from trainer.storage import LocalStorage, Stat, Storage, copy_all, open_storage
from trainer.storage.files import file_errors
from trainer.storage.object_names import check_names

RETRY_S: Final = 180.0
"""How long requests to an unavailable bucket are retried."""

_TEXT_SUFFIXES: Final = (".csv", ".csv.gz", ".txt", ".txt.gz")
_MOST_TEXT_FILES: Final = 1000
"""Label files of a bucket; reports of single studies lie deeper than these."""


@dataclass(frozen=True)
class ImageFile:
    """An image that is a file or an object of its own."""

    place: str
    """Path, or key in the bucket."""
    stat: Stat | None = None
    """Of an object."""


@dataclass(frozen=True)
class DataSet:
    """A data set with its images found as far as no archive is read."""

    source: Source
    storage: Storage
    is_bucket: bool
    archives: tuple[Archive, ...]
    """Sorted by name."""
    files: Mapping[str, ImageFile]
    """By name in the label files, in table order."""


@contextmanager
def opened(config: PrepareConfig) -> Iterator[DataSet]:
    """The data set of these flags, its labels read. Raises: InputError; RemoteError."""
    location = Location(config.data)
    if not location.is_bucket:
        if "://" in config.data:
            raise InputError(
                f"cannot read data set: it must be a directory or s3://BUCKET/PREFIX, got `{config.data}` (from `--data`)"
            )
        yield _in_directory(config, Path(config.data))
        return
    storage = open_storage(location, patience_s=RETRY_S)
    with tempfile.TemporaryDirectory(prefix="trainer-") as folder:
        yield _in_bucket(config, storage, Path(folder))


def _labels(config: PrepareConfig, folder: Path) -> Source:
    choices = LabelChoices(
        valid_as=config.valid_as, readers=config.readers, physician_labels_only=config.physician_labels_only
    )
    source = read_raw_labels(
        folder, layout=config.layout, split=config.split, val_list=config.val_list, choices=choices
    )
    broken = [name for name in source.table.images if "\n" in name or "\r" in name]
    if broken:
        raise InputError(f"cannot prepare `{config.data}`: names of images have line breaks{listing(broken)}")
    return source


def _check_source(data: str, *, is_prepared: bool) -> None:
    """Raises: InputError for a prepared set, which has no images."""
    if is_prepared:
        raise InputError(
            f"cannot prepare `{data}`: it is a prepared set (from `--data`)", hint="train --data takes it as it is"
        )


def _in_directory(config: PrepareConfig, data: Path) -> DataSet:
    _check_source(config.data, is_prepared=is_prepared(data))
    source = _labels(config, data)
    storage = LocalStorage(config.data)
    paths = [path for path in files_below(data, unreadable_folder) if is_archive(path.name)]
    keys = sorted(path.relative_to(data).as_posix() for path in paths)
    archives = tuple(Archive(storage, key, storage.stat(key)) for key in keys)
    files = {name: ImageFile(str(path)) for name, path in found_images(source).items()}
    return DataSet(source, storage, is_bucket=False, archives=archives, files=files)


def _in_bucket(config: PrepareConfig, storage: Storage, folder: Path) -> DataSet:
    stats = storage.stats("")
    if not stats:
        raise InputError(
            f"cannot read a data set from `{config.data}`: it has no objects (from `--data`)",
            hint="--data s3://BUCKET/PREFIX",
        )
    _check_source(config.data, is_prepared={INDEX, CHECKSUMS, LABELS} <= stats.keys())
    texts = [key for key, stat in stats.items() if _is_text(key) and stat.size_bytes <= TEXT_BYTES]
    if len(texts) > _MOST_TEXT_FILES:
        raise InputError(f"cannot find the label files of `{config.data}`: it has {len(texts):,} text files")
    check_names(config.data, texts)
    for _ in copy_all(storage, texts, folder, stats=stats):
        pass
    _lay_out_classes(folder, stats)
    source = _labels(config, folder)
    archives = tuple(Archive(storage, key, stats[key]) for key in sorted(filter(is_archive, stats)))
    return DataSet(source, storage, is_bucket=True, archives=archives, files=_objects(config.data, source, stats))


def _is_text(key: str) -> bool:
    return key.lower().endswith(_TEXT_SUFFIXES) and key.count("/") <= 1


def _lay_out_classes(folder: Path, stats: Mapping[str, Stat]) -> None:
    """Empty files with the names of the images in class folders, from which labels of that layout are read."""
    if any(key.count("/") == 0 and _is_text(key) for key in stats):
        return
    keys = [key for key in stats if key.split("/")[0] in SPLITS and key.lower().endswith(IMAGE_SUFFIXES)]
    check_names("the data set", keys)
    for key in keys:
        with file_errors("write", folder / key):
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).touch()


def _objects(data: str, source: Source, stats: Mapping[str, Stat]) -> dict[str, ImageFile]:
    """The objects that are images of the table. Raises: InputError for an image with several."""
    image_of = image_finder(source)
    exact: dict[str, list[str]] = {}
    other: dict[str, list[str]] = {}
    for key in sorted(stats):
        name = image_of(key) if key.lower().endswith(IMAGE_SUFFIXES) and not _is_hidden(key) else None
        if name is not None:
            (exact if f"/{key}".endswith(f"/{name}") else other).setdefault(name, []).append(key)
    places = other | exact
    several = [f"{name}: {' and '.join(keys)}" for name, keys in places.items() if len(keys) > 1]
    if several:
        raise InputError(
            f"cannot find the images of `{data}`: {len(several)} are there more than once{listing(several)}"
        )
    return {name: ImageFile(places[name][0], stats[places[name][0]]) for name in source.table.images if name in places}


def _is_hidden(key: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(key).parts)
