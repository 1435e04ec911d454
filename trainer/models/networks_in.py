"""Networks in files of tensors: under which keys and prefixes their tensors are, found by names and shapes.

Programs keep the same network under other names: below keys of a checkpoint, with prefixes of wrapper classes, with names of older
releases. A network is where all tensors of its backbone are, so no list of such keys and prefixes is needed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import torch
from torch import Tensor, nn

from trainer.models.architectures import StateDict, build, head_of

DEPTH: Final = 8
"""Nesting of containers that is searched; checkpoints have two or three levels."""

_KEY_LENGTH: Final = 100

_OLD_NAMES: Final = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
"""torchvision's own file still has `denselayer1.norm.1.` for what its modules now call `denselayer1.norm1.`."""

_WRAPPED: Final = re.compile(r"(?<![^.])(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")
"""What torch adds within names when it compiles, recomputes or shards a part of a network."""

_COUNTER: Final = "num_batches_tracked"

_STEM: Final = "features."


@dataclass(frozen=True)
class Backbone:
    """Tensors of a model without its head."""

    shapes: Mapping[str, torch.Size]
    """By name; without BatchNorm's counters, which old files lack and nothing uses."""
    head: str
    """Prefix of the names of the head's tensors."""
    parts: frozenset[str]
    """First words of the names of all tensors."""


@dataclass(frozen=True)
class FoundNetwork:
    """A network in a file."""

    model: str
    where: str
    """Keys and prefix of its tensors, such as `state_dict.model`; empty for none."""
    state: StateDict
    """With the names of our networks; the head as in the file, possibly absent."""
    unused: StateDict
    """The other tensors next to it."""


def current_names(raw: Mapping[str, Tensor]) -> StateDict:
    """The tensors with today's names; missing batch counters are added."""
    state = {_OLD_NAMES.sub(r"\1\2", _WRAPPED.sub("", name)): tensor for name, tensor in raw.items()}
    if len(state) < len(raw):  # two networks, one of them wrapped
        state = dict(raw)
    counters = (name.replace("running_mean", _COUNTER) for name in state if name.endswith("running_mean"))
    return {counter: torch.tensor(0) for counter in counters} | state


@cache
def backbone_of(model: str) -> Backbone:
    """The tensors that show that a file has this model."""
    with torch.device("meta"):
        network = build(model, "linear", 1)
    head = head_prefix(network)
    state = network.state_dict()
    shapes = {
        name: tensor.shape
        for name, tensor in state.items()
        if not name.startswith(head) and not name.endswith(_COUNTER)
    }
    return Backbone(shapes, head, frozenset(name.partition(".")[0] for name in state))


def head_prefix(network: nn.Module) -> str:
    """Prefix of the names of the head's tensors."""
    head = head_of(network)
    name: str = next(name for name, module in network.named_modules() if module is head)
    return f"{name}."


def networks_in(content: object, models: Sequence[str]) -> list[FoundNetwork]:
    """The networks of these models in a loaded file; copies that agree in every tensor that both have count once."""
    found: list[FoundNetwork] = []
    for keys, tensors in _mappings(content):
        for model in models:
            found += _in_mapping(keys, current_names(tensors), model)
    distinct: list[FoundNetwork] = []
    for each in sorted(found, key=lambda each: (-len(each.state), each.where)):
        if not any(_agree(each, other) for other in distinct):
            distinct.append(each)
    return distinct


def largest_mapping(content: object) -> StateDict:
    """The mapping with most tensors in a loaded file; empty without any."""
    return max((tensors for _, tensors in _mappings(content)), key=len, default={})


def _mappings(content: object) -> Iterator[tuple[str, StateDict]]:
    """The mappings with tensors in nested containers, each with its keys, from the outside; each is visited once."""
    seen: set[int] = set()
    pending: list[tuple[str, object, int]] = [("", content, 0)]
    for keys, value, depth in pending:
        if id(value) in seen or depth > DEPTH:
            continue
        seen.add(id(value))
        items = list(value.items()) if isinstance(value, Mapping) else []
        if isinstance(value, list | tuple):
            items = list(enumerate(value))
        tensors = {str(name): each for name, each in items if isinstance(each, Tensor)}
        if tensors:
            yield keys, tensors
        pending += [
            (f"{keys}{str(key)[:_KEY_LENGTH]}.", each, depth + 1)
            for key, each in items
            if isinstance(each, Mapping | list | tuple)
        ]


def _in_mapping(keys: str, tensors: StateDict, model: str) -> list[FoundNetwork]:
    """The networks of this model in one mapping. A DenseNet's features may be there without its head and under another name."""
    backbone = backbone_of(model)
    whole = _prefixes(tensors, backbone.shapes)
    if whole:
        return [_found(keys, tensors, model, prefix) for prefix in whole]
    if not all(name.startswith(_STEM) for name in backbone.shapes):
        return []
    bare = {name.removeprefix(_STEM): shape for name, shape in backbone.shapes.items()}
    return [_found_bare(keys, tensors, model, prefix, bare) for prefix in _prefixes(tensors, bare)]


def _prefixes(tensors: StateDict, shapes: Mapping[str, torch.Size]) -> list[str]:
    """What the names of all tensors with these shapes begin with."""
    first = next(iter(shapes))
    ends = (name for name in tensors if name == first or name.endswith(f".{first}"))
    prefixes = [name.removesuffix(first) for name in ends]
    return [
        prefix
        for prefix in prefixes
        if _is_first_layer(tensors[f"{prefix}{first}"], shapes[first])
        and all(_has(tensors, f"{prefix}{name}", shape) for name, shape in shapes.items() if name != first)
    ]


def _has(tensors: StateDict, name: str, shape: torch.Size) -> bool:
    return name in tensors and tensors[name].shape == shape and tensors[name].is_floating_point()


def _is_first_layer(tensor: Tensor, shape: torch.Size) -> bool:
    """Whether these are the first layer's weights, for images of three channels or, in other programs, of one."""
    gray = (shape[0], 1, *shape[2:])
    return tensor.shape in {shape, torch.Size(gray)} and tensor.is_floating_point()


def _found(keys: str, tensors: StateDict, model: str, prefix: str) -> FoundNetwork:
    parts = backbone_of(model).parts
    state, unused = {}, {}
    for name, tensor in tensors.items():
        own = name.removeprefix(prefix)
        if name.startswith(prefix) and own.partition(".")[0] in parts:
            state[own] = tensor
        else:
            unused[name] = tensor
    return FoundNetwork(model, f"{keys}{prefix}".rstrip("."), state, unused)


def _found_bare(keys: str, tensors: StateDict, model: str, prefix: str, bare: Mapping[str, torch.Size]) -> FoundNetwork:
    state = current_names({f"{_STEM}{name}": tensors[f"{prefix}{name}"] for name in bare})
    unused = {
        name: tensor
        for name, tensor in tensors.items()
        if not (name.startswith(prefix) and f"{_STEM}{name.removeprefix(prefix)}" in state)
    }
    return FoundNetwork(model, f"{keys}{prefix}".rstrip("."), state, unused)


def _agree(one: FoundNetwork, other: FoundNetwork) -> bool:
    shared = [name for name in one.state.keys() & other.state.keys() if not name.endswith(_COUNTER)]
    return one.model == other.model and all(_equal(one.state[name], other.state[name]) for name in shared)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)
