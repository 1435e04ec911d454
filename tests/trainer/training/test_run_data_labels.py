"""Runs on a hospital's own labels, with uncertain and blank ones: what is stated, resumed, refused and evaluated."""

import json

import numpy as np
import pytest
from PIL import Image
from recipes import tiny

from trainer.__main__ import main
from trainer.config import from_argv
from trainer.errors import InputError
from trainer.inference.evaluate import ModelRequest, evaluate_model
from trainer.label_choices import AS_READ, LabelChoices
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.world import World
from trainer.training.loop import train

pytestmark = pytest.mark.usefixtures("drawn_at_once")

CELLS = ("1", "0", "-1", "", "1", "0")
VIEWS = ("PA", "AP", "LATERAL")


def hospital(root, names, images=48):
    """A labels.csv with these findings, every fourth image in test, and images of noise."""
    rng = np.random.default_rng(0)
    lines = [",".join(("Path", "patient_id", "split", "View", *names))]
    (root / "scans").mkdir(parents=True)
    for n in range(images):
        cells = [CELLS[(n + k * (n // 6)) % 6] for k in range(len(names))]
        split = ("train", "train", "val", "test")[n // 2 % 4]
        lines.append(",".join((f"scans/{n}.png", f"p{n}", split, VIEWS[n % 7 % 3], *cells)))
        Image.fromarray(rng.integers(0, 256, (40, 40), np.uint8)).save(root / f"scans/{n}.png")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


FLAGS = ("--uncertain", "ignore", "--uncertain", "Edema=ones", "--rename", "Fluid=Effusion", "--projection", "frontal")


@pytest.fixture
def start(tmp_path):
    def run(data, *flags, name="r"):
        places = [
            "--data",
            str(data),
            "--output",
            str(tmp_path),
            "--cache-dir",
            str(tmp_path / "cache"),
            "--name",
            name,
        ]
        return train(from_argv([*tiny(1), *places, *flags]), World(), Reporter(0), RankLog(0))

    return run


def test_policy_of_labels_is_stated_kept_and_used_for_evaluation(start, tmp_path, capfd):
    """First lines, run.json, metrics.json, card and report; a resume with another policy is refused with the difference."""
    data = hospital(tmp_path / "data", ("Edema", "Effusion", "Mass"))
    start(data, *FLAGS, "--max-steps", "1", "--no-report")
    lines = capfd.readouterr().err
    assert "uncertain labels are positive (--uncertain): Edema (" in lines
    assert "uncertain labels are unknown, and ignored (--uncertain): Fluid (" in lines
    assert "blank labels are unknown, and ignored (default of layout csv): Edema (" in lines
    assert "14 of 48 images are left out (--projection frontal)" in lines
    assert lines.index("uncertain labels") < lines.index("decoding")

    for flags, difference in {
        FLAGS[2:]: "uncertain: ignore, Edema=ones in the run, Edema=ones now",
        FLAGS[:-2]: "projection: frontal in the run, None now",
        (): "uncertain: ignore, Edema=ones in the run, None now",
        (*FLAGS, "--blank", "zeros"): "blank: None in the run, zeros now",
    }.items():
        with pytest.raises(InputError) as refused:
            start(data, *flags, "--no-report")
        assert difference in str(refused.value)

    start(data, *FLAGS)
    run = tmp_path / "r"
    record = json.loads((run / "run.json").read_text())
    assert record["label_policy"]["uncertain"]["Edema"]["used_as"] == "ones"
    assert record["label_policy"]["renamed"] == {"Fluid": ["Effusion"]}
    assert record["identity"]["findings"] == ["Edema", "Fluid", "Mass"]
    assert json.loads((run / "evaluation/metrics.json").read_text())["label_policy"] == record["label_policy"]
    card, page = (run / "model/card.md").read_text(), (run / "report/index.html").read_text()
    for text in (card, page):
        assert "Uncertain labels are positive (--uncertain): Edema" in text
        assert "Labels of Effusion are called Fluid (--rename)" in text

    of_run = evaluated(run, data, tmp_path)
    assert of_run.findings == ("Edema", "Fluid", "Mass")
    assert of_run.label_policy["uncertain"]["Edema"]["origin"] == "the model's run"
    assert of_run.label_policy["projection"]["used"] == "frontal"
    assert of_run.external is None
    zeros = evaluated(run, data, tmp_path, LabelChoices(uncertain=("zeros",), projection="PA"))
    assert zeros.label_policy["uncertain"]["Edema"]["used_as"] == "zeros"
    assert len(zeros.scored.images) < len(of_run.scored.images)
    every = evaluated(run, data, tmp_path, LabelChoices(projection="all"))
    assert len(every.scored.images) > len(of_run.scored.images)


def evaluated(run, data, tmp_path, choices=AS_READ):
    request = ModelRequest(
        model=str(run), data=str(data), part="test", device="cpu", cache_dir=tmp_path / "cache", choices=choices
    )
    return evaluate_model(request, Reporter(0))


def test_model_is_tested_on_another_hospital_with_one_command(start, tmp_path, capfd):
    """Its findings have other names there, in whole or in parts; labels are unknown; choices of the run that do not fit are none."""
    own = hospital(tmp_path / "own", ("Effusion", "Nodule", "Mass", "Hernia"))
    start(own, "--uncertain", "Hernia=zeros", "--no-report")
    other = hospital(tmp_path / "other", ("Lung Lesion", "Pleural Effusion", "Fracture"))
    for n in range(48):
        (other / f"scans/{n}.png").rename(other / f"scans/other{n}.png")
    labels = (other / "labels.csv").read_text().replace("scans/", "scans/other").replace(".png,p", ".png,q")
    (other / "labels.csv").write_text(labels)
    capfd.readouterr()
    command = [
        "evaluate",
        str(tmp_path / "r"),
        "--data",
        str(other),
        "--blank",
        "zeros",
        "--format",
        "json",
        "--device",
        "cpu",
    ]
    assert main([*command, "--resamples", "20"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert [one["name"] for one in document["findings"]] == ["Effusion", "Lung Lesion"]
    assert document["external"] == {
        "trained_on": "own",
        "matches": [
            {"name": "Effusion", "outputs": ["Effusion"], "labels": ["Pleural Effusion"]},
            {"name": "Lung Lesion", "outputs": ["Nodule", "Mass"], "labels": ["Lung Lesion"]},
        ],
        "outputs_without_labels": ["Hernia"],
        "labels_without_outputs": ["Fracture"],
    }
    assert document["label_policy"]["blank"]["Lung Lesion"] == {"images": 8, "used_as": "zeros", "origin": "--blank"}
    assert document["label_policy"]["uncertain"]["Lung Lesion"]["origin"] == "default of layout csv"
    assert "outputs of the model without labels, not evaluated: Hernia" in document["notes"]


def test_models_are_compared_on_the_same_labels(start, tmp_path, capfd):
    """Two runs may have used uncertain labels in different ways: a difference of labels is none of models."""
    data = hospital(tmp_path / "data", ("Edema", "Effusion"))
    start(data, "--uncertain", "ones", "--no-report", name="a")
    start(data, "--uncertain", "zeros", "--no-report", name="b")
    capfd.readouterr()
    command = ["evaluate", str(tmp_path / "a"), str(tmp_path / "b"), "--data", str(data), "--resamples", "20"]
    command += ["--cache-dir", str(tmp_path / "cache"), "--device", "cpu"]
    assert main(command) == 2
    assert "labels of 2 findings differ\n  Edema\n  Effusion" in capfd.readouterr().err
    assert main([*command, "--uncertain", "ignore"]) == 0


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--findings", "Edema,Gout"), "`Gout`"),
        (("--rename", "Fluid=Efusion"), "similar are Effusion"),
        (("--uncertain", "Gout=ones"), "no finding `Gout`"),
        (("--readers", "mean"), "only layout vindr"),
    ],
)
def test_choices_that_do_not_fit_are_refused_before_images_are_decoded(start, tmp_path, flags, says):
    data = hospital(tmp_path / "data", ("Edema", "Effusion"))
    with pytest.raises(InputError) as refused:
        start(data, *flags, "--no-report")
    assert says in str(refused.value)
    assert not (tmp_path / "cache").exists()
