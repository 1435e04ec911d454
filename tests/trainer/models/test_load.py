"""Opening trained models: every form they lie about in, and what is refused by which name."""

import gzip
import json
import shutil
from pathlib import Path

import boto3
import pytest
import torch
from safetensors.torch import save_file

from trainer.config import from_argv
from trainer.data.labels import FINDINGS
from trainer.data.packs.records import Geometry
from trainer.errors import InputError
from trainer.models.architectures import build
from trainer.models.load import describe, load_model
from trainer.runs import checkpoints
from trainer.storage import LocalStorage
from trainer.training.schedule import Plateau
from trainer.training.snapshot import TrainState

X_NCHW = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network(seed, findings=14, model="densenet_tiny", head="linear"):
    torch.manual_seed(seed)
    return build(model, head, findings).eval()


def config(root, *flags):
    recipe = "--preset smoke --model densenet_tiny --pack-side 36 --crop-px 32"
    return from_argv([*recipe.split(), "--data", "d", "--output", str(root), "--name", "r", *flags])


def write_run(root, steps, *, findings=FINDINGS, flags=(), old=False):
    """A run as a training leaves it, with the network of seed `step` at each step and AUROC given by `steps`."""
    storage = LocalStorage(str(root))
    settings = config(root, *flags)
    for step, auroc in steps.items():
        state = TrainState(
            step=step,
            model=network(step, len(findings), settings.model, settings.head).state_dict(),
            ranks=[],
            optimizer={},
            plateau=Plateau(),
        )
        content = state.to_bytes()
        storage.write(f"checkpoints/step-{step:08d}/state.pt", content)
        scored = checkpoints.Scored(auroc, 0.5)
        checkpoints.commit(storage, checkpoints.manifest_of(content, state, epoch=1.0, scored=scored))
    record = vars(settings) | {}
    if old:
        record = {key: value for key, value in record.items() if key not in {"head", "loss", "backbone"}}
    storage.write("run.json", json.dumps({"config": record, "identity": {"findings": list(findings)}}).encode())
    storage.write("split.csv.gz", gzip.compress(b"Image Index,split\na.png,train\nb.png,val\n"))
    return root


def assert_is(trained, seed, findings=14, head="linear"):
    """The network is the one of this seed, ready to answer."""
    assert not trained.network.training
    with torch.no_grad():
        expected = network(seed, findings, head=head)(X_NCHW)
        assert torch.equal(trained.network(X_NCHW), expected)


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "r", {10: 0.7, 20: 0.8, 30: 0.6})


@pytest.mark.parametrize(("step", "expected"), [("best", 20), ("last", 30), ("10", 10), ("00000030", 30)])
def test_run_is_loaded_at_the_named_step(run, step, expected):
    """`best` is what was validated highest, as `launcher pull` understands it."""
    trained = load_model(str(run), step=step)
    assert_is(trained, expected)
    assert trained.step == expected
    assert f"step {expected}" in trained.origin
    assert (trained.model, trained.head, trained.loss) == ("densenet_tiny", "linear", "bce")
    assert trained.findings == FINDINGS
    assert trained.geometry == Geometry(side=36, fit="crop", gray_bits=16)
    assert trained.crop_px == 32
    assert trained.trained_on == {"a.png": "train", "b.png": "val"}
    assert trained.record["identity"]["findings"] == list(FINDINGS)
    assert trained.notes == ()


@pytest.mark.parametrize("tail", ["", "/", "/state.pt"])
def test_a_checkpoints_folder_is_opened_by_its_path(run, tail):
    """`launcher pull` prints such a path."""
    assert_is(load_model(f"{run}/checkpoints/step-00000010{tail}"), 10)


def test_a_relative_run_and_its_checkpoint_are_found(run, monkeypatch):
    """Who stands in the run's folder says `.` and `checkpoints/…`."""
    monkeypatch.chdir(run)
    assert_is(load_model("."), 20)
    assert_is(load_model("checkpoints/step-00000030"), 30)


