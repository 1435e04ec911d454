"""A folder or a job that others made decides neither what code runs here nor, unsaid, where credentials go."""

from pathlib import Path

import pytest
import yaml

from launcher.__main__ import main
from launcher.settings.sources import PROJECT_FILE
from launcher.spec.trust import ForeignEndpoint, allowed, is_private
from trainer.errors import InputError

JOB = ["--accelerator", "cpu", "--name", "t1", "--output", "runs", "--data", "data"]
LOCAL = ["submit", "--local", *JOB]
CODE = {
    "env": ["PYTHONPATH=."],
    "overlay": {"spec": {"containers": [{"name": "pytorch", "command": ["sh", "-c", "touch owned"]}]}},
}
code = pytest.mark.parametrize("key", CODE)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A folder that somebody else has filled, and the user's own settings beside it; write to either."""
    (tmp_path / "theirs").mkdir()
    monkeypatch.chdir(tmp_path / "theirs")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    user = tmp_path / "config" / "chexnet-launcher" / "settings.yaml"
    user.parent.mkdir(parents=True)

    def write(where=PROJECT_FILE, **settings):
        path = user if where == "user" else Path(where)
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")

    return write


@pytest.fixture
def ran(monkeypatch):
    """Jobs that would have run here."""
    jobs = []
    monkeypatch.setattr("launcher.jobs.local.check", lambda job: None)
    monkeypatch.setattr("launcher.jobs.local.run", lambda objects, **_: jobs.append(objects[-1]))
    return jobs


def refused(capsys, argv):
    assert main(argv) == 2
    return capsys.readouterr().err


@code
def test_code_in_the_folders_settings_file_does_not_run_here(folder, capsys, key, ran):
    """Whoever unpacks a data set that others made would run what they wrote."""
    folder(**{key: CODE[key]})
    err = refused(capsys, LOCAL)
    assert f"cannot use `{key}`" in err
    assert "(from `launcher.yaml`)" in err
    assert "hint:" in err
    assert ran == []


def test_code_in_the_folders_settings_file_does_not_run_in_local_comparisons(folder, capsys, ran):
    folder(env=["LD_PRELOAD=./x.so"])
    err = refused(capsys, ["scale", "--local", "--workers", "1,2", *JOB, "--to", "to"])
    assert "cannot use `env`" in err


@code
@pytest.mark.parametrize("by", ["file", "own file", "set", "environment"])
def test_code_given_by_the_user_runs(folder, monkeypatch, ran, key, by):
    """The same file once it is named, one's own, and what is typed; the folder's file is then not asked."""
    folder(**{key: CODE[key]}) if by != "own file" else folder("user", **{key: CODE[key]})
    flags = {"file": ["-f", PROJECT_FILE], "set": [f"--set={key}={yaml.safe_dump(CODE[key], default_flow_style=True)}"]}
    if by == "environment":
        monkeypatch.setenv(f"LAUNCHER_{key.upper()}", yaml.safe_dump(CODE[key], default_flow_style=True))
    assert main([*LOCAL, *flags.get(by, [])]) == 0
    assert len(ran) == 1
    assert "owned" in str(ran) or "PYTHONPATH" in str(ran)


@pytest.mark.parametrize("by", ["own file", "environment"])
def test_overlay_of_the_folder_is_not_taken_by_a_relative_name(folder, monkeypatch, capsys, ran, by):
    """One's own settings may say `overlay: patch.yaml`, and a foreign folder may hold one."""
    folder("patch.yaml", **CODE["overlay"])
    if by == "environment":
        monkeypatch.setenv("LAUNCHER_OVERLAY", "patch.yaml")
    else:
        folder("user", overlay="patch.yaml")
    assert "cannot use the overlay `patch.yaml`" in refused(capsys, LOCAL)
    assert main([*LOCAL, "--overlay", "patch.yaml"]) == 0


def test_settings_without_code_are_read_from_the_folders_file(folder, ran):
    """A project keeps its settings there."""
    folder(workers=2, train_flags=["--epochs", "3"], s3_region="us-east-1", env_from_secret=["A=b:c"])
    assert main(LOCAL) == 0
    assert len(ran) == 1


