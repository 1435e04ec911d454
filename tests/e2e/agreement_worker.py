"""One of three ranks that agree, fail together and average; writes what it saw. Started by torchrun."""

import json
import sys
from pathlib import Path

import torch

from trainer.devices import cpu
from trainer.errors import InputError, KnownError
from trainer.runtime.process_group import join, leave_process
from trainer.runtime.world import read_world


def main(folder: Path) -> None:
    """Each rank writes its file."""
    me = read_world()
    seen = {}

    def fail_on(ranks):
        def act():
            if me.rank in ranks:
                raise InputError(f"rank {me.rank} says no")
            return me.rank

        return act

    with join(me, cpu.backend) as group:
        seen["gathered"] = [payload.decode() for payload in group.all_gather(b"x" * me.rank)]
        seen["mean"] = group.mean(torch.tensor([float(me.rank), 1.0])).tolist()
        seen["together"] = group.all_or_raise(lambda: me.rank)
        seen["on_primary"] = group.on_rank0(lambda: {"from": me.rank})
        prepared = []
        group.on_local_rank0(lambda: prepared.append(1))
        seen["prepared"] = len(prepared)
        for name, ranks in (("one", {1}), ("all", {0, 1, 2})):
            try:
                group.all_or_raise(fail_on(ranks))
            except KnownError as problem:
                seen[name] = [type(problem).__name__, problem.exit_code]
    (folder / f"{me.rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave_process(0)
