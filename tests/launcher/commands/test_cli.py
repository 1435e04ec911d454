"""The commands as a user types them: what is printed where, exit codes, which setting wins, and what is not loaded."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from launcher.__main__ import main
from launcher.settings.sources import EXAMPLES, OF_A_JOB
from trainer.errors import EXIT_CODES

ISSUE = "--accelerator gaudi --workers 8 --image r/c:1 --data s3://b/cxr --output s3://b/runs --name t1"
HEAVY = ("torch", "kubernetes", "boto3", "pandas", "numpy")


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch):
    """Help is wrapped to the terminal, which is not under test."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def launcher(capsys, monkeypatch, tmp_path):
    """Run a command in an empty directory: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def launch(line):
        code = main(line.split())
        out, err = capsys.readouterr()
        return code, out, err

    return launch


def rendered(launcher, line):
    """The PyTorchJob that a command line renders."""
    code, out, err = launcher(f"render -o json {line}")
    assert code == 0, err
    objects = json.loads(out)
    return objects["items"][-1] if objects["kind"] == "List" else objects


def pod(job):
    """Replicas, pod spec and container of a job."""
    [replica] = job["spec"]["pytorchReplicaSpecs"].values()
    return replica["replicas"], replica["template"]["spec"], replica["template"]["spec"]["containers"][0]


def test_short_submit_command_renders_one_pod_with_eight_cards(launcher):
    """The mission's line, as text and as an object."""
    code, out, err = launcher(f"render {ISSUE}")
    assert (code, err) == (0, "")
    assert 'nprocPerNode: "8"\n' in out
    job = list(yaml.safe_load_all(out))[-1]
    resources = pod(job)[2]["resources"]
    assert resources["requests"]["habana.ai/gaudi"] == resources["limits"]["habana.ai/gaudi"] == 8
    assert job == rendered(launcher, ISSUE)
    assert launcher(f"render -o name {ISSUE}") == (0, "pytorchjob.kubeflow.org/t1\n", "")


@pytest.mark.parametrize(
    ("line", "besides"),
    [
        ("--help", ("launcher.spec.job", "yaml")),
        ("--version", ("cyclopts",)),
        ("config", ()),
        ("render --help", ()),
        (f"render {ISSUE}", ("rich", "hashlib", "launcher.logs.lines")),
        (f"submit --dry-run client {ISSUE}", ("rich", "launcher.logs.lines")),
    ],
)
def test_commands_without_a_cluster_load_no_heavy_package(tmp_path, line, besides):
    """A laptop has none of them, and a prompt should answer at once."""
    assert loaded(tmp_path, line, HEAVY + besides) == (0, "")


def test_completion_loads_neither_torch_nor_clients(tmp_path):
    """It is made from all commands, on a laptop too."""
    assert loaded(tmp_path, "completion bash", ("torch", "kubernetes", "boto3")) == (0, "")


