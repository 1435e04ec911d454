"""What a run has left in its bucket and on its node, compared with one that nothing has disturbed."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_KEPT = 3
"""Of `--keep-last 2`, and the best."""

PASSING_TRIES = 3
"""So often a commit is looked at that seems broken: it may be pruned at this moment."""


ITS_OWN = ("name", "training_s", "images_per_s", "utilisation")
"""What of its results each run has for itself."""


@dataclass(frozen=True)
class Unbroken:
    """What is compared."""

    weights: str
    states: dict[int, str]
    """SHA-256 by step."""
    curve: list[Any]
    results: dict[str, Any]
    files: list[str]


def of(prefix: Path) -> Unbroken:
    """What lies in a run's prefix, a folder of the server."""
    return Unbroken(
        weights=_weights_sha256(prefix / "model/model.safetensors"),
        states={int(path.parent.name[5:]): _sha256(path) for path in prefix.glob("checkpoints/*/state.pt")},
        curve=[_of_epoch(json.loads(line)) for line in (prefix / "metrics.jsonl").read_text().splitlines()],
        results={**json.loads((prefix / "results.json").read_text()), **dict.fromkeys(ITS_OWN)},
        files=sorted(key for key in _keys(prefix) if not key.startswith(("checkpoints/", "tensorboard/", ".lock"))),
    )


def broken_commits(prefix: Path) -> list[str]:
    """Manifests whose state is missing or another."""
    problems = [_broken(path) for path in sorted(prefix.glob("checkpoints/*/manifest.json"))]
    return [problem for problem in problems if problem]


def losses(prefix: Path, unbroken: Unbroken) -> list[str]:
    """In what a run that has come to its end differs from the unbroken one."""
    mine = of(prefix)
    return [
        *broken_commits(prefix),
        *([] if mine.weights == unbroken.weights else ["the weights differ"]),
        *([] if max(mine.states) == max(unbroken.states) else [f"the newest state is of step {max(mine.states)}"]),
        *(
            f"the state of step {step} differs"
            for step in mine.states
            if mine.states[step] != unbroken.states.get(step, mine.states[step])
        ),
        *([] if mine.curve == unbroken.curve else [f"metrics.jsonl differs: {[entry[0] for entry in mine.curve]}"]),
        *([] if mine.results == unbroken.results else ["results.json differs"]),
        *(f"{key} is missing" for key in unbroken.files if key not in mine.files),
        *(f"{key} is left" for key in mine.files if key not in unbroken.files),
        *_orphans(prefix),
        *([] if len(mine.states) <= MOST_KEPT else [f"states are left: {sorted(mine.states)}"]),
    ]


def left_on_node(cache: Path) -> list[str]:
    """Files of the cache that nobody needs any more."""
    kept = [path for path in (cache / "unpublished").rglob("*") if path.is_file()]
    partial = cache.rglob("*.partial")
    return [f"{path.relative_to(cache)} is left in the cache" for path in sorted({*kept, *partial})]


def _of_epoch(entry: dict[str, Any]) -> list[Any]:
    return [entry["step"], entry["epoch"], entry["train_loss"], entry["val"]]


def _orphans(prefix: Path) -> list[str]:
    states = prefix.glob("checkpoints/*/state.pt")
    return [f"{path.parent.name} has no manifest" for path in states if not path.with_name("manifest.json").exists()]


def _broken(manifest: Path) -> str:
    problem = ""
    for _ in range(PASSING_TRIES):
        try:
            content = manifest.read_bytes()
        except FileNotFoundError:
            return ""
        try:
            state = manifest.with_name("state.pt").read_bytes()
            said = json.loads(content)
        except FileNotFoundError:
            problem = f"{manifest.parent.name} has no state"
        except ValueError:
            problem = f"{manifest.parent.name}: the manifest is no JSON: {content[:40]!r}"
        else:
            if (said["bytes"], said["sha256"]) == (len(state), hashlib.sha256(state).hexdigest()):
                return ""
            problem = f"{manifest.parent.name}: the state is not what its manifest says"
    return problem


def _keys(prefix: Path) -> list[str]:
    return [path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if path.is_file()]


def _weights_sha256(path: Path) -> str:
    """Of a safetensors file without its header, which names the run."""
    content = path.read_bytes()
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
