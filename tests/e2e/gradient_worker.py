"""One of several ranks: the gradient of one step, BatchNorm frozen, written by rank 0. Started by torchrun."""

import sys

import torch
from torch.nn.parallel import DistributedDataParallel

from trainer.devices import cpu
from trainer.distributed import join, leave_process
from trainer.model import build, finding_loss
from trainer.world import read_world

IMAGES = 8


def gradient(rank: int, world: int) -> dict[str, torch.Tensor]:
    """Gradients of this rank's part of the batch, reduced over the ranks where there are several."""
    torch.manual_seed(0)
    x_NCHW, y_NK = torch.randn(IMAGES, 3, 32, 32), torch.randint(0, 2, (IMAGES, 14)).float()
    network = build("densenet_tiny", "linear", 14).eval()
    parallel = DistributedDataParallel(network, **cpu.ddp_options()) if world > 1 else network
    finding_loss(parallel(x_NCHW[rank::world]), y_NK[rank::world]).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


if __name__ == "__main__":
    me = read_world()
    with join(me, cpu.backend):
        gradients = gradient(me.rank, me.size)
        if me.is_primary:
            torch.save(gradients, sys.argv[1])
    leave_process(0)
