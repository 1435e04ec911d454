"""The first steps against the CPU: what is sound passes and changes nothing, what is not stops the run before training."""

import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from recipes import placed, tiny

from trainer import devices
from trainer.config import from_argv
from trainer.data.synthetic import write_phantoms
from trainer.devices import cpu
from trainer.errors import InputError, JobFailedError
from trainer.runs.manifest import committed
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.watchdog import COMPILING, Watchdog
from trainer.runtime.world import World
from trainer.storage import LocalStorage
from trainer.training import parity
from trainer.training.loop import train

SERIES = re.compile(
    r"step (\d+): loss [\w.+-]+ on [^,]+, [\w.+-]+ on the CPU \([\w.]+%\); gradient norm [\w.+-]+ on [^,]+, [\w.+-]+ on the CPU "
    r"\([\w.]+%\); cosine of the gradients [\w.+-]+ on [^,]+, [\w.+-]+ on the CPU \([\w.]+%\)"
)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_phantoms(root, images=60, side=48)
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def started(phantoms, cache, output, name, *flags, on_line=None):
    """What a run said, begun or resumed in this output."""
    lines = []
    words = placed(tiny(2), phantoms, output, cache, name, *flags)
    train(from_argv([*words, "--no-report"]), World(), Reporter(0, on_line=on_line or lines.append), RankLog(0))
    return lines


@pytest.fixture
def run(phantoms, cache, tmp_path):
    """Start or go on with a run: name and flags to what it said."""

    return partial(started, phantoms, cache, tmp_path)


@pytest.fixture
def check(phantoms, cache, tmp_path):
    """Start a run and end it with its parity check: name and flags to what it said."""

    class PassedError(Exception):
        pass

    def start(name, *flags):
        lines = []

        def noted(line):
            lines.append(line)
            if "parity check passed" in line:
                raise PassedError

        with pytest.raises(PassedError):
            started(phantoms, cache, tmp_path, name, *flags, on_line=noted)
        return lines

    return start


@pytest.fixture(scope="module")
def plain(phantoms, cache, tmp_path_factory):
    """A whole run without a check."""
    output = tmp_path_factory.mktemp("plain")
    started(phantoms, cache, output, "plain")
    return output / "plain"


@pytest.fixture(scope="module")
def trained(phantoms, cache, tmp_path_factory):
    """A run after 72 steps in bf16, and its flags up to the number of steps."""
    output, flags = tmp_path_factory.mktemp("trained"), ("--precision", "bf16", "--epochs", "40", "--max-steps")
    started(phantoms, cache, output, "r", *flags, "72")
    return output / "r", flags


@dataclass(frozen=True)
class PassedRun:
    """A run that has passed its check of one step, after its first step and after two more starts."""

    first: Path
    later: Path
    said: list[str]
    """By the second start, which asks for the check as the first did; the third does not."""


@pytest.fixture(scope="module")
def passed_run(phantoms, cache, tmp_path_factory):
    output, flags = tmp_path_factory.mktemp("passed"), ("--parity-check", "1", "--max-steps")
    start = partial(started, phantoms, cache, output, "r")
    start(*flags, "1")
    shutil.copytree(output / "r", output / "first")
    said = start(*flags, "2")
    start("--max-steps", "3")
    return PassedRun(output / "first", output / "r", said)


def like_cpu(**changes):
    """The CPU as another device."""
    members = {name: getattr(cpu, name) for name in dir(cpu) if not name.startswith("_")}
    return SimpleNamespace(**(members | changes))


def state_bytes(folder):
    """Bytes of the last state of a run."""
    storage = LocalStorage(str(folder))
    last = committed(storage)[-1]
    return storage.read(f"checkpoints/step-{last.step:08d}/state.pt")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_run_with_a_parity_check_ends_bit_for_bit_as_one_without(run, tmp_path, precision):
    """Weights, optimiser, random states, order of images and BatchNorm's statistics are the run's own."""
    run("plain", "--precision", precision, "--head", "hidden")
    lines = run("checked", "--precision", precision, "--head", "hidden", "--parity-check", "4")
    assert state_bytes(tmp_path / "plain") == state_bytes(tmp_path / "checked")
    assert sum("parity check, step" in line for line in lines) == 4
    [passed] = [line for line in lines if "parity check passed" in line]
    assert "4 steps" in passed


