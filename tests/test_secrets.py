"""A secret that this process knows stands in nothing that it says or writes: every place that may hold one, every command."""

import base64
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from cyclopts import App

from launcher import __main__ as launcher
from launcher import commands as launcher_commands
from launcher.cluster import connection
from trainer import __main__ as trainer
from trainer.storage.retry import Tries

CANARY = "kAn4ry/5ecret+wOrd=Zz9"
"""What must be found nowhere; with letters that encoders change."""

LOGIN = f"https://someone:{CANARY}@127.0.0.1:9"
SIGNED = f"https://127.0.0.1:9/w.pt?X-Amz-Credential=AKIA&X-Amz-Signature={quote(CANARY, safe='')}"

GIVEN = {
    "--accelerator": "cpu",
    "--image": "r/c:1",
    "--data": "s3://cxr/nih",
    "--output": "s3://cxr/runs",
    "--name": "t1",
    "--workers": "1",
    "--to": "to",
    "--model": "s3://cxr/runs/t1",
    "--out": "out",
    "--source": "t1",
    "--shell": "bash",
    "IMAGE": "s3://cxr/image.png",
    "RUN": "s3://cxr/runs/t1",
    "MODEL": "s3://cxr/runs/t1",
}
"""Arguments that commands need; a new command with another one gets the word `t1`."""

QUICK = {"bench": ["--device", "none"], "synth": ["--images", "0"], "evaluate": ["s3://cxr/runs/t1"], "delete": ["t1"]}
"""What keeps a command that needs no arguments from long work."""


def commands(app: App) -> Iterator[list[str]]:
    """A command line for each command of a program."""
    for name in app:
        if name.startswith("-"):
            continue
        words = [name]
        arguments = app[name].assemble_argument_collection()
        for argument in arguments:
            if argument.required and argument.name != "*" and argument.index is None:
                words += [argument.name, GIVEN.get(argument.name, "t1")]
            elif argument.required and argument.name != "*":
                words += [GIVEN.get(argument.name, "t1")]
        flags = {each for argument in arguments for each in argument.names}
        words += ["--data", GIVEN["--data"]] if {"--accelerator", "--data"} <= flags else []
        words += ["--output", GIVEN["--output"]] if "--output" in flags and "--output" not in words else []
        yield [*words, *QUICK.get(name, [])]


LAUNCHER = list(commands(launcher_commands.app))
TRAINER = list(commands(trainer.app))

FORMS = {
    CANARY,
    *(quote(CANARY), quote(CANARY, safe=""), quote_plus(CANARY), quote(CANARY, safe="").lower()),
    repr(CANARY)[1:-1],
    json.dumps(CANARY)[1:-1],
    CANARY.encode().hex(),
    *(base64.b64encode(b"x" * shift + CANARY.encode()).decode()[4:24] for shift in range(3)),
    CANARY[:12],  # what a message that is cut would still show
    CANARY[-12:],
}


def assert_silent(text: str, where: str) -> None:
    """No form of the canary stands in the text."""
    joined = text.replace("\n", "").replace("\\n", "")
    found = [form for form in FORMS if form in text or form in joined]
    assert not found, f"{where}:\n{text}"


class Echo(BaseHTTPRequestHandler):
    """A server that repeats what it was sent: as a Status to who asks for Kubernetes' objects, else as an error of S3."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = "; ".join(f"{name}: {value}" for name, value in self.headers.items())
        if self.path.startswith(("/api", "/version")):
            content = json.dumps({"kind": "Status", "code": 403, "message": f"cannot: {said}", "details": {}})
        else:
            content = f"<Error><Code>Denied {self.headers.get('X-Amz-Security-Token')}</Code><Message>{said}</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(content.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content.encode())

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = answer

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(tmp_path, monkeypatch, echo) -> Path:
    """An empty home and current directory, S3 and a cluster at the echo, and nothing that waits."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "LAUNCHER_", "KUBE"))]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, value in {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "AWS_ENDPOINT_URL": echo,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "no-secret-of-this-test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
    }.items():
        monkeypatch.setenv(name, value)
    kubeconfig(tmp_path, echo, {"token": "token-of-this-test"})
    monkeypatch.setattr(
        launcher, "_loaded", lambda: launcher_commands.dispatch
    )  # counting frozen objects takes long here
    monkeypatch.setattr(connection, "ATTEMPTS", 1)
    monkeypatch.setattr(Tries, "another", lambda _: False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return folder


def kubeconfig(folder: Path, server: str, user: object, **more: object) -> None:
    """A kubeconfig with this user."""
    document = {
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server} | more}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(document), encoding="utf-8")


