"""Interfaces selected for gloo, NCCL and HCCL: each library's own rules, and bad input before workers wait."""

import socket

import pytest

from trainer.errors import InputError
from trainer.runtime import interfaces
from trainer.runtime.interfaces import Interface, check_interfaces

HERE = [
    Interface("lo", has_ipv4=True, has_ipv6=True),
    Interface("eth0", has_ipv4=True, has_ipv6=True),
    Interface("eth1", has_ipv4=False, has_ipv6=True),
    Interface("enp5s0", has_ipv4=False, has_ipv6=False),
]


def checked(backend, variable, value):
    return check_interfaces(backend, HERE, {variable: value})


@pytest.mark.parametrize(
    ("backend", "variable", "value"),
    [
        ("gloo", "GLOO_SOCKET_IFNAME", "eth0"),
        ("gloo", "GLOO_SOCKET_IFNAME", "lo,eth1"),
        ("gloo", "GLOO_SOCKET_IFNAME", "lo,"),  # torch drops the empty end
        ("gloo", "GLOO_SOCKET_IFNAME", ""),
        ("gloo", "GLOO_SOCKET_IFNAME", "x"),  # torch ignores values of one character
        ("nccl", "NCCL_SOCKET_IFNAME", "eth"),
        ("nccl", "NCCL_SOCKET_IFNAME", "ib,eth"),  # one match is enough: nodes differ
        ("nccl", "NCCL_SOCKET_IFNAME", "=eth0"),
        ("nccl", "NCCL_SOCKET_IFNAME", "=eth0:5000"),
        ("nccl", "NCCL_SOCKET_IFNAME", "^docker,lo"),
        ("nccl", "NCCL_SOCKET_IFNAME", "^=eth0"),
        ("hccl", "HCCL_SOCKET_IFNAME", "ens,eth"),
        ("hccl", "HCCL_SOCKET_IFNAME", "lo"),
        ("gloo", "NCCL_SOCKET_IFNAME", "nope0"),  # not used
        ("nccl", "HCCL_SOCKET_IFNAME", "nope0"),
    ],
)
def test_values_that_the_library_can_use_pass(backend, variable, value):
    """Nothing that works is refused."""
    assert checked(backend, variable, value) is None


@pytest.mark.parametrize(
    ("backend", "variable", "value", "wrong"),
    [
        ("gloo", "GLOO_SOCKET_IFNAME", "nope0", "nope0"),
        ("nccl", "GLOO_SOCKET_IFNAME", "nope0", "nope0"),  # every group uses gloo
        ("gloo", "GLOO_SOCKET_IFNAME", "eth", "eth"),  # no prefixes
        ("gloo", "GLOO_SOCKET_IFNAME", "lo, eth0", " eth0"),
        ("gloo", "GLOO_SOCKET_IFNAME", "^lo", "^lo"),
        ("gloo", "GLOO_SOCKET_IFNAME", "=eth0", "=eth0"),
        ("gloo", "GLOO_SOCKET_IFNAME", ",lo", ""),
        ("gloo", "GLOO_SOCKET_IFNAME", "enp5s0", "enp5s0"),  # without an address
        ("nccl", "NCCL_SOCKET_IFNAME", "nope", "nope"),
        ("nccl", "NCCL_SOCKET_IFNAME", "=eth", "=eth"),
        ("nccl", "NCCL_SOCKET_IFNAME", "^lo,eth", "^lo,eth"),
        ("nccl", "NCCL_SOCKET_IFNAME", "enp", "enp"),
        ("hccl", "HCCL_SOCKET_IFNAME", "=eth0", "=eth0"),  # HCCL knows prefixes only
        ("hccl", "HCCL_SOCKET_IFNAME", "^lo", "^lo"),
        ("hccl", "HCCL_SOCKET_IFNAME", "eth1", "eth1"),  # without IPv4
    ],
)
def test_a_value_that_selects_nothing_is_bad_input_with_its_name(backend, variable, value, wrong):
    """gloo failed with a traceback, NCCL and HCCL after the device was taken."""
    with pytest.raises(InputError) as refused:
        checked(backend, variable, value)
    assert f"`{wrong}` selects no network interface of this machine" in str(refused.value)
    assert f"got `{value}` (from `{variable}`)" in str(refused.value)
    assert "eth0" in refused.value.hint


def test_interfaces_of_this_machine_have_their_addresses():
    """The loopback has one; names are the kernel's."""
    found = {each.name: each for each in interfaces.interfaces()}
    assert found.keys() == {name for _, name in socket.if_nameindex()}
    assert found["lo"].has_ipv4