def test_sound_device_passes_at_every_restart(trained, check, tmp_path):
    """Of trained weights the gradient is so small that rounding is beyond the limits: 5.8 % were seen of bf16 at step 72."""
    run, flags = trained
    shutil.copytree(run, tmp_path / "r")
    lines = check("r", *flags, "73", "--parity-check", "12")
    assert lines[-1].startswith("parity check passed: 12 steps")
    steps = [SERIES.search(line)[1] for line in lines if "parity check, step" in line]
    assert steps == [str(step) for step in range(73, 85)]


def test_resumed_run_is_compared_from_its_step_and_ends_as_an_unbroken_one(plain, run, tmp_path):
    """Another image may run it after a restart. The batches are those that it trains on next."""
    run("parts", "--max-steps", "3")
    lines = run("parts", "--parity-check", "2")
    steps = [SERIES.search(line)[1] for line in lines if "parity check, step" in line]
    assert steps == ["4", "5"]
    assert state_bytes(plain) == state_bytes(tmp_path / "parts")


@pytest.mark.parametrize(("model", "steps"), [("resnet50", 3), ("densenet_tiny", 6)])
def test_bf16_of_the_processor_is_within_the_limits(check, model, steps):
    """Sound arithmetic must pass, also with random weights and a high rate; ResNet-50 comes nearest to the limits."""
    flags = ("--model", model, "--precision", "bf16", "--max-steps", "1", "--parity-check", str(steps))
    assert any(f"parity check passed: {steps} steps" in line for line in check("r", *flags))


def test_frozen_backbone_is_compared_in_its_head_alone(check):
    """As it is trained."""
    flags = ("--backbone", "frozen", "--head", "hidden", "--precision", "bf16", "--max-steps", "1")
    assert any("parity check passed: 3 steps" in line for line in check("r", *flags, "--parity-check", "3"))


class _WrongLogits(torch.nn.Module):
    """A network on a device that loses half of the findings."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x) * torch.tensor([0.0, 1.0] * 7)


class _WrongGradients(torch.nn.Module):
    """A network on a device whose backward pass is 10 % too small; its loss is right."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        logits = self.network(x)
        return 0.9 * logits + 0.1 * logits.detach()


class _OppositeGradients(torch.nn.Module):
    """A network on a device whose gradients have the opposite sign; loss and norms are right."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        logits = self.network(x)
        return 2 * logits.detach() - logits


class _SwappedGradients(torch.nn.Module):
    """A network on a device that gives the gradients of findings to others: their norm is nearly right."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        logits = self.network(x)
        swapped = logits.roll(1, dims=1)
        return logits.detach() + swapped - swapped.detach()


class _NotFinite(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x) * float("nan")


@pytest.mark.parametrize("wrong", [_WrongLogits, _WrongGradients, _OppositeGradients, _NotFinite])
def test_wrong_device_stops_the_run_before_its_first_step_with_both_series(run, monkeypatch, tmp_path, wrong):
    """In eager mode 9 to 10 points of AUC were lost elsewhere without an error."""
    monkeypatch.setattr(devices, "find", lambda _: like_cpu(compiled=lambda module, _: wrong(module)))
    with pytest.raises(
        JobFailedError, match=r"differ from the CPU in fp32 by more than 2% of loss, 5% of gradient norm or 10% of"
    ) as stop:
        run("r", "--parity-check", "3")
    assert stop.value.exit_code == 3
    assert "(`--parity-check 3`)" in str(stop.value)
    assert len(SERIES.findall(str(stop.value))) == 3
    assert committed(LocalStorage(str(tmp_path / "r"))) == []


def test_direction_of_the_gradient_is_compared_and_not_only_its_norm(run, monkeypatch):
    """Gradients of the opposite sign have loss and norm of the right ones: the CPU's optimiser goes the wrong way too."""
    monkeypatch.setattr(devices, "find", lambda _: like_cpu(compiled=lambda module, _: _OppositeGradients(module)))
    with pytest.raises(JobFailedError) as stop:
        run("r", "--parity-check", "2")
    assert len(re.findall(r"cosine of the gradients -1 on cpu in fp32, 1 on the CPU \(200.00%\)", str(stop.value))) == 2
    assert "(0.00%); gradient norm" in str(stop.value)


def test_gradients_given_to_other_findings_are_found(run, monkeypatch):
    """Each is right, at the wrong place."""
    monkeypatch.setattr(devices, "find", lambda _: like_cpu(compiled=lambda module, _: _SwappedGradients(module)))
    with pytest.raises(JobFailedError, match="cosine of the gradients"):
        run("r", "--parity-check", "10")


