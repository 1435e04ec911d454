"""Serialisation of the training state. Reading is strict and executes nothing."""

import io
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from trainer.errors import InputError, on_one_line
from trainer.formats.documents import Step, checked
from trainer.models import tensor_file
from trainer.models.architectures import StateDict
from trainer.models.tensor_file import finite_weights, named_tensors
from trainer.runs.manifest import Manifest
from trainer.training.schedule import Plateau

_OTHER_STATE: Final = "use state.pt and manifest.json from the same run, or another --name to start a new run"

_MOMENTS: Final = frozenset({"step", "exp_avg", "exp_avg_sq"})
"""Adam's state of a parameter."""

_FREE_SETTINGS: Final = frozenset({"params", "lr", "initial_lr", "fused", "foreach"})
"""Optimiser settings that each attempt sets again, or that change no number."""


@dataclass
class RankState:
    """State of one rank."""

    buffers: StateDict
    """BatchNorm's statistics."""
    random: dict[str, Tensor]
    """States of the random generators: `cpu`, and `device` if it has one."""
    loss_sum: float
    """Sum of the losses of this epoch's steps so far."""


@dataclass
class TrainState:
    """The saved state. At the end of an epoch it is the state before validation; the checkpoint manifest has the scores."""

    step: int
    """Optimiser steps taken; epoch and position in it follow from this."""
    model: StateDict
    """Parameters, and BatchNorm buffers averaged over the ranks: used for validation and export."""
    ranks: list[RankState]
    """Used to resume training at the same world size."""
    optimizer: dict[str, Any]
    plateau: Plateau

    @property
    def world_size(self) -> int:
        """Number of workers."""
        return len(self.ranks)

    def to_bytes(self) -> bytes:
        """The state as saved by torch: tensors, numbers, strings and containers only."""
        buffer = io.BytesIO()
        content = {
            "step": self.step,
            "model": self.model,
            "ranks": [vars(rank) for rank in self.ranks],
            "optimizer": self.optimizer,
            "plateau": asdict(self.plateau),
        }
        torch.save(content, buffer)
        return buffer.getvalue()


def from_bytes(content: bytes, where: str = "state.pt", *, manifest: Manifest | None = None) -> TrainState:
    """The state written by `TrainState.to_bytes`; loaded as data and checked completely.

    `where` is its name, `manifest` the checkpoint manifest that committed it.

    Raises: InputError for anything else: another program may have written a file with the right hash.
    """
    try:
        state = _state_of(tensor_file.load(content))
        _check_step(state, manifest)
    except ValueError as problem:
        raise InputError(
            f"cannot read `{where}`: it is not a training state of this program: {on_one_line(str(problem))}",
            hint=_OTHER_STATE,
        ) from problem
    return state


def check_fits(state: TrainState, network: nn.Module, workers: int, where: str) -> None:
    """Refuse a valid state that does not fit the network. Raises: InputError."""
    problem = _other_tensors(state.model, network.state_dict(), "model") or _other_ranks(state.ranks, network, workers)
    if problem is not None:
        raise _other_state(where, problem)


def check_moments(state: TrainState, optimizer: torch.optim.Optimizer, where: str) -> None:
    """Refuse an optimiser state that does not fit the optimiser. Raises: InputError."""
    problem = _other_moments(state.optimizer, optimizer)
    if problem is not None:
        raise _other_state(where, problem)


def _other_state(where: str, problem: str) -> InputError:
    reason = on_one_line(problem)
    return InputError(
        f"cannot continue from `{where}`: it is the state of another configuration: {reason}", hint=_OTHER_STATE
    )


def _state_of(loaded: object) -> TrainState:
    """Raises: ValueError that names the part that `TrainState.to_bytes` would not write."""
    parts = _parts(loaded, {"step", "model", "ranks", "optimizer", "plateau"}, "")
    ranks: list[object] = checked(parts["ranks"], list, "ranks")
    return TrainState(
        step=checked(parts["step"], Step, "step"),
        model=finite_weights(parts["model"]),
        ranks=[_rank_of(rank, f"ranks[{number}]") for number, rank in enumerate(ranks)],
        optimizer=_optimizer_of(parts["optimizer"]),
        plateau=_plateau_of(parts["plateau"]),
    )


def _check_step(state: TrainState, manifest: Manifest | None) -> None:
    if manifest is not None and state.step != manifest.step:
        raise ValueError(f"it is of step {state.step}, but its manifest of step {manifest.step}")


def _rank_of(loaded: object, name: str) -> RankState:
    parts = _parts(loaded, {"buffers", "random", "loss_sum"}, name)
    random = named_tensors(parts["random"], f"{name}.random")
    if "cpu" not in random or any(each.dtype != torch.uint8 or each.ndim != 1 for each in random.values()):
        raise ValueError(f"`{name}.random` must have states of random generators")
    return RankState(
        named_tensors(parts["buffers"], f"{name}.buffers"), random, _finite(parts["loss_sum"], f"{name}.loss_sum")
    )


