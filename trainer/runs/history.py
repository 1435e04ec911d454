"""metrics.jsonl: an entry for each epoch, and for the part of one that `--max-steps` ends."""

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
    """The entries of earlier starts up to this step; those of steps that are trained again are left out.

    Raises: InputError for a file that is far too large.
    """
    entries: list[Entry] = []
    with suppress(AbsentError, DamagedError):
        for line in content_of(storage, METRICS).splitlines():
            with suppress(ValueError):  # a curve with a gap is better than no training
                entry = checked(parsed_json(line), EpochEntry)
                if entry["step"] <= step:
                    entries.append(entry)
    return entries


def with_entry(entries: list[Entry], entry: Entry) -> list[Entry]:
    """The entries and one more, in place of one of the same step."""
    return [*(old for old in entries if old["step"] < entry["step"]), entry]


def to_bytes(entries: list[Entry]) -> bytes:
    """The file."""
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()
