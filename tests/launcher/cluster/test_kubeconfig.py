"""The namespace that kubectl would use."""

import json
from pathlib import Path

import pytest

from launcher.cluster.kubeconfig import chosen, files, namespace_of
from trainer.errors import InputError


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


def kubeconfig(path, *, context="here", server="https://one", user=None, **entry):
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "current-context": context,
        "contexts": [{"name": context, "context": {"cluster": "c", "user": "u"} | entry}],
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority": "ca.crt"}}],
        "users": [{"name": "u", "user": user or {"client-certificate": "sub/me.crt", "client-key": "/abs/me.key"}}],
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_the_flag_names_one_file_whose_name_may_have_a_colon(tmp_path):
    """kubectl does not take a list there."""
    assert files("a:b") == [Path("a:b")]
    assert chosen(str(kubeconfig(tmp_path / "a:b")), None).context == "here"


def test_the_variable_is_a_list_with_empty_repeated_and_missing_entries(tmp_path, monkeypatch):
    """As kubectl reads it; an empty file, as `touch` makes it, holds nothing."""
    one, two = kubeconfig(tmp_path / "1"), kubeconfig(tmp_path / "2", context="there", server="https://two")
    (tmp_path / "empty").touch()
    monkeypatch.setenv("KUBECONFIG", f":{tmp_path / 'empty'}:{tmp_path / 'absent'}:{one}:{one}::{two}")
    assert [path.name for path in files(None)] == ["empty", "absent", "1", "2"]
    found = chosen(None, None)
    assert found.context == "here"
    assert [each["cluster"]["server"] for each in found.merged["clusters"]] == ["https://one"]
    assert [each["name"] for each in found.merged["contexts"]] == ["here", "there"]


def test_paths_in_a_kubeconfig_are_relative_to_its_own_folder(tmp_path, monkeypatch):
    """Also where the user's entry comes from another file than the cluster's."""
    plugin = {"exec": {"command": "./bin/login", "args": ["a/b"]}}
    kubeconfig(tmp_path / "one" / "k", user={"tokenFile": "token"})
    two = kubeconfig(tmp_path / "two" / "k", context="there", user=plugin)
    document = json.loads(two.read_text())
    document["users"].append({"name": "v", "user": plugin | {"client-certificate": "", "client-key": "k"}})
    two.write_text(json.dumps(document), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", "one/k:two/k")
    merged = chosen(None, None).merged
    [u, v] = [each["user"] for each in merged["users"]]
    assert merged["clusters"][0]["cluster"]["certificate-authority"] == str(tmp_path / "one/ca.crt")
    assert u == {"tokenFile": str(tmp_path / "one/token")}
    assert v["exec"] == {"command": str(tmp_path / "two/bin/login"), "args": ["a/b"]}
    assert v["client-key"] == str(tmp_path / "two/k")
    assert v["client-certificate"] == ""


def test_two_entries_of_one_name_in_one_file_are_bad_input(tmp_path):
    """kubectl refuses the file."""
    path = write(tmp_path / "k", ("a", "team-a"), ("a", "team-b"))
    with pytest.raises(InputError, match="its `contexts` has several entries named `a`"):
        chosen(path, None)


def test_a_home_directory_in_the_variable_is_found(tmp_path, monkeypatch):
    """Quoted, the shell leaves the `~`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", "~/absent:~/k:~nosuchuser/k")
    kubeconfig(tmp_path / "k")
    assert chosen(None, None).context == "here"
