"""Download the results of a run: select the files, check the directory, and order the transfers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from launcher.runs import checkpoints
from launcher.runs.locate import Report, Run
from launcher.runs.pull_directory import WORDING, check_replaceable, inside, only_one
from trainer.errors import InputError
from trainer.formats.documents import content_of
from trainer.layout import (
    CHECKPOINTS,
    METRICS,
    OWNER,
    RESULTS,
    RUN,
    SPLIT,
    STARTS,
    committed_step,
    manifest_key,
    state_key,
)
from trainer.limits import JSON_BYTES, LimitError, parsed_json, read_at_most
from trainer.runs.manifest import Manifest
from trainer.runtime.console import Reporter
from trainer.runtime.progress import BYTES
from trainer.storage import AbsentError, Stat, Storage, UnreachableError
from trainer.storage.object_names import check_names
from trainer.storage.resumable import Item, fetch_all, remove_stale_partials
from trainer.storage.waiting import Waiting

What = Literal["checkpoint", "model", "report", "all"]

THREADS: Final = 8

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "checkpoint": (RUN,),
    "model": ("model/",),
    "report": (RUN, SPLIT, METRICS, RESULTS, "predictions/", "evaluation/", "report/"),
    "all": (
        "model/",
        RUN,
        SPLIT,
        METRICS,
        RESULTS,
        "predictions/",
        "evaluation/",
        "report/",
        "profile/",
        "logs/",
        "tensorboard/",
    ),
}
"""Objects of each part, without the checkpoint: names, and prefixes that end in `/`."""


def pull(run: Run, storage: Storage, *, step: str | None, what: What, directory: Path, report: Report) -> list[Path]:
    """Download a part of the run into the directory, with the layout of the run; returns the paths, a checkpoint's state first.

    Called again, it downloads only missing or different files. A file of this run is only replaced by a complete, verified
    one; a file that was not written by a pull of this run is an error.

    Raises: InputError, AbsentError, DamagedError, RemoteError, TryAgainError.
    """
    _check_flags(run, step, what, directory)
    manifest = None
    if what in {"checkpoint", "all"}:
        manifest = checkpoints.chosen(run, checkpoints.of_run(run, storage, report), "best" if step is None else step)
    stats = storage.stats("")
    items = _items(run, stats, what, manifest, directory)
    with only_one(directory, Waiting(report)):
        is_pulled = _check_directory(run, storage, directory)
        wanted = [item for item in items if not item.is_complete()]
        for item in wanted:
            check_replaceable(item, is_pulled=is_pulled or item.key == RUN)
        _remove_stale(stats, directory)
        if len(wanted) < len(items):
            report(f"{len(items) - len(wanted)} of {len(items)} files are up to date")
        _fetch(storage, wanted)
    return [item.target for item in items if what != "model" or item.key != RUN]  # the record was added by `_items`


def _check_flags(run: Run, step: str | None, what: What, directory: Path) -> None:
    if step is not None and what in {"model", "report"}:
        raise InputError(
            f"cannot use --step with --what {what}: a run has only one, of its best checkpoint", hint="omit --step"
        )
    source = Path(run.url)
    if "://" not in run.url and source.is_dir() and directory.resolve().is_relative_to(source.resolve()):
        raise InputError(
            f"cannot pull `{run.name}` into `{directory}`: that is the directory of the run itself",
            hint="--to another DIRECTORY",
        )


def _check_directory(run: Run, storage: Storage, directory: Path) -> bool:
    """Whether this run was pulled there before.

    Raises: InputError when the directory holds another run, or another file in place of the record. An empty record, left
    by a power failure, is replaced.
    """
    is_training = any((directory / name).is_file() for name in (STARTS, OWNER))
    content, ours = _content(directory / RUN), _identity(_record(storage))
    existing = _identity(content)
    if is_training or (existing and existing != ours):
        name = f"the run `{existing[0]}`" if existing else "a run"
        raise InputError(
            f"cannot pull `{run.name}` into `{directory}`: it is {'the output' if is_training else 'a copy'} of {name}",
            hint="--to another DIRECTORY",
        )
    if content is not None and existing is None and content.strip(b"\0"):
        raise InputError(
            f"cannot pull `{run.name}` into `{directory}`: its {RUN} was not written by a pull",
            hint="move it away, or --to another DIRECTORY",
        )
    return existing is not None and existing == ours


def _remove_stale(stats: Mapping[str, Stat], directory: Path) -> None:
    """Remove partial files of objects that the run no longer has, such as pruned checkpoints."""
    marks: dict[str, dict[str, str]] = {}
    for key, stat in stats.items():
        folder, _, name = key.rpartition("/")
        marks.setdefault(folder, {})[name] = stat.stamp
    pulled = directory / CHECKPOINTS
    if pulled.is_dir() and not pulled.is_symlink():
        steps = (f"{CHECKPOINTS}{path.name}" for path in pulled.iterdir())
        marks = {folder: {} for folder in steps if committed_step(f"{folder}/manifest.json") is not None} | marks
    for folder, current in marks.items():
        remove_stale_partials(directory / folder, current)


def _content(path: Path) -> bytes | None:
    """A file's content; None without a regular file, or for one too large to be a record."""
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file, suppress(LimitError):
        return read_at_most(file, JSON_BYTES)
    return None


