"""Settings that are no flags: which source wins, what each may say, and what is missing."""

import json
from pathlib import Path

import pytest

from launcher.__main__ import main
from launcher.settings.sources import PROJECT_FILE, read_assignments, read_environment, read_file, without_unset
from trainer.errors import InputError

SUBMIT = ["submit", "--dry-run", "client", "--accelerator", "cpu", "--name", "t1"]


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """Write settings where a source is looked for: `user`, `project`, `environment`, `file`, `set`; the flags to give."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    user = tmp_path / "config" / "chexnet-launcher" / "settings.yaml"
    user.parent.mkdir(parents=True)

    def write(**settings):
        flags = []
        for source, values in settings.items():
            text = "".join(f"{key}: {value}\n" for key, value in values.items())
            if source == "environment":
                for key, value in values.items():
                    monkeypatch.setenv(f"LAUNCHER_{key.upper()}", value)
            elif source == "set":
                flags += [f"--set={key}={value}" for key, value in values.items()]
            elif source == "flags":
                flags += [f"--{key.replace('_', '-')}={value}" for key, value in values.items()]
            else:
                path = {"user": user, "project": Path(PROJECT_FILE), "file": Path("job.yaml")}[source]
                path.write_text(text, encoding="utf-8")
                flags += ["-f", "job.yaml"] if source == "file" else []
        return flags

    return write


REST = {"data": "s3://b/cxr", "output": "s3://b/runs"}
ORDER = ["user", "project", "environment", "file", "set", "flags"]


@pytest.mark.parametrize("winner", range(len(ORDER)), ids=ORDER)
def test_flag_beats_environment_beats_file_beats_default(sources, capsys, winner):
    """What is typed beats what is written, and what is near beats what is far; the rest is still read."""
    given = {source: {"image": f"r/{source}:1"} for source in ORDER[: winner + 1]}
    given["user"] |= REST
    assert main([*SUBMIT, *sources(**given)]) == 0
    assert f"image: r/{ORDER[winner]}:1\n" in capsys.readouterr().out


def test_short_submit_command_needs_no_other_flag(sources, capsys):
    """A settings file holds what stays the same."""
    sources(project={"image": "r/c:1", **REST, "namespace": "cxr", "s3_secret": "s3"})
    assert main(["submit", "--accelerator", "gaudi", "--workers", "8", "--dry-run", "client"]) == 0
    out = capsys.readouterr().out
    assert "namespace: cxr\n" in out
    assert "habana.ai/gaudi: 8\n" in out


def test_config_shows_each_value_and_where_it_came_from(sources, capsys):
    """Else nobody knows which of five places to change."""
    sources(
        user={"image": "r/user:1", "s3_secret": "s3"},
        project={"image": "r/project:1", "toleration": "[a, b]"},
        environment={"workers": "4", "label": "[team=a, unit=b]"},
    )
    assert main(["config", "-o", "json"]) == 0
    rows = {row["setting"]: (row["value"], row["from"]) for row in json.loads(capsys.readouterr().out)["settings"]}
    user = str(Path("config/chexnet-launcher/settings.yaml").resolve())
    assert rows == {
        "image": ("r/project:1", "launcher.yaml"),
        "s3_secret": ("s3", user),
        "toleration": ("a, b", "launcher.yaml"),
        "workers": ("4", "LAUNCHER_WORKERS"),
        "label": ("team=a, unit=b", "LAUNCHER_LABEL"),
        "gaudi_generation": ("2", "default"),
        "namespace": ("default", "default"),
        "api": ("auto", "default"),
        "data_access": ("mount", "default"),
        "csi_driver": ("s3.csi.aws.com", "default"),
        "backoff": ("3", "default"),
    }


def test_config_shows_the_namespace_that_submit_takes(sources, capsys, tmp_path, monkeypatch):
    """That of the kubeconfig's context, unless something says another."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("current-context: b\ncontexts: [{name: b, context: {namespace: team-b}}]\n", encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    assert main(["config"]) == 0
    assert ["namespace", "team-b", "the", "kubeconfig's", "context"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]
    sources(user={"namespace": "team-a"})
    assert main(["config"]) == 0
    assert "team-b" not in capsys.readouterr().out


