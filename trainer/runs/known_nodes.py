"""Nodes on which a run has passed the preflight: `nodes.json` in its prefix.

A run is checked where it has not been before, and not again at each restart. A run that an earlier version began has no such
file: it is checked once when it continues.
"""

import json
from collections.abc import Iterable
from typing import Final, TypedDict

from trainer.errors import InputError
from trainer.formats import documents
from trainer.layout import NODES
from trainer.storage import AbsentError, Storage

MOST: Final = 1000
"""Names that are kept, the newest; more nodes than a run has at a time."""


class _Document(TypedDict):
    nodes: list[str]


def read(storage: Storage) -> list[str]:
    """Names of the nodes, those noted last at the end; a damaged file counts as none. Raises: RemoteError."""
    try:
        return documents.read(storage, NODES, _Document, hint="delete it: it only lists nodes")["nodes"]
    except (AbsentError, InputError):
        return []


def note(storage: Storage, names: Iterable[str]) -> None:
    """Add nodes to the list. Raises: RemoteError."""
    known = read(storage)
    new = [name for name in dict.fromkeys(names) if name not in known]
    if new:
        storage.write(NODES, json.dumps({"nodes": [*known, *new][-MOST:]}).encode())
