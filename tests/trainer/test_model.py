"""The classifier: its size and its loss."""

import torch

from trainer.model import build, finding_loss


def test_densenet_121_with_14_findings_has_the_published_size():
    """A head or a layer too many would go unnoticed in training."""
    assert sum(parameter.numel() for parameter in build("densenet121", "linear", 14).parameters()) == 6_968_206


def test_loss_is_mean_binary_cross_entropy():
    """Not softmax: findings are not exclusive."""
    logits, labels = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    expected = (-torch.log(torch.tensor(0.5)) - torch.log(1 - torch.sigmoid(torch.tensor(2.0)))) / 2
    torch.testing.assert_close(finding_loss(logits, labels), expected)
