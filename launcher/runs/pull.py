"""Results of a run to this machine: which files, into which directory, in which order."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from launcher.runs import checkpoints
from launcher.runs.download import Item, fetch_all, inside, only_one, remove_stale_partials
from launcher.runs.locate import Report, Run
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
from trainer.storage.waiting import Waiting

What = Literal["checkpoint", "model", "report", "all"]

THREADS: Final = 8

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "checkpoint": (RUN,),
    "model": ("model/",),
    "report": (RUN, SPLIT, METRICS, RESULTS, "predictions/", "evaluation/", "report/"),
    "all": ("model/", RUN, SPLIT, METRICS, RESULTS, "predictions/", "evaluation/", "report/", "logs/", "tensorboard/"),
}
"""Names of objects, and beginnings of names, beside the checkpoint."""


def pull(run: Run, storage: Storage, *, step: str | None, what: What, directory: Path, report: Report) -> list[Path]:
    """Fetch a part of the run into the directory, laid out as the run is; the files' paths, a checkpoint's state first.

    The same again fetches only what is missing or different; a file of this run that is there is replaced by a whole, verified
    one only, and a file that no pull of it has put there is refused.

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
        wanted = [item for item in items if not item.is_there()]
        for item in wanted:
            item.check_replaceable(is_pulled=is_pulled or item.key == RUN)
        _remove_stale(stats, directory)
        if len(wanted) < len(items):
            report(f"{len(items) - len(wanted)} of {len(items)} files are here already")
        _fetch(storage, wanted)
    return [item.target for item in items if what != "model" or item.key != RUN]  # which comes along, unasked for


def _check_flags(run: Run, step: str | None, what: What, directory: Path) -> None:
    if step is not None and what in {"model", "report"}:
        raise InputError(
            f"cannot use --step with --what {what}: a run has one, of its best checkpoint", hint="leave --step out"
        )
    here = Path(run.url)
    if "://" not in run.url and here.is_dir() and directory.resolve().is_relative_to(here.resolve()):
        raise InputError(
            f"cannot pull `{run.name}` into `{directory}`: the run itself lies there", hint="--to another DIRECTORY"
        )


def _check_directory(run: Run, storage: Storage, directory: Path) -> bool:
    """Whether this run was pulled there before.

    Raises: InputError where another run lies, whose files would be replaced or mixed with this one's, or another file has the place
    of the record; one that is empty, as a machine leaves it that loses its power, gives way.
    """
    living = any((directory / name).is_file() for name in (STARTS, OWNER))
    content, ours = _content(directory / RUN), _identity(_record(storage))
    there = _identity(content)
    if living or (there and there != ours):
        name = f"the run `{there[0]}`" if there else "a run"
        raise InputError(
            f"cannot pull `{run.name}` into `{directory}`: it holds {name}{', where that trains' if living else ''}",
            hint="--to another DIRECTORY",
        )
    if content is not None and there is None and content.strip(b"\0"):
        raise InputError(
            f"cannot pull `{run.name}` into `{directory}`: its {RUN} was not put there by a pull",
            hint="move it away, or --to another DIRECTORY",
        )
    return there is not None and there == ours


def _remove_stale(stats: Mapping[str, Stat], directory: Path) -> None:
    """Remove what earlier pulls have left half-fetched of objects that the run has no more, as of checkpoints that were pruned."""
    marks: dict[str, dict[str, str]] = {}
    for key, stat in stats.items():
        folder, _, name = key.rpartition("/")
        marks.setdefault(folder, {})[name] = stat.stamp
    checkpoints_here = directory / CHECKPOINTS
    if checkpoints_here.is_dir() and not checkpoints_here.is_symlink():
        steps = (f"{CHECKPOINTS}{path.name}" for path in checkpoints_here.iterdir())
        marks = {folder: {} for folder in steps if committed_step(f"{folder}/manifest.json") is not None} | marks
    for folder, there in marks.items():
        remove_stale_partials(directory / folder, there)


def _content(path: Path) -> bytes | None:
    """A file's content, None where there is no file, or one that is none of ours; a link is none."""
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
    """Which run the record is of, None where it is none."""
    try:
        content = parsed_json(record or b"")
        return content["name"], content["identity"]
    except (ValueError, TypeError, KeyError):
        return None


def _items(run: Run, stats: Mapping[str, Stat], what: What, manifest: Manifest | None, directory: Path) -> list[Item]:
    """What to fetch, the checkpoint first. Raises: InputError for names that leave the directory; AbsentError."""
    if not stats:
        raise checkpoints.nothing_of(run)
    wanted = [*_checkpoint_keys(manifest), *_other_keys(stats, what)]
    gone = [key for key in wanted if key not in stats]
    if gone or not wanted:
        missing = f"`{run.url}/{gone[0]}` is not there" if gone else f"nothing of it lies at `{run.url}`"
        raise AbsentError(
            f"cannot pull the {'checkpoint' if gone else what} of `{run.name}`: {missing}",
            hint="a run that trains removes old checkpoints: try again"
            if gone
            else "a run writes its results when it is over",
        )
    if what == "model" and RUN in stats:  # by it the next pull knows the directory
        wanted.append(RUN)
    for key in wanted:
        inside(directory, key)
    sha256 = {state_key(manifest.step): manifest.sha256} if manifest else {}
    return [Item(key=key, root=directory, stat=stats[key], sha256=sha256.get(key)) for key in wanted]


def _checkpoint_keys(manifest: Manifest | None) -> list[str]:
    return [state_key(manifest.step), manifest_key(manifest.step)] if manifest else []


def _other_keys(stats: Mapping[str, Stat], what: What) -> Iterator[str]:
    """Without what consoles write to show a folder: empty objects whose names end in a slash."""
    for key in sorted(stats):
        if not key.endswith("/") and any(
            key == part or (part.endswith("/") and key.startswith(part)) for part in PARTS[what]
        ):
            yield key


def _fetch(storage: Storage, items: list[Item]) -> None:
    """The record first, by which the directory is known as this run's; manifests last: with its manifest a checkpoint is there."""
    record = [item for item in items if item.key == RUN]
    commits = [item for item in items if item.target.name == "manifest.json"]
    others = [item for item in items if item not in [*record, *commits]]
    if not items:
        return
    total_bytes = sum(item.missing_bytes() for item in items)
    with Reporter(None).progress("pulling", total_bytes, BYTES) as advance, _goes_on():
        for batch in (record, others, commits):
            fetch_all(storage, batch, threads=THREADS, advance=advance)


@contextmanager
def _goes_on() -> Iterator[None]:
    """What is to be done about a server that is lost in the middle."""
    try:
        yield
    except UnreachableError as problem:
        problem.hint = "the same command goes on where this one stopped"
        raise