def test_a_run_in_a_bucket_is_opened(run, s3):
    """Results lie in S3 on a cluster."""
    bucket = boto3.client("s3")
    for path in run.rglob("*"):
        if path.is_file():
            bucket.upload_file(str(path), "cxr", f"runs/r/{path.relative_to(run).as_posix()}")
    assert_is(load_model("s3://cxr/runs/r"), 20)
    assert_is(load_model("s3://cxr/runs/r/checkpoints/step-00000010/"), 10)
    with pytest.raises(InputError, match="there is no run"):
        load_model("s3://cxr/runs/other")


def test_a_run_of_an_earlier_version_is_opened(tmp_path):
    """Its record knows neither head nor loss."""
    trained = load_model(str(write_run(tmp_path / "r", {5: 0.5}, old=True)))
    assert_is(trained, 5)
    assert (trained.head, trained.loss) == ("linear", "bce")


def test_classes_head_and_loss_of_a_run_in_folders_are_known(tmp_path):
    """The two-class model answers other questions than the 14."""
    flags = ("--head", "hidden", "--loss", "cross_entropy", "--pack-fit", "pad")
    trained = load_model(str(write_run(tmp_path / "r", {5: 0.5}, findings=("NORMAL", "PNEUMONIA"), flags=flags)))
    assert_is(trained, 5, findings=2, head="hidden")
    assert trained.findings == ("NORMAL", "PNEUMONIA")
    assert trained.loss == "cross_entropy"
    assert trained.geometry.fit == "pad"


@pytest.mark.parametrize(("recorded", "expected"), [({}, "Normal"), ({"positive_class": "Abnormal"}, "Abnormal")])
def test_positive_class_is_that_of_the_run_or_the_file(tmp_path, recorded, expected):
    """Runs and files of earlier versions name none: they took the last by name."""
    findings = ("Abnormal", "Normal")
    run = write_run(tmp_path / "r", {5: 0.5}, findings=findings, flags=("--loss", "cross_entropy"))
    record = json.loads((run / "run.json").read_text())
    record["identity"] |= recorded
    (run / "run.json").write_text(json.dumps(record))
    assert load_model(str(run)).positive_class == expected
    export(tmp_path / "x", 5, findings, loss="cross_entropy", **recorded)
    assert load_model(str(tmp_path / "x/model/model.safetensors")).positive_class == expected


def test_positive_class_that_is_none_of_the_classes_is_refused(tmp_path):
    export(tmp_path, 5, ("Abnormal", "Normal"), loss="cross_entropy", positive_class="normal")
    with pytest.raises(InputError, match=r"its header is damaged \(`normal` is not one of Abnormal, Normal"):
        load_model(str(tmp_path / "model/model.safetensors"))


def test_independent_findings_have_no_positive_class(run):
    assert load_model(str(run)).positive_class is None


def export(root, step, names=FINDINGS, **changes):
    """What the end of a run writes to model/."""
    (root / "model").mkdir(parents=True, exist_ok=True)
    header = describe(config(root), names, step=step) | changes
    state = network(step, len(names)).state_dict()
    save_file(state, root / "model/model.safetensors", metadata={k: v for k, v in header.items() if v})


@pytest.mark.parametrize("place", ["", "/model", "/model/model.safetensors"])
def test_an_exported_model_is_complete_without_its_run(tmp_path, place):
    """`launcher pull --what model` fetches model/ alone."""
    export(tmp_path, 20)
    trained = load_model(f"{tmp_path}{place}")
    assert_is(trained, 20)
    assert trained.step == 20
    assert trained.crop_px == 32
    assert trained.geometry == Geometry(side=36, fit="crop")
    assert trained.trained_on is None
    assert trained.record is None


