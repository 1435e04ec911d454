"""Processes that decode images, with the name of the image at which one of them ended."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any, Final

from trainer.errors import InputError, listing
from trainer.screen import screen

_ENDING_S: Final = 10.0
"""How long the other decoders may take to end after one has ended."""

_POLL_S: Final = 0.01
"""Interval of polling an exit code."""

MEMORY_HINT: Final = (
    "give the pod or machine more memory, or fewer CPUs so that fewer images are decoded at once; or replace the image"
)


LIMIT_HINT: Final = (
    "raise the limits of open files and processes (ulimit -n, ulimit -u), or use fewer CPUs or --workers"
)


class _CurrentImages:
    """The current image of each decoder, in shared memory that outlives a killed decoder."""

    def __init__(self, decoders: int, context: SpawnContext) -> None:
        self._cells = context.RawArray("q", 2 * decoders)  # pairs of process ID and row; a free pair has process ID 0
        self._lock = context.Lock()
        self._place = 0

    def enter(self) -> None:
        """Register this decoder process."""
        with self._lock:
            self._place = next(place for place in range(0, len(self._cells), 2) if not self._cells[place])
            self._cells[self._place : self._place + 2] = [os.getpid(), -1]

    def note(self, row: int) -> None:
        """Set the current image of this decoder; -1 for none."""
        self._cells[self._place + 1] = row

    def row_of(self, process: int | None) -> int:
        """The current image of a decoder, -1 for none."""
        pairs = zip(self._cells[::2], self._cells[1::2], strict=True)
        return next((row for number, row in pairs if number and number == process), -1)


_slot: Final[list[_CurrentImages]] = []
"""In a decoder process: where it sets its current image."""


class _Decoder(SpawnProcess):
    """A decoder, which Ctrl-C does not reach: it would end with a traceback, and the parent ends it anyway."""

    def start(self) -> None:
        """Start it, with the signal blocked: a thread may not change how a signal is handled, and children inherit what it blocks.

        Raises: InputError where the system allows no more processes or open files.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        except OSError as problem:
            raise InputError(
                f"cannot start a process that decodes images: {problem.strerror or problem}", hint=LIMIT_HINT
            ) from problem
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _TrackingContext(SpawnContext):
    """Records the processes that a pool starts: the pool forgets them all when one has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[BaseProcess] = []

    def Process(self, *args: Any, **settings: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: ANN401, N802 - called by the pool
        """A process that is about to be started."""
        process = _Decoder(*args, **settings)
        self.started.append(process)
        return process


@contextmanager
def decoders(count: int, image_of: Callable[[int], str]) -> Iterator[ProcessPoolExecutor]:
    """This many processes that decode images. `image_of` names the image with a number that a decoder has noted.

    Raises: InputError when the kernel kills one, with its current image.
    """
    # spawn: the parent has threads, and forking a process that uses an accelerator is not safe
    context = _TrackingContext()
    current_images = _CurrentImages(count, context)
    with ProcessPoolExecutor(count, mp_context=context, initializer=_start_decoder, initargs=(current_images,)) as pool:
        # All decoders start with the first task, as those of a pool that forks. A later start would fail if another decoder had
        # ended, because the pool closes its queues then.
        pool._safe_to_dynamically_spawn_children = False  # type: ignore[attr-defined] # noqa: SLF001 - there is no other way
        try:
            yield pool
        except BrokenProcessPool as problem:
            raise _ended(context.started, current_images, image_of) from problem
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _terminate(context.started)  # nobody waits for what they are decoding
            raise


def note_image(number: int) -> None:
    """In a decoder process: note the image that it is decoding; -1 for none."""
    _slot[0].note(number)


def _terminate(started: Sequence[BaseProcess]) -> None:
    """End decoders; the pool does not end a process that is still starting, and would wait forever."""
    alive = [process for process in started if process.pid is not None]
    for process in alive:
        process.terminate()
    for process in alive:  # the pool does not, when one of them failed to start
        process.join(_ENDING_S)


def _ended(
    started: Sequence[BaseProcess], current_images: _CurrentImages, image_of: Callable[[int], str]
) -> InputError:
    """Error that names the decoder that ended first, and its image; the others are terminated."""
    _terminate(started)
    codes = {process.pid: _exit_code(process) for process in started if process.pid is not None}
    ended = {pid: code for pid, code in codes.items() if code not in {None, 0, -signal.SIGTERM}}
    rows = [(current_images.row_of(pid), code) for pid, code in ended.items()]
    what = [f"{image_of(row)}: {_cause(code)}" for row, code in rows if row >= 0]
    if not what:
        causes = ", ".join(sorted(set(map(_cause, ended.values())))) or "its process was ended"
        return InputError(f"cannot decode the images: {causes}", hint=MEMORY_HINT)
    return InputError(
        f"cannot decode {'an image' if len(what) == 1 else f'{len(what)} images'}:{listing(what)}", hint=MEMORY_HINT
    )


def _exit_code(process: BaseProcess) -> int | None:
    """The exit code of a process that is ending; None after `_ENDING_S`.

    The pool waits for the process, too. If the pool collects the exit code first, it appears here a moment later.
    """
    until_s = time.monotonic() + _ENDING_S
    while process.exitcode is None and time.monotonic() < until_s:
        process.join(_POLL_S)
        time.sleep(_POLL_S)
    return process.exitcode


def _cause(exit_code: int | None) -> str:
    if exit_code == -signal.SIGKILL:
        return "its decoder was killed, probably for lack of memory"
    return f"its decoder crashed with {f'signal {-exit_code}' if exit_code and exit_code < 0 else f'exit code {exit_code}'}"


def _start_decoder(current_images: _CurrentImages) -> None:
    """Initialise a decoder process: register it, and end it with the parent, as it would otherwise wait for tasks forever."""
    screen()  # decoders quote content of files
    current_images.enter()
    _slot.append(current_images)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()
