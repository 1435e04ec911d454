"""What `make test` would run, of all tests or of one room."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def dry_run(*words):
    """What `make` would do; nothing of a `make test` around it is heard."""
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "ROOM"}}
    command = ["make", "--dry-run", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        ([], []),
        (["ROOM=storage"], ["tests/trainer/storage"]),
        (["ROOM=doctor"], ["tests/launcher/doctor"]),
        (["ROOM=runs"], ["tests/trainer/runs", "tests/launcher/runs"]),
    ],
    ids=" ".join,
)
def test_make_test_runs_all_tests_or_those_of_one_room_in_both_packages(words, folders):
    """A change in one room need not wait for all the others."""
    done = dry_run("test", *words)
    assert done.returncode == 0, done.stderr
    command = done.stdout.splitlines()[-1].split()
    assert command[:3] == [".venv/bin/python", "-m", "pytest"]
    assert [word for word in command if word.startswith("tests")] == folders


@pytest.mark.parametrize("room", ["cellar", "__pycache__", "test_main.py", "runs/.."])
def test_room_that_is_not_there_is_refused_with_the_list_of_rooms(room):
    """pytest would run everything, or nothing, and call both a success."""
    done = dry_run("test", f"ROOM={room}")
    assert done.returncode == 2
    assert "pytest" not in done.stdout
    [said] = [line for line in done.stderr.splitlines() if "***" in line]
    assert f"there is no room `{room}`" in said
    listed = said.partition("ROOM is one of ")[2].removesuffix(".  Stop.").split()
    packages = [ROOT / "trainer", ROOT / "launcher"]
    rooms = {path.parent.name for package in packages for path in package.glob("*/__init__.py")}
    assert set(listed) == {name for name in rooms if list((ROOT / "tests").glob(f"*/{name}/test_*.py"))}
