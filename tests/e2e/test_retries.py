"""`make e2e` without a cluster: what it says of tests that fail once, always, or are all skipped."""

import os
import subprocess
from pathlib import Path

import pytest
import retries

ROOT = Path(__file__).parents[2]

FLAKY = """
import pathlib
def test_{number}():
    before = pathlib.Path("seen-{number}")
    seen = before.exists()
    before.touch()
    assert seen
"""
"""A test that passes when it is run again."""


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run tests of this text: the exit code and the lines about retries."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # four times as quick
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def start(text):
        (tmp_path / "test_some.py").write_text(text)
        code = retries.run(["-q"], ["test_some.py"])
        return code, [line for line in capfd.readouterr().out.splitlines() if line.startswith("e2e: ")]

    return start


def test_run_that_passes_says_nothing_of_retries(run):
    """And runs each test once."""
    assert run("def test_good(): pass\n") == (0, [])


@pytest.mark.parametrize(("flaky", "code"), [(1, 0), (2, 0), (3, 1)])
def test_flaky_tests_are_named_and_more_than_two_fail_the_run(run, flaky, code):
    """A retry must not hide a fault that comes and goes."""
    ended, lines = run("".join(FLAKY.format(number=number) for number in range(flaky)))
    assert ended == code
    assert lines[0] == f"e2e: running the tests that failed a second time: {flaky}"
    assert lines[1 : flaky + 1] == [f"e2e: flaky: test_some.py::test_{number}" for number in range(flaky)]
    assert lines[flaky + 1 :] == (["e2e: failed: 3 tests are flaky, more than 2"] if code else [])


def test_test_that_fails_twice_fails_the_run_and_is_not_called_flaky(run):
    """The flaky one beside it is."""
    ended, lines = run(FLAKY.format(number=0) + "def test_bad(): assert False\n")
    assert ended == 1
    assert [line for line in lines if "flaky" in line] == ["e2e: flaky: test_some.py::test_0"]


def test_only_failed_tests_are_run_again(run, tmp_path):
    """A cluster run takes half an hour."""
    run(FLAKY.format(number=0) + "def test_good():\n    with open('good', 'a') as file: file.write('x')\n")
    assert (tmp_path / "good").read_text() == "x"


def test_tests_that_cannot_be_collected_are_not_tried_again(run):
    """A syntax error passes no second time."""
    assert run("import nowhere\n") == (2, [])


def test_run_whose_tests_are_all_skipped_says_that_nothing_was_tested(run):
    """Exit code 0 alone would look like a success."""
    ended, lines = run("import pytest\ndef test_a(): pytest.skip('no cluster')\n")
    assert (ended, lines) == (0, ["e2e: nothing was tested: every test was skipped"])


@pytest.mark.parametrize(
    ("tool", "reason"),
    [
        ("/nowhere", "there is neither a KUBECONFIG nor a cluster tool"),
        ("/bin/false", "the cluster tool cannot start a cluster on this machine"),
    ],
)
def test_without_a_cluster_the_last_line_says_that_nothing_was_tested(tool, reason):
    """And the command is not run."""
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    done = subprocess.run(
        [ROOT / ".ci/e2e", "/bin/false"],
        env=environment | {"CLUSTER_TOOL": tool},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == f"e2e: nothing was tested: {reason}"
