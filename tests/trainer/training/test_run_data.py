"""What a run reads of other people's data: partial sets, constant findings, 16-bit images, equal images, unknown patients."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from recipes import tiny
from safetensors import safe_open
from safetensors.torch import load_file

from trainer.config import from_argv
from trainer.data.labels import FINDINGS, LabelTable
from trainer.data.layouts import read_labels
from trainer.data.locate import locate_images
from trainer.errors import InputError
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.world import World
from trainer.training.loop import train

pytestmark = pytest.mark.usefixtures("drawn_at_once")


@pytest.fixture
def start(finished_run, tmp_path):
    """Start or go on with a run on a data set in NIH's layout, its network tiny."""

    def run(data, *flags):
        places = ["--data", str(data), "--output", str(tmp_path), "--cache-dir", str(tmp_path / "cache"), "--name", "r"]
        split = [] if "--split" in flags else ["--split", "patients:50/25/25"]
        report = [] if "--report" in flags else ["--no-report"]
        return train(from_argv([*tiny(2), *places, *split, *report, *flags]), World(), Reporter(0), RankLog(0))

    run.root = tmp_path / "r"
    return run


def record(root):
    return json.loads((root / "run.json").read_text())


@pytest.fixture
def without_hernia(finished_run, tmp_path):
    """The data set of the finished run, but no image has a hernia."""
    shutil.copytree(finished_run.data, tmp_path / "data")
    (table,) = (tmp_path / "data").glob("Data_Entry*")
    text = table.read_text()
    table.write_text(text.replace("|Hernia", "").replace("Hernia|", "").replace("Hernia", "No Finding"))
    return tmp_path / "data"


