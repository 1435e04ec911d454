"""Checkpoint manifests of a run, and which checkpoint is the newest and the best; does not import torch.

A state without a manifest is not a checkpoint. The newest checkpoint has the highest step and is found by listing: a
pointer could be stale.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, TypedDict

from trainer.errors import InputError, on_one_line
from trainer.formats.documents import Count, Sha256, Share, Step, Within, checked
from trainer.layout import CHECKPOINTS, committed_step, manifest_key, step_of
from trainer.limits import SMALL_JSON_BYTES, parsed_json
from trainer.storage import AbsentError, DamagedError, Storage

FORMAT: Final = 2


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A checkpoint manifest: it commits a checkpoint."""

    format: int = FORMAT
    step: Step
    epoch: Annotated[float, Within(0, 1e12)]
    world_size: Annotated[int, Within(0, 2**31)]
    bytes: Count
    sha256: Sha256
    val_auroc: Share | None = None
    """Mean over the findings with a defined AUROC; None where this checkpoint was not validated."""
    val_loss: float | None = None
    validated: bool = False
    """Whether it was validated; if not, a run resumed from here begins with the validation."""


class _Format(TypedDict):
    format: int


def _ignore(_: str) -> None:
    pass


def to_bytes(manifest: Manifest) -> bytes:
    """Content of the manifest's file."""
    return json.dumps(asdict(manifest), indent=1).encode()


def committed(storage: Storage, report: Callable[[str], None] = _ignore) -> list[Manifest]:
    """All committed checkpoints, oldest first; each damaged manifest is passed to `report` and left out.

    Raises: InputError for a manifest of another version of this program, which must not count as absent.
    """
    steps = [step for key in storage.keys(CHECKPOINTS) if (step := committed_step(key)) is not None]
    return [manifest for step in sorted(steps) if (manifest := _read(storage, step, report)) is not None]


def best(manifests: Sequence[Manifest]) -> Manifest | None:
    """The checkpoint with the highest `worth`, the earliest of equals; the newest where none was validated."""
    validated = [manifest for manifest in manifests if manifest.val_auroc is not None]
    if validated:
        return max(validated, key=lambda manifest: (worth(manifest.val_auroc, manifest.val_loss), -manifest.step))
    return manifests[-1] if manifests else None


def step_named(name: str, manifests: Sequence[Manifest]) -> int | None:
    """The step that a user means by `best`, `last` or a number; None when there are no checkpoints to choose from.

    A number is returned whether such a checkpoint exists or not.

    Raises: InputError for any other text.
    """
    if name in {"best", "last"}:
        manifest = best(manifests) if name == "best" else next(reversed(manifests), None)
        return None if manifest is None else manifest.step
    number = step_of(name)
    if number is None:
        raise InputError(
            f"cannot use `{on_one_line(name)}` as a step: it is `best`, `last` or a number (from `--step`)",
            hint="--step best",
        )
    return number


def worth(val_auroc: float | None, val_loss: float | None) -> tuple[float, float]:
    """Sort key of checkpoints, the higher the better: validation AUROC, then the lower loss.

    A few hundred validation images give only few distinct AUROCs, and those of an easy task soon reach 1.
    """
    if val_auroc is None:
        return -1.0, -math.inf
    return val_auroc, -math.inf if val_loss is None else -val_loss


def _manifest(content: dict[str, Any], step: int) -> Manifest:
    """Raises: ValueError for anything but a manifest of this step."""
    unknown = sorted(content.keys() - Manifest.__dataclass_fields__.keys())
    if unknown:
        raise ValueError(f"it has an unknown key `{unknown[0][:60]}`")
    checked(content, Manifest)
    manifest = Manifest(**content)
    if manifest.step != step:
        raise ValueError(f"it belongs to step {manifest.step}")
    return manifest


def _read(storage: Storage, step: int, report: Callable[[str], None]) -> Manifest | None:
    where = f"{storage.url.rstrip('/')}/{manifest_key(step)}"
    try:
        content = parsed_json(storage.read(manifest_key(step), most_bytes=SMALL_JSON_BYTES))
        written_format = checked(content, _Format)["format"]
        if written_format == FORMAT:
            return _manifest(checked(content, dict[str, Any]), step)
    except AbsentError:  # pruned since it was listed
        return None
    except (ValueError, DamagedError) as problem:
        reason = problem.args[0] if isinstance(problem, DamagedError) else problem
        report(f"cannot use checkpoint `{where}`, which is damaged: {on_one_line(str(reason))}")
        return None
    raise InputError(
        f"cannot read checkpoint `{where}`: its format is {written_format}, this version reads {FORMAT}",
        hint="continue with the version that wrote it, or use another --name",
    )
