"""Whole runs, small: what is written, what is equal to what, what is refused and when."""

import csv
import gzip
import json
from dataclasses import replace
from functools import partial
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from recipes import placed, tiny

from trainer.config import from_argv
from trainer.data.labels import FINDINGS
from trainer.data.loader import Batch
from trainer.data.synthetic import write_phantoms
from trainer.devices import cpu
from trainer.errors import InputError, JobFailedError, KnownError, TimeLimitError
from trainer.layout import TENSORBOARD, state_key
from trainer.models.architectures import build
from trainer.models.losses import LOSSES
from trainer.runs import attempts, checkpoints
from trainer.runs.checkpoint_writer import CheckpointWriter
from trainer.runs.manifest import best, committed
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.coordination import Coordination
from trainer.runtime.world import World
from trainer.storage import LocalStorage
from trainer.training import run_data
from trainer.training import setup as assembly
from trainer.training.feed import of_images
from trainer.training.loop import _NonFiniteGuard, train, train_step
from trainer.training.snapshot import TrainState, from_bytes
from trainer.training.step_inputs import EpochInputs

RECIPE = tiny(2)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Sixty small phantoms."""
    root = tmp_path_factory.mktemp("data")
    write_phantoms(root, images=60, side=48)
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all, so that images are decoded once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(phantoms, cache, tmp_path):
    """Start or go on with a run: name and flags to results."""

    def start(name, *flags, data=phantoms):
        words = placed(RECIPE, data, tmp_path, cache, name, *flags)
        return train(from_argv([*words, "--no-report"]), World(), Reporter(0), RankLog(0))

    return start


def newest(tmp_path, name):
    storage = LocalStorage(str(tmp_path / name))
    return restored(storage, committed(storage)[-1])


def restored(storage, manifest):
    return from_bytes(checkpoints.read_state(storage, manifest))


def assert_same_weights(one, other):
    assert one.step == other.step
    assert one.model.keys() == other.model.keys()
    for name, tensor in one.model.items():
        assert torch.equal(tensor, other.model[name]), name


def test_run_writes_every_documented_file(run, tmp_path, phantoms):
    """The prefix is what users, `pull` and `report` work with."""
    results = run("r", "--split", "patients:60/20/20")
    root = tmp_path / "r"
    record = json.loads((root / "run.json").read_text())
    assert record["config"]["lr"] == 1e-3
    assert record["versions"]["torch"] == torch.__version__
    assert record["images"] == 60
    document = json.loads((root / "results.json").read_text())
    assert document["checkpoint"]["step"] == results.step
    assert document["test"]["auroc"].keys() == set(FINDINGS)
    assert document["test"]["mean_auroc"] == pytest.approx(results.scores["test"].mean_auroc)
    epochs = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in epochs] == [1, 2]
    assert epochs[0]["images_per_s"] is None or epochs[0]["images_per_s"] > 0
    split = list(csv.DictReader(gzip.decompress((root / "split.csv.gz").read_bytes()).decode().splitlines()))
    assert len(split) == 60
    for name in ("val", "test"):
        rows = list(csv.DictReader((root / f"predictions/{name}.csv").read_text().splitlines()))
        assert {row["Image Index"] for row in rows} == {row["Image Index"] for row in split if row["split"] == name}
        assert all(0 <= float(row[f"prob_{finding}"]) <= 1 for row in rows for finding in FINDINGS)


def test_no_patient_identifier_enters_the_run(phantoms, run, tmp_path):
    """Beyond the image names that the user gave."""
    labelled = tmp_path / "labelled"
    labelled.mkdir()
    (labelled / "images").symlink_to(phantoms / "images")
    names = sorted(path.name for path in (phantoms / "images").iterdir())
    rows = [
        f"{name},{','.join('01'[number % 2] for _ in FINDINGS)},train,MRN-{number}" for number, name in enumerate(names)
    ]
    (labelled / "labels.csv").write_text("\n".join([f"Image Index,{','.join(FINDINGS)},split,Patient ID", *rows]))
    run("r", "--epochs", "1", "--split", "patients:60/20/20", data=labelled)
    written = [path for path in tmp_path.rglob("*") if path.is_file() and labelled not in path.parents]
    assert written
    for path in written:
        assert b"MRN-" not in path.read_bytes(), path


def test_two_runs_with_one_seed_are_equal_and_another_seed_is_not(run, tmp_path):
    """A result that can't be repeated can't be examined."""
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        run(name, "--epochs", "1", "--seed", seed)
    assert_same_weights(newest(tmp_path, "a"), newest(tmp_path, "b"))
    assert not torch.equal(
        newest(tmp_path, "a").model["classifier.weight"], newest(tmp_path, "c").model["classifier.weight"]
    )


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
@pytest.mark.parametrize("stop", [5, 8], ids=["at the end of an epoch", "within an epoch"])
def test_stopped_and_resumed_run_ends_with_the_same_weights(run, tmp_path, schedule, stop):
    """Accelerators are preempted; the numbers must not show it, bit for bit."""
    flags = ["--schedule", schedule, "--epochs", "3", "--crop", "resized"]
    run("whole", *flags)
    run("parts", *flags, "--max-steps", str(stop))
    assert newest(tmp_path, "parts").step == stop
    run("parts", *flags)
    assert_same_weights(newest(tmp_path, "whole"), newest(tmp_path, "parts"))
    entries = {
        name: [
            (entry["train_loss"], entry["val"])
            for entry in map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
            if entry["val"] is not None
        ]
        for name in ("whole", "parts")
    }
    assert entries["whole"] == entries["parts"]


@pytest.fixture
def partly_known(monkeypatch):
    """Half of the labels of the data set unknown, all of the last finding's in val, as read from its files."""
    read = run_data.labelled

    def labelled(place, kept_split=None):
        source = read(place, kept_split)
        labels_NK = source.table.labels_NK.copy()
        labels_NK[np.random.default_rng(0).random(labels_NK.shape) < 0.5] = np.nan
        labels_NK[source.table.rows("val"), -1] = np.nan
        return replace(source, table=replace(source.table, labels_NK=labels_NK))

    monkeypatch.setattr(run_data, "labelled", labelled)


