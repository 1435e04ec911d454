"""metrics.jsonl: one entry per epoch, and one for an epoch that `--max-steps` ends early."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from trainer.formats.documents import EpochEntry, checked, content_of
from trainer.layout import METRICS
from trainer.limits import parsed_json
from trainer.storage import AbsentError, DamagedError, Storage

Entry = Mapping[str, Any]


def read(storage: Storage, step: int) -> list[Entry]:
    """The entries of earlier attempts up to this step; those of steps that will be repeated are dropped.

    Raises: InputError for an oversized file.
    """
    entries: list[Entry] = []
    with suppress(AbsentError, DamagedError):
        for line in content_of(storage, METRICS).splitlines():
            with suppress(ValueError):  # a gap in a curve is better than no training
                entry = checked(parsed_json(line), EpochEntry)
                if entry["step"] <= step:
                    entries.append(entry)
    return entries


def with_entry(entries: list[Entry], entry: Entry) -> list[Entry]:
    """The entries with this one added; entries of the same step or later ones are replaced."""
    return [*(old for old in entries if old["step"] < entry["step"]), entry]


def to_bytes(entries: list[Entry]) -> bytes:
    """Content of the file."""
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()
