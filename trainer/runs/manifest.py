"""The committed checkpoints of a run: what their manifests say, and which is the newest and the best; no torch.

A state without a manifest is no checkpoint. The newest is the one with the highest step, found by listing: a pointer could be
stale.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, TypedDict

from trainer.errors import InputError, on_one_line
from trainer.formats.documents import Count, Sha256, Share, Step, Within, checked
from trainer.layout import CHECKPOINTS, committed_step, manifest_key
from trainer.limits import SMALL_JSON_BYTES, parsed_json
from trainer.storage import AbsentError, DamagedError, Storage

FORMAT: Final = 2


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What commits a checkpoint."""

    format: int = FORMAT
    step: Step
    epoch: Annotated[float, Within(0, 1e12)]
    world_size: Annotated[int, Within(0, 2**31)]
    bytes: Count
    sha256: Sha256
    val_auroc: Share | None = None
    """Mean over the findings where it is defined; None where this checkpoint was not validated."""
    val_loss: float | None = None
    validated: bool = False
    """Whether validation has followed: where it has not, a run that goes on from here begins with it."""


class _Format(TypedDict):
    format: int


def _ignore(_: str) -> None:
    pass


def to_bytes(manifest: Manifest) -> bytes:
    """The manifest as it lies in the run."""
    return json.dumps(asdict(manifest), indent=1).encode()


def committed(storage: Storage, report: Callable[[str], None] = _ignore) -> list[Manifest]:
    """All committed checkpoints, oldest first; `report` hears of each manifest that is damaged, which is left out.

    Raises: InputError for one of another version of this program: it is there, and must not be taken for absent.
    """
    steps = [step for key in storage.keys(CHECKPOINTS) if (step := committed_step(key)) is not None]
    return [manifest for step in sorted(steps) if (manifest := _read(storage, step, report)) is not None]


def best(manifests: Sequence[Manifest]) -> Manifest | None:
    """The checkpoint with the highest `worth`, the earliest of equals; the newest where none was validated."""
    validated = [manifest for manifest in manifests if manifest.val_auroc is not None]
    if validated:
        return max(validated, key=lambda manifest: (worth(manifest.val_auroc, manifest.val_loss), -manifest.step))
    return manifests[-1] if manifests else None


def worth(val_auroc: float | None, val_loss: float | None) -> tuple[float, float]:
    """By what checkpoints are compared, more is better: validation AUROC, and among equals the lower loss.

    A few hundred validation images have few different AUROCs, and those of an easy task soon reach 1.
    """
    if val_auroc is None:
        return -1.0, -math.inf
    return val_auroc, -math.inf if val_loss is None else -val_loss


def _manifest(content: dict[str, Any], step: int) -> Manifest:
    """Raises: ValueError for what is no manifest of this step."""
    unknown = sorted(content.keys() - Manifest.__dataclass_fields__.keys())
    if unknown:
        raise ValueError(f"it has an unknown key `{unknown[0][:60]}`")
    checked(content, Manifest)
    manifest = Manifest(**content)
    if manifest.step != step:
        raise ValueError(f"it is of step {manifest.step}")
    return manifest


def _read(storage: Storage, step: int, report: Callable[[str], None]) -> Manifest | None:
    where = f"{storage.url.rstrip('/')}/{manifest_key(step)}"
    try:
        content = parsed_json(storage.read(manifest_key(step), most_bytes=SMALL_JSON_BYTES))
        told = checked(content, _Format)["format"]
        if told == FORMAT:
            return _manifest(checked(content, dict[str, Any]), step)
    except AbsentError:  # pruned since it was listed
        return None
    except (ValueError, DamagedError) as problem:
        reason = problem.args[0] if isinstance(problem, DamagedError) else problem
        report(f"cannot use checkpoint `{where}`, which is damaged: {on_one_line(str(reason))}")
        return None
    raise InputError(
        f"cannot read checkpoint `{where}`: its format is {told}, this version reads {FORMAT}",
        hint="go on with the version that wrote it, or give another --name",
    )
