"""stdout and stderr of both programs, with secrets redacted and control characters escaped.

Messages escape foreign text where they are built (`errors.on_one_line`, `errors.as_block`). This second line of defence
also covers tracebacks and warnings of libraries. Line breaks and tabs are kept: tables and documents need them.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from trainer.errors import on_one_line
from trainer.redaction import guarded


def visible(text: str) -> str:
    """The text with every unprintable character escaped, except line breaks and tabs."""
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "\n".join("\t".join(map(on_one_line, line.split("\t"))) for line in text.split("\n"))


class _Screened:
    """A stream that escapes written text and delegates everything else to the original stream."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream
        """The stream that rich writes to, so its colours and bars are not escaped. Source: rich 13.9, Console.file."""

    def write(self, text: str) -> int:
        self.rich_proxied_file.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a stream has
        return getattr(self.rich_proxied_file, name)


@contextmanager
def screened() -> Iterator[None]:
    """Screen stdout and stderr of this process for the block."""
    before = sys.stdout, sys.stderr
    screen()
    try:
        yield
    finally:
        replaced = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = before
        for stream in replaced:
            with suppress(OSError, ValueError):  # closed, or the reader is gone
                stream.flush()  # the held-back end of the output, which may have been the start of a secret


def screen() -> None:
    """Screen stdout and stderr until the process ends; one that the caller has closed is replaced by /dev/null."""
    _open_closed()
    # stdout has documents in which `NAME: VALUE` may name a Kubernetes Secret, so only known and recognisable secrets
    # are redacted there.
    sys.stdout, sys.stderr = _screened(sys.stdout, assigned=False), _screened(sys.stderr, assigned=True)


def _open_closed() -> None:
    """Python leaves None in place of a closed stream, and the next file that is opened gets the stream's descriptor."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)  # noqa: FBT003 - takes no keyword
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115 - for good


def _screened(stream: TextIO, *, assigned: bool) -> TextIO:
    if isinstance(stream, _Screened):
        return stream
    return cast("TextIO", _Screened(guarded(stream, assigned=assigned)))  # rich's output is redacted too


def unscreened(stream: TextIO) -> TextIO:
    """The original stream, for writers of colours that escape foreign text themselves."""
    while isinstance(stream, _Screened):
        stream = stream.rich_proxied_file
    return stream
