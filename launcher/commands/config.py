"""`launcher init` and `launcher config`: settings files."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from launcher import output
from launcher.commands.parameters import Yes
from launcher.commands.terminal import ask, report
from launcher.settings import init as settings_file
from launcher.settings.sources import OVERLAY, PROJECT_FILE, effective, read_file, stored_settings
from launcher.settings.validate import problem_of
from launcher.spec.overlay import INLINE, as_text
from trainer.errors import InputError
from trainer.redaction import cleaned


def init(
    *assignments: Annotated[str, Parameter(help="KEY=VALUE, a setting to write; can be repeated.")],
    yes: Yes = False,
) -> None:
    """Prompt for settings and write them.

    Parameters
    ----------
    yes
        Do not prompt, and change an existing file; without a terminal there are no prompts.
    """
    path = Path(PROJECT_FILE)
    before = settings_file.as_settings(read_file(path).values) if path.is_file() else {}
    prompt = None if yes or not sys.stdin.isatty() else ask
    known = {key: texts[0] for source in reversed(stored_settings()) for key, texts in source.values.items() if texts}
    settings = settings_file.answers(prompt, known, assignments)
    if not settings:
        raise InputError(
            f"cannot write `{PROJECT_FILE}`: no setting is given",
            hint="launcher init KEY=VALUE …; on a terminal, without -y, it prompts for them",
        )
    settings_file.check(before | settings)
    settings_file.write(path, settings_file.as_yaml(before | settings), replace=yes)
    sys.stdout.write(f"{PROJECT_FILE}\n")
    report("next: python -m launcher doctor --workers 1")


def config(*, form: Annotated[Literal["table", "json", "yaml"], Parameter(name="-o")] = "table") -> None:
    """Print settings.

    Parameters
    ----------
    form
        Output format.
    """
    rows = [_row(key, texts, origin) for key, texts, origin in effective()]
    if form != "table":
        sys.stdout.write(output.document({"settings": rows}, form))
        return
    columns = ("setting", "value", "from", *(["problem"] if any(row["problem"] for row in rows) else []))
    sys.stdout.write(output.table([{key: row[key] or "" for key in columns} for row in rows], empty="no settings"))


def _row(key: str, texts: tuple[str, ...], origin: str) -> dict[str, str | None]:
    problem = None if origin == "default" else problem_of(key, texts)
    return {"setting": key, "value": ", ".join(_shown(key, text) for text in texts), "from": origin, "problem": problem}


def _shown(key: str, text: str) -> str:
    """The text of a setting, redacted; an overlay is a mapping written as JSON, or the name of a file."""
    if key == OVERLAY and text.startswith(INLINE):
        return as_text(cleaned(json.loads(text)))
    return str(cleaned(text, key=key))