def test_an_exported_model_knows_the_run_around_it(run):
    """What it was trained on must be known when it is scored."""
    export(run, 20)
    trained = load_model(str(run / "model/model.safetensors"))
    assert trained.trained_on == {"a.png": "train", "b.png": "val"}
    assert trained.record is not None


def test_exported_model_of_an_earlier_version_takes_its_description_from_its_run(run):
    """Its header is empty; the run's record is not."""
    save_file(network(7).state_dict(), run / "exported.safetensors")
    (run / "model").mkdir()
    shutil.move(run / "exported.safetensors", run / "model/model.safetensors")
    trained = load_model(str(run / "model/model.safetensors"))
    assert_is(trained, 7)
    assert trained.crop_px == 32
    assert trained.step is None


def test_a_checkpoint_pulled_alone_is_opened_with_a_note_on_what_was_assumed(run):
    """`launcher pull` without more fetches only that; a wrong size of image would be silent."""
    (run / "run.json").unlink()
    (run / "split.csv.gz").unlink()
    trained = load_model(str(run))
    assert_is(trained, 20)
    assert trained.geometry == Geometry(side=256, fit="crop")
    assert trained.trained_on is None
    assert "the preparation of images for these weights is not recorded" in trained.notes[0]


def test_a_file_of_weights_is_opened(tmp_path):
    """Public models are files."""
    torch.save(network(3).state_dict(), tmp_path / "w.pth")
    trained = load_model(str(tmp_path / "w.pth"))
    assert_is(trained, 3)
    assert trained.crop_px == 224
    assert trained.notes


