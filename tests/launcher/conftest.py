"""Fixtures of the launcher's tests."""

import dataclasses
import os

import pytest
from apiserver import ApiServer

from launcher.cluster.access import Target
from launcher.cluster.client import open_cluster


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch, tmp_path):
    """Tests see neither the user's settings nor a project's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    for name in [name for name in os.environ if name.startswith("LAUNCHER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def api():
    server = ApiServer()
    yield server
    server.stop()


@pytest.fixture
def kubeconfig(api, tmp_path):
    return str(api.kubeconfig(tmp_path / "kubeconfig"))


@pytest.fixture
def waits():
    """Seconds that the program would have slept."""
    return []


@pytest.fixture
def cluster(kubeconfig, waits):
    cluster = open_cluster(Target(kubeconfig=kubeconfig))
    return dataclasses.replace(cluster, connection=dataclasses.replace(cluster.connection, sleep=waits.append))