def test_finding_that_no_training_image_has_is_left_out_by_name(start, without_hernia, capfd):
    """Its output would answer about .5, from nothing."""
    start(without_hernia, "--report")
    kept = [name for name in FINDINGS if name != "Hernia"]
    assert record(start.root)["identity"]["findings"] == kept
    assert record(start.root)["left_out_findings"] == ["Hernia"]
    with safe_open(start.root / "model/model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["findings"]) == kept
        assert {len(file.get_tensor(name)) for name in file.keys() if name.endswith("classifier.bias")} == {13}  # noqa: SIM118
    assert "all training images have the same value: Hernia; the network has 13 outputs" in capfd.readouterr().err
    assert (
        "Not trained, as all training images have the same value: Hernia." in (start.root / "model/card.md").read_text()
    )
    assert "all training images have the same value: Hernia" in (start.root / "report/index.html").read_text()


def test_run_that_has_trained_a_constant_finding_goes_on_with_it(start, without_hernia, monkeypatch):
    """Earlier versions trained it; another number of outputs would refuse the checkpoint."""
    with monkeypatch.context() as earlier:
        earlier.setattr(LabelTable, "constant", lambda _: [])
        start(without_hernia, "--max-steps", "5")
    start(without_hernia)
    assert record(start.root)["identity"]["findings"] == list(FINDINGS)
    assert "test" in json.loads((start.root / "results.json").read_text())


@pytest.mark.parametrize("records_findings", [True, False])
def test_pretrained_head_keeps_the_rows_of_the_findings_that_are_left(
    start, finished_run, without_hernia, tmp_path, records_findings
):
    weights = finished_run.root / "model/model.safetensors"
    before = load_file(weights)
    if not records_findings:
        weights = tmp_path / "weights.pt"
        torch.save(before, weights)
    start(without_hernia, "--weights", str(weights), "--max-steps", "1", "--lr", "1e-12")
    (name,) = [name for name in before if name.endswith("classifier.weight")]
    expected = np.delete(before[name].numpy(), FINDINGS.index("Hernia"), axis=0)
    np.testing.assert_allclose(load_file(start.root / "model/model.safetensors")[name].numpy(), expected, atol=1e-6)


def test_missing_images_are_refused_or_left_out_with_the_share_of_each_part(start, finished_run, tmp_path, capfd):
    """Most people download two of NIH's twelve archives."""
    shutil.copytree(finished_run.data, tmp_path / "data")
    source = read_labels(tmp_path / "data", split="patients:50/25/25")
    for path in locate_images(source)[::2]:
        path.unlink()
    with pytest.raises(InputError, match="40 of 80 are missing or duplicated") as refused:
        start(tmp_path / "data")
    assert "--on-missing-image skip" in str(refused.value)
    start(tmp_path / "data", "--on-missing-image", "skip")
    written = record(start.root)
    assert written["missing_images"] == 40
    assert written["images"] == 40
    assert written["present"][0].startswith("train ")
    assert f"40 images have no file and are left out: {', '.join(written['present'])}" in capfd.readouterr().err


def write_16_bit(data, greatest):
    for path in locate_images(read_labels(data)):
        gray = np.asarray(Image.open(path).convert("L")).astype(np.uint32)
        Image.fromarray((gray * greatest // 255).astype(np.uint16)).save(path)


def test_16_bit_images_of_12_bits_are_trained_and_predicted_with_a_chosen_range(start, finished_run, tmp_path, capfd):
    """At full range they are nearly black, and got other probabilities without a word."""
    from trainer.commands.predict import predict

    shutil.copytree(finished_run.data, tmp_path / "data")
    write_16_bit(tmp_path / "data", 4095)
    with pytest.raises(InputError, match="they use 12 of 16 bits"):
        start(tmp_path / "data", "--max-steps", "1")
    start(tmp_path / "data", "--report", "--max-steps", "1", "--gray-range", "used")
    assert record(start.root)["gray_bits"] == 12
    assert "16-bit images: 0 to 4,095 is black to white." in (start.root / "model/card.md").read_text()
    with pytest.raises(InputError, match="cannot resume the run with `--gray-range full`: it was started with 12"):
        start(tmp_path / "data", "--max-steps", "2", "--gray-range", "full")
    start(tmp_path / "data", "--max-steps", "2")  # the run has its own
    predict([tmp_path / "data"], model=str(start.root), format="csv")
    used = capfd.readouterr().out
    predict([finished_run.data], model=str(start.root), format="csv")
    of_8_bits = capfd.readouterr().out
    first, same = (next(csv.DictReader(text.splitlines())) for text in (used, of_8_bits))
    assert float(first["prob_Mass"]) == pytest.approx(float(same["prob_Mass"]), abs=0.01)


def test_model_of_8_bit_images_asks_for_the_range_of_16_bit_ones(finished_run, tmp_path):
    from trainer.commands.predict import predict

    shutil.copytree(finished_run.data, tmp_path / "data")
    write_16_bit(tmp_path / "data", 1000)
    with pytest.raises(InputError, match="they use 10 of 16 bits"):
        predict([tmp_path / "data"], model=str(finished_run.root))
    predict([tmp_path / "data"], model=str(finished_run.root), gray_range="10")


def test_image_in_two_splits_is_reported_and_stays(classify, two_classes, tmp_path, capfd):
    shutil.copytree(two_classes, tmp_path / "twice")
    shutil.copy(tmp_path / "twice/train/NORMAL/train-0-0.png", tmp_path / "twice/test/NORMAL/again.png")
    classify("r", "--report", "--epochs", "1", "--data", str(tmp_path / "twice"), "--split", "given")
    images = {"train/NORMAL/train-0-0.png", "test/NORMAL/again.png"}
    (group,) = record(tmp_path / "r")["duplicates"]
    assert group.keys() == images
    assert group["test/NORMAL/again.png"] == "test"
    assert record(tmp_path / "r")["images"] == 61
    assert "warning: 2 images have the pixels of an image in another split, 1 of them in test" in capfd.readouterr().err
    assert "2 images have the pixels of an image in another split" in (tmp_path / "r/model/card.md").read_text()
    assert (
        "One test image has the pixels of an image in another split" in (tmp_path / "r/report/index.html").read_text()
    )


def test_where_patients_are_unknown_images_are_split_and_resampled_and_so_it_is_said(classify, tmp_path):
    """`By patient` promises that nobody is in two parts."""
    classify("r", "--report", "--epochs", "1")
    root = tmp_path / "r"
    assert json.loads((root / "evaluation/metrics.json").read_text())["data"]["patients_known"] is False
    card, page = (root / "model/card.md").read_text(), (root / "report/index.html").read_text()
    assert "split by image: the patients of all images are unknown" in card
    assert "1,000 resamples of images" in card
    assert "resamples of images" in page
    for text in (card, page):
        assert "no patient is in two" not in text
        assert "resamples of patients" not in text


def test_run_begun_before_keeps_its_split(classify, two_classes, tmp_path, monkeypatch):
    """Names with the suffix of a copy were taken for patients of their own."""
    from trainer.data import class_folders

    data = tmp_path / "named"
    for split in ("train", "test"):
        for name, kind in (("NORMAL", "virus"), ("PNEUMONIA", "bacteria")):
            (data / split / name).mkdir(parents=True)
            for number, path in enumerate(sorted((two_classes / split / name).iterdir())):
                copy = f"_{number % 2}" if number % 2 else ""
                shutil.copy(path, data / split / name / f"person{number // 2}_{kind}_{number}{copy}.png")
    flags = ("--data", str(data), "--split", "patients:50/25/25")
    with monkeypatch.context() as earlier:
        earlier.setattr(class_folders, "patient_in_name", lambda image: image)
        classify("r", "--max-steps", "2", *flags)
    kept = (tmp_path / "r/split.csv.gz").read_bytes()
    classify("r", *flags)
    assert (tmp_path / "r/split.csv.gz").read_bytes() == kept
    classify("s", *flags)
    assert (tmp_path / "s/split.csv.gz").read_bytes() != kept


def test_run_on_a_part_of_the_data_is_evaluated_on_that_part(start, finished_run, tmp_path, capfd):
    from trainer.__main__ import main

    shutil.copytree(finished_run.data, tmp_path / "data")
    for path in locate_images(read_labels(tmp_path / "data", split="patients:50/25/25"))[::2]:
        path.unlink()
    start(tmp_path / "data", "--on-missing-image", "skip", "--max-steps", "1")
    assert main(["evaluate", str(start.root), "--data", str(tmp_path / "data"), "--resamples", "10"]) == 0
    assert "images have no file and are not evaluated" in capfd.readouterr().out
    assert main(["report", str(start.root), "--gallery", "on"]) == 0


def test_gallery_of_a_run_without_a_constant_finding_is_made(start, without_hernia):
    from trainer.__main__ import main

    start(without_hernia, "--max-steps", "1")
    assert main(["report", str(start.root), "--gallery", "on"]) == 0


def test_pack_of_an_earlier_version_is_measured_once(start, finished_run, tmp_path):
    """It says nothing of 16-bit images, and a new run on it was trained nearly black."""
    shutil.copytree(finished_run.data, tmp_path / "data")
    write_16_bit(tmp_path / "data", 4095)
    with pytest.raises(InputError, match="they use 12 of 16 bits"):
        start(tmp_path / "data", "--max-steps", "1")
    (index,) = (tmp_path / "cache/packs").glob("*/manifest.json")
    document = json.loads(index.read_text())
    assert document.pop("greatest") == 4095
    index.write_text(json.dumps(document))
    with pytest.raises(InputError, match="they use 12 of 16 bits"):
        start(tmp_path / "data", "--max-steps", "1")
    assert json.loads(index.read_text())["greatest"] == 4095


def test_resumed_run_with_a_patient_in_two_splits_says_so(classify, two_classes, tmp_path, monkeypatch, capfd):
    """An earlier version split it; the run goes on, and its card must not promise what is not so."""
    from trainer.data import class_folders

    data = tmp_path / "named"
    for split in ("train", "test"):
        for name, kind in (("NORMAL", "virus"), ("PNEUMONIA", "bacteria")):
            (data / split / name).mkdir(parents=True)
            for number, path in enumerate(sorted((two_classes / split / name).iterdir())):
                patient = 1 if number == 0 else number + 100 * (split == "test") + 2
                shutil.copy(path, data / split / name / f"person{patient}_{kind}_{number}_{len(split)}.png")
    flags = ("--data", str(data), "--split", "given", "--report")
    with monkeypatch.context() as earlier:
        earlier.setattr(class_folders, "patient_in_name", lambda image: image)
        classify("r", "--max-steps", "2", *flags)
    classify("r", *flags)
    assert record(tmp_path / "r")["shared_patients"] == 2
    assert "warning: patients in more than one split: 2" in capfd.readouterr().err
    card, page = ((tmp_path / "r" / name).read_text() for name in ("model/card.md", "report/index.html"))
    assert "2 patients are in more than one split" in card
    assert "2 patients are in more than one split" in page
    assert "no patient is in two splits" not in card + page


def test_run_records_its_data_set_and_the_fields_of_its_card(start, finished_run, tmp_path):
    """Its own card, its report and later exports have them; a resume without `--card` keeps them, one with it replaces them."""
    (tmp_path / "card.yaml").write_text("owner: Ward 7\nreference_standard: drawn\n")
    start(finished_run.data, "--card", str(tmp_path / "card.yaml"), "--max-steps", "1")
    written = record(start.root)
    assert written["card"] == {"owner": "Ward 7", "reference_standard": "drawn"}
    assert (written["data_set"], written["published_split"]) == ("synthetic phantoms", "other")
    assert written["label_edition"] == "2017 by the name of its file (Data_Entry_2017.csv)"
    assert "card" not in written["config"]
    start(finished_run.data, "--max-steps", "2")
    assert record(start.root)["card"]["owner"] == "Ward 7"
    start(finished_run.data, "--card", '{"contact": "a@b.example"}', "--report")
    assert record(start.root)["card"] == {"contact": "a@b.example"}
    card, page = ((start.root / name).read_text() for name in ("model/card.md", "report/index.html"))
    for text in (card, page):
        assert "a@b.example" in text
        assert "not stated" in text
        assert "Ward 7" not in text
    evaluation = json.loads((start.root / "evaluation/metrics.json").read_text())
    assert [part["part"] for part in evaluation["cohort"]] == ["train", "val", "test"]
    assert sum(part["images"] for part in evaluation["cohort"]) == 80
    assert all(part["smallest_shown"] is None for part in evaluation["cohort"])


def kaggle_set(root):
    """Folders as Kaggle has them, with its 624 test images, tiny."""
    image = Image.effect_noise((40, 40), 60)
    files = [f"test/NORMAL/IM-{n:04d}-0001.jpeg" for n in range(1, 235)]
    files += [f"test/PNEUMONIA/person{n}_{'bacteria' if n % 2 else 'virus'}_{n}.jpeg" for n in range(1, 391)]
    files += [f"train/NORMAL/NORMAL2-IM-{n:04d}-0001.jpeg" for n in range(1001, 1021)]
    files += [f"train/PNEUMONIA/person{n}_bacteria_{n}.jpeg" for n in range(1001, 1021)]
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / file)
    return root


def test_kaggle_test_set_is_named_and_a_given_split_keeps_it(classify, tmp_path, capfd):
    """Only on it are results comparable with those of others."""
    data = kaggle_set(tmp_path / "kaggle")
    classify("given", "--data", str(data), "--split", "given", "--max-steps", "1", "--report")
    assert "the test images are those of Kermany's published split (the Kaggle test set)" in capfd.readouterr().err
    root = tmp_path / "given"
    written = record(root)
    assert (written["published_split"], written["data_set"]) == ("kaggle", "Kermany's paediatric pneumonia set")
    evaluation = json.loads((root / "evaluation/metrics.json").read_text())
    assert evaluation["data"]["split"] == "kaggle"
    assert [one["name"] for one in evaluation["references"] if one["comparable"]] == ["Kermany 2018"]
    for name in ("model/card.md", "report/index.html"):
        text = (root / name).read_text().replace("&#39;", "'")
        assert "Kermany's published split (the Kaggle test set)" in text
        assert "Kumar &" in text
    classify("again", "--data", str(data), "--max-steps", "1")
    assert "`--split given` keeps it as test" in capfd.readouterr().err
    assert record(tmp_path / "again")["published_split"] == "other"
