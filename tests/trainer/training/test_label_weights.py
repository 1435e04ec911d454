"""The loss over known labels: equal to an explicit loop over them, on any number of ranks."""

import numpy as np
import pytest
import torch
from label_tables import table
from torch import nn

from trainer.data.loader import training_batches, training_order
from trainer.models.losses import class_loss, finding_loss
from trainer.training.label_weights import label_weights

IMAGES, FINDINGS, BATCH, SEED = 22, 3, 8, 5
ROWS = np.arange(1, IMAGES - 1)
"""Two images are in no training split."""

CPU = torch.device("cpu")


def with_unknown(share=0.4):
    """Labels with unknown ones and soft targets; the first of each step's images are drawn, so steps differ in known labels."""
    drawn = np.random.default_rng(3)
    labels_NK = drawn.integers(0, 2, (IMAGES, FINDINGS)).astype(np.float32)
    labels_NK[drawn.random(labels_NK.shape) < 0.1] = 0.25
    labels_NK[drawn.random(labels_NK.shape) < share] = np.nan
    return table(range(IMAGES), labels_NK)


def weights_of(labels, world):
    return label_weights(labels, ROWS, seed=SEED, global_batch=BATCH, world=world, on=CPU)


def gradients(network):
    return [parameter.grad.clone() for parameter in network.parameters()]


def by_loop(network, x_NF, labels_NK, samples):
    """Gradients of the mean over the known labels of these images, label by label."""
    network.zero_grad()
    known = [(row, k) for row in samples.tolist() for k in range(FINDINGS) if not np.isnan(labels_NK[row, k])]
    for row, k in known:
        logit = network(x_NF[row : row + 1])[0, k]
        target = torch.tensor(labels_NK[row, k])
        (nn.functional.binary_cross_entropy_with_logits(logit, target) / len(known)).backward()
    return gradients(network)


def by_ranks(network, x_NF, labels, world, epoch, step):
    """Gradients averaged over the ranks, as DistributedDataParallel does."""
    weights, order = weights_of(labels, world), training_order(ROWS, seed=SEED, epoch=epoch, global_batch=BATCH)
    y_NK = torch.from_numpy(np.nan_to_num(labels.labels_NK))
    sums = [torch.zeros_like(parameter) for parameter in network.parameters()]
    for rank in range(world):
        samples_N = torch.from_numpy(training_batches(order, rank=rank, world=world, first_step=0)[step])
        network.zero_grad()
        finding_loss(network(x_NF[samples_N]), y_NK[samples_N], weights.of(samples_N, epoch, step)).backward()
        sums = [total + gradient / world for total, gradient in zip(sums, gradients(network), strict=True)]
    return sums


@pytest.mark.parametrize("world", [1, 2, 4])
def test_gradients_equal_a_loop_over_the_known_labels_of_the_global_batch(world):
    labels = with_unknown()
    torch.manual_seed(0)
    network, x_NF = nn.Linear(5, FINDINGS), torch.randn(IMAGES, 5)
    for epoch in (0, 1):
        order = training_order(ROWS, seed=SEED, epoch=epoch, global_batch=BATCH)
        for step, samples in enumerate(order):
            ours = by_ranks(network, x_NF, labels, world, epoch, step)
            for one, other in zip(ours, by_loop(network, x_NF, labels.labels_NK, samples), strict=True):
                torch.testing.assert_close(one, other)


def test_steps_weigh_their_own_number_of_known_labels_also_when_the_epoch_is_resumed():
    """A resumed run starts in the middle of an epoch, without the steps before."""
    labels = with_unknown()
    weights, resumed = weights_of(labels, 2), weights_of(labels, 2)
    order = training_order(ROWS, seed=SEED, epoch=1, global_batch=BATCH)
    known_N = labels.known().sum(axis=1)
    counts = [int(known_N[samples].sum()) for samples in order]
    assert len(set(counts)) > 1
    every = torch.arange(IMAGES)
    for step, count in enumerate(counts):
        weights.of(every, 0, step)
        assert weights.of(every, 1, step).max().item() == pytest.approx(2 / count)
    assert torch.equal(resumed.of(every, 1, len(counts) - 1), weights.of(every, 1, len(counts) - 1))


def test_a_step_without_a_known_label_has_no_loss_and_gradients_of_exactly_zero():
    labels = table(range(IMAGES), np.full((IMAGES, FINDINGS), np.nan))
    network, x_NF = nn.Linear(5, FINDINGS), torch.randn(IMAGES, 5)
    samples_N = torch.arange(1, 9)
    y_NK = torch.zeros(8, FINDINGS)
    loss = finding_loss(network(x_NF[samples_N]), y_NK, weights_of(labels, 1).of(samples_N, 0, 0))
    loss.backward()
    assert loss.item() == 0
    assert all(bool((gradient == 0).all()) for gradient in gradients(network))


def test_images_outside_training_do_not_make_its_labels_unknown():
    labels_NK = np.ones((IMAGES, FINDINGS), np.float32)
    labels_NK[0] = np.nan
    assert weights_of(table(range(IMAGES), labels_NK), 1) is None
    labels_NK[1, 0] = np.nan
    assert weights_of(table(range(IMAGES), labels_NK), 1) is not None


def test_loss_without_weights_is_the_plain_mean_bit_for_bit():
    torch.manual_seed(1)
    logits, labels = torch.randn(16, 14), torch.randint(0, 2, (16, 14)).float()
    assert torch.equal(finding_loss(logits, labels), nn.functional.binary_cross_entropy_with_logits(logits, labels))


def test_loss_of_classes_takes_no_weights():
    with pytest.raises(ValueError, match="no weights"):
        class_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2))
