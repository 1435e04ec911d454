"""`launcher init` and `launcher config`: the settings that stay."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from launcher import output
from launcher.commands.parameters import Yes
from launcher.commands.terminal import ask, report
from launcher.settings import init as first
from launcher.settings.sources import OVERLAY, PROJECT_FILE, effective, read_file, standing
from launcher.settings.validate import problem_of
from launcher.spec.overlay import INLINE, as_text
from trainer.errors import InputError
from trainer.redaction import cleaned


def init(
    *assignments: Annotated[str, Parameter(help="KEY=VALUE, a setting to write; as often as needed.")],
    yes: Yes = False,
) -> None:
    """Ask for settings, and write them.

    Parameters
    ----------
    yes
        Ask nothing, and change a file that is there; without a terminal nobody is asked.
    """
    path = Path(PROJECT_FILE)
    before = first.as_settings(read_file(path).values) if path.is_file() else {}
    asked = None if yes or not sys.stdin.isatty() else ask
    known = {key: texts[0] for source in reversed(standing()) for key, texts in source.values.items() if texts}
    settings = first.answers(asked, known, assignments)
    if not settings:
        raise InputError(
            f"cannot write `{PROJECT_FILE}`: no setting is given",
            hint="launcher init KEY=VALUE …; at a terminal, without -y, it asks for them",
        )
    first.check(before | settings)
    first.write(path, first.as_yaml(before | settings), replace=yes)
    sys.stdout.write(f"{PROJECT_FILE}\n")
    report("next: python -m launcher doctor --workers 1")


def config(*, form: Annotated[Literal["table", "json", "yaml"], Parameter(name="-o")] = "table") -> None:
    """Print settings.

    Parameters
    ----------
    form
        How to print them.
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
    """A setting's text as others may read it; an overlay is a mapping written as JSON, or a file's name."""
    if key == OVERLAY and text.startswith(INLINE):
        return as_text(cleaned(json.loads(text)))
    return str(cleaned(text, key=key))
