"""How a run is set up: the positive class of a set of two classes, given, chosen, or kept from the run that resumes."""

import json
import re
import shutil

import pytest
from safetensors import safe_open

from trainer.devices import cpu
from trainer.errors import InputError, PeerError
from trainer.runtime.world import World
from trainer.training import loop, setup


@pytest.fixture(scope="module")
def abnormal(two_classes, tmp_path_factory):
    """The data set of two classes under names of which the alphabetically last is the healthy one."""
    root = tmp_path_factory.mktemp("abnormal") / "data"
    for folder in two_classes.glob("*/*"):
        name = {"NORMAL": "Normal", "PNEUMONIA": "Abnormal"}[folder.name]
        shutil.copytree(folder, root / folder.parent.name / name)
    return str(root)


def of_run(root):
    """The positive class as the files of a run have it."""
    record, results, metrics = (
        json.loads((root / name).read_text()) for name in ("run.json", "results.json", "evaluation/metrics.json")
    )
    with safe_open(root / "model/model.safetensors", "np") as file:
        header = file.metadata()
    return {
        record["identity"]["positive_class"],
        *(results[split]["classes"]["positive"] for split in ("val", "test")),
        metrics["classes"]["positive"],
        header["positive_class"],
    }


@pytest.mark.parametrize(("flags", "expected"), [((), "Abnormal"), (("--positive-class", "Normal"), "Normal")])
def test_positive_class_is_chosen_by_name_or_given_and_recorded(classify, abnormal, tmp_path, capfd, flags, expected):
    """With the last by name, a model that calls every image abnormal would have a sensitivity of 0."""
    classify("r", "--report", "--epochs", "1", "--data", abnormal, *flags)
    root = tmp_path / "r"
    assert of_run(root) == {expected}
    assert f"the positive class is `{expected}`" in capfd.readouterr().err
    page = (root / "report/index.html").read_text()
    assert f"AUROC for {expected}" in page
    assert re.search(rf"Sensitivity<.{{1,300}} of \d+, for {expected}<", page, re.DOTALL)
    card = (root / "model/card.md").read_text()
    assert f"Positive class: {expected}." in card
    assert f"Sensitivity for {expected}: " in card
    assert f"the positive class is {expected}." in card


def test_resumed_run_keeps_its_positive_class(classify, abnormal, tmp_path):
    """One that names another is refused."""
    classify("r", "--data", abnormal, "--max-steps", "2", "--positive-class", "Normal")
    with pytest.raises(InputError, match="positive_class: Normal in the run, Abnormal now"):
        classify("r", "--data", abnormal, "--positive-class", "Abnormal")
    classify("r", "--report", "--data", abnormal)
    assert of_run(tmp_path / "r") == {"Normal"}


def test_run_of_a_version_without_the_choice_goes_on_with_the_last_by_name(classify, abnormal, tmp_path):
    """Its first half and its second are results of one run."""
    classify("r", "--data", abnormal, "--max-steps", "2")
    file = tmp_path / "r/run.json"
    record = json.loads(file.read_text())
    del record["identity"]["positive_class"], record["config"]["positive_class"]
    file.write_text(json.dumps(record))
    with pytest.raises(InputError, match="positive_class: Normal in the run, Abnormal now"):
        classify("r", "--data", abnormal, "--positive-class", "Abnormal")
    classify("r", "--report", "--data", abnormal)
    assert of_run(tmp_path / "r") == {"Normal"}


def test_name_of_no_class_is_refused_before_the_run_exists(classify, abnormal, tmp_path):
    with pytest.raises(InputError, match="no such class") as caught:
        classify("r", "--data", abnormal, "--positive-class", "normal")
    assert "the classes are `Abnormal` and `Normal`" in str(caught.value)
    assert not (tmp_path / "r").exists()


def test_more_than_two_classes_are_refused_before_the_run_exists(classify, abnormal, tmp_path):
    root = tmp_path / "three"
    shutil.copytree(abnormal, root)
    for split in ("train", "test"):
        shutil.copytree(root / split / "Abnormal", root / split / "Mass")
    with pytest.raises(InputError, match="it can be chosen of two classes, and there are 3"):
        classify("r", "--data", str(root), "--positive-class", "Normal")
    assert not (tmp_path / "r").exists()


def test_precision_without_units_is_refused_before_labels_are_read(classify, tmp_path, monkeypatch):
    """An image of a day's decoding would otherwise be for nothing."""
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "no-flags")
    monkeypatch.setattr(setup, "read_run_labels", lambda *_, **__: pytest.fail("labels were read"))
    with pytest.raises(InputError, match="cannot compute in bf16 on this processor"):
        classify("r", "--precision", "bf16")
    assert list(tmp_path.iterdir()) == []


def test_refusal_of_a_node_is_reported_by_one_of_its_workers():
    """The others exit with the same code."""

    def refused():
        raise InputError("no units", hint="--precision fp32")

    with pytest.raises(InputError, match="no units"):
        setup._once_per_node(World(rank=2, local_rank=0, size=4, local_size=2), refused)
    with pytest.raises(PeerError) as other:
        setup._once_per_node(World(rank=3, local_rank=1, size=4, local_size=2), refused)
    assert other.value.exit_code == InputError.exit_code


def test_bytes_of_the_state_that_a_run_resumes_from_are_not_kept(classify, monkeypatch):
    """They may be gigabytes, and a run takes days."""
    kept, fit = [], loop.fit
    monkeypatch.setattr(loop, "fit", lambda run, training: (kept.append(run.prefix.earlier), fit(run, training))[1])
    classify("r", "--max-steps", "2")
    classify("r")
    assert [len(earlier.manifests) > 0 for earlier in kept] == [False, True]
    assert [earlier.state for earlier in kept] == [None, None]