def test_sound_device_passes_when_the_run_starts_from_trained_weights(trained, check):
    """Their gradients are so small that rounding is beyond the limits; what is compared does not depend on the start."""
    weights = ("--weights", str(trained[0] / "model/model.safetensors"))
    lines = check("s", *weights, "--precision", "bf16", "--max-steps", "1", "--parity-check", "12")
    fresh = check("t", "--precision", "bf16", "--max-steps", "1", "--parity-check", "12")
    said = [[line for line in each if "parity check" in line] for each in (lines, fresh)]
    assert said[0] == said[1]
    assert "parity check passed: 12 steps" in said[0][-1]


def test_run_from_given_weights_ends_bit_for_bit_as_one_without_the_check(plain, run, tmp_path):
    """The network that is drawn for the check replaces nothing of the run, nor its random states."""
    weights = ("--weights", str(plain / "model/model.safetensors"))
    run("plain", *weights)
    run("checked", *weights, "--parity-check", "2")
    assert state_bytes(tmp_path / "plain") == state_bytes(tmp_path / "checked")


def test_values_that_are_not_finite_on_the_processor_are_no_pass(run, monkeypatch):
    """NaN on both is nothing that was compared."""
    monkeypatch.setattr(devices, "find", lambda _: cpu)
    real = parity.add_gradients
    monkeypatch.setattr(parity, "add_gradients", lambda *args: real(*args) * float("nan"))
    with pytest.raises(
        JobFailedError, match=r"cannot compare cpu in fp32 with the CPU: .* step 1 is not finite on the CPU"
    ):
        run("r", "--parity-check", "3")


def test_wrong_optimiser_of_a_device_shows_in_the_next_loss(run, monkeypatch):
    """Gradients alone would not tell."""
    monkeypatch.setattr(devices, "find", lambda _: like_cpu(flush=lambda: None, name="other"))
    real = parity.update

    def update(run, training):
        before = [parameter.detach().clone() for parameter in training.network.parameters()]
        norm = real(run, training)
        if run.device.name == "other":
            with torch.no_grad():
                for parameter, old in zip(training.network.parameters(), before, strict=True):
                    parameter.add_(old - parameter)  # no step at all
        return norm

    monkeypatch.setattr(parity, "update", update)
    with pytest.raises(JobFailedError, match="of 8 steps differ"):
        run("r", "--parity-check", "8", "--lr", "0.01")


def test_processor_computes_a_large_batch_in_pieces_with_equal_sums(check, monkeypatch):
    """A batch for an accelerator may need more memory than the pod has."""
    monkeypatch.setattr(parity, "PIECE", 3)
    lines = check("r", "--precision", "fp32", "--max-steps", "1", "--parity-check", "2")
    assert any("at most 0.00% of loss, 0.00% of gradient norm, 0.00% of cosine" in line for line in lines)


def test_every_piece_is_known_to_the_watchdog_and_other_ranks_rest(check, monkeypatch):
    """The processor takes minutes for a step; ranks that wait know nothing of it."""
    noted = []
    real, pause = Watchdog.heartbeat, Watchdog.pause

    def heartbeat(self, doing, *, timeout_scale=1.0, **more):
        noted.append((doing, timeout_scale))
        real(self, doing, timeout_scale=timeout_scale, **more)

    monkeypatch.setattr(Watchdog, "heartbeat", heartbeat)
    monkeypatch.setattr(Watchdog, "pause", lambda self: (noted.append(("pause", 0)), pause(self)))
    monkeypatch.setattr(parity, "PIECE", 4)
    check("r", "--max-steps", "1", "--parity-check", "1")
    first = noted.index(("parity check, step 1", COMPILING))
    assert noted[first - 1] == ("pause", 0)
    assert noted[first + 1 : first + 3] == [("parity check, step 1 on the CPU", COMPILING)] * 2
    assert noted[first + 3] == ("pause", 0)


def test_passed_check_is_skipped_by_later_starts(passed_run):
    """A lost pod must not cost it again."""
    [said] = [line for line in passed_run.said if "parity check" in line]
    assert said.startswith("parity check skipped: an earlier start of this run passed it on cpu in fp32, torch ")
    for folder in (passed_run.first, passed_run.later):  # a start without the check keeps what is known
        assert json.loads((folder / "run.json").read_text())["parity_passed"]["steps"] == 1


