"""Settings, overlays, kubeconfigs and records that were made to harm are bad input with the file's name."""

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from launcher import __main__ as launcher
from launcher.cluster.kubeconfig import document, namespace_of
from launcher.jobs.find import settings_of
from launcher.settings.sources import read_assignments, read_environment, read_file
from launcher.spec.overlay import read_overlay
from trainer.errors import InputError, RemoteError

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(9 * [f'*{before}'])}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

YAML = {
    "aliases of aliases": LAUGHS,
    "itself": "spec: &a [*a]",
    "deep": "spec: " + "[" * 5000,
    "long": "spec: " + "x" * (2 << 20),
    "half a character": 'spec: "\\ud800"',
}

TYPED = {
    "long number": "spec: " + "9" * 5000,
    "number of base 60": "spec: 1" + ":1" * 5000,
    "date": "spec: 2020-13-01",
    "tag": "spec: !!timestamp x",
}


class _Token:
    source = "cli"

    def __init__(self, value):
        self.value = value


def overlay_of(path):
    return read_overlay(None, [_Token(str(path))])


@pytest.mark.parametrize(
    ("read", "text"),
    [
        pytest.param(read, text, id=f"{called}-{name}")
        for called, read, texts in (
            ("settings", read_file, YAML),
            ("overlay", overlay_of, YAML | TYPED),
            ("kubeconfig", document, YAML | TYPED),
        )
        for name, text in texts.items()
    ],
)
def test_settings_file_whose_aliases_would_grow_is_bad_input_with_its_name(tmp_path, read, text):
    """A folder's launcher.yaml is read by every command that is run in it."""
    path = tmp_path / "hostile.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"hostile\.yaml"):
        read(path)


@pytest.mark.parametrize("read", [read_file, overlay_of, document])
def test_endless_file_is_read_no_further_than_the_limit(read):
    """A link may lead anywhere."""
    with pytest.raises(InputError, match="more than 1 MiB"):
        read(Path("/dev/zero"))


@pytest.mark.parametrize("text", YAML.values(), ids=YAML)
def test_variables_and_set_values_whose_aliases_would_grow_are_bad_input(text):
    """Both are YAML."""
    with pytest.raises(InputError, match="LAUNCHER_DATA"):
        read_environment({"LAUNCHER_DATA": text})
    with pytest.raises(InputError, match="--set"):
        read_assignments([f"data={text}"])


@pytest.mark.parametrize("text", TYPED.values(), ids=TYPED)
def test_invalid_overlays_in_variables_and_set_values_are_bad_input(text):
    """Their values have types."""
    with pytest.raises(InputError, match="LAUNCHER_OVERLAY"):
        read_environment({"LAUNCHER_OVERLAY": text})
    with pytest.raises(InputError, match="overlay"):
        read_assignments([f"overlay={text}"])


@pytest.mark.parametrize(
    "text", ["contexts: x", "contexts: [1, [2]]", "contexts: [{context: x, name: a}]", "contexts: {a: b}"]
)
def test_kubeconfig_with_unexpected_types_gives_no_namespace(tmp_path, text):
    """`render` looks for a namespace in whatever is there."""
    path = tmp_path / "k"
    path.write_text(text, encoding="utf-8")
    assert namespace_of(str(path), None) is None


@pytest.mark.parametrize("text", ["[", "3", "[]", '{"a": 3}', '{"a": [1]}', "[" * 9000, '{"a": NaN}'])
def test_job_whose_settings_are_damaged_is_bad_input(text):
    """Anybody who may write jobs may write its annotations."""
    job = {"metadata": {"name": "demo", "annotations": {"chexnet-launcher/settings": text}}}
    with pytest.raises(InputError, match="cannot read the settings of `demo`"):
        settings_of(job)