def loaded(tmp_path, line, packages):
    """Exit code of a command, and which of the packages it has loaded."""
    code = (
        "import sys; from launcher.__main__ import main; code = main(sys.argv[1:]);"
        f"sys.stderr.write(' '.join(name for name in {packages} if name in sys.modules)); sys.exit(code)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "KUBECONFIG": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "-c", code, *line.split()],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    return done.returncode, done.stderr


def test_help_shows_every_exit_code(launcher):
    """Scripts branch on them."""
    code, out, _ = launcher("--help")
    assert code == 0
    assert all(f"{number} {meaning}" in " ".join(out.split()) for number, meaning in EXIT_CODES.items())


@pytest.mark.parametrize("command", ["render", "submit"])
def test_help_shows_flags_and_not_the_fields_behind_them(launcher, command):
    """Trainer flags are written after `--`, not in a flag of their own."""
    _, out, _ = launcher(f"{command} --help")
    assert "[-- TRAINER FLAGS]" in out
    assert "--workers-per-node" in out
    assert "--train-flags" not in out


def test_the_version_is_printed(launcher):
    """On stdout, alone."""
    code, out, _ = launcher("--version")
    assert code == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", out)


def test_default_job_names_are_random(launcher):
    """The same line twice is two runs."""
    line = "render -o name --accelerator cpu --image r/c:1 --data s3://b/cxr --output s3://b/runs"
    names = {launcher(line)[1] for _ in range(3)}
    assert all(re.fullmatch(r"pytorchjob\.kubeflow\.org/chexnet-[0-9a-f]{8}\n", name) for name in names)
    assert len(names) > 1


def test_trainer_flags_follow_two_dashes(launcher):
    """All of them, whatever they look like."""
    args = pod(rendered(launcher, f"{ISSUE} -- --preset smoke --split patients:70/10/20 --no-flip"))[2]["args"]
    assert {"--preset=smoke", "--split=patients:70/10/20", "--no-flip", "--data=/data", "--cache-dir=/cache"} <= {*args}


def test_directories_are_made_absolute(launcher, tmp_path):
    """A manifest knows no current directory."""
    spec = pod(rendered(launcher, "--accelerator cpu --image r/c:1 --data cxr --output runs --name t1"))[1]
    paths = [volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume]
    assert paths == [str(tmp_path / "cxr"), str(tmp_path / "runs")]


FILE = """
accelerator: cuda
workers: 12
workers_per_node: 6
image: r/c:1.10
data: s3://b/cxr
output: s3://b/runs
name: 1e3x
namespace: null
train_flags: [--epochs, 3, --global-batch-size, 24]
"""


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        (
            FILE.replace("1e3x", "from-file"),
            "",
            {"name": "from-file", "replicas": 2, "epochs": "3", "image": "r/c:1.10"},
        ),
        (FILE.replace("1e3x", "from-file"), "--set workers=24", {"replicas": 4}),
        (FILE.replace("1e3x", "from-file"), "--workers 6 --set workers=24", {"replicas": 1}),
        (FILE.replace("1e3x", "a"), "--set name=b", {"name": "b"}),
        (FILE.replace("1e3x", "a"), "--set name=b --set name=c", {"name": "c"}),
        (FILE.replace("1e3x", "a"), "--name d --set name=b", {"name": "d"}),
        (FILE.replace("1e3x", "a"), "--set train_flags=[--epochs,4]", {"epochs": "4"}),
        (FILE.replace("1e3x", "a"), "--set train_flags=[--epochs,4] -- --epochs 5", {"epochs": "5"}),
        (FILE.replace("1e3x", "a"), "--set elastic=1:2", {"nnodes": "1:2"}),
        (FILE.replace("1e3x", "a") + "elastic: 1:2\n", "", {"nnodes": "1:2"}),
        (FILE.replace("1e3x", "a"), "-n team", {"namespace": "team"}),
        (FILE.replace("1e3x", "a"), "", {"namespace": "default"}),
    ],
)
def test_a_flag_beats_set_beats_the_file_beats_the_default(launcher, tmp_path, text, line, expected):
    """And each source says what it says as text: no number of base 60, no lost zero."""
    (tmp_path / "job.yaml").write_text(text, encoding="utf-8")
    job = rendered(launcher, f"-f job.yaml {line}")
    replicas, _, container = pod(job)
    flags = dict(arg[2:].split("=", 1) for arg in container["args"] if "=" in arg)
    seen = {**job["metadata"], **flags, "replicas": replicas, "image": container["image"]}
    assert {key: seen[key] if key != "name" else job["metadata"]["name"] for key in expected} == expected


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rendr", 'did you mean "render"'),
        (f"render {ISSUE} more", "more"),
        (f"render {ISSUE} --worker 3", "--worker"),
        (f"render {ISSUE} --workers many", "--workers"),
        (f"render {ISSUE} -o xml", "xml"),
        ("render", "`--accelerator`, `--image`, `--data`, `--output` not given"),
        (f"render {ISSUE.replace('--image r/c:1', '')}", "--image REGISTRY/NAME:TAG"),
        (f"render {ISSUE.replace('8', '12')} --workers-per-node 8", "--workers-per-node 4"),
        (f"render {ISSUE.replace('t1', 'Capitals')}", "`Capitals`"),
        (f"render {ISSUE.replace('t1', 'x' * 60)}", "got 60"),
        (f"render {ISSUE} -- --epoch 3", "--epoch"),
        (f"render {ISSUE} -- --epochs many", "--epochs"),
        (f"render {ISSUE} -- --batch-size 8 --global-batch-size 8", "two batch sizes"),
        (f"render {ISSUE} -- --output /x --device=cpu", "`--output`, `--device`"),
        (f"render {ISSUE} --set workers", "has no `=`"),
        (f"render {ISSUE} --set workers=[1]", "one text or number"),
        (f"render {ISSUE} --set train_flags=x", "a list of texts"),
        (f"render {ISSUE} --set wrkers=3 --set x.y=1", "`wrkers`, `x.y`"),
        (f"render {ISSUE} --set data={{", "cannot read settings from `--set data=…`"),
        (f"render {ISSUE} -f nowhere.yaml", "`nowhere.yaml`: No such file"),
        (f"render {ISSUE} -f list.yaml", "`list.yaml`: it is not a mapping"),
        (f"render {ISSUE} -f unknown.yaml", "`imgae`, `namespce`: no such setting (from `unknown.yaml`)"),
        (f"render {ISSUE} -f png.yaml", "`png.yaml`: it is not UTF-8 text"),
        (f"submit {ISSUE}", "--kubeconfig FILE"),
        (f"submit --local {ISSUE}", "cannot use `s3://b/cxr` with --local"),
        ("submit --local --accelerator cpu --data nowhere --output runs", "nowhere"),
        ("submit --local --accelerator cpu --data-pvc nih --output runs", "cannot use `` with --local"),
    ],
)
def test_bad_input_is_one_line_with_a_hint_and_exit_code_2(launcher, tmp_path, line, words):
    """Nothing on stdout, no traceback, and what is wrong by name."""
    (tmp_path / "list.yaml").write_text("[1, 2]", encoding="utf-8")
    (tmp_path / "unknown.yaml").write_text("imgae: r/c:1\nnamespce: x\nname: y", encoding="utf-8")
    (tmp_path / "png.yaml").write_bytes(b"\x89PNG")
    code, out, err = launcher(line)
    assert (code, out) == (2, "")
    error, _, hint = err.strip().partition("\n\n")
    assert error.startswith("error: ")
    assert words.lower() in err.lower()
    assert "\n" not in error
    assert hint.startswith("hint: ")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        ("--epochs 3", "trainer flags follow --: … -- --epochs 3"),
        ("--epochs=3 --backoff 8", "trainer flags follow --: … -- --epochs=3"),
        ("--no-flip --backoff 8", "trainer flags follow --: … -- --no-flip"),
        ("--lr -1 --backoff 8", "trainer flags follow --: … -- --lr -1"),
        ("--epoch 3", "--help lists commands and flags"),
    ],
)
def test_trainer_flag_before_the_dashes_is_an_error_that_says_where_it_belongs(launcher, flags, hint):
    """Both programs have flags, and only one of them is typed."""
    for command in ("render", "submit", "doctor"):
        code, _, err = launcher(f"{command} {ISSUE} {flags}")
        assert (code, err.strip().partition("hint: ")[2]) == (2, hint)
    code, _, err = launcher("list --epochs 3")
    assert (code, err.strip().partition("hint: ")[2]) == (2, "--help lists commands and flags")