def test_safetensors_of_another_program_is_opened(tmp_path):
    """It names neither a run nor findings, and its tensors have a wrapper's prefix."""
    state = {f"model.{name}": tensor for name, tensor in network(3).state_dict().items()}
    save_file(state, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    trained = load_model(str(tmp_path / "theirs.safetensors"))
    assert_is(trained, 3)
    assert trained.findings == FINDINGS
    torch.save(state, tmp_path / "renamed.safetensors")
    assert_is(load_model(str(tmp_path / "renamed.safetensors")), 3)


def test_pointer_in_place_of_a_model_is_named(tmp_path):
    """A clone without git-lfs has texts of three lines."""
    for name in ("model.safetensors", "w.pth"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        with pytest.raises(InputError, match="git-LFS pointer") as refusal:
            load_model(str(tmp_path / name))
        assert "git lfs pull" in refusal.value.hint


@pytest.mark.parametrize(("model", "head"), [("densenet121", "linear"), ("densenet_tiny", "hidden")])
def test_architecture_is_inferred_from_names_and_shapes(tmp_path, model, head):
    """Nothing else is in such a file."""
    torch.save(build(model, head, 14).state_dict(), tmp_path / "w.pth")
    trained = load_model(str(tmp_path / "w.pth"))
    assert (trained.model, trained.head, trained.findings) == (model, head, FINDINGS)


def refused(place, **options):
    with pytest.raises(InputError) as caught:
        load_model(str(place), **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_path_without_a_model_is_refused_by_name(tmp_path, run):
    """A slip of the path must not look like a broken model."""
    assert f"cannot open a model at `{tmp_path}/nowhere`: there is no run" in refused(tmp_path / "nowhere")
    assert "no such file" in refused(tmp_path / "w.pth")
    assert "there is no run" in refused(tmp_path)
    shutil.rmtree(run / "checkpoints")
    assert "the run has no checkpoint" in refused(run)
    assert "unusable path or URL" in refused("")


def test_absent_step_is_refused_with_the_list_of_steps(run):
    """Runs prune their checkpoints."""
    assert "its checkpoints are 10, 20, 30" in refused(run, step="15")
    assert "it is `best`, `last` or a number" in refused(run, step="newest")
    assert "it is `best`, `last` or a number" in refused(run, step="1" * 5000)
    assert "it is a single model, not a run" in refused(run / "checkpoints/step-00000010", step="last")


def test_a_step_of_an_exported_model_alone_must_be_its_own(tmp_path):
    """It is the best one, not the last."""
    export(tmp_path, 20)
    assert load_model(str(tmp_path), step="20").step == 20
    assert "only the model of step 20 is available" in refused(tmp_path, step="last")


def test_damaged_model_file_is_refused_by_name(run, tmp_path):
    """Half a file must never predict."""
    state = run / "checkpoints/step-00000020/state.pt"
    state.write_bytes(state.read_bytes()[:-100])
    assert "is damaged" in refused(run)
    export(tmp_path / "alone", 20)
    model = tmp_path / "alone/model/model.safetensors"
    whole = model.read_bytes()
    for size in (4, 200, len(whole) - 100):
        model.write_bytes(whole[:size])
        assert "it is truncated, or not a safetensors file" in refused(model)
    model.write_bytes(b"")
    assert "it is empty" in refused(model)
    (tmp_path / "text.pth").write_text("hello")
    assert "no state dict" in refused(tmp_path / "text.pth")
    torch.save(torch.nn.Linear(3, 14).state_dict(), tmp_path / "other.pth")
    assert "match none of the models" in refused(tmp_path / "other.pth")
    (run / "checkpoints/step-00000030/manifest.json").write_text("{")
    (run / "split.csv.gz").write_bytes(b"no gzip")
    assert "it is damaged" in refused(run, step="10")
    (run / "run.json").write_text("[")
    assert "not a valid record of a run: it is not JSON" in refused(run, step="10")
    (run / "run.json").write_text('{"config": {}, "identity": {}}')
    assert "does not describe the model" in refused(run, step="10")


def test_code_in_a_file_of_weights_is_not_run(tmp_path):
    """A checkpoint from elsewhere is data."""
    import pickle

    class Attack:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "w.pth").write_bytes(pickle.dumps(Attack()))
    refused(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_another_model_or_number_of_findings_is_refused_by_name(tmp_path):
    """Files of two runs may have got mixed."""
    export(tmp_path / "a", 1, head="hidden")
    assert "it is not a `densenet_tiny` with a hidden head" in refused(tmp_path / "a")
    export(tmp_path / "b", 1, names=("x", "y"))
    header = {"findings": json.dumps(list(FINDINGS))}
    state = network(1, 2).state_dict()
    save_file(
        state,
        tmp_path / "b/model/model.safetensors",
        metadata=describe(config(tmp_path), FINDINGS, step=1) | header,
    )
    assert "it has 2 outputs, but 14 findings are recorded" in refused(tmp_path / "b")
    torch.save(network(1, 5).state_dict(), tmp_path / "five.pth")
    assert "they have 5 outputs of unknown meaning" in refused(tmp_path / "five.pth")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": "2"}, "its format is 2, this version reads 1"),
        ({"model": "alexnet"}, "`alexnet` is not one of"),
        ({"crop_px": "0"}, "a side of 0 pixels"),
        ({"crop_px": "9"}, "a crop of 9 pixels from"),
        ({"pack_side": "40", "crop_px": "64"}, "a crop of 64 pixels from 40"),
        ({"findings": "[1"}, "its header is damaged"),
        ({"findings": "[" * 100_000}, "its header is damaged"),
        ({"findings": json.dumps([*FINDINGS[:13], "\x1b[2J"])}, "a finding is `\\x1b[2J`"),
        ({"loss": ""}, "its header is damaged ('loss')"),
    ],
)
def test_inconsistent_safetensors_header_is_refused(tmp_path, changes, problem):
    """A number too large would take all memory; a later version may mean something else."""
    export(tmp_path, 1, **changes)
    assert problem in refused(tmp_path)


def test_a_finished_run_is_opened(finished_run):
    """What training writes and what is read here must stay the same thing."""
    trained = load_model(str(finished_run.root))
    assert set(trained.trained_on.values()) == {"train", "val", "test"}
    assert trained.model == "densenet_tiny"