def test_config_marks_what_no_job_could_use_with_the_reason(sources, capsys):
    """Better here than from each submit, one after the other."""
    sources(
        project={"image": "me:pw@r/c:1", "workers": "many", "backoff": "900", "train_flags": "[--epochs, x]"},
        user={"namespace": "Big", "accelerator": "tpu", "label": "[a]", "overlay": "nowhere.yaml"},
    )
    assert main(["config", "-o", "json"]) == 0
    rows = {row["setting"]: row["problem"] for row in json.loads(capsys.readouterr().out)["settings"]}
    reasons = {
        "image": "cannot use that as an image",
        "workers": "--workers",
        "backoff": "it must be 0 to 100",
        "train_flags": "--epochs",
        "namespace": "`Big` as a namespace",
        "accelerator": "tpu",
        "label": "`a` as a label",
        "overlay": "No such file",
    }
    assert {key for key, problem in rows.items() if problem} == set(reasons)
    assert [key for key, words in reasons.items() if words not in rows[key]] == []
    assert main(["config"]) == 0
    assert "PROBLEM" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"efa": "4"},
        {"workers_per_node": "8"},
        {"elastic": "1:4"},
        {"gaudi_generation": "1"},
        {"data_access": "api"},
        {"data_pvc": "nih"},
        {"train_flags": "[--global-batch-size, 64]"},
        {"overlay": "{spec: {hostIPC: true}}"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_config_marks_nothing_that_some_job_can_use(sources, capsys, settings):
    """What goes with what is decided when a job is made, from its flags too."""
    sources(project=settings)
    assert main(["config"]) == 0
    assert "PROBLEM" not in capsys.readouterr().out


def test_all_missing_settings_are_named_at_once_with_the_lines_to_write(sources, capsys):
    """One error a run would take four runs; and an image can't be guessed, but how to build one can be said."""
    sources()
    assert main(["submit", "--accelerator", "gaudi", "--gaudi-generation", "1"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: cannot create a job: `--image`, `--data`, `--output` not given\n")
    assert "--image REGISTRY/NAME:TAG --data s3://BUCKET/PREFIX --output s3://BUCKET/PREFIX" in err
    assert "launcher init" in err
    assert "GAUDI_VERSION=1.21.3, GAUDI_BUILD=57 and TORCH_VERSION=2.6.0" in err


def test_data_claim_replaces_data(sources, capsys):
    """Then there is nothing else to say about it."""
    flags = sources(flags={"data_pvc": "nih", "output": "s3://b/runs", "image": "r/c:1"})
    assert main([*SUBMIT, *flags]) == 0
    assert "claimName: nih\n" in capsys.readouterr().out


def test_list_of_a_nearer_source_replaces_the_others(sources, capsys):
    """A nearer source says all of a list; else nothing could be taken out of it."""
    rest = REST | {"image": "r/c:1"}
    flags = sources(project=rest | {"label": "[team=a, unit=b]"}, set={"label": "[team=c]"})
    assert main([*SUBMIT, *flags]) == 0
    out = capsys.readouterr().out
    assert "team: c\n" in out
    assert "unit:" not in out


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"LAUNCHER_WORKERS": "8"}, {"workers": ("8",)}),
        ({"LAUNCHER_ELASTIC": "1:4"}, {"elastic": ("1:4",)}),
        ({"LAUNCHER_IMAGE": "r/c:1.10"}, {"image": ("r/c:1.10",)}),
        ({"LAUNCHER_TRAIN_FLAGS": "[--epochs, 3]"}, {"train_flags": ("--epochs", "3")}),
        ({"LAUNCHER_IMAGE": "", "LAUNCHER_DATA": "~"}, {}),
        ({"launcher_image": "x", "MYLAUNCHER_IMAGE": "x"}, {}),
    ],
)
def test_environment_variables_give_texts_and_lists(values, expected):
    """YAML as in files, but every number stays the text it is; empty is as if it were not there."""
    assert read_environment(values).values == expected


def test_settings_file_with_comments_only_is_empty(tmp_path):
    """Somebody has taken all lines out for a try."""
    path = tmp_path / "job.yaml"
    path.write_text("# workers: 8\n", encoding="utf-8")
    assert read_file(path).values == {}


