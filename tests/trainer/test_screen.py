"""What programs print moves no cursor, forges no line and opens no link, whoever wrote it."""

import io
import os
import pty
import subprocess
import sys

import pytest
from rich.console import Console

from trainer.errors import InputError, as_block, listing, words
from trainer.layout import log_key
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.screen import screened, unscreened, visible
from trainer.storage import LocalStorage

HOSTILE = {
    "title of the window": "\x1b]0;owned\x07",
    "hidden text": "\x1b[8mno\x1b[0m",
    "C1 control": "\x9b2J",
    "backspace": "good\x08\x08\x08\x08evil",
    "back to the start": "x\r[rank 0] forged",
    "line break": "x\n[rank 0] forged",
    "vertical tab": "x\x0b[rank 0] forged",
    "next line": "x\x85[rank 0] forged",
    "line separator": "x\u2028[rank 0] forged\u2029[rank 0] forged",
    "direction": "gpj.\u202egnp\u2066x\u2069",
    "nothing to see": "a\u200bb\ufeffc\u2060d",
    "tag": "a\U000e0041",
    "half a character": "a\udc9bb",
    "null": "a\0b",
}
hostile = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())


def is_quiet(output, *, lines=1):
    """Whether a terminal shows it as so many lines, and does nothing else."""
    return output.count("\n") == lines and output.replace("\n", "").replace("\t", "").isprintable()


@hostile
def test_line_with_control_characters_stays_one_line_on_terminal_and_in_the_log(text, tmp_path):
    """A class, an image or a server may be called like this."""
    out, log = io.StringIO(), RankLog(0, environment={})
    Reporter(0, on_line=log.add, console=Console(file=out, highlight=False)).line(f"cannot read {text}")
    log.keep_in(LocalStorage(str(tmp_path)))
    log.close()
    assert is_quiet(out.getvalue())
    assert is_quiet(LocalStorage(str(tmp_path)).read(log_key(0)).decode())


@hostile
def test_rank_log_escapes_control_characters_by_itself(text, tmp_path):
    """The words of a failed run go there without one."""
    log = RankLog(0, environment={})
    log.add(text)
    log.keep_in(LocalStorage(str(tmp_path)))
    log.close()
    assert is_quiet(LocalStorage(str(tmp_path)).read(log_key(0)).decode())


@hostile
@pytest.mark.parametrize("place", ["message", "hint", "listing", "bug"])
def test_terminal_sequences_in_an_error_are_shown_escaped(text, place):
    """Whatever a message was made of."""
    problem = {
        "message": InputError(f"cannot read `{text}`", hint="look"),
        "hint": InputError("cannot read", hint=f"try {text}"),
        "listing": InputError(f"cannot read:{listing([text, 'good'])}", hint="look"),
        "bug": RuntimeError(text),
    }[place]
    said = words(problem)
    assert said.replace("\n", "").isprintable()
    assert not any(line.startswith("[rank") for line in said.splitlines())
    if place == "message":
        assert as_block(problem.args[0]) == problem.args[0]  # what others quote of it is safe as well


def test_indented_lines_of_a_message_are_kept():
    """Lists of problems are read one a line."""
    assert as_block("cannot:\n  one\n  two") == "cannot:\n  one\n  two"


@hostile
def test_screened_stream_escapes_what_libraries_print(text, capsys):
    """Warnings and tracebacks quote files; a table keeps its lines and tabs."""
    with screened():
        sys.stdout.write(f"a\tb{text.replace(chr(10), '')}\n")
        sys.stderr.writelines(["x\n"])
    out = capsys.readouterr()
    assert is_quiet(out.out)
    assert out.out.startswith("a\tb")
    assert out.err == "x\n"


def test_screened_stream_is_restored_and_passes_colours_on(capsys, monkeypatch):
    """Colours are our own, and go below the screen, but not past what hides secrets."""
    monkeypatch.setenv("HF_TOKEN", "a-token-of-1")
    before = sys.stdout
    with screened(), screened():
        unscreened(sys.stdout).write("\x1b[36ma-token-of-1\x1b[0m\n")
        assert sys.stdout.isatty() is False
    assert sys.stdout is before
    assert capsys.readouterr().out == "\x1b[36m***\x1b[0m\n"


def test_printable_text_is_left_alone():
    """Names in any script, and what tables are drawn with."""
    for text in ("Röntgen", "胸部X線", "صدر", "a · b … c", "é", "x\n\ty\n"):
        assert visible(text) == text


_ON_A_TERMINAL = """
import sys, warnings
from trainer.runtime.console import Reporter
from trainer.screen import screened
with screened():
    say = Reporter(None)
    say.line("[red]a[/red] [link=file:///etc]b[/link] :cat:")
    with say.progress("[link=file:///x]{task.total.__class__}", 2) as advance:
        advance(1, "[blink]\\x1b]8;;http://evil\\x07c")
        sys.stderr.write("\\x1b]8;;http://evil\\x1b\\\\\\\\d\\x1b[8me\\n")
"""


def test_rich_markup_in_foreign_text_is_printed_as_text():
    """rich takes [link=…] for a link, {…} for a field and :cat: for a picture, and what others print meanwhile for its own."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-c", _ON_A_TERMINAL], stderr=theirs, stdout=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    output = b""
    try:
        while block := os.read(ours, 65536):
            output += block
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert done.wait() == 0, output.decode()
    text = output.decode()
    assert "[red]a[/red] [link=file:///etc]b[/link] :cat:" in text
    assert "[link=file:///x]{task.total.__class__}" in text
    assert "\x1b]8;" not in text
    assert "\x1b[8m" not in text


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_caller_has_closed_take_what_is_written(closed):
    """As of a service: a file that is opened later must not get their descriptors, and programs that are started get them, too."""
    code = (
        "import os, sys; from trainer.screen import screen; screen(); print('x', flush=True); print('x', file=sys.stderr, flush=True)\n"
        "assert all(os.get_inheritable(number) for number in range(3)) and os.open('.', os.O_RDONLY) > 2 and sys.stdin is not None"
    )
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", code]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
