"""`trainer train`: what the command loads and prints."""

import subprocess
import sys

from trainer.__main__ import main
from trainer.training.final_scoring import Results


def test_training_starts_without_matplotlib():
    """Every process would wait for fonts at every start, and one of them draws, at the end."""
    code = "import sys, trainer.commands.train; print(*(name for name in ('matplotlib', 'sklearn', 'onnx') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_command_prints_where_checkpoint_results_and_report_are(finished_run, capsys, monkeypatch):
    """A report that nobody is told of is read by nobody."""
    flags = ["train", f"--data={finished_run.data}", "--output=o", "--name=r", "--preset=smoke"]
    for page, told in (("o/r/report/index.html", True), (None, False)):
        monkeypatch.setattr("trainer.commands.train.train_run", lambda *_, page=page: Results(1, "c", "r", page, {}))
        assert main(flags) == 0
        out = capsys.readouterr().out
        assert out.startswith("best checkpoint  c\n")
        assert out.endswith("results          r\n")  # the last line of a pod's log
        assert ("report           o/r/report/index.html\n" in out) is told
