"""Benchmarks that need hardware we do not have here run to their end on a small network; what they compute is right.

Times are not asserted.
"""

import importlib.util
import json
import math
import re
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn

from trainer.devices import cpu
from trainer.models import architectures
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.world import World
from trainer.training.state import optimizer_of

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))  # at the end: benchmarks/launcher.py must not hide the package

import gpu  # noqa: E402
import gpu_row  # noqa: E402
import roofline  # noqa: E402
import scaling  # noqa: E402

BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmark_takes_names_that_there_are(path):
    """They run rarely: one that imports what has been renamed would not be noticed."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)  # dataclasses look there
        spec.loader.exec_module(module)
    imported = re.compile(rf"^(from|import) {path.stem}\b", re.MULTILINE)
    texts = [each.read_text(encoding="utf-8") for each in BENCHMARKS]
    assert '__name__ == "__main__"' in path.read_text(encoding="utf-8") or any(map(imported.search, texts))


@pytest.mark.parametrize(
    ("name", "argv", "said"),
    [
        ("gpu", ["--all", "--batches", "64,a"], "argument --batches: not a number from 1 on: 'a'"),
        ("scaling", ["--ranks", "1,0"], "argument --ranks: not a number from 1 on: '0'"),
        ("scaling", ["--ranks", "1,4"], "--ranks needs 1 and 2"),
        ("cpu", ["--rounds", "0"], "argument --rounds: not a number from 1 on: '0'"),
        ("cpu", ["--before", "no-such"], "argument --before: no such commit here: 'no-such'"),
        ("inference", ["--images", "16"], "--images must be more than the 16 of a start-up"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_measured(monkeypatch, capsys, name, argv, said):
    """Otherwise a ratio would be wrong, or minutes lost."""
    monkeypatch.setattr(sys, "argv", [name, *argv])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(name).main()
    assert end.value.code == 2
    assert said in capsys.readouterr().err


COUNTED = {
    nn.Conv2d: "conv",
    nn.BatchNorm2d: "norm",
    nn.MaxPool2d: "max pool",
    nn.AvgPool2d: "pool",
    nn.Linear: "linear",
}


def seen_by_hooks(model, px):
    """Kind, values read and values written of each layer that a forward pass of one image calls."""
    with torch.device("meta"):
        network, seen = architectures.build(model, "linear", 14).eval(), []
        for module in network.modules():
            if type(module) in COUNTED:
                module.register_forward_hook(
                    lambda module, inputs, out: seen.append((COUNTED[type(module)], inputs[0].numel(), out.numel()))
                )
        network(torch.empty(1, 3, px, px))
    return seen


@pytest.mark.parametrize(("model", "px"), [("densenet121", 224), ("densenet_tiny", 96)])
def test_layers_counted_by_hand_are_those_that_the_network_calls(model, px):
    counted = [
        (each.kind.removeprefix("concat "), each.read, each.written)
        for each in roofline.layers(roofline.SHAPES[model], px)
    ]
    is_global_pool = [
        each[0] == "pool" and after[0] == "linear" for each, after in zip(counted, [*counted[1:], ("",)], strict=True)
    ]
    assert sum(is_global_pool) == 1  # a function, which hooks do not see
    assert [each for each, is_hidden in zip(counted, is_global_pool, strict=True) if not is_hidden] == seen_by_hooks(
        model, px
    )


def test_bytes_of_an_image_follow_from_the_passes_over_the_layers():
    """The tables of the module, once more, from the sums over the layers that hooks see."""
    seen, shape = seen_by_hooks("densenet121", 224), roofline.DenseShape()
    sums = {
        kind: [sum(each[which] for each in seen if each[0] == kind) for which in (1, 2)]
        for kind in set(COUNTED.values())
    }
    sums["pool"] = [sums["pool"][0] + 1024 * 49, sums["pool"][1] + 1024]  # the global one
    concatenated = sum(
        read
        for (before, _, written), (kind, read, _) in pairwise(seen)
        if kind == "norm" and (before, written) != ("conv", read)
    )
    forward = sum(map(sum, sums.values())) + sums["norm"][0]
    backward = 2 * sum(sums["conv"]) + 2 * sum(sums["linear"]) + sum(sums["pool"]) + sum(sums["max pool"])
    backward += 3 * sums["norm"][0] + 2 * sums["norm"][1] + concatenated - 3 * 224**2
    positions = 2 * sums["max pool"][1]
    assert roofline.image_bytes(shape, 224, value_bytes=4, training=True) == 4 * (forward + backward) + positions
    assert roofline.image_bytes(shape, 224, value_bytes=2, training=False) == 2 * (forward - sums["norm"][0])


def test_bound_counts_the_optimiser_once_a_step():
    """As if no image moved a byte, a larger batch would share what Adam moves."""
    shape = roofline.SHAPES["densenet_tiny"]
    rates = [
        roofline.bound_images_per_s(
            shape, 32, batch=batch, parameters=10**9, value_bytes=2, training=True, bytes_per_s=28e9
        )
        for batch in (1, 4)
    ]
    assert rates == pytest.approx([1, 4], rel=1e-3)


@pytest.fixture(scope="module")
def small_data(tmp_path_factory):
    """Folder of the data set, and later of the decoded images."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def small_run(tmp_path_factory, small_data):
    """Exit code, folder and printed text of a whole run on a small network, in this process."""
    folder, lines = tmp_path_factory.mktemp("gpu"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu.tempfile, "TemporaryDirectory", lambda: nullcontext(small_data))
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(words)))
        argv = ["--all", "--tiny", "--device", "cpu", "--compile", "off", "--to", str(folder)]
        code = gpu.main(argv, measure=gpu.in_this_process)
    return code, folder, "\n".join(lines)