def exec_plugin(folder: Path, body: str) -> dict:
    """A user whose token comes from a program."""
    (folder / "plugin.py").write_text(body, encoding="utf-8")
    version = "client.authentication.k8s.io/v1"
    environment = [{"name": "CLIENT_SECRET", "value": CANARY}]
    return {
        "exec": {
            "apiVersion": version,
            "command": sys.executable,
            "args": [str(folder / "plugin.py")],
            "env": environment,
        }
    }


def run(program, words: list[str], capfd, *, debug: bool = False) -> None:
    """Run a command, with `debug` for its traceback too; it says something, and nothing of the canary."""
    for line in (words, [words[0], "--debug", *words[1:]]) if debug else (words,):
        with suppress(SystemExit):
            program.main(line)
        out, err = capfd.readouterr()
        assert_silent(out + err, " ".join(line[:2]))
        assert out + err or line[0] == "synth", line


def assert_files_silent(folder: Path) -> None:
    """Nothing that was written below the folder holds the canary."""
    for path in folder.rglob("*"):
        if path.is_file():
            assert_silent(path.read_bytes().decode(errors="replace"), str(path))


AMBIENT = {
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}\n",
    "AWS_SESSION_TOKEN": f" {CANARY}\r\n",
    "HF_TOKEN": CANARY,
    "WANDB_API_KEY": f"{CANARY}\n",
    "DATABASE_URL": f"postgres://someone:{CANARY}@db/x",
    "HTTPS_PROXY": f"someone:{CANARY}@127.0.0.1:9",
    "ALL_PROXY": f"http://someone:{CANARY}@127.0.0.1:9",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Variables that a process has all at once."""


@pytest.mark.parametrize(
    ("program", "words"),
    [
        *(pytest.param(launcher, words, id=f"launcher {words[0]}") for words in LAUNCHER),
        *(pytest.param(trainer, words, id=f"trainer {words[0]}") for words in TRAINER),
    ],
)
def test_no_command_prints_secrets_of_the_environment_or_the_kubeconfig(
    program, words, home, tmp_path, monkeypatch, capfd, echo
):
    """Both servers repeat the token that they get, and it ends with a line break."""
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "token").write_text(f"{CANARY}\n", encoding="utf-8")
    kubeconfig(tmp_path, echo, {"tokenFile": str(tmp_path / "token")})
    run(program, words, capfd, debug=True)
    assert_files_silent(home)


WORDS = {
    "env": ["--env", f"API_KEY={CANARY}"],
    "env by value": ["--env", f"ARGS=--password={CANARY}"],
    "env with a login": ["--env", f"PLACE={LOGIN}"],
    "env without =": ["--env", f"API_KEY:{CANARY}"],
    "env alone": ["--env", CANARY],
    "env from secret": ["--env-from-secret", f"API_KEY={CANARY}"],
    "set": ["--set", f"api_key={CANARY}"],
    "set env": ["--set", f"env=[API_KEY={CANARY}]"],
    "set that is no YAML": ["--set", f"api_key=[{CANARY}"],
    "set without =": ["--set", f"password: {CANARY}"],
    "unknown flag": ["--api-key", CANARY],
    "unknown flag with =": [f"--token={CANARY}"],
    "overlay": ["--overlay", json.dumps({"spec": {"containers": [{"name": "a", "env": [{"name": "TOKEN", "value": CANARY}]}]}})],
    "overlay's arguments": ["--overlay", json.dumps({"spec": {"containers": [{"name": "a", "args": [f"--password={CANARY}"]}]}})],
    "overlay that is no YAML": ["--overlay", f"{{spec: {{password: {CANARY}"],
    "endpoint": ["--s3-endpoint", LOGIN],
    "image": ["--image", f"someone:{CANARY}@registry/x"],
    "data": ["--data", f"s3://AKIA:{CANARY}@cxr/nih"],
    "output": ["--output", f"s3://AKIA:{CANARY}@cxr/runs"],
    "output that is signed": ["--output", SIGNED],
    "Secret": ["--s3-secret", CANARY],
    "flag with a name": ["--label", f"api_key={CANARY}"],
    "weights": ["--", "--weights", SIGNED],
    "weights in a bucket": ["--", "--weights", f"s3://AKIA:{CANARY}@cxr/w.pt"],
    "trainer's unknown flag": ["--", f"--password={CANARY}"],
}  # fmt: skip


OF_JOBS = [words for words in LAUNCHER if "--accelerator" in words]
OTHERS = [words for words in LAUNCHER if "--accelerator" not in words]


@pytest.mark.parametrize("place", WORDS)
def test_no_command_that_makes_a_job_prints_a_secret_of_its_command_line(place, home, capfd):
    """Most refuse it; none may say what it was."""
    extra = WORDS[place]
    for words in OF_JOBS:
        at = words.index(extra[0]) if extra[0] in words else None
        kept = words if at is None else [*words[:at], *words[at + 2 :]]
        run(launcher, [*kept, *extra], capfd, debug=words[0] == "render")
    assert_files_silent(home)


@pytest.mark.parametrize("words", OTHERS, ids=lambda words: words[0])
def test_no_other_command_prints_a_secret_of_its_command_line(words, home, capfd):
    """They refuse the flag."""
    for place in ("env", "unknown flag", "unknown flag with =", "endpoint", "data"):
        run(launcher, [*words, *WORDS[place]], capfd)
    assert_files_silent(home)


OF_TRAINER = {
    "data": ["--data", f"s3://AKIA:{CANARY}@cxr/nih"],
    "output": ["--output", f"https://someone:{CANARY}@host/runs"],
    "signed": ["--output", SIGNED],
    "weights": ["--weights", SIGNED],
    "weights in a bucket": ["--weights", f"s3://AKIA:{CANARY}@cxr/w.pt"],
    "model": ["--model", f"s3://AKIA:{CANARY}@cxr/runs/t1"],
    "unknown flag": ["--api-key", CANARY],
    "unknown flag with =": [f"--password={CANARY}"],
}


@pytest.mark.parametrize("place", OF_TRAINER)
def test_no_command_of_the_trainer_prints_a_secret_of_its_command_line(place, home, capfd):
    for words in TRAINER:
        run(trainer, [*words, *OF_TRAINER[place]], capfd)
    assert_files_silent(home)


@pytest.mark.parametrize(
    "given",
    [
        "api_key={}",
        "env=[API_KEY={}]",
        "s3_endpoint=https://someone:{}@host",
        "data=s3://AKIA:{}@cxr/x",
        "s3_secret={}",
        "{}",
    ],
)
def test_init_neither_writes_nor_prints_a_secret(given, home, monkeypatch, capfd):
    """`launcher.yaml` is committed and shared."""
    monkeypatch.setenv("HF_TOKEN", CANARY)
    run(launcher, ["init", "-y", given.format(CANARY)], capfd)
    assert_files_silent(home)


@pytest.mark.parametrize("flag", ["--service-account", "--s3-secret", "--data-pvc", "--s3-region", "--queue", "--name", "--label", "--env-from-secret", "--toleration", "--output", "--env"])  # fmt: skip
def test_a_secret_of_this_process_gets_into_no_manifest(flag, home, monkeypatch, capfd):
    """One that looks like a name is one to Kubernetes."""
    secret = "4f3e2d1c0b9a87"
    monkeypatch.setenv("HF_TOKEN", secret)
    value = {
        "--label": f"team={secret}",
        "--env": f"TEAM={secret}",
        "--env-from-secret": f"A={secret}:k",
        "--output": f"s3://cxr/{secret}",
    }
    words = next(words for words in LAUNCHER if words[0] == "render")
    assert launcher.main([*words, flag, value.get(flag, secret)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert secret not in err
    assert flag in err


SETTINGS = {
    "env": f"env: [API_KEY={CANARY}]\n",
    "unknown key": f"api_key: {CANARY}\n",
    "no YAML": f"password: [{CANARY}\n",
    "data": f"data: s3://AKIA:{CANARY}@cxr/nih\n",
    "endpoint": f"s3_endpoint: {LOGIN}\n",
    "overlay": json.dumps({"overlay": {"spec": {"containers": [{"name": "a", "env": [{"name": "TOKEN", "value": CANARY}]}]}}}),
    "train_flags": f"train_flags: ['--weights={SIGNED}']\n",
    "train_flags' password": f"train_flags: ['--password={CANARY}']\n",
}  # fmt: skip


@pytest.mark.parametrize("place", SETTINGS)
@pytest.mark.parametrize("origin", ["project", "user", "file", "variable"])
def test_no_command_prints_a_secret_of_its_settings(place, origin, home, tmp_path, monkeypatch, capfd):
    """`launcher config` prints what they are."""
    text, extra = SETTINGS[place], []
    files = {"project": home / "launcher.yaml", "user": home / ".config/chexnet-launcher/settings.yaml", "file": tmp_path / "f.yaml"}  # fmt: skip
    if origin == "variable":
        key, _, value = text.strip("{}\n").partition(":")
        monkeypatch.setenv(f"LAUNCHER_{key.strip(chr(34)).upper()}", value.strip())
    else:
        files[origin].parent.mkdir(parents=True, exist_ok=True)
        files[origin].write_text(text, encoding="utf-8")
        extra = ["-f", str(files[origin])] if origin == "file" else []
    run(launcher, ["render", *extra], capfd, debug=origin == "project")
    if origin in {"project", "variable"}:
        run(launcher, ["config", "-o", "json" if origin == "project" else "table"], capfd)


TOKEN_PRINTED = "import json; print(json.dumps({'kind': 'ExecCredential', 'apiVersion': 'client.authentication.k8s.io/v1', 'status': {'token': %r}}))"
USERS = {
    "token": {"token": f"{CANARY}\n"},
    "token with a break inside": {"token": f"{CANARY}\n{CANARY}"},
    "password": {"username": "someone\n", "password": f"{CANARY}\n"},
    "key that is none": {"client-key-data": CANARY, "client-certificate-data": CANARY},
    "auth-provider": {"auth-provider": {"name": "oidc", "config": {"id-token": CANARY, "client-secret": CANARY}}},
    "gcp": {"auth-provider": {"name": "gcp", "config": {"access-token": f"{CANARY}\n"}}},
    "plugin": lambda folder: exec_plugin(folder, TOKEN_PRINTED % f"{CANARY}\n"),
    "plugin that fails": lambda folder: exec_plugin(folder, "import os, sys; sys.exit('no ' + os.environ['CLIENT_SECRET'])"),
    "plugin that is none": lambda folder: exec_plugin(folder, "import os; print(os.environ['CLIENT_SECRET'])"),
}  # fmt: skip


@pytest.mark.parametrize("place", USERS)
def test_no_command_prints_the_credentials_of_a_kubeconfig_user(place, home, tmp_path, capfd, echo):
    """The server repeats the header that it gets."""
    user = USERS[place]
    kubeconfig(tmp_path, echo, user(tmp_path) if callable(user) else user)
    run(launcher, ["list"], capfd, debug=True)
    run(launcher, ["delete", "t1"], capfd)


@pytest.mark.parametrize(
    ("server", "more"),
    [
        pytest.param(LOGIN, {}, id="server"),
        pytest.param("https://127.0.0.1:9", {"proxy-url": f"http://someone:{CANARY}@127.0.0.1:9"}, id="proxy"),
        pytest.param("https://127.0.0.1:9", {"certificate-authority-data": CANARY}, id="certificate"),
    ],
)
def test_no_command_prints_the_login_in_a_clusters_url(server, more, home, tmp_path, capfd):
    """A password that nobody has encoded ends a URL's host too early."""
    kubeconfig(tmp_path, server, {"token": "t"}, **more)
    run(launcher, ["list"], capfd, debug=True)


