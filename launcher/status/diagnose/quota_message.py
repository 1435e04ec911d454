"""Kueue's message about a job that no flavor of its queue can take: one reason for each resource and flavor, in one long line."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from launcher.cluster.capacity import quantity, shown
from launcher.status.diagnose.wording import counted, quoted

_AMOUNT: Final = r"([^\s(),]+)"

_WAITS: Final = re.compile(rf"insufficient unused quota for (\S+) in flavor (\S+), {_AMOUNT} more needed")
_EXCEEDS: Final = re.compile(
    r"insufficient quota for (\S+) in flavor (\S+), (?:"
    rf"previously considered podsets requests \({_AMOUNT}\) \+ current podset request \({_AMOUNT}\) > maximum capacity \({_AMOUNT}\)"
    rf"|request > maximum capacity \({_AMOUNT} > {_AMOUNT}\))"
)
"""In the words of Kueue 0.19, and of earlier releases. Source: kueue, pkg/scheduler/flavorassigner/flavorassigner.go."""

_WITHOUT_QUOTA: Final = re.compile(r"resource (\S+) unavailable in ClusterQueue")
_TAINTED: Final = re.compile(r"untolerated taint (\{[^}]*\}) in flavor ([^\s,;]+)")
_OTHER_NODES: Final = re.compile(r"flavor (\S+) doesn't match node affinity")
_PREEMPTING: Final = re.compile(r"Pending the preemption of (\d+) workload")


class _Exceeded(NamedTuple):
    """A resource of which the job asks for more than a flavor may ever give."""

    resource: str
    flavor: str
    asked: str
    most: str


def shortage(said: str) -> str:
    """What must become free before the job is admitted; empty if the message does not report it."""
    waits: dict[str, list[str]] = {}
    for name, flavor, amount in _WAITS.findall(said):
        waits.setdefault(flavor, []).append(f"{amount} more {name}")
    if not waits:
        return ""
    free = " or ".join(f"{' and '.join(amounts)} of flavor {flavor}" for flavor, amounts in waits.items())
    preempting = _PREEMPTING.search(said)
    victims = f"; Kueue preempts {counted(int(preempting[1]), 'job')} for it" if preempting else ""
    return quoted(f"{free} must become free{victims}")


def obstacle(said: str) -> str:
    """Why the job can never be admitted, whatever becomes free; empty if it can, or if the message does not report it.

    A flavor for whose quota the job only waits may still admit it.
    """
    absent = _WITHOUT_QUOTA.findall(said)
    if absent:
        return f"it has no quota for {', '.join(dict.fromkeys(map(quoted, absent)))}"
    exceeded = list(_exceeded(said))
    unfit = {flavor: f"flavor {flavor} has the taint {taint}" for taint, flavor in _TAINTED.findall(said)}
    unfit |= {flavor: f"flavor {flavor} is for nodes with other labels" for flavor in _OTHER_NODES.findall(said)}
    closed = {each.flavor for each in exceeded} | unfit.keys()
    if any(flavor not in closed for _, flavor, _ in _WAITS.findall(said)):
        return ""
    return quoted("; ".join([*_by_resource(exceeded), *unfit.values()]))


def _exceeded(said: str) -> Iterator[_Exceeded]:
    for name, flavor, before, more, most, asked, old_most in _EXCEEDS.findall(said):
        yield _Exceeded(name, flavor, asked or _sum(name, before, more), most or old_most)


def _sum(name: str, before: str, more: str) -> str:
    with suppress(ValueError):
        return shown(name, quantity(before) + quantity(more))
    return more


def _by_resource(exceeded: Sequence[_Exceeded]) -> Iterator[str]:
    """`it asks for 16 habana.ai/gaudi, 8 too many: flavor a has at most 4, flavor b at most 8`."""
    for name in dict.fromkeys(each.resource for each in exceeded):
        rows = [each for each in exceeded if each.resource == name]
        flavors = ", ".join(f"flavor {each.flavor} has at most {each.most}" for each in rows)
        yield f"it asks for {rows[0].asked} {name}{_excess(rows)}: {flavors}"


def _excess(rows: Sequence[_Exceeded]) -> str:
    with suppress(ValueError):
        over = min(quantity(each.asked) - quantity(each.most) for each in rows)
        return f", {shown(rows[0].resource, over)} too many"
    return ""
