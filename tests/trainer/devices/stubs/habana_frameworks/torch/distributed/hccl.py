"""Collectives: importing it reads torchrun's environment and chooses the card."""

import os


def initialize_distributed_hpu(world_size=None, rank=None, local_rank=None):
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "-1"))
    if "HLS_MODULE_ID" not in os.environ and local >= 0 and world > 1:
        modules = os.environ.get("HABANA_VISIBLE_MODULES")
        cards = modules.split(",") if modules else [str(number) for number in range(8)]
        assert local < len(cards), "There is not enough devices available for training"
        os.environ["HLS_MODULE_ID"] = cards[local]
    os.environ["ID"] = os.environ.get("RANK", "-1")
    return world, int(os.environ.get("RANK", "-1")), local


initialize_distributed_hpu()
