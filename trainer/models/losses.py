"""Losses: logits against labels of findings, or against classes."""

from collections.abc import Callable, Mapping
from typing import Final

from torch import Tensor
from torch.nn import functional


def finding_loss(logits_NK: Tensor, labels_NK: Tensor) -> Tensor:
    """Mean binary cross-entropy over images and findings.

    Source: CheXNet, arXiv:1711.05225, without class weights. Differs: the paper sums over findings; with the mean, the gradient's
    norm, and so the effect of clipping, does not depend on their number.
    """
    return functional.binary_cross_entropy_with_logits(logits_NK, labels_NK)


def class_loss(logits_NK: Tensor, labels_NK: Tensor) -> Tensor:
    """Mean cross-entropy over single-label images: NLL of log-softmax. Labels as float32, as for the other loss."""
    return functional.cross_entropy(logits_NK, labels_NK)


Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: Final[Mapping[str, Loss]] = {"bce": finding_loss, "cross_entropy": class_loss}
"""By name in the configuration."""