def test_every_row_is_measured_printed_and_kept(small_run):
    code, folder, printed = small_run
    rows = [json.loads(line) for line in (folder / "gpu.jsonl").read_text(encoding="utf-8").splitlines()]
    assert code == 0
    assert [(each["what"], each["batch"]) for each in rows] == [
        ("bandwidth", 0),
        ("bar, eager", 4),
        ("ours, eager", 4),
        ("amp", 4),
        ("fp32", 4),
        ("bar, eager", 2),
        ("ours, eager", 2),
        ("inference, eager", 2),
        ("fp32", 2),
        ("amp", 2),
    ]
    assert all(len(each["seconds"]) == 2 and min(each["seconds"]) > 0 for each in rows[1:])
    assert all(len(each["to_bar"]) == 2 for each in rows if each["what"].startswith("ours"))
    assert (folder / "gpu.md").read_text(encoding="utf-8") in printed
    assert printed.index("| 4 | amp |") < printed.index("| 2 | amp |"), "as they came, before the table in order"


def test_table_names_what_was_not_compiled_the_bound_and_the_aim(small_run):
    _, folder, _ = small_run
    table = (folder / "gpu.md").read_text(encoding="utf-8")
    assert "not compiled: --compile off" in table
    assert "GB/s in a copy, so at most" in table
    assert re.search(r"Aim: ours at least 0\.97 of the bar; \d\.\d{3} with batch 2.*small network says nothing", table)


@pytest.mark.usefixtures("small_run")
def test_loop_does_not_wait_for_a_device_that_notices_it_between_logs(small_data):
    """And the check sees a view that does."""
    with small_loop(small_data) as (run, training):
        assert gpu_row.synchronisation(run, training) == "no host sync in 2 steps"
        assert gpu_row.synchronisation(replace(run, device=cpu), training) == "", "the processor cannot tell"
        training.feed = replace(training.feed, view=reading(training.feed.view))
        assert gpu_row.synchronisation(run, training) == "the host waits for the device: read"


def reading(view):
    """A view whose draws depend on a value on the host."""
    return lambda x_N1SS, draws_DN: view(x_N1SS, draws_DN + 0 * x_N1SS[0, 0, 0, 0].item())


