"""Output formats of commands: tables, JSON and YAML documents, ages and sizes."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from trainer.errors import on_one_line

if TYPE_CHECKING:
    import yaml

SCHEMA: Final = 1
"""Version of the documents; it changes when a key is removed or changes its meaning."""

Row = Mapping[str, str]
Record = Mapping[str, Any]

_AMBIGUOUS: Final = re.compile(
    r"[-+]?([0-9_]*\.?[0-9_]*(e[-+]?[0-9]+)?|0[xob][0-9a-f_]+|[0-9_]+(:[0-5]?[0-9])+(\.[0-9_]*)?|\.(inf|nan))"
    r"|[0-9]{4}-[0-9]+-[0-9]+.*|~|y|n|yes|no|on|off|true|false|null",
    re.IGNORECASE,
)
"""Texts that some YAML reader takes for a number, boolean, date or null: `no` in YAML 1.1, `1e3` in Go's YAML."""


def table(rows: Sequence[Row], *, empty: str) -> str:
    """A table like kubectl's; a row is always one line, whatever its cells contain."""
    if not rows:
        return f"{empty}\n"
    lines = [{key: key.upper() for key in rows[0]}, *({key: on_one_line(row[key]) for key in row} for row in rows)]
    widths = {key: max(len(line[key]) for line in lines) for key in rows[0]}
    return "".join("   ".join(f"{line[key]:<{widths[key]}}" for key in widths).rstrip() + "\n" for line in lines)


def document(content: Record, form: str) -> str:
    """A JSON or YAML document, with times in the server's format and numbers as numbers."""
    whole = {"schema": SCHEMA, **content}
    if form == "json":
        return json.dumps(whole, indent=2) + "\n"
    return as_yaml(whole)


def as_yaml(content: object) -> str:
    """A YAML document with unchanged order of keys, which all YAML versions read alike.

    Raises: ValueError for a number that is not finite.
    """
    import yaml  # noqa: PLC0415 - not needed for --help

    return yaml.dump(content, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=math.inf)


@cache
def _dumper() -> "type[yaml.SafeDumper]":
    import yaml  # noqa: PLC0415 - as above

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = '"' if _AMBIGUOUS.fullmatch(value) or not value.isprintable() else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)

    def number(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
        if not math.isfinite(value):
            raise ValueError(f"not a finite number: {value}")
        return dumper.represent_float(value)

    Dumper.add_representer(str, text)
    Dumper.add_representer(float, number)
    return Dumper


MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
YEAR: Final = 365 * DAY


def age(moment: str | None, now: datetime) -> str:
    """Age in kubectl's format: `45s`, `3m20s`, `45m`, `3h10m`, `9h`, `2d5h`, `30d`.

    Source: HumanDuration in k8s.io/apimachinery/pkg/util/duration.
    """
    if not moment:
        return ""
    then = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    seconds = max(0, int((now - then.astimezone(timezone.utc)).total_seconds()))
    if seconds < 2 * MINUTE:
        return f"{seconds}s"
    for end, unit, size, part_unit, part in (
        (10 * MINUTE, "m", MINUTE, "s", 1),
        (3 * HOUR, "m", MINUTE, "", 0),
        (8 * HOUR, "h", HOUR, "m", MINUTE),
        (2 * DAY, "h", HOUR, "", 0),
        (8 * DAY, "d", DAY, "h", HOUR),
        (2 * YEAR, "d", DAY, "", 0),
    ):
        if seconds < end:
            rest = seconds % size // part if part else 0
            return f"{seconds // size}{unit}" + (f"{rest}{part_unit}" if rest else "")
    return f"{seconds // YEAR}y"


def size(size_bytes: int) -> str:
    """A size for people: `812 B`, `27.3 MiB`."""
    power = min(3, int(math.log(max(size_bytes, 1), 1024)))
    return f"{size_bytes / 1024**power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}" if power else f"{size_bytes} B"
