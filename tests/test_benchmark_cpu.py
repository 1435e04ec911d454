"""The benchmark of training on processors: both ways train, turns are counted right, and the table has the right ratios.

Times are not asserted.
"""

import io
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(
    str(Path(__file__).parents[1] / "benchmarks")
)  # at the end: benchmarks/launcher.py must not hide the package

import cpu as benchmark

from trainer.data.synthetic import write_phantoms


class EnoughError(Exception):
    """To leave a training that has no end."""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    data = tmp_path_factory.mktemp("cpu") / "data"
    write_phantoms(data, images=40, side=36, progress=lambda _: None)
    return benchmark.Work(data, "densenet_tiny", 32, 8, "fp32")


@pytest.mark.parametrize("way", ["ours", "bare"])
def test_both_ways_take_steps_of_the_optimiser(work, monkeypatch, way):
    """Each step is reported once."""
    taken, reported = [], []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, *given: (taken.append(1), step(self, *given))[1])

    def after_step():
        reported.append(len(taken))
        if len(reported) == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        getattr(benchmark, way)(work, after_step)
    assert reported == [1, 2, 3]


def test_worker_takes_as_many_steps_as_asked_and_ends_with_its_parent(work, monkeypatch, capsys):
    """The first answer is that of the warm-up."""
    taken = []

    def way(_work, after_step):
        while True:
            taken.append(1)
            after_step()

    def ended(code):
        raise SystemExit(code)

    monkeypatch.setattr(benchmark, "bare", way)
    monkeypatch.setattr(benchmark.os, "_exit", ended)
    monkeypatch.setattr(sys, "stdin", io.StringIO("5\n2\n"))
    with pytest.raises(SystemExit):
        benchmark.serve(benchmark.BARE, work)
    assert len(taken) == benchmark.WARM_UP + 5 + 2
    answers = capsys.readouterr().out.splitlines()
    assert len(answers) == 3
    assert all(float(number) >= 0 for line in answers for number in line.split())


def test_table_has_the_ratios_within_each_round(capsys):
    """0.9 / 1 and 2.2 / 2, and as many times as fast as before."""
    seconds = {
        ("before", "fp32"): [(1.8, 1.0), (4.4, 2.0)],
        ("ours", "fp32"): [(0.9, 0.5), (2.2, 1.0)],
        ("bare loop", "fp32"): [(1.0, 0.5), (2.0, 0.5)],
    }
    benchmark.show(seconds, "title", 16)
    lines = capsys.readouterr().out.splitlines()
    [pair] = [line for line in lines if line.startswith("ours / bare loop, fp32")]
    assert pair.split("fp32")[1].split() == ["1.000", "(0.900-1.100)", "1.500", "(1.000-2.000)", "at", "most", "1.02"]
    [faster] = [line for line in lines if line.startswith("ours, fp32 as before, fp32")]
    assert "2.000 (2.000-2.000)" in faster
    assert not [line for line in lines if "bf16" in line], "a processor without units for it has no such row"
