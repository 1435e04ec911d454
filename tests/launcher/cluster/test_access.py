"""Flags of the cluster in printed commands: without them a copied `delete` goes to another cluster."""

import pytest

from launcher.cluster.access import Access, Target
from launcher.commands import app

THERE = Access(context="gpu box", kubeconfig="/k/config")
FLAGS = "--kubeconfig /k/config --context 'gpu box'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python -m launcher status t1 -n team", f"python -m launcher status t1 {FLAGS} -n team"),
        ("kubectl logs -n team -f", f"kubectl {FLAGS} logs -n team -f"),
        (
            "launcher resume t1 continues; launcher delete t1 frees the name",
            f"launcher resume t1 {FLAGS} continues; launcher delete t1 {FLAGS} frees the name",
        ),
        (
            "does `kubectl --context 'gpu box' get pods` work?",
            "does `kubectl --kubeconfig /k/config --context 'gpu box' get pods` work?",
        ),
        ("kubectl get pods -A | grep csi, or ask", f"kubectl {FLAGS} get pods -A | grep csi, or ask"),
        ("use another --name, or launcher delete", f"use another --name, or launcher delete {FLAGS}"),
        ("launcher list shows jobs", f"launcher list {FLAGS} shows jobs"),
        ("launcher init KEY=VALUE; use another --name", "launcher init KEY=VALUE; use another --name"),
        ("as kubectl: it merges; the launcher lists", "as kubectl: it merges; the launcher lists"),
        ("", ""),
    ],
)
def test_each_command_in_a_text_gets_the_given_flags(text, expected):
    """Once, and quoted for a shell."""
    assert THERE.in_commands(text) == expected
    assert THERE.in_commands(expected) == expected
    assert Access().in_commands(text) == text


def test_a_home_directory_is_written_out(monkeypatch):
    """Quoted, a shell would leave it."""
    monkeypatch.setenv("HOME", "/home/me")
    assert Access(kubeconfig="~/k").in_commands("kubectl get nodes") == "kubectl --kubeconfig /home/me/k get nodes"


def test_the_given_namespace_is_added_to_the_launchers_commands_that_name_none():
    text = "launcher delete t1; launcher list -A; launcher status t1 -n other; kubectl get nodes"
    assert Target(namespace="team").in_commands(text) == (
        "launcher delete t1 -n team; launcher list -A; launcher status t1 -n other; kubectl get nodes"
    )


def test_every_command_with_cluster_flags_is_known():
    """A new one is found in texts too."""
    for name in [name for name in app if not name.startswith("-")]:
        takes_flags = "--context" in {
            flag for argument in app[name].assemble_argument_collection() for flag in argument.names
        }
        assert (Target(context="c").in_commands(f"launcher {name} x") != f"launcher {name} x") == takes_flags, name