@pytest.mark.parametrize("flag", ["--data", "--output"])
def test_empty_path_is_not_the_current_directory(tmp_path, monkeypatch, capsys, flag):
    """A shell variable that is not set must not put a run, or look for a data set, wherever one stands."""
    monkeypatch.chdir(tmp_path)
    words = f"render {ISSUE}".split()
    words[words.index(flag) + 1] = ""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == (
        "",
        f"error: cannot use ``: it must be `s3://BUCKET/PREFIX` or an absolute directory (from `{flag}`)",
    )


def test_examples_are_given_for_exactly_the_required_flags(launcher):
    """A required flag without an example would be missed by the list of what is missing."""
    _, out, _ = launcher("render --help")
    assert {flag.replace("-", "_") for flag in re.findall(r"\* +--([-a-z]+)", out)} == set(OF_A_JOB) - {
        "data"
    }  # a claim may take its place
    _, out, _ = launcher("prepare --help")
    assert set(re.findall(r"\* +--([-a-z]+)", out)) == {"image", "out"} <= set(EXAMPLES)


@pytest.fixture
def data(tmp_path):
    """A data set of folders without images in it."""
    for part in ("train/normal", "train/pneumonia", "test/normal", "test/pneumonia"):
        folder = tmp_path / "cxr" / part
        folder.mkdir(parents=True)
        for patient in range(10):
            (folder / f"person{patient}_{part.replace('/', '_')}.png").touch()
    return tmp_path / "cxr"


