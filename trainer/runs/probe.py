"""Could a run work where this process is: its output, its data, its weights, the clock; loads no torch.

`launcher doctor` asks from the user's machine and, by `python -m trainer probe`, from a pod that has the job's account.
"""

import json
import os
import tempfile
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from trainer.config import TrainConfig
from trainer.data.labels import SPLITS
from trainer.data.layouts import LABEL_FILES, Source, locate_images, read_labels
from trainer.errors import InputError, KnownError, on_one_line
from trainer.location import FROM_ENVIRONMENT, Location, S3Server
from trainer.redaction import redacted
from trainer.storage import Storage, open_storage, ping_server

Status = Literal["OK", "WARN", "FAIL", "skipped"]

SERVER: Final = "S3 server"
"""The check that those of buckets need."""

LARGEST_SKEW_S: Final = 300.0
"""Seconds that clocks may differ. Source: AWS Signature Version 4 lets a signature be 5 minutes off; S3 itself 15."""

NOTICED_SKEW_S: Final = 60.0

USUAL_SHM_BYTES: Final = 64 << 20
"""What a container gets that asks for nothing, which is too small for workers to talk through."""

IMAGENET: Final = {
    "densenet121": "https://download.pytorch.org/models/densenet121-a639ec97.pth",
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
}
"""Source: torchvision's weights IMAGENET1K_V1, as `trainer.models.pretrained` takes them; a test compares."""

ANSWER_S: Final = 10.0

FOUND_LENGTH: Final = 600
"""Characters of a row; label files can be wrong in many places."""


@dataclass(frozen=True)
class Outcome:
    """What one look found, and what to do about it."""

    status: Status
    found: str
    fix: str = ""


Look = Callable[[], Outcome]


@dataclass(frozen=True)
class Step:
    """One look, which only makes sense once others have not failed."""

    check: str
    look: Look
    needs: tuple[str, ...] = ()


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
        Step("shared memory", shared_memory),
        Step("labels", lambda: labels(config, data_at), ("data",)),
        Step("images", lambda: images(config, data_at), ("labels",)),
    ]


def _server_of(place: Location) -> tuple[str, ...]:
    return (SERVER,) if place.is_bucket else ()


def probe(config: TrainConfig) -> Iterator[str]:
    """One line of JSON for each look, as soon as it is done: check, status, found, fix."""
    failed: set[str] = set()
    for step in steps(config):
        missing = [need for need in step.needs if need in failed]
        outcome = Outcome("skipped", f"needs `{missing[0]}`") if missing else outcome_of(step.look)
        if missing or outcome.status == "FAIL":
            failed.add(step.check)
        yield json.dumps({"check": step.check, "status": outcome.status, "found": outcome.found, "fix": outcome.fix})


def outcome_of(look: Look) -> Outcome:
    """What the look finds; errors that are meant for users are findings too."""
    try:
        return look()
    except KnownError as problem:
        return refused(problem)
    except OSError as problem:
        return Outcome("FAIL", on_one_line(redacted(str(problem))))


def refused(problem: KnownError, status: Status = "FAIL") -> Outcome:
    """An error as a finding: its lines as one."""
    text = "; ".join(line.strip() for line in str(problem.args[0]).splitlines())
    text = redacted(text)
    found = on_one_line(text if len(text) <= FOUND_LENGTH else f"{text[:FOUND_LENGTH]} …")
    return Outcome(status, found, on_one_line(problem.hint or ""))


def server(bucket: Location) -> Outcome:
    """Whether the S3 server answers. Raises: RemoteError."""
    return Outcome("OK", f"`{ping_server(bucket).url}` answers")


def clock(bucket: Location) -> Outcome:
    """How far this clock is from the S3 server's: signatures hold the time. Raises: RemoteError."""
    there = ping_server(bucket)
    return skew(there.time, datetime.now(timezone.utc), f"`{there.url}`")


def skew(there: datetime | None, here: datetime, whose: str) -> Outcome:
    """What a difference between two clocks means."""
    if there is None:
        return Outcome("skipped", f"{whose} does not tell its time")
    late_s = (here - there).total_seconds()
    found = f"{abs(late_s):.0f} s {'behind' if late_s < 0 else 'ahead of'} {whose}"
    if abs(late_s) > LARGEST_SKEW_S:
        return Outcome("FAIL", f"{found}: signed requests are refused", "set the clock by NTP")
    if abs(late_s) > NOTICED_SKEW_S:
        return Outcome("WARN", found, "set the clock by NTP")
    return Outcome("OK", found)


def output(place: Location) -> Outcome:
    """Whether objects can be written, read and removed at the output; the one that finds out is removed.

    Raises: KnownError for what can't be done.
    """
    storage = open_storage(place)
    key, content = f"doctor-{uuid.uuid4().hex}", b"may a run be kept here?"
    storage.write(key, content)
    try:
        if storage.read(key) != content:
            return Outcome("FAIL", f"`{place}` gives back other bytes than were written", "ask who runs the storage")
        if storage.keys(key) != [key]:
            return Outcome("FAIL", f"`{place}` does not list what was written", "ask who runs the storage")
    finally:
        storage.delete(key)
    return Outcome("OK", f"wrote, read, listed and removed an object at `{place}`")


