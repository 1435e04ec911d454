"""What programs print, without what a terminal would obey.

Messages escape foreign text where it is put into them (`errors.on_one_line`, `errors.as_block`). This is the net below: it also
catches what libraries warn of and tracebacks. Line breaks and tabs pass, for tables and documents are made of them.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from trainer.errors import on_one_line


def visible(text: str) -> str:
    """The text with every character escaped that can't be seen, but for line breaks and tabs."""
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "\n".join("\t".join(map(on_one_line, line.split("\t"))) for line in text.split("\n"))


class _Screened:
    """A stream to which only visible text is written; in all else the stream itself."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream
        """Where rich writes: its colours and bars are our own. Source: rich 13.9, Console.file."""

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
    """For the block, stdout and stderr of this process show whatever is written to them, and obey nothing of it."""
    before = sys.stdout, sys.stderr
    screen()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def screen() -> None:
    """The same until the process ends."""
    sys.stdout, sys.stderr = _screened(sys.stdout), _screened(sys.stderr)


def _screened(stream: TextIO) -> TextIO:
    return stream if isinstance(stream, _Screened) else cast("TextIO", _Screened(stream))


def unscreened(stream: TextIO) -> TextIO:
    """The stream below, for who writes colours and has made foreign text visible himself."""
    while isinstance(stream, _Screened):
        stream = stream.rich_proxied_file
    return stream
