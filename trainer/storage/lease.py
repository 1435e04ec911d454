"""Exclusive ownership of a bucket prefix: an object that names the owner, renewed by a heartbeat.

With conditional writes, one of several competing processes wins; without, each checks after a moment that its own record is still
in place. An owner of the same job is replaced at once, as it is an earlier attempt and gone. For another job's owner, the caller
waits: without a heartbeat for `LEASE_S` the owner is replaced; a heartbeat means that it lives, and the caller is refused.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final, Protocol

from trainer.errors import InputError, KnownError, TryAgainError
from trainer.layout import OWNER
from trainer.limits import SMALL_JSON_BYTES, parsed_json
from trainer.storage.interface import AbsentError, Stat

LEASE_S: Final = 20.0
"""An owner without a heartbeat for this long is gone."""

BEAT_S: Final = 5.0
SETTLE_S: Final = 1.0
"""Time until a competing write is visible, on servers without conditional writes."""

Report = Callable[[str], None]


class Store(Protocol):
    """The storage methods that a lease needs."""

    url: str

    def read(self, key: str) -> bytes:
        """Read the object."""
        ...

    def stat(self, key: str) -> Stat:
        """Properties of the object."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Write it if there is none."""
        ...

    def replace(self, key: str, content: bytes, stamp: str) -> bool:
        """Write it if it has not changed."""
        ...

    def delete(self, key: str) -> None:
        """Delete it."""
        ...

    def excludes(self) -> bool:
        """Whether `create` and `replace` are exclusive."""
        ...


class Lease:
    """Ownership of a prefix."""

    def __init__(
        self,
        store: Store,
        job: str,
        *,
        server_time: Callable[[], datetime | None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._store = store
        self._token = uuid.uuid4().hex
        self._job = job or self._token
        self._server_time = server_time
        self._clock, self._sleep = clock, sleep
        self._beats = 0
        self._lost: KnownError | None = None

    def take(self, report: Report) -> None:
        """Become the owner.

        Raises: InputError when another job is; RemoteError.
        """
        while True:
            current = self._owner()
            if current is None:
                written = self._store.create(OWNER, self._record())
            else:
                owner, stat = current
                if owner.get("job") != self._job:
                    self._await_expiry(stat, report)
                written = self._store.replace(OWNER, self._record(), stat.stamp)
            if written and self._is_settled():
                return

    def check(self) -> None:
        """Check that no other process has become the owner.

        Raises: InputError for another job, TryAgainError for another attempt of this one.
        """
        self._check_owner()
        if self._lost is not None:
            raise self._lost

    def lost(self) -> KnownError | None:
        """See `Claim.lost`: the result of the last heartbeat."""
        return self._lost

    def beat(self) -> None:
        """Renew the heartbeat."""
        current = self._check_owner()
        if self._lost is None:
            self._beats += 1
            if current is None:
                self._store.create(OWNER, self._record())
            else:
                self._store.replace(OWNER, self._record(), current.stamp)

    def release(self) -> None:
        """Let the next owner in at once. When the bucket is unreachable, the record stays until it expires."""
        with suppress(KnownError):
            self._check_owner()
            if self._lost is None:
                self._store.delete(OWNER)

    def _record(self) -> bytes:
        return json.dumps({"job": self._job, "token": self._token, "beat": self._beats}).encode()

    def _owner(self) -> tuple[dict[str, str], Stat] | None:
        try:
            stat = self._store.stat(OWNER)
            content = self._store.read(OWNER) if stat.size_bytes <= SMALL_JSON_BYTES else b""
        except AbsentError:
            return None
        owner: object = {}
        with suppress(ValueError):  # not a record of ours
            owner = parsed_json(content)
        return owner if isinstance(owner, dict) else {}, stat

    def _check_owner(self) -> Stat | None:
        """Remember when another process is the owner; returns the properties of the record, None without one."""
        current = self._owner()
        if current is None:
            return None
        owner, stat = current
        if owner.get("token") != self._token:
            self._lost = self._taken_over(of_this_job=owner.get("job") == self._job)
        return stat

    def _is_settled(self) -> bool:
        if self._store.excludes():
            return True
        self._sleep(SETTLE_S)
        current = self._owner()
        return current is not None and current[0].get("token") == self._token

    def _await_expiry(self, stat: Stat, report: Report) -> None:
        """Wait until the owner's lease has expired. Raises: InputError when it sends a heartbeat meanwhile."""
        now = self._server_time()
        age_s = (now - stat.modified).total_seconds() if now else 0.0
        left_s = LEASE_S - max(0.0, age_s)
        if left_s > 0:
            report(f"another job owns `{self._store.url}`: waiting {left_s:.0f} s for its next heartbeat")
        end_s = self._clock() + left_s
        while (left_s := end_s - self._clock()) > 0:
            self._sleep(min(1.0, left_s))
            try:
                has_beaten = self._store.stat(OWNER).stamp != stat.stamp
            except AbsentError:  # released
                return
            if has_beaten:
                raise InputError(
                    f"cannot write to the run at `{self._store.url}`: another job is training it",
                    hint="wait for it to finish, or use another --name",
                )

    def _taken_over(self, *, of_this_job: bool) -> KnownError:
        if of_this_job:
            return TryAgainError(f"cannot continue: another attempt of this job writes to `{self._store.url}`")
        return InputError(
            f"cannot continue the run at `{self._store.url}`: another job has taken it over",
            hint="stop that job, or use another --name for one of them",
        )


@contextmanager
def held(store: Store, job: str, report: Report, *, server_time: Callable[[], datetime | None]) -> Iterator[Lease]:
    """Hold the lease for the block; a background thread renews it.

    Raises: InputError when another job is training the run; RemoteError.
    """
    lease = Lease(store, job, server_time=server_time)
    lease.take(report)
    over = threading.Event()
    thread = threading.Thread(target=_keep, args=(lease, over), name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        over.set()
        thread.join(BEAT_S)  # a heartbeat in flight would write the record again after the release
        lease.release()


def _keep(lease: Lease, over: threading.Event) -> None:
    while not over.wait(BEAT_S):
        with suppress(Exception):  # a lost heartbeat does no harm, but an ended thread would lose the run
            lease.beat()