@pytest.mark.parametrize("other", ["steps", "precision", "torch", "hardware", "mode"])
def test_passed_check_is_repeated_only_where_it_holds_no_longer(passed_run, run, tmp_path, other):
    """In another image, on another device."""
    shutil.copytree(passed_run.later, tmp_path / "r")
    path = tmp_path / "r/run.json"
    content = json.loads(path.read_text())
    assert other in content["parity_passed"]
    content["parity_passed"][other] = "another"
    path.write_text(json.dumps(content))
    lines = run("r", "--parity-check", "1", "--max-steps", "4")
    assert any("parity check passed: 1 steps" in line for line in lines)
    assert json.loads(path.read_text())["parity_passed"]["precision"] == "fp32"


@pytest.mark.parametrize(("flags", "is_skipped"), [((), True), (("--seed", "7"), False)])
def test_passed_check_holds_for_a_start_without_a_checkpoint_if_settings_are_equal(
    passed_run, run, tmp_path, flags, is_skipped
):
    """A pod may be lost before the first checkpoint; a run of other settings under the name is another run."""
    shutil.copytree(passed_run.first, tmp_path / "r", ignore=shutil.ignore_patterns("checkpoints"))
    lines = run("r", "--parity-check", "1", "--max-steps", "1", *flags)
    assert any("parity check skipped" in line for line in lines) is is_skipped


@pytest.mark.parametrize("passed", [["?"], {}, {"device": "cpu"}, None])
def test_record_of_a_check_that_is_not_ours_is_none(passed_run, check, tmp_path, passed):
    """The check is repeated."""
    shutil.copytree(passed_run.first, tmp_path / "r", ignore=shutil.ignore_patterns("checkpoints"))
    path = tmp_path / "r/run.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"parity_passed": passed}))
    check("r", "--parity-check", "1", "--max-steps", "1")


def test_failed_check_is_not_recorded_as_passed(run, monkeypatch, tmp_path):
    """The next start must find it too."""
    monkeypatch.setattr(devices, "find", lambda _: like_cpu(compiled=lambda module, _: _OppositeGradients(module)))
    for _ in range(2):
        with pytest.raises(JobFailedError, match="cannot train on"):
            run("r", "--parity-check", "1")
    assert "parity_passed" not in json.loads((tmp_path / "r/run.json").read_text())


def test_each_step_is_reported_as_it_comes(run, monkeypatch):
    """The check takes minutes, and what it found so far must outlive its end."""
    seen = []
    real = parity.add_gradients

    def add_gradients(run, training, batch, epoch):
        if training.step == 2:
            raise JobFailedError("stopped", hint="")
        return real(run, training, batch, epoch)

    monkeypatch.setattr(parity, "add_gradients", add_gradients)
    monkeypatch.setattr(Reporter, "line", lambda _, text: seen.append(text))
    with pytest.raises(JobFailedError, match="stopped"):
        run("r", "--parity-check", "4")
    assert sum("parity check, step" in text for text in seen) == 2


def test_progress_counts_the_images_of_the_processor(check, monkeypatch):
    """Rate and time left, as of all long work."""
    monkeypatch.setattr(parity, "PIECE", 3)
    progress, done = Reporter.progress, []

    @contextmanager
    def noted(self, what, total, *unit):
        with progress(self, what, total, *unit) as advance:
            if what != "parity check":
                yield advance
                return
            yield lambda more, words="": done.append((total, more))

    monkeypatch.setattr(Reporter, "progress", noted)
    check("r", "--max-steps", "1", "--parity-check", "2")
    assert done == [(16, 3), (16, 3), (16, 2)] * 2


@pytest.mark.parametrize("steps", ["0", "-1"])
def test_parity_check_of_no_steps_is_refused(steps):
    with pytest.raises(InputError, match=f"--parity-check {steps}: it must be at least 1"):
        from_argv([*tiny(2), "--data", "/d", "--output", "/o", "--name", "r", "--parity-check", steps])


@pytest.mark.parametrize(
    ("device", "reference", "difference"),
    [
        (1.02, 1.0, 0.02),
        (0.98, 1.0, 0.02),
        (1.0, float("nan"), float("inf")),
        (float("nan"), 1.0, float("inf")),
        (float("nan"), float("nan"), float("inf")),
        (float("nan"), float("inf"), float("inf")),
        (float("inf"), float("inf"), float("inf")),
        (0.0, 0.0, 0.0),
    ],
)
def test_difference_is_relative_to_the_processor(device, reference, difference):
    one = parity.Compared(1, {"loss": device, "gradient norm": 1.0}, {"loss": reference, "gradient norm": 1.0})
    assert one.difference("loss") == pytest.approx(difference)


