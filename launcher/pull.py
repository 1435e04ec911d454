"""Results of a run to this machine: which files, into which directory, in which order."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from launcher import checkpoints
from launcher.progress import transferred
from launcher.runs import Run, Tell
from launcher.transfer import Item, fetch_all, inside, only_one
from trainer.documents import content_of
from trainer.errors import InputError
from trainer.layout import METRICS, OWNER, RESULTS, RUN, SPLIT, STARTS, manifest_key, state_key
from trainer.limits import JSON_BYTES, LimitError, parsed_json, read_at_most
from trainer.manifests import Manifest
from trainer.storage import AbsentError, Stat, Storage, UnreachableError

What = Literal["checkpoint", "model", "report", "all"]

THREADS: Final = 8

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "checkpoint": (RUN,),
    "model": ("model/",),
    "report": (RUN, SPLIT, METRICS, RESULTS, "predictions/", "evaluation/", "report/"),
    "all": ("model/", RUN, SPLIT, METRICS, RESULTS, "predictions/", "evaluation/", "report/", "logs/", "tensorboard/"),
}
"""Names of objects, and beginnings of names, beside the checkpoint."""


def pull(run: Run, storage: Storage, *, step: str | None, what: What, directory: Path, tell: Tell) -> list[Path]:
    """Fetch a part of the run into the directory, laid out as the run is; the files' paths, a checkpoint's state first.

    The same again fetches only what is missing or different; a file that is there is replaced by a whole, verified one only.

    Raises: InputError, AbsentError, DamagedError, RemoteError, TryAgainError.
    """
    _check_flags(run, step, what, directory)
    manifest = None
    if what in {"checkpoint", "all"}:
        manifest = checkpoints.chosen(run, checkpoints.of_run(run, storage, tell), "best" if step is None else step)
    items = _items(run, storage, what, manifest, directory)
    with only_one(directory, tell):
        _check_directory(run, storage, directory)
        wanted = [item for item in items if not item.is_there()]
        if len(wanted) < len(items):
            tell(f"{len(items) - len(wanted)} of {len(items)} files are here already")
        _fetch(storage, wanted)
    return [item.target for item in items]


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


def _check_directory(run: Run, storage: Storage, directory: Path) -> None:
    """Raises: InputError where another run lies, whose files would be replaced or mixed with this one's."""
    living = any((directory / name).is_file() for name in (STARTS, OWNER))
    there = _identity(_content(directory / RUN))
    if living or (there and there != _identity(_record(storage))):
        name = f"the run `{there[0]}`" if there else "a run"
        raise InputError(
            f"cannot pull `{run.name}` into `{directory}`: it holds {name}{', where that trains' if living else ''}",
            hint="--to another DIRECTORY",
        )


def _content(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file():
        return b""
    with path.open("rb") as file, suppress(LimitError):  # a file that is none of ours
        return read_at_most(file, JSON_BYTES)
    return b""


def _record(storage: Storage) -> bytes:
    with suppress(AbsentError):
        return content_of(storage, RUN)
    return b""


def _identity(record: bytes) -> tuple[object, object] | None:
    """Which run the record is of, None where it is none."""
    try:
        content = parsed_json(record)
        return content["name"], content["identity"]
    except (ValueError, TypeError, KeyError):
        return None


def _items(run: Run, storage: Storage, what: What, manifest: Manifest | None, directory: Path) -> list[Item]:
    """What to fetch, the checkpoint first. Raises: InputError for names that leave the directory; AbsentError."""
    stats = storage.stats("")
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
    """Manifests last, as the run itself does: what is pulled is a checkpoint once its manifest is there."""
    commits = [item for item in items if item.target.name == "manifest.json"]
    others = [item for item in items if item not in commits]
    if not items:
        return
    total_bytes = sum(item.missing_bytes() for item in items)
    with transferred("pulling", total_bytes) as advance, _goes_on():
        for batch in (others, commits):
            fetch_all(storage, batch, threads=THREADS, advance=advance)


@contextmanager
def _goes_on() -> Iterator[None]:
    """What is to be done about a server that is lost in the middle."""
    try:
        yield
    except UnreachableError as problem:
        problem.hint = "the same command goes on where this one stopped"
        raise
