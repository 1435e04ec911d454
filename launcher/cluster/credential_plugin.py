"""The credential plugin of a kubeconfig's user: checked before it runs, and named when it fails.

The official client runs it; it only logs what fails, and then sends requests as nobody.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from launcher.cluster.errors import LoginError
from trainer.errors import on_one_line
from trainer.redaction import redacted

SHOWN: Final = 300
"""Characters of a plugin's message that are shown: its end, as the reason comes last."""


@dataclass(frozen=True)
class Plugin:
    """A program that prints a token or certificate."""

    command: str
    install_hint: str
    needs_terminal: bool

    @property
    def name(self) -> str:
        """Its name in messages, without arguments, which may hold secrets."""
        return f"its credential plugin `{on_one_line(self.command)}`"


@dataclass(frozen=True)
class Logged:
    """An error that the client logged, and the exception that it caught."""

    text: str
    cause: BaseException | None


def plugin_of(user: Mapping[str, Any]) -> Plugin | None:
    """The plugin of a user's entry."""
    entry = user.get("exec")
    if not isinstance(entry, dict):
        return None
    mode = entry.get("interactiveMode")
    return Plugin(str(entry.get("command") or ""), str(entry.get("installHint") or ""), mode == "Always")


def check_terminal(plugin: Plugin | None, context: str) -> None:
    """Raises: LoginError for a plugin that asks the user, where there is no terminal: it would wait, or fail without a reason."""
    if plugin and plugin.needs_terminal and not (sys.stdin and sys.stdin.isatty()):
        raise LoginError(
            f"cannot log in with the context `{on_one_line(context)}`: {plugin.name} needs a terminal (`interactiveMode: Always`)",
            hint="run this command in a terminal, or use another --context",
        )


def login_error(errors: list[Logged], plugin: Plugin | None, context: str) -> LoginError:
    """The error of a login without credentials, with the reason that the client logged."""
    hint = f"log in again; does `kubectl --context {context} get pods` work?"
    if plugin and plugin.install_hint and isinstance(errors[0].cause, OSError):
        hint = on_one_line(redacted(plugin.install_hint).strip())
    reason = _reason(errors[0], plugin)
    return LoginError(f"cannot log in with the context `{on_one_line(context)}`: {reason}", hint=hint)


def _reason(error: Logged, plugin: Plugin | None) -> str:
    text = " ".join(redacted(error.text).partition("{")[0].split())  # what follows is an entry, which holds keys
    if plugin is None:
        return text[:SHOWN]
    if isinstance(error.cause, OSError):
        return f"cannot start {plugin.name}: {str(error.cause.strerror or error.cause).lower()}"
    if error.text.startswith("exec: "):
        said = text.removeprefix("exec: ")
        return f"{plugin.name} failed: {said if len(said) <= SHOWN else f'… {said[-SHOWN:]}'}"
    if "'NoneType' object has no attribute 'strip'" in error.text:  # on a terminal, it writes its message there itself
        return f"{plugin.name} failed"
    return f"{plugin.name} printed no valid ExecCredential, or its entry in the kubeconfig is invalid"


@contextmanager
def logged_errors() -> Iterator[list[Logged]]:
    """Errors that the client logs in this block."""
    handler = _ErrorCollector()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield handler.errors
    finally:
        root.removeHandler(handler)


class _ErrorCollector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[Logged] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "kubernetes" in record.pathname:
            self.errors.append(Logged(record.getMessage(), sys.exc_info()[1]))