@contextmanager
def compiling(note=lambda: None):
    """The backend of torch.compile, without the rest of Gaudi's package; calls `note` for each graph."""
    import torch._dynamo
    from torch._dynamo.backends import registry

    graphs = []
    torch._dynamo.register_backend(
        compiler_fn=lambda graph, _inputs: (graphs.append(graph), note(), graph.forward)[2], name="hpu_backend"
    )
    try:
        yield graphs
    finally:
        torch._dynamo.reset()
        torch._dynamo.config.optimize_ddp = True
        registry._BACKENDS.pop("hpu_backend")
        registry._COMPILER_FNS.pop("hpu_backend")


def in_mode(mode):
    """The CPU as a device in this mode of Gaudi."""
    from trainer.devices import hpu

    return like_cpu(choose_mode=lambda *_: mode, compiled=hpu.compiled, mode_fact="gaudi_mode")


@dataclass(frozen=True)
class CompiledRun:
    """A run in compile mode: three steps with a check of one, then, in another process as it were, to its end."""

    path: Path
    said: list[list[str]]
    graphs: list[int] = field(default_factory=list)
    """How many each start compiled."""
    scales: list[float] = field(default_factory=list)
    """How much longer the watchdog waited while each graph was compiled."""


@pytest.fixture(scope="module")
def compiled(phantoms, cache, tmp_path_factory):
    output = tmp_path_factory.mktemp("compiled")
    made, scales, real = CompiledRun(output / "r", []), [1.0], Watchdog.heartbeat

    def heartbeat(self, doing, *, timeout_scale=1.0, **more):
        scales.append(timeout_scale)
        real(self, doing, timeout_scale=timeout_scale, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watchdog, "heartbeat", heartbeat)
        patch.setattr(devices, "find", lambda _: in_mode("compile"))
        for flags in (("--max-steps", "3", "--parity-check", "1"), ()):
            with compiling(lambda: made.scales.append(scales[-1])) as graphs:
                made.said.append(started(phantoms, cache, output, "r", *flags))
            made.graphs.append(len(graphs))
    return made


def test_run_in_compile_mode_equals_one_without_and_records_the_mode(plain, compiled):
    """Training, validation and the parity check are compiled; the state has the names of the network itself."""
    assert min(compiled.graphs) >= 2  # in training and in eval mode
    first, second = compiled.said
    assert any("on 1 x cpu in the mode compile in fp32" in line for line in first)
    assert not any("warning" in line for line in second)
    assert state_bytes(plain) == state_bytes(compiled.path)
    assert json.loads((compiled.path / "run.json").read_text())["gaudi_mode"] == "compile"


def test_graphs_are_compiled_only_while_the_watchdog_waits_longer(compiled):
    """In training after a resume within an epoch, in validation, in the parity check, and at the end."""
    assert len(compiled.scales) >= 4
    assert set(compiled.scales) == {COMPILING}


def test_run_of_compile_mode_names_another(compiled, run, monkeypatch, tmp_path):
    """And a device without modes has none to name."""
    shutil.copytree(compiled.path, tmp_path / "r")
    monkeypatch.setattr(devices, "find", lambda _: in_mode("lazy"))
    [warning] = [line for line in run("r") if "warning" in line]
    assert "in Gaudi's mode `compile` and resumes in `lazy` (`--gaudi-mode`)" in warning
    monkeypatch.setattr(devices, "find", lambda _: cpu)
    assert not any("warning" in line for line in run("r"))
    assert "gaudi_mode" not in json.loads((tmp_path / "r/run.json").read_text())


def test_run_without_a_recorded_mode_goes_on_in_any(passed_run, run, monkeypatch, tmp_path):
    """Earlier versions recorded none."""
    shutil.copytree(passed_run.later, tmp_path / "r")
    path = tmp_path / "r/run.json"
    record = json.loads(path.read_text())
    del record["parity_passed"]
    for name in ("gaudi_mode", "parity_check"):
        del record["config"][name]
    path.write_text(json.dumps(record))
    monkeypatch.setattr(devices, "find", lambda _: in_mode("lazy"))
    assert not any("warning" in line for line in run("r"))


def test_mode_of_a_device_without_modes_is_refused_before_data_is_read(run):
    with pytest.raises(InputError, match="cannot use the mode `lazy` on cpu"):
        run("r", "--gaudi-mode", "lazy", "--data", "/nowhere")