@pytest.fixture
def interpreter(tmp_path, data, monkeypatch):
    """Put a program in Python's place, which takes the arguments of `python -m trainer.runtime.entrypoint …`."""

    def stand_in(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return stand_in


LOCAL = "submit --local --accelerator cpu --workers 2 --data cxr --output runs --name t1"


def test_submit_local_runs_the_rendered_command_and_prints_the_run(launcher, tmp_path, data, interpreter):
    """No image is asked for; the paths are this machine's."""
    interpreter(f'echo "$PET_NPROC_PER_NODE $@" > {tmp_path}/seen')
    code, out, err = launcher(f"{LOCAL} -- --preset smoke")
    assert (code, out, err) == (0, f"{tmp_path}/runs/t1\n", "")
    seen = (tmp_path / "seen").read_text(encoding="utf-8")
    assert seen.startswith("2 -m trainer.runtime.entrypoint --max-restarts=3 -m trainer train ")
    assert f"--data={data} --output={tmp_path}/runs --name=t1 --preset=smoke" in seen
    assert f"--cache-dir={tmp_path}/runs/cache" in seen


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("exit 0", 0, ""),
        ("exit 1", 3, "error: the job failed: pod `t1-master-0` ended with exit code 1"),
        ("exit 75", 75, "error: the job was stopped"),
        ("kill -INT $PPID; sleep 5", 130, "error: interrupted by Ctrl-C"),
    ],
)
def test_submit_local_exits_with_the_jobs_outcome(launcher, interpreter, script, code, words):
    """The documented exit codes, and one line that says why."""
    interpreter(script)
    seen, out, err = launcher(LOCAL)
    assert seen == code
    assert words in err
    assert bool(out) == (code == 0)


