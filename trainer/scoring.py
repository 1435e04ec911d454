"""Predictions of a network over a split, on all ranks, and their scores.

Shapes: N images, C channels, H x W pixels, K findings.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainer.data.augment import evaluation_view
from trainer.data.loader import Loader, Rows, evaluation_batches
from trainer.devices import Arithmetic, Device
from trainer.distributed import Gang
from trainer.errors import JobFailedError
from trainer.metrics import auroc_per_finding, binary_cross_entropy, mean_defined

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """How good the predictions of one split are."""

    findings: Sequence[str]
    auroc_K: NDArray[np.float64]
    """nan where a class is absent."""
    loss: float
    """Mean binary cross-entropy."""
    images: int

    @property
    def mean_auroc(self) -> float:
        """Mean over the findings where it is defined; nan when it is nowhere."""
        return mean_defined(self.auroc_K)

    def as_json(self) -> dict[str, Any]:
        """The same, null for undefined."""
        return {
            "images": self.images,
            "mean_auroc": null_if_nan(self.mean_auroc),
            "loss": null_if_nan(self.loss),
            "auroc": {
                finding: null_if_nan(value) for finding, value in zip(self.findings, self.auroc_K.tolist(), strict=True)
            },
        }


def score(logits_NK: Logits, labels_NK: NDArray[np.uint8], findings: Sequence[str]) -> Scores:
    """Scores of these predictions."""
    return Scores(
        findings, auroc_per_finding(logits_NK, labels_NK), binary_cross_entropy(logits_NK, labels_NK), len(labels_NK)
    )


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """What it takes to predict: data, device and peers."""

    loader: Loader
    device: Device
    gang: Gang
    precision: Arithmetic
    crop_px: int
    batch: int
    findings: int

    def predict(self, network: nn.Module, rows_N: Rows, after_batch: Callable[[], None]) -> Logits:
        """Logits of these samples in their order, float32 [N, K], on every rank. All ranks call it; no sample counts twice.

        `after_batch` is called as often on every rank.

        Raises: JobFailedError when one is no number: such a network must be neither saved nor scored.
        """
        world = self.gang.world
        batches = evaluation_batches(rows_N, rank=world.rank, world=world.size, batch=self.batch)
        mine = [np.empty((0, self.findings), np.float32)]
        network.eval()
        with torch.inference_mode(), self.device.autocast(self.precision):
            for batch in self.loader.batches(batches):
                x_NCHW = evaluation_view(batch.x_N1SS, self.crop_px).contiguous(memory_format=self.device.memory_format)
                logits_NK = network(x_NCHW).float()
                self.device.flush()
                mine.append(logits_NK.cpu().numpy()[batch.samples_N >= 0])
                after_batch()
        return self._gathered(np.concatenate(mine), len(rows_N))

    def _gathered(self, mine_NK: Logits, total: int) -> Logits:
        logits_NK = np.empty((total, self.findings), np.float32)
        world = self.gang.world.size
        for rank, payload in enumerate(self.gang.all_gather(mine_NK.tobytes())):
            logits_NK[rank::world] = np.frombuffer(payload, np.float32).reshape(-1, self.findings)
        self.gang.together(lambda: _check_finite(logits_NK))
        return logits_NK


def _check_finite(logits_NK: Logits) -> None:
    bad = int((~np.isfinite(logits_NK)).any(axis=1).sum())
    if bad:
        raise JobFailedError(
            f"cannot score: the network's answer to {bad} of {len(logits_NK)} images is not finite",
            hint="the checkpoint before is good; start another run with a lower --lr",
        )


def predictions_csv(images: Sequence[str], logits_NK: Logits, findings: Sequence[str]) -> bytes:
    """Probabilities, one row an image: `Image Index`, then `prob_<finding>`."""
    import pandas as pd  # noqa: PLC0415 - takes a second to load and is needed at the end only

    probabilities_NK = np.exp(-np.logaddexp(0, -logits_NK.astype(np.float64)))  # exp of a large number would overflow
    table = pd.DataFrame(probabilities_NK, columns=[f"prob_{finding}" for finding in findings])
    table.insert(0, "Image Index", list(images))
    text: str = table.to_csv(index=False, float_format="%.6f", lineterminator="\n")
    return text.encode()


def as_table(scores: Mapping[str, Scores]) -> str:
    """AUROC per finding and split, and the mean, as aligned text; `-` for undefined."""
    findings = list(next(iter(scores.values())).findings)
    width = max(map(len, [*findings, "mean AUROC"]))
    lines = [" " * width + "".join(f"{split:>9}" for split in scores)]
    for number, finding in enumerate(findings):
        lines.append(f"{finding:<{width}}" + "".join(_cell(one.auroc_K[number]) for one in scores.values()))
    lines.append(f"{'mean AUROC':<{width}}" + "".join(_cell(one.mean_auroc) for one in scores.values()))
    lines.append(f"{'images':<{width}}" + "".join(f"{one.images:>9,}" for one in scores.values()))
    return "\n".join(lines)


def null_if_nan(value: float) -> float | None:
    """None, JSON's null, for nan."""
    return None if math.isnan(value) else value


def _cell(value: float) -> str:
    return f"{'-':>9}" if math.isnan(value) else f"{value:>9.4f}"