def test_run_with_unknown_labels_resumes_bit_for_bit_and_is_evaluated_on_known_ones(run, tmp_path, partly_known):
    """Unknown labels have no part in gradients, losses, scores and thresholds; the parity check's steps neither."""
    flags = ["--epochs", "3", "--crop", "resized", "--parity-check", "2"]
    whole = run("whole", *flags)
    run("parts", *flags, "--max-steps", "8")
    run("parts", *flags)
    assert_same_weights(newest(tmp_path, "whole"), newest(tmp_path, "parts"))
    entries = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert all(0 < entry["train_loss"] < 2 and 0 < entry["val"]["loss"] < 2 for entry in entries)
    last = list(whole.scores["val"].findings)[-1]
    val = json.loads((tmp_path / "whole/results.json").read_text())["val"]
    assert (val["known"][last], val["auroc"][last]) == (0, None)
    assert all(0 < known < val["images"] for name, known in val["known"].items() if name != last)
    assert val["mean_auroc"] is not None
    notes = json.loads((tmp_path / "whole/model/calibration.json").read_text())["notes"]
    assert f"{last}: not calibrated and no thresholds: its label is unknown for all validation images" in notes


def test_cross_entropy_refuses_unknown_labels_by_name(run, partly_known):
    with pytest.raises(
        InputError, match=r"the class of every image must be known, but \d+ of 60 have unknown labels, the first is `"
    ):
        run("r", "--loss", "cross_entropy")


def test_finished_run_started_again_scores_the_same_and_trains_nothing(run, tmp_path):
    """A restarted pod after the last step must not spoil the results."""
    first = run("r")
    before = (tmp_path / "r/results.json").read_bytes()
    assert run("r").step == first.step
    assert (tmp_path / "r/results.json").read_bytes() == before


def test_curves_of_an_epoch_are_queued_before_the_state_that_a_later_start_continues_from(run, monkeypatch):
    """That start does not draw them again."""
    queued = []
    for name in ("queue_file", "queue_state"):
        before = getattr(CheckpointWriter, name)
        monkeypatch.setattr(
            CheckpointWriter,
            name,
            lambda self, what, *rest, before=before: queued.append(what) or before(self, what, *rest),
        )
    run("a", "--epochs", "1")
    events = next(place for place, what in enumerate(queued) if str(what).startswith(TENSORBOARD))
    assert events < next(place for place, what in enumerate(queued) if isinstance(what, TrainState))


