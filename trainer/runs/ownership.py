"""Check that a prefix belongs to a run, made by each attempt before anything is written.

A prefix belongs to a run when its `run.json` is a record of ours. Then only files under keys of `layout.is_ours` may be
replaced and deleted. Without a record, only those files are accepted that an attempt killed early leaves behind.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from trainer.errors import InputError, KnownError, listing, on_one_line
from trainer.layout import OWNER, RUN, STARTS, comes_before_record, is_ours
from trainer.limits import parsed_json
from trainer.storage import AbsentError, Claim, DamagedError, Storage

SHOWN: Final = 5
"""Foreign files named in one line."""

ELSEWHERE: Final = "use another --name, or move the files there elsewhere"

_LOG_LINE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")


def check(storage: Storage, report: Callable[[str], None]) -> None:
    """Refuse a prefix where foreign files would be replaced or links followed; writes nothing.

    `report` gets one line with the names of foreign files that stay untouched.

    Raises: InputError naming the obstacles; RemoteError.
    """
    obstacles = storage.obstacles()
    if obstacles:
        raise InputError(
            f"cannot keep a run at `{storage.url}`: other files are in the way:{listing(map(on_one_line, obstacles))}",
            hint=f"links inside a run are not followed; {ELSEWHERE}",
        )
    keys = storage.keys("")
    if RUN in keys:
        check_record(storage)
    else:
        _check_unclaimed(storage, keys)
    foreign = [key for key in keys if not is_ours(key)]
    if foreign:
        report(f"`{storage.url}` has files that do not belong to this run and are not touched: {_some(foreign)}")


def check_record(storage: Storage) -> None:
    """Refuse a prefix that does not belong to a run. Raises: InputError when its `run.json` is missing, damaged or foreign."""
    with suppress(AbsentError, DamagedError):
        if _is_record(storage.read(RUN)):
            return
    raise InputError(
        f"cannot write to `{storage.url}`: its `{RUN}` is not the record of a run, or is damaged", hint=ELSEWHERE
    )


class RunClaim:
    """A claim that is also lost when the run's record is deleted, as when a bucket's prefix is removed."""

    def __init__(self, claim: Claim, storage: Storage) -> None:
        self._claim, self._storage = claim, storage
        self._has_record = False

    def check(self) -> None:
        """See `Claim.check`."""
        self._claim.check()
        try:
            self._storage.stat(RUN)
            self._has_record = True
        except AbsentError as problem:
            if self._has_record:
                raise InputError(
                    f"cannot continue the run at `{self._storage.url}`: its `{RUN}` was removed",
                    hint="delete the rest of the run, then the same command starts a new one; or use another --name",
                ) from problem

    def lost(self) -> KnownError | None:
        """See `Claim.lost`."""
        return self._claim.lost()


def _check_unclaimed(storage: Storage, keys: Iterable[str]) -> None:
    foreign = [
        key for key in keys if is_ours(key) and not (comes_before_record(key) and _is_of_an_attempt(storage, key))
    ]
    if foreign:
        raise InputError(
            f"cannot start a run at `{storage.url}`: it has no `{RUN}`, and these files would be replaced: {_some(foreign)}",
            hint=ELSEWHERE,
        )


def _is_record(content: bytes) -> bool:
    document = _document(content)
    return all(isinstance(document.get(part), dict) for part in ("config", "identity"))


def _is_of_an_attempt(storage: Storage, key: str) -> bool:
    """Whether an attempt wrote the content of a key that may precede the record."""
    try:
        content = storage.read(key)
    except (AbsentError, DamagedError):
        return False
    if key == STARTS:
        return {"first_s", "step"} <= _document(content).keys()
    if key == OWNER:
        return {"job", "token"} <= _document(content).keys()
    return not content or _LOG_LINE.match(content) is not None


def _document(content: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        document = parsed_json(content)
        if isinstance(document, dict):
            return document
    return {}


def _some(keys: list[str]) -> str:
    named = ", ".join(f"`{on_one_line(key)}`" for key in keys[:SHOWN])
    return f"{named} and {len(keys) - SHOWN:,} more" if len(keys) > SHOWN else named
