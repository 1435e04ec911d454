"""Commands that are printed as next steps go to the cluster that the user named, not to the current context's."""

import json
import re

import pytest
from cluster_objects import job

from launcher.__main__ import main

JOB = "--accelerator cpu --image r/c:1 --data s3://b/cxr --output s3://b/runs --data-access api --name t1 -n team-a"
PLACE = "/apis/kubeflow.org/v1/namespaces/team-a/pytorchjobs/t1"
PRINTED = re.compile(r"(?:launcher (?!init\b|config\b)[a-z]+|kubectl)\b(?= [-a-z])[^;`\n]*")


@pytest.fixture
def there(api, tmp_path, monkeypatch):
    """A cluster that is not the current one."""
    monkeypatch.chdir(tmp_path)
    return ["--kubeconfig", str(api.kubeconfig(tmp_path / "k")), "--context", "other"]


@pytest.fixture
def launcher(capsys):
    def launch(line, *flags):
        code = main([*line.split(), *flags])
        out, err = capsys.readouterr()
        return code, out, err

    return launch


def check_all(text, there, *, namespace="team-a"):
    """Every command in the text has the flags; the launcher's have a namespace."""
    commands = PRINTED.findall(text)
    assert commands, text
    for command in commands:
        assert " ".join(there) in command
        assert command.startswith("kubectl") or " -A" in command or f"-n {namespace}" in command


def test_submit_prints_commands_for_the_same_cluster(launcher, there):
    """The printed `delete` went to another one."""
    code, _, err = launcher(f"submit {JOB}", *there)
    assert code == 0, err
    check_all(err.partition("next:")[2], there)
    assert len(PRINTED.findall(err.partition("next:")[2])) == 3


def test_hint_of_a_job_that_exists_names_the_same_cluster(launcher, there):
    launcher(f"submit {JOB}", *there)
    code, _, err = launcher(f"submit {JOB} --workers 2", *there)
    assert code == 2
    check_all(err.partition("hint:")[2], there)


def test_status_and_doctor_print_next_steps_for_the_same_cluster(launcher, there, api):
    api.state.put(PLACE, job(state="Failed"))
    for form in ("table", "json"):
        code, out, err = launcher(f"status t1 -n team-a -o {form}", *there)
        assert code == 0, err
        check_all(out.partition("next")[2] if form == "table" else json.loads(out)["diagnosis"]["next_step"], there)
    code, out, _ = launcher(f"doctor {JOB} -o json", *there)
    fixes = "\n".join(row["fix"] for row in json.loads(out)["checks"])
    check_all(fixes, there)


def test_every_error_of_a_delete_names_the_same_cluster(launcher, there, api):
    """Also those that do not end the command."""
    code, _, err = launcher("delete a b -y -n team-a", *there)
    assert code == 4
    assert err.count("hint: launcher list") == 2
    check_all(err, there)


def test_a_failed_wait_names_the_same_cluster(launcher, there, api):
    api.state.put(PLACE, job(state="Failed"))
    code, _, err = launcher("wait t1 -n team-a", *there)
    assert code == 3
    check_all(err.partition("hint:")[2], there)


def test_without_the_flags_commands_stay_short(launcher, there, api, tmp_path, monkeypatch):
    """As the user typed them."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "k"))
    code, _, err = launcher("wait t1")
    assert code == 4
    assert "--kubeconfig" not in err
    assert "-n " not in err


def test_ctrl_c_names_the_same_cluster(launcher, there, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("launcher.commands.status.open_cluster", interrupted)
    code, _, err = launcher("list", *there)
    assert code == 130
    assert err.endswith(f"hint: running jobs continue: launcher list {' '.join(there)}\n")
