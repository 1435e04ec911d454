"""Checks before a run, from where this process runs: output, data, weights, clock; does not import torch.

`launcher doctor` runs them on the user's machine and, with `python -m trainer preflight`, in a pod with the job's service account.
"""

import os
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Final

from trainer.config import TrainConfig
from trainer.data.gray_range import preliminary
from trainer.data.label_policy import policy_summary
from trainer.data.labels import SPLITS
from trainer.data.layouts import LABEL_FILES, Source, chexpert, read_labels
from trainer.data.locate import PLACES, absent_from, locate_images, missing_images, share_present, without_missing
from trainer.data.packs import prepared
from trainer.data.packs.index import INDEX
from trainer.data.packs.open_prepared import checked_geometry
from trainer.data.packs.records import Geometry
from trainer.data.packs.staging import file_problems
from trainer.errors import InputError, on_one_line
from trainer.formats.file_kind import HEAD_BYTES, foreign_format
from trainer.limits import in_words
from trainer.location import FROM_ENVIRONMENT, Location, S3Server
from trainer.runs import node_checks
from trainer.runs.checks import Outcome, Step
from trainer.storage import AbsentError, Storage, open_storage, ping_server
from trainer.storage.object_names import check_names, unusable_names

SERVER: Final = "S3 server"
"""The check that those of buckets depend on."""

LARGEST_SKEW_S: Final = 300.0
"""Largest accepted difference of clocks in seconds. Source: AWS Signature Version 4 allows 5 minutes; S3 itself 15."""

NOTICED_SKEW_S: Final = 60.0

IMAGENET: Final = {
    "densenet121": "https://download.pytorch.org/models/densenet121-a639ec97.pth",
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
}
"""Source: torchvision's weights IMAGENET1K_V1, as used by `trainer.models.pretrained`; a test compares them."""

TIMEOUT_S: Final = 10.0


def steps(config: TrainConfig, s3: S3Server = FROM_ENVIRONMENT) -> list[Step]:
    """Checks before a run, quick ones first; requests to buckets go to the server `s3`."""
    output_at, data_at, weights_at = (Location(each, s3) for each in (config.output, config.data, config.weights))
    bucket = next((each for each in (output_at, data_at) if each.is_bucket), None)
    first = [Step(SERVER, lambda: server(bucket)), Step("clock", lambda: clock(bucket), (SERVER,))] if bucket else []
    return [
        *first,
        Step("output", lambda: output(output_at), _server_of(output_at)),
        Step("data", lambda: data(data_at), _server_of(data_at)),
        Step("weights", lambda: weights(weights_at, config.model), _server_of(weights_at)),
        Step(node_checks.SHARED_MEMORY, node_checks.shared_memory),
        Step("labels", lambda: labels(config, data_at), ("data",)),
        Step("images", lambda: images(config, data_at), ("labels",)),
        Step(node_checks.DISK, lambda: disk(config, data_at), ("labels",)),
    ]


def _server_of(place: Location) -> tuple[str, ...]:
    return (SERVER,) if place.is_bucket else ()


def server(bucket: Location) -> Outcome:
    """Check that the S3 server responds. Raises: RemoteError."""
    return Outcome("OK", f"`{ping_server(bucket).url}` responds")


def clock(bucket: Location) -> Outcome:
    """Compare this clock with the S3 server's, as signatures contain the time. Raises: RemoteError."""
    remote = ping_server(bucket)
    return skew(remote.time, datetime.now(timezone.utc), f"`{remote.url}`")


def skew(remote: datetime | None, local: datetime, clock_name: str) -> Outcome:
    """Rate the difference between two clocks."""
    if remote is None:
        return Outcome("skipped", f"{clock_name} does not report its time")
    late_s = (local - remote).total_seconds()
    found = f"{abs(late_s):.0f} s {'behind' if late_s < 0 else 'ahead of'} {clock_name}"
    if abs(late_s) > LARGEST_SKEW_S:
        return Outcome("FAIL", f"{found}: signed requests are refused", "synchronise the clock with NTP")
    if abs(late_s) > NOTICED_SKEW_S:
        return Outcome("WARN", found, "synchronise the clock with NTP")
    return Outcome("OK", found)