def _record(storage: Storage) -> bytes:
    with suppress(AbsentError):
        return content_of(storage, RUN)
    return b""


def _identity(record: bytes | None) -> tuple[object, object] | None:
    """Name and identity of the run; None when the content is not a record."""
    try:
        content = parsed_json(record or b"")
        return content["name"], content["identity"]
    except (ValueError, TypeError, KeyError):
        return None


def _items(run: Run, stats: Mapping[str, Stat], what: What, manifest: Manifest | None, directory: Path) -> list[Item]:
    """Objects to download, the checkpoint first. Raises: InputError for names that lead out of the directory; AbsentError."""
    if not stats:
        raise checkpoints.nothing_of(run)
    wanted = [*_checkpoint_keys(manifest), *_other_keys(stats, what)]
    gone = [key for key in wanted if key not in stats]
    if gone or not wanted:
        missing = f"`{run.url}/{gone[0]}` does not exist" if gone else f"`{run.url}` has no such files"
        raise AbsentError(
            f"cannot pull the {'checkpoint' if gone else what} of `{run.name}`: {missing}",
            hint="a running job removes old checkpoints: try again"
            if gone
            else "a run writes its results when it has finished",
        )
    if what == "model" and RUN in stats:  # the record identifies the directory for the next pull
        wanted.append(RUN)
    targets = {key: inside(directory, key) for key in wanted}
    check_names(run.url, wanted)
    sha256 = {state_key(manifest.step): manifest.sha256} if manifest else {}
    return [Item(key=key, target=targets[key], stat=stats[key], sha256=sha256.get(key)) for key in wanted]


def _checkpoint_keys(manifest: Manifest | None) -> list[str]:
    return [state_key(manifest.step), manifest_key(manifest.step)] if manifest else []


def _other_keys(stats: Mapping[str, Stat], what: What) -> Iterator[str]:
    """Keys of a part."""
    for key in sorted(stats):
        if any(key == part or (part.endswith("/") and key.startswith(part)) for part in PARTS[what]):
            yield key


def _fetch(storage: Storage, items: list[Item]) -> None:
    """The record first, because it identifies the directory; checkpoint manifests last, because they commit a checkpoint."""
    record = [item for item in items if item.key == RUN]
    commits = [item for item in items if item.target.name == "manifest.json"]
    others = [item for item in items if item not in [*record, *commits]]
    if not items:
        return
    total_bytes = sum(item.missing_bytes() for item in items)
    with Reporter(None).progress("pulling", total_bytes, BYTES) as advance, _resume_hint():
        for batch in (record, others, commits):
            fetch_all(storage, batch, threads=THREADS, advance=advance, wording=WORDING)


@contextmanager
def _resume_hint() -> Iterator[None]:
    try:
        yield
    except UnreachableError as problem:
        problem.hint = "run the same command again to resume"
        raise