@pytest.mark.parametrize(
    "config",
    [{"epochs": "3"}, {"epochs": [1]}, {"lr": True}, {"model": 3}, {"data": None}, {"deadline": 3}],
    ids=lambda one: next(iter(one)),
)
def test_run_whose_record_has_other_types_is_bad_input(tmp_path, monkeypatch, capsys, config):
    """What `resume` makes a job of."""
    from dataclasses import asdict

    from launcher.runs import resume
    from trainer.config import from_argv

    whole = asdict(from_argv(["--preset", "smoke", "--data", "d", "--output", str(tmp_path), "--name", "demo"]))
    found = resume.EarlierRun(
        "u", {"config": whole | config, "identity": {}, "device": "cpu", "world_size": 1}, None, False
    )
    with pytest.raises(InputError, match=r"run\.json"):
        resume.settings_of("demo", found)
    assert resume.settings_of("demo", resume.EarlierRun("u", {**found.record, "config": whole}, None, False))


def test_checkpoints_with_hostile_manifests_are_listed_as_damaged(tmp_path, capsys):
    """`launcher checkpoints` reads them all."""
    folder = tmp_path / "demo/checkpoints/step-00000010"
    folder.mkdir(parents=True)
    for content in (b"[" * 100_000, json.dumps({"format": 2, "step": "10"}).encode(), b'{"format": 2, "step": 1e400}'):
        (folder / "manifest.json").write_bytes(content)
        code = launcher.main(["checkpoints", "demo", "--output", str(tmp_path)])
        out = capsys.readouterr()
        assert code == 0
        assert "damaged" in out.out
        assert "manifest.json" in out.err


@pytest.mark.parametrize(
    "token", [lambda number: "same", lambda number: "ab"[number % 2], str], ids=["same", "circle", "empty pages"]
)
def test_endless_list_of_the_api_is_refused(monkeypatch, token):
    """A proxy that answers the same for ever holds `launcher list` for ever."""
    from itertools import count

    from launcher.cluster import client, connection
    from launcher.cluster.resources import PODS

    numbers = count()
    monkeypatch.setattr(client, "MOST_SHORT_PAGES", 20)
    monkeypatch.setattr(
        connection.Connection, "json", lambda *_: {"metadata": {"continue": token(next(numbers))}, "items": []}
    )
    with pytest.raises(RemoteError, match="does not end"):
        client.Cluster(connection.Connection("n", "https://h", "c", None, lambda: "")).list(PODS)


@pytest.mark.parametrize("read", [read_file, overlay_of, document])
def test_pipe_in_a_folder_is_refused_and_not_waited_for(tmp_path, read):
    """A `launcher.yaml` that came with a folder is read by every command, and nobody may ever write to it."""
    os.mkfifo(tmp_path / "hostile.yaml")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "hostile.yaml")
    for name in ("hostile.yaml", "link.yaml"):
        with pytest.raises(InputError, match=rf"{name}.*it is a pipe"):
            read(tmp_path / name)


@pytest.mark.parametrize("read", [read_file, overlay_of, document])
def test_output_of_a_credential_plugin_is_read_to_its_end(read):
    """As a shell passes it: `-f <(…)`."""
    ours, theirs = os.pipe()
    writer = subprocess.Popen(["/bin/sh", "-c", "printf '{workers: 1,'; sleep 0.1; printf ' spec: {}}'"], stdout=theirs)
    os.close(theirs)
    try:
        with suppress(InputError):
            read(Path(f"/dev/fd/{ours}"))
        assert os.read(ours, 1) == b""
        assert writer.wait() == 0
    finally:
        os.close(ours)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_endless_token_file_is_refused_and_not_read(tmp_path, make):
    """The client would wait for it, or read it into all memory."""
    make(tmp_path / "token")
    path = tmp_path / "k"
    path.write_text(json.dumps({"users": [{"name": "u", "user": {"tokenFile": "token"}}]}))
    with pytest.raises(InputError, match="`tokenFile` `token` is not a regular file"):
        document(path)
    assert namespace_of(str(path), None) is None