def output(place: Location) -> Outcome:
    """Check that objects can be written, read, listed and deleted at the output, with a test object.

    Raises: KnownError when one of these fails.
    """
    storage = open_storage(place)
    key, content = f"doctor-{uuid.uuid4().hex}", b"may a run be kept here?"
    storage.write(key, content)
    try:
        if storage.read(key) != content:
            return Outcome(
                "FAIL", f"`{place}` returned other bytes than were written", "ask the storage's administrator"
            )
        if storage.keys(key) != [key]:
            return Outcome("FAIL", f"`{place}` does not list the written object", "ask the storage's administrator")
    finally:
        storage.delete(key)
    return Outcome("OK", f"wrote, read, listed and deleted an object at `{place}`")


def data(place: Location) -> Outcome:
    """Check that the data set can be listed and read. Raises: KnownError."""
    if not place.is_bucket:
        names = sorted(entry.name for entry in os.scandir(place.url))
        return (
            Outcome("OK", f"{len(names)} entries in `{place}`")
            if names
            else Outcome("FAIL", f"`{place}` is empty", "check --data: bucket, prefix or directory")
        )
    storage = open_storage(place)
    keys = _label_keys(storage) or next(filter(None, (storage.keys(f"{split}/") for split in SPLITS)), [])
    if not keys:
        return Outcome(
            "FAIL",
            f"no data set found in `{place}`: neither {', '.join(dict.fromkeys(LABEL_FILES))} nor train/",
            "check --data: bucket and prefix",
        )
    storage.read(keys[-1])
    return Outcome("OK", f"listed `{place}` and read `{on_one_line(keys[-1])}`")


def labels(config: TrainConfig, data_at: Location) -> Outcome:
    """Check the label files; reports layout, images and patients. Raises: KnownError."""
    with _label_folder(config, data_at) as root:
        source = _read(config, root)
    table = source.table.used()
    if config.classes:
        table.check_classes()
    counts = ", ".join(f"{len(table.rows(split))} {split}" for split in SPLITS)
    patients = len(set(table.patients_N.tolist()))
    found = f"layout {source.layout}: {counts} images of {patients} patients, {len(source.table.findings)} labels"
    return Outcome("OK", "; ".join(filter(None, [found, policy_summary(source.policy)])))


def images(config: TrainConfig, data_at: Location) -> Outcome:
    """Check that each image of the label files exists, and that all objects of a bucket can be files. Raises: KnownError."""
    keys = open_storage(data_at).keys("") if data_at.is_bucket else []
    check_names(data_at.url, keys)
    with _label_folder(config, data_at) as root:
        source = _read(config, root)
        used = source.table.used()
        if source.placement == "records":
            return _records(config, data_at, root)
        if source.layout == "folders" or not data_at.is_bucket:
            if config.on_missing_image == "skip":
                return _present(source)
            locate_images(source)
            return Outcome("OK", f"all {len(used)} images exist")
    absent = absent_from(source, keys)
    if absent and config.on_missing_image == "skip":
        return Outcome("OK", f"{len(absent)} of {len(used)} images are missing and will be left out")
    if absent:
        where = " in `images…/`" if source.placement == "images" else ""
        found = f"{len(absent)} of {len(used)} images are missing{where}, the first is `{on_one_line(absent[0])}`"
        return Outcome("FAIL", found, PLACES[source.placement])
    return Outcome("OK", f"all {len(used)} images exist")


def _records(config: TrainConfig, data_at: Location, root: Path) -> Outcome:
    """Check the files of a prepared set against its index, which is at `root`. Raises: InputError for another geometry."""
    bits = preliminary(config.gray_range)
    checked_geometry(root, Geometry(side=config.pack_side, fit=config.pack_fit, gray_bits=bits))
    index = prepared.read(root)
    problems = file_problems(index, open_storage(data_at).stats(""))
    if problems:
        found = f"{len(problems)} of {len(index.files)} files of the prepared set differ from its index: {problems[0]}"
        return Outcome("FAIL", found, "copy it again, or prepare it again with `trainer prepare`")
    size_bytes = sum(size for size, _ in index.files.values())
    return Outcome("OK", f"prepared set of {index.count} records, {in_words(size_bytes)} for the cache of each node")


def disk(config: TrainConfig, data_at: Location) -> Outcome:
    """Check that this node's cache has room for the copied and decoded data set. Raises: KnownError."""
    copied = sum(stat.size_bytes for stat in open_storage(data_at).stats("").values()) if data_at.is_bucket else 0
    with _label_folder(config, data_at) as root:
        source = _read(config, root)
        decoded = 0 if source.placement == "records" else len(source.table.used()) * config.pack_side**2
    return node_checks.disk(Path(config.cache_dir or Path(config.output) / "cache"), copied + decoded)