def test_training_lowers_the_loss(run, tmp_path):
    """The plainest sign that labels, images and gradients belong together."""
    run("r", "--epochs", "8", "--lr", "0.003")
    losses = [json.loads(line)["train_loss"] for line in (tmp_path / "r/metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.1


def test_run_without_validation_images_takes_the_last_checkpoint(run, tmp_path):
    """`patients:80/0/20` is a valid split."""
    results = run("r", "--split", "patients:80/0/20")
    assert list(results.scores) == ["test"]
    assert results.step == newest(tmp_path, "r").step


@pytest.mark.parametrize(
    ("first", "then", "complaint"),
    [
        pytest.param([], ["--lr", "0.5"], r"lr: 0.001 in the run, 0.5 now", id="other learning rate"),
        pytest.param([], ["--split", "patients:50/25/25"], "split_sha256", id="other split"),
        pytest.param([], ["--batch-size", "4"], "global_batch: 8 in the run, 4 now", id="other batch"),
        pytest.param([], ["--resume", "never"], "`--resume never`", id="resume never"),
    ],
)
def test_other_settings_on_the_same_prefix_are_refused_with_the_difference(run, first, then, complaint):
    """Two recipes in one run would be reported as one."""
    run("r", "--max-steps", "1", *first)
    with pytest.raises(InputError, match=complaint):
        run("r", *then)


def test_settings_that_do_not_change_the_result_may_change(run):
    """Longer, elsewhere, quieter: the same run."""
    run("r", "--max-steps", "1")
    run("r", "--max-steps", "2", "--log-every-steps", "1", "--on-bad-image", "skip")


def test_run_of_an_earlier_version_is_resumed(run, tmp_path):
    """Its record does not say what could not be chosen then."""
    run("r", "--max-steps", "1")
    record = json.loads((tmp_path / "r/run.json").read_text())
    for setting in ("head", "backbone", "unfreeze_after", "loss", "rotate"):
        del record["identity"][setting]
    (tmp_path / "r/run.json").write_text(json.dumps(record))
    run("r", "--max-steps", "2")
    with pytest.raises(InputError, match="backbone: trained in the run, frozen now"):
        run("r", "--backbone", "frozen")


def test_damaged_only_checkpoint_is_refused_before_the_first_step(run, tmp_path):
    """By name, with the way out."""
    run("r", "--max-steps", "1")
    storage = LocalStorage(str(tmp_path / "r"))
    storage.write(state_key(1), b"damaged")
    for _ in range(2):  # refusing must not make room for a fresh start
        with pytest.raises(
            InputError, match=r"all its checkpoints are damaged:\s.*step-00000001/state.pt` is damaged"
        ) as refusal:
            run("r")
        assert "--name" in refusal.value.hint


def test_damaged_newest_checkpoint_costs_only_the_steps_since_the_one_before(run, tmp_path):
    """And the numbers are those of a run in which nothing was damaged."""
    flags = ["--checkpoint-every-steps", "3", "--epochs", "2"]
    run("whole", *flags)
    run("torn", *flags, "--max-steps", "8")
    storage = LocalStorage(str(tmp_path / "torn"))
    storage.write(state_key(8), b"torn")
    run("torn", *flags)
    assert_same_weights(newest(tmp_path, "whole"), newest(tmp_path, "torn"))


@pytest.fixture
def with_bad_image(tmp_path):
    """A data set of folders whose first training image is cut off."""
    for split in ("train", "test"):
        for number, name in enumerate(("NORMAL", "PNEUMONIA")):
            for image in range(12):
                path = tmp_path / "folders" / split / name / f"{split}{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.effect_noise((48, 48), 40 + 80 * number).save(path)
    bad = tmp_path / "folders/train/NORMAL/train0.png"
    bad.write_bytes(bad.read_bytes()[:500])
    return tmp_path / "folders"


def test_truncated_image_is_named_before_the_first_step(run, with_bad_image, tmp_path):
    """Not after an hour, in the middle of an epoch."""
    with pytest.raises(InputError, match=r"train/NORMAL/train0.png") as refusal:
        run("r", data=with_bad_image)
    assert "--on-bad-image skip" in refusal.value.hint
    assert not (tmp_path / "r/checkpoints").exists()


def test_skipped_image_is_left_out_and_listed(run, with_bad_image, tmp_path):
    """A number without its omissions is no number."""
    results = run("r", "--on-bad-image", "skip", data=with_bad_image)
    assert json.loads((tmp_path / "r/run.json").read_text())["identity"]["skipped"] == ["train/NORMAL/train0.png"]
    assert results.scores["test"].findings == ("NORMAL", "PNEUMONIA")


def test_non_finite_weights_are_neither_saved_nor_scored(run, tmp_path):
    """nan predictions would all be equal, score 0.5, and could be the best."""
    with pytest.raises(JobFailedError, match=r"tensors are not finite|non-finite gradient") as failure:
        run(
            "r",
            "--lr",
            "1000",
            "--optimizer",
            "adamw",
            "--weight-decay",
            "1000",
            "--schedule",
            "constant",
            "--warmup-epochs",
            "0",
            "--epochs",
            "20",
            "--max-steps",
            "60",
            "--checkpoint-every-steps",
            "1",
            "--log-every-steps",
            "1",
        )
    assert failure.value.hint
    storage = LocalStorage(str(tmp_path / "r"))
    assert committed(storage), "the checkpoint that was on its way is the good one"
    for manifest in committed(storage):
        assert all(tensor.isfinite().all() for tensor in restored(storage, manifest).model.values())


def test_failed_start_does_not_fix_the_settings_of_the_next(run, tmp_path):
    """Only a checkpoint makes a run; a slip corrected under the same name must start."""
    with pytest.raises(InputError):
        run("r", "--weights", str(tmp_path / "nowhere.pt"), "--lr", "0.5")
    run("r", "--max-steps", "1")
    assert json.loads((tmp_path / "r/run.json").read_text())["config"]["lr"] == 1e-3


def test_weights_of_another_architecture_are_refused_before_images_are_decoded(run, tmp_path):
    """Decoding 112,120 images first would cost the time of all cards."""
    torch.save(build("resnet50", "linear", 14).state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match="another architecture, resnet50 in place of densenet_tiny"):
        run("r", "--weights", str(tmp_path / "w.pt"), "--cache-dir", str(tmp_path / "cold"))
    assert not (tmp_path / "cold/packs").exists()


def test_weights_without_a_head_for_these_outputs_are_named_in_the_log(run, tmp_path, capfd):
    """A head that starts untrained where a trained one was given changes what the run is."""
    torch.save(build("densenet_tiny", "linear", 3).state_dict(), tmp_path / "w.pt")
    run("r", "--weights", str(tmp_path / "w.pt"), "--max-steps", "1")
    assert "w.pt`; it has no head for these 14 outputs, which starts untrained" in capfd.readouterr().err
    torch.save(build("densenet_tiny", "linear", 14).state_dict(), tmp_path / "w.pt")
    run("s", "--weights", str(tmp_path / "w.pt"), "--max-steps", "1")
    assert "starts untrained" not in capfd.readouterr().err


def test_every_long_step_has_lines_with_rate_and_time_left(phantoms, tmp_path):
    """On a slow machine, which this clock is: decoding, training, validation, and the check of the cache at the next start."""

    def lines(name):
        seen, clock = [], count(step=30)
        config = from_argv(
            [
                *RECIPE,
                "--data",
                str(phantoms),
                "--output",
                str(tmp_path),
                "--name",
                name,
                "--split",
                "patients:60/20/20",
                "--no-report",
            ]
        )
        train(config, World(), Reporter(0, on_line=seen.append, clock=lambda: float(next(clock))), RankLog(0))
        return [line for line in seen if line.endswith(" left")]

    first, second = lines("one"), lines("two")
    for step in ("decoding", "training", "evaluating val", "evaluating test"):
        assert any(line.startswith(f"{step} ") for line in first), step
    assert any(line.startswith("verifying the decoded images 60/60, ") for line in second)
    assert not any(line.startswith("decoding") for line in second)


def test_ignored_orientation_of_images_is_said_at_each_start(tmp_path, run, capfd):
    """Also where they have been decoded before."""
    data = tmp_path / "data"
    write_phantoms(data, images=30, side=48)
    path = next(path for path in sorted(data.rglob("*.png")))
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(path).save(path, exif=exif)
    for name in ("one", "two"):
        run(name, "--max-steps", "1", "--split", "patients:60/20/20", data=data)
        assert "the EXIF orientation of 1 of 30 images is ignored" in capfd.readouterr().err


def test_resume_must_without_a_checkpoint_writes_nothing(run, tmp_path):
    """A refused start is no run."""
    with pytest.raises(InputError, match="has no checkpoint"):
        run("r", "--resume", "must")
    assert LocalStorage(str(tmp_path / "r")).keys("") == []


def test_output_that_cannot_be_written_is_refused_before_images_are_decoded(run, tmp_path, phantoms):
    """17 core-minutes of decoding for nothing."""
    (tmp_path / "r").write_text("a file")
    with pytest.raises(KnownError, match=str(tmp_path / "r")):
        run("r", "--cache-dir", str(tmp_path / "new-cache"))
    assert not (tmp_path / "new-cache").exists()


@pytest.mark.parametrize("loss", LOSSES)
def test_training_step_copies_nothing_from_the_device(monkeypatch, loss):
    """Each read makes the accelerator wait for the host; the loop reads on logging steps only."""
    config = from_argv(["--data", "d", "--output", "o", "--name", "n", "--preset", "smoke"])
    reads = []
    for name in ("item", "tolist", "__bool__", "__float__", "numpy"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor,
            name,
            lambda self, *args, original=original, name=name: (reads.append(name), original(self, *args))[1],
        )
    to = torch.Tensor.to
    waiting = []

    def copied(self, *args, **how):
        if not how and self.dim() > 0:  # of a norm, which is there already, torch makes no copy
            waiting.append(args)
        return to(self, *args, **how)

    monkeypatch.setattr(torch.Tensor, "to", copied)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    flushed = []
    device = SimpleNamespace(
        autocast=lambda _: torch.autocast("cpu", enabled=False),
        flush=lambda: flushed.append(1),
        clip=cpu.clip,
    )
    some_run = SimpleNamespace(
        config=config,
        on=torch.device("cpu"),
        device=device,
        precision="fp32",
        memory_format=torch.contiguous_format,
        labels_NK=torch.ones(9, 2) / 2,
        label_weights=None,
        loss=LOSSES[loss],
        loader=None,
        evaluator=None,
        pack=SimpleNamespace(index=SimpleNamespace(geometry=SimpleNamespace(side=72))),
    )
    training = SimpleNamespace(
        network=network,
        parallel=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        feed=of_images(some_run),
    )
    finite = _NonFiniteGuard(torch.device("cpu"), 0)
    samples_N = np.array([3, 4])
    inputs = EpochInputs([samples_N], 0, training.feed.draws, torch.device("cpu")).of(0)
    waiting.clear()  # before the first step of an epoch
    result = train_step(some_run, training, Batch(samples_N, torch.zeros(2, 1, 72, 72, dtype=torch.uint8)), inputs)
    finite.note(result.grad_norm)
    assert reads == []
    assert waiting == [], "a copy to a card waits for all that the card has to do, unless told otherwise"
    assert len(flushed) == 2  # after backward and after the optimiser, as lazy accelerators need
    assert result.loss.shape == ()


def test_non_finite_gradient_is_reported_with_its_own_step():
    """Not that of the next check, twenty steps later."""
    finite = _NonFiniteGuard(torch.device("cpu"), 40)
    for norm in (1.0, float("nan"), 1.0, float("inf")):
        finite.note(torch.tensor(norm))
    with pytest.raises(JobFailedError, match="non-finite gradient at step 42"):
        finite.check()


def test_damaged_best_checkpoint_is_replaced_by_the_next_best(run, tmp_path):
    """A night's run must not end without results for one bad object."""
    run("r", "--epochs", "3", "--keep-last", "3")
    storage = LocalStorage(str(tmp_path / "r"))
    first, *others = committed(storage)
    checkpoints.commit(storage, replace(first, val_auroc=0.99))
    storage.write(state_key(first.step), b"torn")
    assert run("r", "--epochs", "3", "--keep-last", "3").step == best(others).step


def test_run_ended_by_its_deadline_is_resumed_from_its_checkpoint(run, tmp_path, monkeypatch):
    """Nothing that was trained is lost, and the numbers are those of a run without a deadline."""
    monkeypatch.setattr(attempts, "time", SimpleNamespace(time=lambda: 1e9))
    monkeypatch.setattr(assembly, "Coordination", partial(Coordination, now=lambda: 1e9 + 61))
    with pytest.raises(TimeLimitError, match="the deadline is over at step") as caught:
        run("d", "--deadline", "60s", "--log-every-steps", "2")
    assert caught.value.exit_code == 124
    assert newest(tmp_path, "d").step == 1
    run("d", "--deadline", "2d", "--log-every-steps", "2", "--max-steps", "3")
    run("whole", "--log-every-steps", "2", "--max-steps", "3")
    assert_same_weights(newest(tmp_path, "d"), newest(tmp_path, "whole"))
