"""Losses: logits against labels of findings, or against classes.

Shapes: N images, K findings.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from torch import Tensor
from torch.nn import functional


class Loss(Protocol):
    """A loss of logits and labels, both float32 [N, K], as a scalar."""

    def __call__(self, logits_NK: Tensor, labels_NK: Tensor, weights_NK: Tensor | None = None, /) -> Tensor:
        """Their mean; with weights the weighted sum, whose weights contain the division by a number of labels."""
        ...


def finding_loss(logits_NK: Tensor, labels_NK: Tensor, weights_NK: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy over images and findings; labels between 0 and 1 are soft targets.

    With `weights_NK` it is the weighted sum instead: a label of weight 0 has no loss and no gradient, whatever its value, which
    must be finite. Source: CheXNet, arXiv:1711.05225, without class weights. Differs: the paper sums over findings; with the mean,
    the gradient's norm, and so the effect of clipping, does not depend on their number.
    """
    if weights_NK is None:
        return functional.binary_cross_entropy_with_logits(logits_NK, labels_NK)
    return functional.binary_cross_entropy_with_logits(logits_NK, labels_NK, weights_NK, reduction="sum")


def class_loss(logits_NK: Tensor, labels_NK: Tensor, weights_NK: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over single-label images: NLL of log-softmax. Labels as float32, as for the other loss.

    Raises: ValueError for weights: the class of every image is known.
    """
    if weights_NK is not None:
        raise ValueError("the loss of classes has no weights")
    return functional.cross_entropy(logits_NK, labels_NK)


LOSSES: Final[Mapping[str, Loss]] = {"bce": finding_loss, "cross_entropy": class_loss}
"""By name in the configuration."""
