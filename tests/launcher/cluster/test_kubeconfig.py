"""The namespace that kubectl would use."""

import json

import pytest

from launcher.cluster.kubeconfig import namespace_of


def write(path, *contexts, current="a"):
    entries = [{"name": name, "context": {"namespace": namespace} if namespace else {}} for name, namespace in contexts]
    path.write_text(json.dumps({"current-context": current, "contexts": entries}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("context", "namespace"),
    [
        pytest.param(None, "team-a", id="current"),
        pytest.param("b", "team-b", id="named"),
        pytest.param("c", None, id="unknown"),
    ],
)
def test_namespace_is_the_contexts(tmp_path, context, namespace):
    path = write(tmp_path / "k", ("a", "team-a"), ("b", "team-b"))
    assert namespace_of(path, context) == namespace


def test_several_kubeconfigs_are_searched_in_order(tmp_path, monkeypatch):
    """As kubectl merges them."""
    first = write(tmp_path / "1", ("x", "team-x"), current="a")
    second = write(tmp_path / "2", ("a", "team-a"), current="x")
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path / 'absent'}:{second}")
    assert namespace_of(None, None) == "team-a"


@pytest.mark.parametrize("text", [None, "", "[]", "{", "contexts: null"])
def test_kubeconfig_without_namespace_gives_none(tmp_path, text):
    """Whatever is wrong with it is told when the cluster is opened."""
    path = tmp_path / "k"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert namespace_of(str(path), None) is None