def _plateau_of(loaded: object) -> Plateau:
    parts = _parts(loaded, {"factor", "best_loss"}, "plateau")
    best = parts["best_loss"]
    factor = _finite(parts["factor"], "plateau.factor")
    if not 0 <= factor <= 1:
        raise ValueError(f"`plateau.factor` must be from 0 to 1, got {factor}")
    return Plateau(factor, best if best == math.inf else _finite(best, "plateau.best_loss"))


def _optimizer_of(loaded: object) -> dict[str, Any]:
    """A state of torch's optimisers; an empty one belongs to a state that is only evaluated."""
    if loaded == {}:
        return {}
    parts = _parts(loaded, {"state", "param_groups"}, "optimizer")
    moments, groups = (
        checked(parts["state"], dict, "optimizer.state"),
        checked(parts["param_groups"], list[dict[str, Any]]),
    )
    for index, each in moments.items():
        if (
            type(index) is not int
            or not isinstance(each, dict)
            or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in each.items())
        ):
            raise ValueError("`optimizer.state` must have tensors by the number of a parameter")
    for group in groups:
        checked(group.get("params"), list[int], "optimizer.param_groups.params")
        for name, value in group.items():
            if name != "params":
                _check_setting(value, f"optimizer.param_groups.{name}")
    return dict(parts)


def _check_setting(value: object, name: str) -> None:
    for each in value if isinstance(value, list | tuple) and len(value) <= 2 else [value]:
        if not isinstance(each, bool | None):
            _finite(each, name)


def _parts(loaded: object, names: set[str], name: str) -> dict[str, Any]:
    if not isinstance(loaded, dict) or set(loaded) != names:
        raise ValueError(f"{f'`{name}`' if name else 'it'} must have {', '.join(sorted(names))}")
    return loaded


def _finite(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise ValueError(f"`{name}` must be a finite number")
    return float(value)


def _other_ranks(ranks: list[RankState], network: nn.Module, workers: int) -> str | None:
    """Mismatch of the ranks' states; they are not used with another number of workers."""
    if not ranks:
        return "it has no state of any rank"
    for number, rank in enumerate(ranks if len(ranks) == workers else []):
        problem = _other_tensors(rank.buffers, dict(network.named_buffers()), f"ranks[{number}].buffers")
        if problem is not None:
            return problem
        if rank.random["cpu"].shape != torch.get_rng_state().shape:
            return f"`ranks[{number}].random` is of another version of torch"
    return None


def _other_tensors(saved: Mapping[str, Tensor], ours: Mapping[str, Tensor], name: str) -> str | None:
    different = sorted(saved.keys() ^ ours.keys())
    different += sorted(each for each in saved.keys() & ours.keys() if not _is_alike(saved[each], ours[each]))
    return f"{len(different)} tensors of `{name}` differ, the first is `{different[0][:200]}`" if different else None


def _is_alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _other_moments(saved: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> str | None:
    """Each parameter has moments of its own shape and a step count; an untrained one has none."""
    (ours,) = optimizer.state_dict()["param_groups"]
    parameters = optimizer.param_groups[0]["params"]
    if [group["params"] for group in saved.get("param_groups", ())] != [ours["params"]]:
        return "`optimizer` has other parameters"
    saved_group = saved["param_groups"][0]
    for name in sorted((saved_group.keys() & ours.keys()) - _FREE_SETTINGS):
        if _as_list(saved_group[name]) != _as_list(ours[name]):
            return f"`{name}` of `optimizer` is {saved_group[name]}, but {ours[name]} in this run"
    for index, moments in saved["state"].items():
        if not 0 <= index < len(parameters):
            return f"`optimizer` has a parameter {index}"
        if set(moments) != _MOMENTS or moments["step"].numel() != 1:
            return f"parameter {index} of `optimizer` lacks one of {', '.join(sorted(_MOMENTS))}"
        bad = [name for name in sorted(_MOMENTS - {"step"}) if not _is_alike(moments[name], parameters[index])]
        if bad:
            return f"`{bad[0]}` of parameter {index} in `optimizer` has the shape {tuple(moments[bad[0]].shape)}"
    return None


def _as_list(value: object) -> object:
    return list(value) if isinstance(value, list | tuple) else value


def rank_to_bytes(rank: RankState) -> bytes:
    """One rank's state, to send it to rank 0."""
    buffer = io.BytesIO()
    torch.save(vars(rank), buffer)
    return buffer.getvalue()


def rank_from_bytes(content: bytes) -> RankState:
    """Parse what `rank_to_bytes` wrote, as data."""
    return RankState(**torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def tensors_to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Named tensors as saved by torch."""
    buffer = io.BytesIO()
    torch.save(copied(tensors), buffer)
    return buffer.getvalue()


def tensors_from_bytes(content: bytes) -> StateDict:
    """Parse what `tensors_to_bytes` wrote, as data."""
    loaded: StateDict = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return loaded


def copied(tree: Any) -> Any:  # noqa: ANN401 - any nesting of dicts, lists and leaves
    """The same nesting with a CPU copy of every tensor, which training does not change."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        # Interned, because pickle writes equal strings twice if they are two objects, and equal states must have equal bytes.
        return {sys.intern(key) if isinstance(key, str) else key: copied(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [copied(value) for value in tree]
    return tree
