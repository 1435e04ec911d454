"""The trainer's command line: what is printed where, and exit codes."""

import json
import subprocess
import sys

import pytest

from trainer import __main__ as program
from trainer.data.labels import FINDINGS
from trainer.errors import EXIT_CODES, KnownError, PeerError, TryAgainError
from trainer.runtime.failure_report import REPORT_FILE


@pytest.fixture
def phantoms(tmp_path, capsys):
    """Thirty phantoms, drawn by the command."""
    assert program.main(["synth", "--out", str(tmp_path / "cxr"), "--images", "30", "--side", "32"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cxr'}\n"
    return tmp_path / "cxr"


def test_stats_prints_a_table_csv_or_json(phantoms, capsys):
    """Data on stdout, nothing else there."""
    for form, shown in (("table", "Atelectasis  "), ("csv", "Atelectasis,"), ("json", '"Atelectasis"')):
        assert program.main(["stats", "--data", str(phantoms), "--format", form]) == 0
        out = capsys.readouterr()
        assert shown in out.out
        assert out.err == ""
    assert all(finding in out.out for finding in FINDINGS)
    json.loads(out.out)


def test_stats_needs_no_torch(phantoms):
    """It is what one runs first, on any machine."""
    code = "import sys; from trainer.__main__ import main; main(sys.argv[1:]); print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, "stats", "--data", str(phantoms)], capture_output=True, text=True, check=True
    )
    assert done.stderr == "False\n"


def test_training_starts_without_matplotlib():
    """Every process would wait for fonts at every start, and one of them draws, at the end."""
    code = "import sys, trainer.commands.train; print(*(name for name in ('matplotlib', 'sklearn', 'onnx') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("\n", "")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        pytest.param(
            ["stats", "--data", "/no/such/place"], "no such directory, got `/no/such/place`", id="no such directory"
        ),
        pytest.param(["stats"], "--data", id="flag missing"),
        pytest.param(["dance"], "dance", id="unknown command"),
        pytest.param(["synth", "--out", "x", "--images", "3"], "got 3 (from `--images`)", id="too few images"),
        pytest.param(["train", "--data", "d", "--output", "o", "--name", "A"], "lower-case", id="name with capitals"),
        pytest.param(
            ["train", "--data", "/no/such/place", "--output", "o", "--name", "a"], "/no/such/place", id="no data set"
        ),
    ],
)
def test_bad_input_is_one_line_with_a_hint_and_exit_code_2(argv, complaint, capsys):
    """No traceback reaches a user."""
    assert program.main(argv) == 2
    out = capsys.readouterr()
    assert out.out == ""
    error, _, hint = out.err.partition("\n\n")
    assert error.startswith("error: ")
    assert complaint in error
    assert "\n" not in error
    assert hint.startswith("hint: ")


def test_debug_shows_the_traceback(capsys):
    """For whoever reports a bug."""
    assert program.main(["stats", "--data", "/no/such/place", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("problem", "code", "said"),
    [
        pytest.param(TryAgainError("disk full"), 75, "error: disk full\n", id="known"),
        pytest.param(PeerError(3), 3, "", id="a peer has said it"),
        pytest.param(KeyboardInterrupt(), 130, "interrupted\n", id="Ctrl-C"),
        pytest.param(
            ZeroDivisionError("x"),
            1,
            "error: bug: ZeroDivisionError: x\n\nhint: run again with --debug for the traceback\n",
            id="bug",
        ),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_text(problem, code, said, monkeypatch, capsys):
    """The table in docs/faults.md."""

    def fail(argv):
        raise problem

    monkeypatch.setattr(program, "_run", fail)
    assert program.main(["train"]) == code
    assert capsys.readouterr().err == said
    assert code in EXIT_CODES


def test_every_error_has_a_documented_exit_code():
    """A new error class must not invent one."""
    classes = [cls for cls in KnownError.__subclasses__() if cls is not PeerError]
    assert {cls.exit_code for cls in classes} <= EXIT_CODES.keys()


def test_only_the_first_worker_of_a_node_prints_a_flag_error(monkeypatch, capsys):
    """Eight workers have the same flags."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert program.main(["train", "--nonsense"]) == 2
    assert capsys.readouterr().err == ""


def test_worker_restarted_after_a_permanent_error_exits_at_once(tmp_path, monkeypatch, capsys):
    """Bad input is met once."""
    monkeypatch.setenv(REPORT_FILE, str(tmp_path / "report"))
    assert program.main(["train", "--nonsense"]) == 2
    assert capsys.readouterr().err != ""
    assert program.main(["stats", "--data", "/anything"]) == 2
    assert capsys.readouterr().err == ""


def test_each_line_of_a_workers_error_starts_with_its_rank(monkeypatch, capsys):
    """As all its lines, so that they can be filtered."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert program.main(["train", "--nonsense"]) == 2
    assert all(line.startswith("[rank 0] ") for line in capsys.readouterr().err.splitlines())


def test_incomplete_environment_is_an_error_not_a_traceback(monkeypatch, capsys):
    """Half of torchrun's variables, copied from somewhere."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert program.main(["train", "--data", "d", "--output", "o", "--name", "n"]) == 2
    assert "cannot determine the rank of this worker" in capsys.readouterr().err


def test_operators_node_rank_is_not_taken_for_a_workers_rank(monkeypatch):
    """In a pod RANK and WORLD_SIZE describe the node; only torchrun sets LOCAL_RANK."""
    from trainer.errors import InputError
    from trainer.runtime.world import World, read_world

    assert read_world({"RANK": "3", "WORLD_SIZE": "16"}) == World()
    with pytest.raises(InputError, match="LOCAL_WORLD_SIZE"):
        read_world({"RANK": "3", "WORLD_SIZE": "16", "LOCAL_RANK": "0"})
