"""Network interfaces that GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME and HCCL_SOCKET_IFNAME select, checked before workers wait for each other."""

import fcntl
import os
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainer.errors import InputError, on_one_line

_SIOCGIFADDR: Final = 0x8915
"""Source: linux/sockios.h."""

_IPV6_ADDRESSES: Final = Path("/proc/net/if_inet6")
"""One address a line, the interface's name last. Source: proc(5)."""

_LONGEST_NAME: Final = 15
"""Source: IFNAMSIZ of linux/if.h, without the final zero."""


@dataclass(frozen=True)
class Interface:
    """One network interface of this machine."""

    name: str
    has_ipv4: bool
    has_ipv6: bool


def interfaces() -> list[Interface]:
    """The interfaces of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with_ipv6 = _with_ipv6()
        return [Interface(name, _has_ipv4(probe, name), name in with_ipv6) for _, name in socket.if_nameindex()]


def check_interfaces(
    backend: str, found: Sequence[Interface] | None = None, environment: Mapping[str, str] = os.environ
) -> None:
    """Check the interfaces selected for gloo, which every group uses, and for the `backend` of gradients.

    Raises: InputError for a value that selects no interface of this machine: the group would fail or wait for peers.
    """
    found = interfaces() if found is None else found
    for name in dict.fromkeys(("gloo", backend)):
        variable = f"{name.upper()}_SOCKET_IFNAME"
        value = environment.get(variable, "")
        if name in _RULES and value:
            _check(variable, value, _RULES[name], found)


@dataclass(frozen=True)
class _Rule:
    """How a library reads its variable."""

    wrong: Callable[[str, Sequence[Interface]], str | None]
    """The part of the value that selects no interface; None if all is well."""

    takes: str
    is_usable: Callable[[Interface], bool]
    fewest: int = 1
    """Characters of a value; shorter ones are ignored."""


def _check(variable: str, value: str, rule: _Rule, found: Sequence[Interface]) -> None:
    if len(value) < rule.fewest:
        return
    usable = [each for each in found if rule.is_usable(each)]
    wrong = rule.wrong(value, usable)
    if wrong is not None:
        raise InputError(
            f"cannot join the other workers: `{on_one_line(wrong)}` selects no network interface of this machine that has an address, "
            f"got `{on_one_line(value)}` (from `{variable}`)",
            hint=f"{variable} takes {rule.takes}; interfaces here: {', '.join(sorted(each.name for each in usable))}",
        )


def _wrong_for_gloo(value: str, usable: Sequence[Interface]) -> str | None:
    """Every name is used. Source: ProcessGroupGloo::Options::create_default of torch 2.6 to 2.14."""
    names = value.removesuffix(",").split(",")
    return next((name for name in names if name not in {each.name for each in usable}), None)


def _wrong_for_nccl(value: str, usable: Sequence[Interface]) -> str | None:
    """NCCL needs one match. Source: findInterfaces and parseStringList of NCCL's socket.cc and utils.cc."""
    excludes = value.startswith("^")
    listed = value.removeprefix("^")
    is_exact = listed.startswith("=")
    names = [name for entry in listed.removeprefix("=").split(",") if (name := entry.partition(":")[0])]

    def matches(interface: str) -> bool:
        return not names or any(interface == name if is_exact else interface.startswith(name) for name in names)

    return None if any(matches(each.name) != excludes for each in usable) else value


def _wrong_for_hccl(value: str, usable: Sequence[Interface]) -> str | None:
    """HCCL needs one match, and knows only prefixes. Source: detect_tcp_ifs of HCL's network_utils.cpp."""
    prefixes = tuple(value.removesuffix(",").split(","))
    return None if any(each.name.startswith(prefixes) for each in usable) else value


_RULES: Final[Mapping[str, _Rule]] = {
    "gloo": _Rule(_wrong_for_gloo, "names, separated by commas", lambda each: each.has_ipv4 or each.has_ipv6, fewest=2),
    "nccl": _Rule(
        _wrong_for_nccl,
        "prefixes of names, separated by commas; `=` before them makes them whole names, `^` excludes them",
        lambda each: each.has_ipv4 or (each.has_ipv6 and each.name != "lo"),
        fewest=2,
    ),
    "hccl": _Rule(
        _wrong_for_hccl,
        "prefixes of names, separated by commas, without `=` and `^`; it uses IPv4",
        lambda each: each.has_ipv4,
    ),
}


def _has_ipv4(probe: socket.socket, name: str) -> bool:
    try:
        fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:_LONGEST_NAME]))
    except OSError:
        return False
    return True


def _with_ipv6() -> set[str]:
    try:
        return {line.split()[-1] for line in _IPV6_ADDRESSES.read_text(encoding="ascii").splitlines() if line.strip()}
    except OSError:  # IPv6 is switched off
        return set()