def test_a_bug_is_one_line_and_a_traceback_only_with_debug(launcher, data, monkeypatch):
    """Exit code 1 and a way to learn more."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    code, _, err = launcher(LOCAL)
    assert code == 1
    assert err.startswith("error: bug: FileNotFoundError")
    assert err.endswith("hint: run again with --debug for the traceback\n")
    code, _, err = launcher(f"{LOCAL} --debug")
    assert code == 1
    assert err.startswith("Traceback")
    assert "FileNotFoundError" in err.splitlines()[-1]


def test_debug_shows_where_an_error_was_found(launcher):
    """The exit code stays what it is."""
    code, _, err = launcher(f"render --debug {ISSUE.replace('8', '0')}")
    assert code == 2
    assert "Traceback" in err
    assert "--workers 0" in err


def test_closed_output_pipe_is_no_error():
    """`render … | head -1` shows no traceback."""
    command = f"{sys.executable} -m launcher render {ISSUE} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        env=os.environ,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--local --dry-run client", "cannot use --dry-run with --local"),
        ("--local --wait --follow", "cannot use --wait, --follow with --local"),
        ("--wait --follow", "both --wait and --follow"),
        ("--timeout 1h", "--timeout without --wait"),
        ("--wait --timeout abc", "cannot use `abc` as a duration"),
    ],
)
def test_flags_that_could_only_be_ignored_are_refused_before_anything_happens(launcher, flags, words, monkeypatch):
    """A job that was created holds accelerators; there is not even a cluster here to ask."""
    code, out, err = launcher(f"submit {ISSUE} {flags}")
    assert (code, out) == (2, "")
    assert words in err


def test_login_in_an_image_is_refused_and_not_repeated(launcher):
    code, _, err = launcher("render --accelerator cpu --data /d --output /o --image me:hunter2@registry/x:1")
    assert code == 2
    assert "hunter2" not in err


def test_ctrl_c_during_start_up_is_one_line(tmp_path):
    """Most of a short command's time; a traceback through other people's modules tells nothing."""
    (tmp_path / "cyclopts.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[3]}"}
    command = [sys.executable, "-m", "launcher", "render"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "error: interrupted by Ctrl-C\n\nhint: running jobs continue: launcher list\n"


def test_ctrl_c_of_a_waiting_command_is_one_line(api, kubeconfig, tmp_path):
    """Else nobody knows whether the job goes on."""
    path = "/apis/kubeflow.org/v1/namespaces/team-a/pytorchjobs/t1"
    api.state.put(path, {"metadata": {"name": "t1"}, "spec": {"pytorchReplicaSpecs": {}}})
    command = [sys.executable, "-m", "launcher", "wait", "t1", "--kubeconfig", kubeconfig]
    waiting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not [query for _, _, query in api.state.requests if query.get("watch")]:
        assert waiting.poll() is None
        time.sleep(0.05)
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert "interrupted by Ctrl-C" in said
    assert "running jobs continue" in said


def test_second_ctrl_c_during_exit_prints_no_traceback(tmp_path):
    """Whoever is impatient has not found a bug."""
    double = "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGINT)\nos.kill(os.getpid(), signal.SIGINT)"
    (tmp_path / "cyclopts.py").write_text(double, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"}
    done = subprocess.run(
        [sys.executable, "-m", "launcher", "list"], env=environment, capture_output=True, text=True, check=False
    )
    assert "Ctrl-C" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == -signal.SIGINT


def test_background_job_of_a_script_is_not_interrupted_by_ctrl_c(tmp_path):
    """The shell has SIGINT ignored there, since Ctrl-C is meant for the program in the foreground; neither work nor clean-up ends."""
    interrupt = "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGINT)\nos.kill(os.getpid(), signal.SIGINT)"
    (tmp_path / "cyclopts.py").write_text(f"{interrupt}\nraise ValueError('got here')", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"}
    command = ["sh", "-c", f"trap '' INT; exec {sys.executable} -m launcher list"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "got here" in done.stderr
    assert "Ctrl-C" not in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize(("command", "argument"), [("checkpoints", "NAME"), ("clone", "SOURCE"), ("resume", "NAME")])
def test_argument_that_is_missing_is_named_as_the_usage_names_it(launcher, command, argument):
    """Nobody types a flag for it."""
    code, _, err = launcher(command)
    assert code == 2
    assert f"error: cannot run `{command}` without {argument}" in err
    assert f"hint: launcher {command} {argument}" in err


@pytest.mark.parametrize(
    ("flags", "problem", "hint"),
    [
        ("--help", "unknown option: --help", "`python -m trainer train --help` lists the flags"),
        ("--lr nan", "cannot use --lr nan: it must be a finite number", None),
        ("--lr=-inf", "cannot use --lr -inf: it must be a finite number", None),
    ],
)
def test_trainer_flag_error_is_reported_precisely(launcher, flags, problem, hint):
    """Not that another flag may be meant, or that a number is too large that is none."""
    code, _, err = launcher(f"render {ISSUE} -- {flags}")
    assert code == 2
    assert problem in err
    assert hint is None or f"hint: {hint}" in err


@pytest.mark.parametrize("line", ["checkpoints demo", "pull demo --to=~/copy", "pull demo"])
def test_runs_are_looked_for_in_the_home_directory(launcher, monkeypatch, tmp_path, line):
    """bash leaves `--output=~/runs` as it is."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    code, _, err = launcher(f"{line} --output=~/runs")
    assert code == 2
    assert f"{tmp_path}/home/runs/demo" in err
    assert not list(tmp_path.glob("~*"))
