"""What lies in the current directory does not run, however the programs are started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.jobs import interpreter, local
from launcher.scale import results
from launcher.spec import manifest
from launcher.spec.job import JobSpec

ROOT = Path(__file__).parents[3]
SHADOWS = (
    "yaml",
    "numpy",
    "torch",
    "cyclopts",
    "json",
    "rich",
    "boto3",
    "PIL",
    "pandas",
    "signal",
    "sitecustomize",
    "csv",
    "kubernetes",
)
AFTER_PYTHON = ("runpy", "pickle", "multiprocessing", "socket", "logging")
"""Python itself looks for these before it runs anything of ours, unless it is started with a safe path."""


def fill(folder, names):
    for name in names:
        (folder / f"{name}.py").write_text(
            f"open({str(folder / 'ran')!r}, 'a').write({name!r} + ' ')\n", encoding="utf-8"
        )


@pytest.fixture
def folder(tmp_path):
    """A folder that somebody else has filled with modules."""
    (tmp_path / "theirs").mkdir()
    fill(tmp_path / "theirs", SHADOWS)
    return tmp_path / "theirs"


def run(folder, *argv, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"} | {
        "XDG_CONFIG_HOME": str(folder),
        **variables,
    }
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done, (folder / "ran").read_text(encoding="utf-8") if (folder / "ran").exists() else ""


@pytest.mark.parametrize(
    "argv",
    [
        [sys.executable, "-m", "launcher", "config"],
        [sys.executable, "-m", "launcher", "--help"],
        [sys.executable, "-m", "trainer", "stats", "--help"],
    ],
    ids=lambda argv: " ".join(argv[2:]),
)
def test_modules_of_a_foreign_folder_do_not_run(folder, argv):
    """`launcher config` is what one looks at a foreign folder with."""
    done, ran = run(folder, *argv)
    assert ran == ""
    assert done.returncode == 0, done.stderr


def test_launcher_script_imports_nothing_from_the_current_folder(folder):
    """It never did, so it is what docs/install.md advises."""
    fill(folder, AFTER_PYTHON)
    done, ran = run(folder, str(Path(sys.executable).parent / "launcher"), "config")
    assert (done.returncode, ran) == (0, "")


def test_workers_import_nothing_from_the_current_folder(folder):
    """torchrun, and what it starts: Python's own first look would be there."""
    fill(folder, AFTER_PYTHON if sys.version_info >= (3, 11) else ())
    gang = [
        sys.executable,
        "-m",
        "trainer.runtime.entrypoint",
        "--nnodes",
        "1",
        "--nproc-per-node",
        "1",
        "-m",
        "trainer",
        "stats",
        "--help",
    ]
    done, ran = run(folder, *gang, **interpreter.environment())
    assert done.returncode == 0, done.stderr
    assert "--data" in done.stdout
    assert ran == ""


def test_trainer_processes_import_nothing_from_the_current_folder(folder):
    """Those that decode images are started while it runs."""
    code = "import sys, os; sys.argv[0] = '-m'; import trainer; sys.exit(os.environ.get('PYTHONSAFEPATH') != '1')"
    assert run(folder, sys.executable, "-c", code)[0].returncode == 0


@pytest.mark.parametrize("what", ["pod", "report"])
def test_every_started_python_ignores_the_current_folder(folder, monkeypatch, what):
    """Whatever starts one must say so."""
    seen = {}

    class Started(Exception):  # noqa: N818 - it is none
        pass

    def start(command, *, env, **_):
        seen.update(env)
        raise Started

    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setattr(subprocess, "Popen" if what == "pod" else "run", start)
    objects = manifest.render(JobSpec(accelerator="cpu", image="local", data="/d", output="/o", name="t1"))
    begin = {
        "pod": lambda: local.run(objects, scratch=folder, report=print, python=sys.executable),
        "report": lambda: results.plot(["a", "b"], folder),
    }
    with pytest.raises(Started):
        begin[what]()
    assert seen["PYTHONSAFEPATH"] == "1"
    assert seen["PATH"] == os.environ["PATH"]


def test_started_processes_find_a_checkout_that_is_not_installed(monkeypatch):
    """There the packages lie in the current directory only."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.chdir(ROOT)
    assert interpreter.environment() == {}


def test_pythonpath_of_the_user_is_kept(folder, tmp_path):
    """PYTHONPATH is his own wish, the current directory too when he names it."""
    (folder / "yaml.py").unlink()
    code = "import sys; sys.argv[0] = '-m'; import launcher; print(sys.path[0])"
    done, _ = run(
        folder, sys.executable, "-P" if sys.version_info >= (3, 11) else "-I", "-c", code, PYTHONPATH=str(folder)
    )
    assert done.stdout.strip() == str(folder) or sys.version_info < (3, 11)


def test_checkout_runs_its_own_code(tmp_path):
    """That folder's code is what was asked for; it need not be installed."""
    for package in ("launcher", "trainer"):
        (tmp_path / package).symlink_to(ROOT / package)
    code = "import launcher, trainer, sys; sys.exit(not trainer.__file__.startswith(sys.argv[1]))"
    (tmp_path / "check.py").write_text(code, encoding="utf-8")
    done, _ = run(tmp_path, sys.executable, "-m", "check", str(tmp_path))
    assert done.returncode == 0
    assert run(tmp_path, sys.executable, "-m", "launcher", "--version")[0].returncode == 0


def test_removed_current_folder_causes_no_traceback(tmp_path):
    """As any program does."""
    command = f"mkdir gone && cd gone && rmdir ../gone && exec {sys.executable} -m launcher --version"
    done, _ = run(tmp_path, "sh", "-c", command)
    assert (done.returncode, done.stderr) == (0, "")