def _present(source: Source) -> Outcome:
    missing = missing_images(source)
    without_missing(source, missing)
    return Outcome(
        "OK", f"{len(missing)} images are missing and will be left out: {', '.join(share_present(source, missing))}"
    )


def weights(source: Location, model: str) -> Outcome:
    """Check that the initial weights of this model are available here. Raises: KnownError."""
    if source.url == "none":
        return Outcome("OK", "random initialisation: no weights needed")
    if source.url == "imagenet":
        return _imagenet(model)
    head = _head(source)
    if head is None:
        return Outcome("FAIL", f"`{source}` does not exist (from `--weights`)", "--weights PATH|imagenet|none")
    found = foreign_format(head)
    if found is not None:
        return Outcome("FAIL", f"`{source}` has no weights: {found.what} (from `--weights`)", found.hint)
    return Outcome("OK", f"`{source}` exists")


def _head(source: Location) -> bytes | None:
    """The first bytes of a file; None where there is none."""
    if not source.is_bucket:
        if not Path(source.url).is_file():
            return None
        with Path(source.url).open("rb") as file:
            return file.read(HEAD_BYTES)
    folder, _, name = source.url.rpartition("/")
    try:
        return next(open_storage(Location(folder, source.server)).chunks(name), b"")[:HEAD_BYTES]
    except AbsentError:
        return None


def _imagenet(model: str) -> Outcome:
    """The image may contain the file in torch's cache; otherwise each node downloads it."""
    address = IMAGENET.get(model)
    if address is None:
        return Outcome("FAIL", f"there are no ImageNet weights for `{model}`", "--weights none")
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
    cached = Path(home) / "hub" / "checkpoints" / PurePosixPath(address).name
    if cached.is_file():
        return Outcome("OK", f"`{cached}` exists")
    fix = "add the file to the image and set TORCH_HOME, or use --weights PATH or --weights none"
    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - one of the addresses above
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            reachable = response.status == HTTPStatus.OK
    except OSError as problem:
        reason = on_one_line(str(getattr(problem, "reason", problem)))
        return Outcome("FAIL", f"cannot download ImageNet weights: no response from `{address}`: {reason}", fix)
    if reachable:
        return Outcome("OK", f"ImageNet weights can be downloaded from `{address}`")
    return Outcome("FAIL", f"cannot download ImageNet weights: `{address}` does not exist", fix)


def _read(config: TrainConfig, root: Path) -> Source:
    return read_labels(root, layout=config.layout, split=config.split, val_list=config.val_list, choices=config.alone())


@contextmanager
def _label_folder(config: TrainConfig, data_at: Location) -> Iterator[Path]:
    """The data set's directory; for a bucket, a temporary copy of its label files, or of its folder structure."""
    if not data_at.is_bucket:
        yield Path(config.data)
        return
    with tempfile.TemporaryDirectory(prefix="labels-") as copy:
        _copy_labels(open_storage(data_at), Path(copy), config.val_list)
        try:
            yield Path(copy)
        except InputError as problem:  # users know the bucket, not the copy
            raise InputError(str(problem.args[0]).replace(copy, config.data), hint=problem.hint) from problem


def _copy_labels(storage: Storage, root: Path, val_list: str | None) -> None:
    keys = _label_keys(storage)
    if val_list is not None and _stays_below(val_list):
        keys += [key for key in storage.keys(val_list) if key == val_list and key not in keys]
    for key in keys:
        storage.copy_to(key, root / key, stat=storage.stat(key))
    if keys and not any(key.startswith(chexpert.TEST) for key in keys):
        return
    folders = ["test"] if keys else SPLITS  # CheXpert's test labels are by study, whose images are in its folder
    images = [key for split in folders for key in storage.keys(f"{split}/")]
    for key in set(images) - unusable_names(images).keys():  # the check of the images names the others
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).touch()


def _stays_below(key: str) -> bool:
    return ".." not in PurePosixPath(key).parts and not key.startswith("/")


def _label_keys(storage: Storage) -> list[str]:
    """Keys of the label files, listed by name, as listing all images takes long."""
    prefixes = dict.fromkeys(pattern.partition("*")[0] for pattern in (*LABEL_FILES, INDEX))
    keys = (key for prefix in prefixes for key in storage.keys(prefix) if "/" not in key)
    return [
        key
        for key in keys
        if any(fnmatchcase(key, each) for pattern in (*LABEL_FILES, INDEX) for each in (pattern, f"{pattern}.gz"))
    ]
