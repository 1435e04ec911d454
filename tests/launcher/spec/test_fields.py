"""Keys of settings are the flags' names, and what a job records is enough to make it again."""

import re

import pytest

from launcher.__main__ import main
from launcher.spec.fields import DEFAULTS, IS_LIST, settings_of
from launcher.spec.job import JobSpec
from launcher.spec.options import PodOptions, S3Options
from launcher.spec.overlay import Overlay
from trainer.config import to_argv

NOT_OF_A_JOB = {"set", "file", "help", "version", "debug"}


def test_every_flag_of_a_job_is_a_setting_and_every_setting_a_flag(capsys, monkeypatch):
    """One list to know: the flag's name in snake_case is the key in files, in `--set` and in `LAUNCHER_*`."""
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["render", "--help"]) == 0
    flags = set(re.findall(r"(?<![-\w`])--([a-z][-a-z0-9]*)", capsys.readouterr().out.partition("Parameters")[2] or ""))
    keys = {flag.replace("-", "_") for flag in flags} - NOT_OF_A_JOB
    assert keys == set(IS_LIST) - {"train_flags"}


def test_settings_that_are_lists_are_repeatable_flags():
    """A file writes these as lists."""
    assert {key for key, is_list in IS_LIST.items() if is_list} == {
        "train_flags",
        "image_pull_secret",
        "env",
        "env_from_secret",
        "node_selector",
        "toleration",
        "label",
    }


def test_defaults_are_those_of_a_job_without_settings():
    """`config` shows them."""
    spec = JobSpec(accelerator="cpu", image="r/c:1", data="/d", output="/o", name="t1")
    assert {
        "gaudi_generation": spec.gaudi_generation,
        "workers": str(spec.workers),
        "namespace": spec.namespace,
        "api": spec.api,
        "data_access": spec.s3.access,
        "csi_driver": spec.s3.csi_driver,
        "backoff": str(spec.policy.backoff),
    } == DEFAULTS


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"workers": 4, "efa": None}, {"workers": "4"}),
        ({"s3": S3Options(claim="nih", access="mount")}, {"data_pvc": "nih"}),
        ({"s3": S3Options(endpoint="http://m:9000")}, {"s3_endpoint": "http://m:9000"}),
        ({"pod": PodOptions(label=("a=b", "c=d"))}, {"label": ["a=b", "c=d"]}),
        ({"pod": PodOptions(overlay=Overlay({"spec": {"a": 1}}))}, {"overlay": {"spec": {"a": 1}}}),
        ({"train_flags": ("--epochs", "3")}, {"train_flags": ["--epochs", "3"]}),
    ],
)
def test_job_records_settings_that_are_not_default(fields, expected):
    """By the same keys as a settings file, without name and namespace, which a clone has of its own."""
    spec = JobSpec(accelerator="cpu", image="r/c:1", data="/d", output="/o", name="t1", namespace="n", **fields)
    rest = {"accelerator": "cpu", "image": "r/c:1", "data": "/d", "output": "/o"}
    assert settings_of(spec) == rest | expected


@pytest.mark.parametrize("form", [["--card", "{file}"], ["--card={file}"]])
def test_job_carries_the_content_of_a_card_and_not_the_name_of_its_file(tmp_path, form):
    """A pod has no file of the user's machine, and a clone may be made on another one."""
    (tmp_path / "card.yaml").write_text("owner: Ward 7\ncontact: a@b.example\n")
    flags = ("--epochs", "3", *(word.format(file=tmp_path / "card.yaml") for word in form), "--lr", "0.1")
    spec = JobSpec(accelerator="cpu", image="r/c:1", data="/d", output="/o", name="t1", train_flags=flags)
    fields = '{"owner": "Ward 7", "contact": "a@b.example"}'
    assert settings_of(spec)["train_flags"] == ["--epochs", "3", "--lr", "0.1", f"--card={fields}"]
    assert f"--card={fields}" in to_argv(spec.train)
    (tmp_path / "card.yaml").unlink()
    again = JobSpec.from_settings(
        {key: value if isinstance(value, list) else [value] for key, value in settings_of(spec).items()}
        | {"name": ["t2"]}
    )
    assert settings_of(again) == settings_of(spec)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("licence: MIT", "unknown field `licence`"),
        ("contact: http://u:pw4321@h/", "a login, a key or a token"),
        (None, "no such file"),
    ],
)
def test_card_that_cannot_be_used_is_refused_on_the_users_machine(tmp_path, capsys, content, complaint):
    """Not by a pod that has waited for an accelerator."""
    if content is not None:
        (tmp_path / "card.yaml").write_text(content)
    job = ["--accelerator", "cpu", "--image", "i", "--data", "s3://b/d", "--output", "s3://b/o"]
    assert main(["render", *job, "--", "--card", str(tmp_path / "card.yaml")]) == 2
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert "pw4321" not in captured.err
    assert captured.out == ""