@pytest.mark.parametrize(
    ("read", "words"),
    [
        pytest.param(
            lambda: read_environment({"LAUNCHER_WORKRES": "1"}), ("`workres`", "did you mean workers?"), id="variable"
        ),
        pytest.param(
            lambda: read_environment({"LAUNCHER_X": "1"}), ("`x`", "settings are accelerator, "), id="no near one"
        ),
        pytest.param(
            lambda: read_environment({"LAUNCHER_LABEL": "a=b"}),
            ("`label`", "a list of texts", "LAUNCHER_LABEL"),
            id="no list",
        ),
        pytest.param(lambda: read_assignments(["label={a: b}"]), ("`label`", "a list of texts"), id="a mapping"),
        pytest.param(lambda: read_assignments(["s3_secret=[a]"]), ("`s3_secret`", "one text"), id="a list"),
        pytest.param(
            lambda: read_assignments(["s3.secret=a"]), ("`s3.secret`", "did you mean s3_secret?"), id="a path"
        ),
        pytest.param(lambda: read_assignments(["workers"]), ("has no `=`", "--set workers=8"), id="no value"),
        pytest.param(lambda: read_file(Path("/nowhere/x.yaml")), ("`/nowhere/x.yaml`: No such file",), id="no file"),
    ],
)
def test_unknown_or_invalid_settings_are_refused(read, words):
    """A typing error must not be a job with another value."""
    with pytest.raises(InputError) as refusal:
        read()
    assert refusal.value.hint
    assert all(word in str(refusal.value) for word in words), str(refusal.value)


@pytest.mark.parametrize("source", ORDER)
def test_a_home_directory_in_any_source_is_replaced(sources, capsys, monkeypatch, tmp_path, source):
    """bash leaves `--data=~/cxr` as it is, and nothing else reads a settings file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "patch.yaml").write_text("spec: {schedulerName: patched}\n", encoding="utf-8")
    given = {"data": "~/cxr", "output": "~/runs", "image": "x", "overlay": "~/patch.yaml"}
    assert main([*SUBMIT, *sources(**{source: given})]) == 0
    out = capsys.readouterr().out
    assert f"path: {tmp_path}/cxr\n" in out
    assert f"path: {tmp_path}/runs\n" in out
    assert "schedulerName: patched" in out


def test_a_settings_file_and_a_kubeconfig_in_the_home_directory_are_found(sources, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    sources(file=REST | {"image": "x"})
    context = {"name": "a", "context": {"namespace": "team-x"}}
    (tmp_path / "k").write_text(json.dumps({"current-context": "a", "contexts": [context]}), encoding="utf-8")
    assert main([*SUBMIT, "-f", "~/job.yaml", "--kubeconfig=~/k"]) == 0
    assert "namespace: team-x\n" in capsys.readouterr().out


def test_init_and_config_accept_a_home_directory_and_keep_it(sources, capsys, monkeypatch, tmp_path):
    """The file may be read on several machines."""
    monkeypatch.setenv("HOME", str(tmp_path))
    sources()
    assert main(["init", "-y", "accelerator=cpu", "image=x", "data=~/cxr", "output=~/runs"]) == 0
    assert "output: ~/runs\n" in Path(PROJECT_FILE).read_text(encoding="utf-8")
    assert main(["config", "-o", "json"]) == 0
    rows = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))["settings"]
    assert {row["setting"]: row["problem"] for row in rows if row["setting"] in {"data", "output"}} == {
        "data": None,
        "output": None,
    }


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ((), {"ttl": "2d", "label": ["a=b"], "runtime": "chexnet"}),
        (("ttl=null", "label=[]"), {"runtime": "chexnet"}),
        (("ttl=~", "workers=2"), {"label": ["a=b"], "runtime": "chexnet"}),
        (("ttl=", "ttl=3d"), {"ttl": "2d", "label": ["a=b"], "runtime": "chexnet"}),
        (("api=pytorchjob",), {"ttl": "2d", "label": ["a=b"]}),
        (("api=trainjob", "runtime=other"), {"ttl": "2d", "label": ["a=b"], "runtime": "chexnet"}),
    ],
)
def test_settings_that_set_to_nothing_are_left_out_of_a_copied_job(changes, kept):
    """What a job was submitted with must not stay with its copies for ever; a PyTorchJob has no runtime."""
    recorded = {"ttl": "2d", "label": ["a=b"], "runtime": "chexnet"}
    assert without_unset(recorded, changes) == kept
