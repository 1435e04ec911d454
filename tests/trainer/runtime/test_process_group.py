"""Joining the workers: what can't work is refused before any of them waits."""

import socket

import pytest
import torch.distributed as dist

from trainer.errors import InputError
from trainer.runtime.process_group import join
from trainer.runtime.world import World


@pytest.fixture(autouse=True)
def no_group(monkeypatch):
    """A group that would wait for its peers for ever."""

    def waits(*_, **__):
        pytest.fail("it waits for the other workers")

    monkeypatch.setattr(dist, "init_process_group", waits)


def enter(world):
    with join(world, "gloo"):
        pass


def test_a_wrong_interface_is_refused_before_the_group_waits(monkeypatch):
    """Only where there are peers: one worker has no group."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nope0")
    enter(World())
    with pytest.raises(InputError, match="GLOO_SOCKET_IFNAME"):
        enter(World(rank=1, size=2, local_rank=1, local_size=2))


def test_an_own_name_that_does_not_resolve_is_refused_before_the_group_waits(monkeypatch):
    """All workers would look for rank 0 under it; another machine's name may resolve later."""

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "gethostname", lambda: "laptop.invalid")
    monkeypatch.setattr(socket, "getfqdn", lambda: "laptop.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("MASTER_ADDR", "laptop.invalid")
    with pytest.raises(InputError, match=r"own name does not resolve, got `laptop\.invalid`") as refused:
        enter(World(size=2, local_size=2))
    assert "--local-addr" in refused.value.hint
    monkeypatch.setenv("MASTER_ADDR", "other.invalid")
    with pytest.raises(pytest.fail.Exception, match="it waits"):
        enter(World(size=2, local_size=2))