def data(place: Location) -> Outcome:
    """Whether the data set's place can be listed and read. Raises: KnownError."""
    if not place.is_bucket:
        names = sorted(entry.name for entry in os.scandir(place.url))
        return (
            Outcome("OK", f"{len(names)} entries in `{place}`")
            if names
            else Outcome("FAIL", f"nothing lies in `{place}`", "check --data: bucket, prefix or directory")
        )
    storage = open_storage(place)
    keys = _label_keys(storage) or next(filter(None, (storage.keys(f"{split}/") for split in SPLITS)), [])
    if not keys:
        return Outcome(
            "FAIL",
            f"no part of a data set lies in `{place}`: neither {', '.join(dict.fromkeys(LABEL_FILES))} nor train/",
            "check the bucket and the prefix of --data",
        )
    storage.read(keys[-1])
    return Outcome("OK", f"listed `{place}` and read `{on_one_line(keys[-1])}`")


def labels(config: TrainConfig, data_at: Location) -> Outcome:
    """How the data set is laid out, and how many images and patients its label lists have. Raises: KnownError."""
    with _here(config, data_at) as root:
        source = _read(config, root)
    table = source.table.used()
    if config.classes:
        table.check_classes()
    parts = ", ".join(f"{len(table.rows(split))} {split}" for split in SPLITS)
    patients = len(set(table.patients_N.tolist()))
    return Outcome(
        "OK", f"layout {source.layout}: {parts} images of {patients} patients, {len(source.table.findings)} labels"
    )


def images(config: TrainConfig, data_at: Location) -> Outcome:
    """Whether each image that the label lists name is there. Raises: KnownError."""
    with _here(config, data_at) as root:
        source = _read(config, root)
        used = source.table.used()
        if source.layout == "folders" or not data_at.is_bucket:
            locate_images(source)
            return Outcome("OK", f"all {len(used)} images are there")
    there = {PurePosixPath(key).name for key in open_storage(data_at).keys("images")}
    absent = [name for name in used.images if name not in there]
    if absent:
        found = f"{len(absent)} of {len(used)} images are not below `images…/`, the first is `{on_one_line(absent[0])}`"
        return Outcome("FAIL", found, "images lie in images/ or images_001/, images_002/ … of the data set")
    return Outcome("OK", f"all {len(used)} images are there")


def weights(wanted: Location, model: str) -> Outcome:
    """Whether the first weights of this model can be had here. Raises: KnownError."""
    if wanted.url == "none":
        return Outcome("OK", "starts from nothing: no weights are wanted")
    if wanted.url == "imagenet":
        return _imagenet(model)
    if wanted.is_bucket:
        folder, _, name = wanted.url.rpartition("/")
        there = name in open_storage(Location(folder, wanted.server)).keys(name)
    else:
        there = Path(wanted.url).is_file()
    if there:
        return Outcome("OK", f"`{wanted}` is there")
    return Outcome("FAIL", f"`{wanted}` is not there (from `--weights`)", "--weights PATH|imagenet|none")


def _imagenet(model: str) -> Outcome:
    """The image may carry the file where torch looks for it; else each node downloads it."""
    address = IMAGENET.get(model)
    if address is None:
        return Outcome("FAIL", f"there are no ImageNet weights of `{model}`", "--weights none")
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
    cached = Path(home) / "hub" / "checkpoints" / PurePosixPath(address).name
    if cached.is_file():
        return Outcome("OK", f"`{cached}` is there")
    fix = "let the image carry the file and set TORCH_HOME, or give --weights PATH, or --weights none"
    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - one of those above
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
            reachable = answer.status == HTTPStatus.OK
    except OSError as problem:
        reason = on_one_line(str(getattr(problem, "reason", problem)))
        return Outcome("FAIL", f"ImageNet weights can't be downloaded: no answer from `{address}`: {reason}", fix)
    if reachable:
        return Outcome("OK", f"ImageNet weights can be downloaded from `{address}`")
    return Outcome("FAIL", f"ImageNet weights can't be downloaded: `{address}` is not there", fix)


def shared_memory() -> Outcome:
    """Whether /dev/shm is larger than what a container gets unasked."""
    try:
        stat = os.statvfs("/dev/shm")  # noqa: S108 - this is what is looked at
    except FileNotFoundError:
        return Outcome("FAIL", "there is no /dev/shm", "an overlay must leave the volume `shm` alone")
    size = stat.f_frsize * stat.f_blocks
    found = f"{size >> 20} MiB of shared memory"
    if size <= USUAL_SHM_BYTES:
        return Outcome(
            "FAIL", f"{found}: too little for several workers", "an overlay must leave the volume `shm` alone"
        )
    return Outcome("OK", found)


def _read(config: TrainConfig, root: Path) -> Source:
    return read_labels(root, layout=config.layout, split=config.split, val_list=config.val_list)


@contextmanager
def _here(config: TrainConfig, data_at: Location) -> Iterator[Path]:
    """The data set's directory; of one in a bucket a directory with its label files, or with its folders' names."""
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
    if keys:
        return
    for split in SPLITS:
        for key in storage.keys(f"{split}/"):
            if _stays_below(key) and not key.endswith("/"):
                (root / key).parent.mkdir(parents=True, exist_ok=True)
                (root / key).touch()


def _stays_below(key: str) -> bool:
    return ".." not in PurePosixPath(key).parts and not key.startswith("/")


def _label_keys(storage: Storage) -> list[str]:
    """Keys of the label files; each is asked for by its name, because listing all images takes long."""
    starts = dict.fromkeys(pattern.partition("*")[0] for pattern in LABEL_FILES)
    found = (key for start in starts for key in storage.keys(start) if "/" not in key)
    return [
        key for key in found if any(fnmatchcase(key, each) for part in LABEL_FILES for each in (part, f"{part}.gz"))
    ]
