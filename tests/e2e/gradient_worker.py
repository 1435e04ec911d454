"""One of several ranks: gradients of steps, BatchNorm frozen, written by rank 0. Started by torchrun."""

import gc
import sys

import torch
from torch import nn

from trainer.devices import cpu
from trainer.models.architectures import build, freeze, unfreeze
from trainer.models.losses import class_loss, finding_loss
from trainer.runtime.process_group import join, leave_process
from trainer.runtime.world import read_world
from trainer.training.state import in_parallel

IMAGES = 8


def gradients(rank: int, world: int) -> dict[str, dict[str, torch.Tensor]]:
    """Gradients of this rank's part of the batch, reduced over the ranks where there are several.

    Of the whole network; of its head over a frozen backbone; and of the whole again, once that backbone was freed.
    """
    torch.manual_seed(0)
    x_NCHW, classes_N = torch.randn(IMAGES, 3, 32, 32), torch.randint(0, 14, (IMAGES,))
    y_NK = nn.functional.one_hot(classes_N, 14).float()
    network = build("densenet_tiny", "hidden", 14).eval()
    found = {}
    for step, (prepare, loss) in {
        "whole": (unfreeze, finding_loss),
        "frozen": (freeze, class_loss),
        "freed": (unfreeze, class_loss),
    }.items():
        prepare(network)
        gc.collect()
        parallel = in_parallel(world, cpu, network)
        loss(parallel(x_NCHW[rank::world]), y_NK[rank::world]).backward()
        gradient_of = {name: parameter.grad for name, parameter in network.named_parameters()}
        found[step] = {name: gradient.clone() for name, gradient in gradient_of.items() if gradient is not None}
        network.zero_grad(set_to_none=True)
        del parallel
    return found


if __name__ == "__main__":
    me = read_world()
    with join(me, cpu.backend):
        reduced = gradients(me.rank, me.size)
        if me.is_rank0:
            torch.save(reduced, sys.argv[1])
    leave_process(0)