@contextmanager
def small_loop(data):
    """A run of the benchmark on a processor that notices when a value is read."""
    config = gpu_row._config(gpu_row.Row("ours", 4), SIZES, data)
    config = replace(config, name="synchronisation", epochs=9)
    given = gpu_row.opened(config, World(), Reporter(0), RankLog(0))
    with given as (run, training), run.prefix.writer.running():
        like_gpu = {"forbid_sync": without_reading, "optimizer_options": lambda: {"fused": True}}
        on_gpu = replace(run, device=SimpleNamespace(**vars(cpu) | like_gpu))
        training.optimizer = optimizer_of(on_gpu, training.network)
        yield on_gpu, training


@contextmanager
def without_reading():
    """As a GPU's: reading a value raises."""

    def refuse(*_):
        raise RuntimeError("read")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "item", refuse)
        yield


SIZES = gpu_row.Sizes(
    device="cpu", compile="off", model="densenet_tiny", px=32, images=16, rounds=2, copied_bytes=2**20
)


def measure_with(**ends):
    """A measurement that ends for these kinds of rows as given, without measuring."""

    def measure(row, sizes, data, limit_s):
        problem = ends.get(row.kind)
        if problem is not None:
            raise problem
        yield gpu_row.Result(row.kind, row.batch, seconds=(0.5,), precision="bf16", bytes_per_s=1e9)

    return measure