def test_error_for_a_kubeconfig_that_is_no_yaml_quotes_nothing_of_it(home, tmp_path, capfd):
    (tmp_path / "kubeconfig").write_text(f"users: [{{token: {CANARY}", encoding="utf-8")
    run(launcher, ["list"], capfd)


CREDENTIALS = f"[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = {CANARY}\naws_session_token = {CANARY}\n"


def in_variables(folder, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{CANARY}\n")
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{CANARY}\n")


def with_a_break_inside(folder, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{CANARY}\n{CANARY}")


def in_the_credentials_file(folder, monkeypatch):
    of_files(folder, monkeypatch, CREDENTIALS)


def in_a_credentials_file_with_a_break(folder, monkeypatch):
    of_files(folder, monkeypatch, CREDENTIALS + f"  {CANARY}\n")


def in_a_credentials_file_that_is_none(folder, monkeypatch):
    of_files(folder, monkeypatch, f"aws_secret_access_key {CANARY}\n")


def of_files(folder, monkeypatch, text):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (folder / "credentials").write_text(text, encoding="utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))


def of_a_process(folder, monkeypatch):
    document = {
        "Version": 1,
        "AccessKeyId": "AKIAIOSFODNN7EXAMPLE",
        "SecretAccessKey": CANARY,
        "SessionToken": f"{CANARY}\n",
    }
    (folder / "process.py").write_text(f"print({json.dumps(json.dumps(document))})", encoding="utf-8")
    of_files(folder, monkeypatch, f"[default]\ncredential_process = {sys.executable} {folder}/process.py\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.environ["AWS_SHARED_CREDENTIALS_FILE"])


def of_a_role(folder, monkeypatch):
    of_files(folder, monkeypatch, "")
    (folder / "web").write_text(f"{CANARY}\n", encoding="utf-8")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(folder / "web"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/trainer")


def in_the_endpoint(folder, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", LOGIN)


def in_the_endpoint_for_s3(folder, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:9/x?token={quote(CANARY, safe='')}")


def in_the_endpoint_of_a_profile(folder, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    of_files(folder, monkeypatch, f"[default]\nendpoint_url = {LOGIN}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.environ["AWS_SHARED_CREDENTIALS_FILE"])


def in_the_proxy(folder, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", f"http://someone:{CANARY}@127.0.0.1:9")


def in_the_proxy_without_a_scheme(folder, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("http_proxy", f"someone:{CANARY}@127.0.0.1:9")


OF_S3 = (
    *(in_variables, with_a_break_inside, in_the_credentials_file, in_a_credentials_file_with_a_break),
    *(in_a_credentials_file_that_is_none, of_a_process, of_a_role, in_the_endpoint, in_the_endpoint_for_s3),
    *(in_the_endpoint_of_a_profile, in_the_proxy, in_the_proxy_without_a_scheme),
)


@pytest.mark.parametrize("place", OF_S3, ids=lambda place: place.__name__)
def test_no_command_prints_an_s3_key(place, home, tmp_path, monkeypatch, capfd):
    """Wherever botocore finds it."""
    place(tmp_path, monkeypatch)
    run(trainer, ["report", "s3://cxr/runs/t1"], capfd, debug=True)
    run(trainer, ["preflight", "--data", "s3://cxr/nih", "--output", "s3://cxr/runs", "--name", "t1"], capfd)
    run(launcher, ["checkpoints", "t1", "--output", "s3://cxr/runs"], capfd)


def test_traceback_of_a_bug_holds_no_secret(home, monkeypatch, capfd):
    """What a library raises may quote anything, and so may what it was raised in handling of."""

    def fails(*_: object) -> None:
        problem = ZeroDivisionError(f"cannot reach {LOGIN} with {base64.b64encode(CANARY.encode()).decode()}")
        raise problem from ValueError(f"Invalid header value b'Bearer {CANARY}\\n'")

    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.setattr("launcher.commands.dispatch", fails)
    run(launcher, ["config"], capfd, debug=True)
    monkeypatch.setattr(trainer, "_run", fails)
    run(trainer, ["stats"], capfd, debug=True)


def test_warnings_loggers_and_threads_print_no_secret(home, monkeypatch, capfd):
    """None of them asks the program before it writes."""
    code = """
import logging, os, sys, threading, warnings
from trainer.screen import screened
secret = os.environ["HF_TOKEN"]
with screened():
    logging.basicConfig(level=logging.DEBUG)
    warnings.warn(f"a {secret}")
    logging.getLogger("botocore").debug("sent %s", {"X-Amz-Security-Token": secret})
    threading.Thread(target=lambda: 1 / 0 if not secret else int(secret)).start()
    print("false", secret, file=sys.stderr)
    print("false", secret)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | AMBIENT,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert_silent(done.stdout + done.stderr, "subprocess")
    assert done.stdout == "false ***\n"
    assert done.stderr.count("***") >= 4
