"""Being the only writer of a prefix in a bucket: an object that names its owner, and a heartbeat that keeps it.

Where the store puts on condition, one of several starters wins; where it does not, each looks again after a moment who was
last. An owner of the same job is replaced at once: it is an earlier start, which is gone. Another's is waited for: it is
replaced once its heartbeat has stood still for a lease, and whoever waits is refused when it beats.
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
from trainer.limits import MANIFEST_BYTES, parsed_json
from trainer.storage.interface import AbsentError, Stat

LEASE_S: Final = 20.0
"""So long without a heartbeat, and an owner is gone."""

BEAT_S: Final = 5.0
SETTLE_S: Final = 1.0
"""How long a rival's put may take to be seen, where the store takes every put."""

Report = Callable[[str], None]


class Store(Protocol):
    """What a lease needs of a storage."""

    url: str

    def read(self, key: str) -> bytes:
        """The object."""
        ...

    def stat(self, key: str) -> Stat:
        """What is known of it."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Put it if there is none."""
        ...

    def replace(self, key: str, content: bytes, stamp: str) -> bool:
        """Put it if it has not changed."""
        ...

    def delete(self, key: str) -> None:
        """Remove it."""
        ...

    def excludes(self) -> bool:
        """Whether the two above are exclusive."""
        ...


class Lease:
    """An owner's hold on a prefix."""

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

        Raises: InputError when another is; RemoteError.
        """
        while True:
            there = self._owner()
            if there is None:
                taken = self._store.create(OWNER, self._record())
            else:
                owner, stat = there
                if owner.get("job") != self._job:
                    self._await_end(stat, report)
                taken = self._store.replace(OWNER, self._record(), stat.stamp)
            if taken and self._is_settled():
                return

    def check(self) -> None:
        """Refuse to go on where another has become the owner.

        Raises: InputError for another job, TryAgainError for another start of this one.
        """
        self._look()
        if self._lost is not None:
            raise self._lost

    def lost(self) -> KnownError | None:
        """See `Claim.lost`: what the last heartbeat has found."""
        return self._lost

    def beat(self) -> None:
        """Show that the owner lives."""
        there = self._look()
        if self._lost is None:
            self._beats += 1
            if there is None:
                self._store.create(OWNER, self._record())
            else:
                self._store.replace(OWNER, self._record(), there.stamp)

    def give_back(self) -> None:
        """Let the next one in at once; a bucket that can't be reached keeps it for a lease."""
        with suppress(KnownError):
            self._look()
            if self._lost is None:
                self._store.delete(OWNER)

    def _record(self) -> bytes:
        return json.dumps({"job": self._job, "token": self._token, "beat": self._beats}).encode()

    def _owner(self) -> tuple[dict[str, str], Stat] | None:
        try:
            stat = self._store.stat(OWNER)
            content = self._store.read(OWNER) if stat.size_bytes <= MANIFEST_BYTES else b""
        except AbsentError:
            return None
        owner: object = {}
        with suppress(ValueError):  # nobody whom we know
            owner = parsed_json(content)
        return owner if isinstance(owner, dict) else {}, stat

    def _look(self) -> Stat | None:
        """Note when another is the owner; what is known of our own record, None without one."""
        there = self._owner()
        if there is None:
            return None
        owner, stat = there
        if owner.get("token") != self._token:
            self._lost = self._taken_over(of_this_job=owner.get("job") == self._job)
        return stat

    def _is_settled(self) -> bool:
        if self._store.excludes():
            return True
        self._sleep(SETTLE_S)
        there = self._owner()
        return there is not None and there[0].get("token") == self._token

    def _await_end(self, stat: Stat, report: Report) -> None:
        """Wait until the owner's lease is over. Raises: InputError when it beats in the meantime."""
        now = self._server_time()
        age_s = (now - stat.modified).total_seconds() if now else 0.0
        left_s = LEASE_S - max(0.0, age_s)
        if left_s > 0:
            report(f"another job has written to `{self._store.url}`: waiting {left_s:.0f} s whether it still lives")
        end_s = self._clock() + left_s
        while (left_s := end_s - self._clock()) > 0:
            self._sleep(min(1.0, left_s))
            try:
                beats = self._store.stat(OWNER).stamp != stat.stamp
            except AbsentError:  # given back
                return
            if beats:
                raise InputError(
                    f"cannot write to the run at `{self._store.url}`: another job is training it",
                    hint="wait for it, or give another --name",
                )

    def _taken_over(self, *, of_this_job: bool) -> KnownError:
        if of_this_job:
            return TryAgainError(f"cannot go on: another start of this job writes to `{self._store.url}`")
        return InputError(
            f"cannot go on with the run at `{self._store.url}`: another job has taken it over",
            hint="end that job, or give one of them another --name",
        )


@contextmanager
def held(store: Store, job: str, report: Report, *, server_time: Callable[[], datetime | None]) -> Iterator[Lease]:
    """The only writer's lease, kept for the block by a thread of its own and given back at its end.

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
        thread.join(BEAT_S)  # a beat that is on its way would bring the record back
        lease.give_back()


def _keep(lease: Lease, over: threading.Event) -> None:
    while not over.wait(BEAT_S):
        with suppress(Exception):  # a beat that is lost is one; a thread that has ended would be a lost run
            lease.beat()