def test_row_without_memory_is_a_row_and_the_next_one_runs(monkeypatch, tmp_path, capsys):
    failing = measure_with(amp=torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"))
    monkeypatch.setattr(gpu, "measured", lambda row, *others: failing(row, *others, 0))
    report = gpu.Report(SIZES, None)
    gpu.run_all(
        [gpu_row.Row("amp", 4), gpu_row.Row("fp32", 4)], report, tmp_path, ends_s=math.inf, measure=gpu.in_this_process
    )
    assert [(each.what, each.remark) for each in report.results] == [("amp", "out of memory"), ("fp32", "")]
    assert "| 4 | amp |  |  |  |  |  |  | out of memory |" in capsys.readouterr().out


def test_other_failures_are_not_taken_for_a_want_of_memory(monkeypatch):
    failing = measure_with(amp=RuntimeError("no kernel image"))
    monkeypatch.setattr(gpu, "measured", lambda row, *others: failing(row, *others, 0))
    with pytest.raises(RuntimeError, match="no kernel image"):
        list(gpu.in_this_process(gpu_row.Row("amp", 4), SIZES, ROOT, 0.0))


def test_rows_for_which_no_time_is_left_are_named(tmp_path, capsys):
    report = gpu.Report(SIZES, tmp_path)
    gpu.run_all(gpu.rows_of([256, 64], [1]), report, tmp_path, ends_s=time.monotonic(), measure=measure_with())
    assert {each.remark for each in report.results} == {"left out: only 0 s were left"}
    assert len(report.results) == len(gpu.rows_of([256, 64], [1]))
    assert "Aim: ours at least 0.97 of the bar; not measured." in (tmp_path / "gpu.md").read_text(encoding="utf-8")
    capsys.readouterr()


def test_row_of_a_process_of_its_own_is_read_back(monkeypatch, tmp_path, warm):
    monkeypatch.setattr(gpu.sys, "executable", warm)
    (result,) = gpu.in_a_process(gpu_row.Row("fp32", 4), SIZES, tmp_path, 300.0)
    assert (result.what, result.batch, result.precision, len(result.seconds)) == ("fp32", 4, "fp32", 2)


class LateTimeout(subprocess.Popen):
    """Its time is over as soon as the process has printed what it prints."""

    def communicate(self, *args, timeout=None):
        if timeout is None:
            return super().communicate(*args)
        while not Path(self.args[-1], "printed").exists():
            time.sleep(0.01)
        raise subprocess.TimeoutExpired(self.args, timeout)


PRINTS = """import pathlib, sys, time
print("noise")
print('{"what": "bar", "batch": 4}', flush=True)
pathlib.Path(sys.argv[-1], "printed").touch()
"""


def test_row_that_hangs_leaves_time_for_others(tmp_path):
    """Its limit is half of what is left."""
    limits = []

    def measure(row, sizes, data, limit_s):
        limits.append(limit_s)
        yield gpu_row.Result(row.kind, row.batch)

    for left_s in (1000, 100):
        rows = [gpu_row.Row("amp", 4)]
        gpu.run_all(rows, gpu.Report(SIZES, None), tmp_path, ends_s=time.monotonic() + left_s, measure=measure)
    assert 400 < limits[0] <= 500
    assert limits[1] == gpu.LEAST_S


@pytest.mark.parametrize(
    ("ends", "popen", "remark"),
    [
        ("sys.exit(9)", subprocess.Popen, "failed with exit code 9, see above"),
        ("time.sleep(600)", LateTimeout, "cut off after 7 s"),
    ],
    ids=["failed", "too slow"],
)
def test_process_that_fails_or_takes_too_long_keeps_what_it_has_printed(monkeypatch, tmp_path, ends, popen, remark):
    (tmp_path / "gpu.py").write_text(f"def main():\n{indent(PRINTS + ends, ' ')}", encoding="utf-8")
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    monkeypatch.setattr(gpu.subprocess, "Popen", popen)
    results = list(gpu.in_a_process(gpu_row.Row("ours", 4), SIZES, tmp_path, 7.0))
    assert [(each.what, each.remark) for each in results] == [("bar", ""), ("ours", remark)]


def test_median_has_the_interval_of_the_sign_test():
    """Of 10 values, the interval from the second to the ninth contains the median in 97.9 % of cases."""
    found = scaling.estimate([9, 1, 8, 2, 7, 3, 6, 4, 5, 10])
    assert (found.median, found.low, found.high) == (5.5, 2, 9)
    assert scaling.estimate([3, 1, 2]) == scaling.Estimate(2, 1, 3)


def test_overlap_is_the_part_of_the_all_reduce_that_a_step_does_not_wait_for():
    assert scaling.overlap(step=1.0, parallel=1.25, reduction=1.0) == 0.75
    assert scaling.overlap(step=1.0, parallel=1.0, reduction=0.5) == 1
    assert scaling.overlap(step=1.0, parallel=2.0, reduction=0.5) == -1


def test_part_of_the_all_reduce_before_the_last_gradient_can_overlap():
    """The last bucket never does, so that one bucket has nothing to run beside."""
    assert scaling.beside([(0, 1), (2, 5), (4, 6)], last_start=4) == 0.5
    assert scaling.beside([(3, 5)], last_start=3) == 0


def test_inputs_of_the_ring_give_the_times_they_were_computed_from():
    bytes_per_s, latency_s = scaling.ring_inputs(4, 1e6, small_s=0.006, whole_s=0.156)
    assert bytes_per_s == pytest.approx(1e7)
    assert latency_s == pytest.approx(0.001)
    assert scaling.ring_s(4, 1e6, bytes_per_s=bytes_per_s, latency_s=latency_s) == pytest.approx(0.156)
    assert scaling.ring_s(8, 1e6, bytes_per_s=1e7, latency_s=0.001) == pytest.approx(0.175 + 0.014)


def test_rounds_are_measured_on_one_rank_and_the_table_says_how_ranks_share_cores(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        found = scaling.measured(scaling.Size("densenet_tiny", batch=2, px=32, rounds=2), [1])
        rank = scaling.Rank(scaling.Size("densenet_tiny", batch=2, px=32, rounds=2), 2, None)
        assert rank._bucket_sizes() == [sum(each.numel() for each in rank.network.parameters())]
        two = {way: [rank.value(way), rank.value(way)] for way in rank.ways}
    finally:
        dist.destroy_process_group()
    assert list(found) == [1]
    assert two[scaling.BESIDE] == [0, 0], "one bucket"
    assert {way: len(values) for way, values in found[1].items()} == {scaling.STEP: 2}
    lines = scaling.table({**found, 2: two}, cores=1)
    assert any(line.startswith("| 2, oversubscribed | overlap, one bucket |") for line in lines)
    assert any("error" in line for line in scaling.prediction({**found, 2: two}, 1000))