@code
def test_a_job_in_the_cluster_takes_code_as_before(folder, capsys, key):
    """There admission judges it, and nothing runs here."""
    folder(**{key: CODE[key]}, image="r/c:1")
    argv = ["render", "--accelerator", "cpu", "--name", "t1", "--data", "s3://b/d", "--output", "s3://b/o"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "touch owned" in out or "PYTHONPATH" in out


@pytest.mark.parametrize("key", ["kubeconfig", "context"])
def test_cluster_is_no_setting(folder, capsys, key):
    """A kubeconfig names programs that are run to log in."""
    folder(**{key: "./kubeconfig"})
    assert f"cannot use `{key}`: no such setting" in refused(capsys, ["list"])


RUN = {"run.json": b"{}"}


@pytest.fixture
def run(s3, monkeypatch):
    """A run in a bucket of a server that only a setting names."""
    import boto3

    for key, content in RUN.items():
        boto3.client("s3").put_object(Bucket="cxr", Key=f"runs/demo/{key}", Body=content)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    return s3


CHECKPOINTS = ["checkpoints", "demo", "--output", "s3://cxr/runs", "-o", "name"]


def test_endpoint_of_the_folders_file_is_named_before_the_first_request(folder, run, capsys):
    """Requests are signed with one's own keys, and carry the session's token."""
    folder(s3_endpoint=run)
    main(CHECKPOINTS)
    assert f"credentials to {run} (from `launcher.yaml`)" in capsys.readouterr().err


@pytest.mark.parametrize("by", ["flag", "own file", "environment"])
def test_endpoint_given_by_the_user_is_not_announced(folder, run, monkeypatch, capsys, by):
    """He knows; and what is typed beats the folder's file."""
    folder(s3_endpoint="http://evil.example.org") if by == "flag" else None
    folder("user", s3_endpoint=run) if by == "own file" else None
    if by == "environment":
        monkeypatch.setenv("LAUNCHER_S3_ENDPOINT", run)
    main([*CHECKPOINTS, *([f"--s3-endpoint={run}"] if by == "flag" else [])])
    assert "note:" not in capsys.readouterr().err


COMMANDS = {
    "checkpoints": CHECKPOINTS,
    "pull": ["pull", "demo", "--output", "s3://cxr/runs"],
    "resume": ["resume", "demo", "--output", "s3://cxr/runs", "--dry-run", "client"],
    "scale": [
        "scale",
        "--workers",
        "1,2",
        "--accelerator",
        "cpu",
        "--name",
        "t1",
        "--image",
        "i",
        "--data",
        "s3://cxr/d",
        "--output",
        "s3://cxr/runs",
        "--to",
        "to",
    ],
    "local weights": [*LOCAL, "--", "--weights", "s3://cxr/w.pt"],
}


@pytest.mark.parametrize("argv", COMMANDS.values(), ids=COMMANDS.keys())
def test_folders_settings_file_cannot_send_credentials_over_http(folder, capsys, monkeypatch, argv):
    """Of whatever command; typed it is the user's own wish."""
    Path("data").mkdir()
    monkeypatch.setattr("trainer.storage.connection.new_client", lambda *_: pytest.fail("a request"))
    folder(s3_endpoint="http://s3.evil.org:9000")
    err = refused(capsys, argv)
    assert "cannot send credentials to `http://s3.evil.org:9000`" in err
    assert "(from `launcher.yaml`)" in err
    assert "--s3-endpoint http://s3.evil.org:9000" in err


def test_doctor_sends_no_credentials_over_http_either(folder, capsys, kubeconfig):
    folder(s3_endpoint="http://s3.evil.org:9000")
    argv = ["doctor", "--accelerator", "cpu", "--image", "i", "--data", "s3://cxr/d", "--output", "s3://cxr/o"]
    assert "cannot send credentials" in refused(capsys, [*argv, "--kubeconfig", kubeconfig])


def test_endpoint_of_a_job_outside_the_private_network_is_announced(capsys, monkeypatch):
    """Whoever may make jobs in the namespace may name any server."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    job = "the settings of the job demo"
    assert allowed(ForeignEndpoint.of("http://10.0.0.5:9000", job)) == "http://10.0.0.5:9000"
    assert capsys.readouterr().err == ""
    assert allowed(ForeignEndpoint.of("https://s3.example.org", job)) == "https://s3.example.org"
    assert f"https://s3.example.org (from `{job}`)" in capsys.readouterr().err
    with pytest.raises(InputError, match="plain http"):
        allowed(ForeignEndpoint.of("http://s3.example.org", job))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.example.org")
    assert allowed(ForeignEndpoint.of("http://s3.example.org", job)) == "http://s3.example.org"


@pytest.mark.parametrize(
    ("host", "private"),
    [
        *(
            (host, True)
            for host in ("localhost", "LOCALHOST:9000", "a.localhost", "127.0.0.1:9000", "127.9.9.9", "[::1]:9000")
        ),
        *(
            (host, True)
            for host in ("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1:80", "[fd00::1]", "[::ffff:10.0.0.1]")
        ),
        *(
            (host, True)
            for host in ("minio", "minio.storage.svc", "minio.storage.svc.cluster.local:9000", "s3.corp.internal")
        ),
        *(
            (host, False)
            for host in (
                "s3.example.org",
                "8.8.8.8",
                "172.32.0.1",
                "[2001:db8::1]",
                "[::ffff:8.8.8.8]",
                "169.254.169.254",
            )
        ),
        *(
            (host, False)
            for host in ("134744072", "0x08080808", "8.2056", "10.evil.org", "127.0.0.1.evil.org", "localhost.evil.org")
        ),
        *(
            (host, False)
            for host in (
                "localhost.",
                "minio.",
                "evil.org\\.localhost",
                "evil.org#.localhost",
                "evil.org?.svc",
                "[::1",
                "",
            )
        ),
        *(
            (host, False)
            for host in ("evil.org\\@localhost", "localhost#@evil.org", "localhost:80@evil.org", "10.0.0.1:80.evil.org")
        ),
        *((host, False) for host in ("100.64.0.1", "0.0.0.0", "\uff4c\u2024localhost", "xsvc.org")),
    ],
)
def test_private_addresses_are_recognised(host, private):
    """Nothing is resolved: a name can be made to lead anywhere."""
    assert is_private(f"http://{host}") is private
