"""Log-odds of a trained network, for both losses and any number of views per image.

Shapes: N images, C channels, H x W pixels, S pack side, V views, K findings.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.data.augment import Tta, evaluation_views
from trainer.evaluation.scores import LOG_ODDS, LogOdds
from trainer.models.load import LoadedModel
from trainer.models.spec import Loss


class OverViews(nn.Module):
    """A network's logits for every view of packed images: uint8 [N, 1, S, S] to float32 [N, V x K]."""

    def __init__(self, trained: LoadedModel, tta: Tta, memory_format: torch.memory_format) -> None:
        super().__init__()
        self.network = trained.network
        self._crop_px = trained.crop_px
        self._tta: Tta = tta
        self._memory_format = memory_format

    def forward(self, x_N1SS: Tensor) -> Tensor:
        """One view after the other, to use the memory of one."""
        views = evaluation_views(x_N1SS, self._crop_px, self._tta)
        logits = [self.network(view.contiguous(memory_format=self._memory_format)).float() for view in views]
        return torch.cat(logits, dim=1)


def views_of(tta: Tta) -> int:
    """Number of views."""
    return {"none": 1, "flip": 2, "ten_crop": 10}[tta]


def log_odds_of(logits_NVK: NDArray[np.float32], loss: Loss, findings: int) -> LogOdds:
    """Log-odds [N, K] of the mean probability over the views, from the output of `OverViews`.

    Source: arnoweng's CheXNet, which averages the probabilities of ten crops.
    """
    by_view = [LOG_ODDS[loss](part) for part in np.split(logits_NVK, logits_NVK.shape[1] // findings, axis=1)]
    if len(by_view) == 1:
        return by_view[0]
    views_VNK = np.stack(by_view)
    # The odds of a mean are the ratio of the sums of p and of 1 - p; in log space neither rounds to 0.
    yes_NK = np.logaddexp.reduce(-np.logaddexp(0.0, -views_VNK), axis=0)
    no_NK = np.logaddexp.reduce(-np.logaddexp(0.0, views_VNK), axis=0)
    return np.asarray(yes_NK - no_NK)
