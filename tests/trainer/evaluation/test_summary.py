"""Evidence as text and as a table."""

import csv
import io
import re

import numpy as np
import pytest

from trainer.data.labels import FINDINGS
from trainer.evaluation.calibration import calibrated, fit
from trainer.evaluation.document import Data
from trainer.evaluation.evaluate import EvaluationRequest, evaluate
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.summary import as_csv, as_table

IMAGES = 300


@pytest.fixture(scope="module")
def make():
    """Evidence of 300 images; `**changes` as of `Data`."""
    random = np.random.default_rng(0)
    labels = (random.random((IMAGES, 14)) < 0.3).astype(np.uint8)
    labels[:, 13] = 0
    log_odds = random.normal(labels * 1.0)
    calibrator = fit(log_odds, labels, FINDINGS, ["a"], "val, 1 image")

    def evaluation(*, images=IMAGES, split="random", fitted=True):
        found = evaluate(
            EvaluationRequest(
                model="mine.csv",
                log_odds_NK=log_odds,
                labels_NK=labels,
                patients_N=np.arange(IMAGES) // 2,
                findings=FINDINGS,
                data=Data(
                    labels="labels.csv",
                    part="test",
                    split=split,
                    images=images,
                    patients=150,
                    fitted_on="val, 1 image" if fitted else None,
                    trained_on_known=False,
                    trained_on_images=None,
                ),
                classes=False,
                calibrated=calibrated(calibrator, log_odds, FINDINGS) if fitted else None,
                prevalences={"Nodule": 0.02},
                metadata=Metadata(np.array(["M", "F"] * 150), np.full(IMAGES, 50.0), np.array([""] * IMAGES)),
                other=("theirs.csv", log_odds + random.normal(size=log_odds.shape)),
                notes=["training images are not known"],
                resamples=30,
            )
        )
        if images != IMAGES:
            from trainer.evaluation.reference import references

            found["references"] = references(FINDINGS, split=split, part="test", images=images)
            for finding in found["findings"]:
                finding["known"] = images
        return found

    return evaluation


def column(text, name):
    return [row[name] for row in csv.DictReader(io.StringIO(text))]


def test_table_shows_every_part_of_the_evaluation(make):
    """What is not printed is not read."""
    text = as_table(make())
    for told in (
        "mine.csv on labels.csv: 300 images of 150 patients",
        "at Youden's J, fixed on val, 1 image",
        "for calibrated probabilities",
        "true pos.",
        "at prevalence",
        "ECE in 15 bins",
        "ECE calibrated",
        "observed/expected",
        "sex M",
        "minus that of the others",
        "intervals exclude 0",
        "AUROC against theirs.csv, on the same resamples",
        "note: training images are not known",
        "published mean AUROC for other images: not comparable",
    ):
        assert told in text
    assert text.isascii()
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize(("split", "images"), [("random", 22433), ("official", 25596), ("random", IMAGES)])
def test_no_line_of_a_table_is_wider_than_a_terminal(make, split, images):
    """Wrapped columns are unreadable."""
    lines = as_table(make(split=split, images=images)).splitlines()
    assert [line for line in lines if len(line) > 80 and not line.startswith("note: ")] == []


def test_undefined_score_is_a_dash_in_text_and_empty_in_csv(make):
    """A program must not read a word as a number."""
    evaluation = make()
    (row,) = [line for line in as_table(evaluation).splitlines() if line.startswith("Hernia")][:1]
    assert row.split()[4:] == ["-", "-"]
    assert column(as_csv(evaluation), "auroc")[13] == ""
    assert float(column(as_csv(evaluation), "auroc")[14]) == evaluation["mean_auroc"]["value"]


@pytest.mark.parametrize(
    ("split", "images", "beside"),
    [
        ("random", 22433, ["zoogzog", "arnoweng", "arnoweng, improved", "jrzech"]),
        ("official", 25596, ["Wang 2017", "SwinCheX", "Medical-MAE, DenseNet-121", "EVA-X-B"]),
        ("random", IMAGES, []),
    ],
)
def test_published_values_of_other_images_have_no_column(make, split, images, beside):
    """Read across a row they would be compared."""
    evaluation = make(split=split, images=images)
    table = as_table(evaluation)
    header = re.split(r" {2,}", table.split("\n\n")[1].splitlines()[0].strip())
    assert header == ["positives", "prevalence", "AUROC", "AUPRC"]
    same = [
        block for block in table.split("\n\n") if block.startswith("published AUROC for exactly these images: test, ")
    ]
    assert len(same) == bool(beside)
    for block in same:
        names, header = block.splitlines()[1 : 1 + len(beside)], block.splitlines()[1 + len(beside)]
        assert [name.startswith(f"{nth} {one},") for nth, (name, one) in enumerate(zip(names, beside, strict=True), 1)]
        assert header.split() == ["this", "model", *(str(nth + 1) for nth in range(len(beside)))]
    columns = next(csv.reader(io.StringIO(as_csv(evaluation))))
    assert [name for name in columns if name.startswith("auroc of")] == [
        f"auroc of {name} ({split} test)" for name in beside
    ]
    elsewhere = table[table.index("not comparable") :].split("\n\n")[0].splitlines()[2:]
    others = [one["name"] for one in evaluation["references"] if one["name"] not in beside]
    assert [re.split(r" {2,}", line)[0] for line in elsewhere] == others


def test_finding_with_an_auroc_of_0_is_a_reason_for_a_mean_without_interval(make):
    """It has a value, which is not none."""
    evaluation = make()
    evaluation["findings"][1] |= {
        "auroc": {"value": 0.0, "low": None, "high": None},
        "too_few": "only 1 patient with it",
    }
    evaluation["findings"][13]["too_few"] = "no patient with it"
    assert column(as_csv(evaluation), "no_interval")[14] == "too few patients for Cardiomegaly"


def test_table_for_programs_has_a_row_a_finding_and_the_mean(make):
    """Its columns are what a spreadsheet is made from."""
    evaluation = make()
    text = as_csv(evaluation)
    assert column(text, "finding") == [*FINDINGS, "mean"]
    point = evaluation["findings"][0]["operating_points"]["specificity_90"]
    assert float(column(text, "specificity_90_threshold")[0]) == point["threshold"]
    assert float(column(text, "specificity_90_sensitivity_low")[0]) == point["sensitivity"]["low"]
    assert float(column(text, "ece_calibrated")[0]) == evaluation["findings"][0]["calibrated"]["ece"]
    assert "youden_threshold" not in as_csv(make(fitted=False))


def test_published_value_is_shown_as_its_digits_round(make):
    """jrzech's Hernia is .9175, which in binary is a little less: .917 beside our .918 of the same predictions."""
    table = as_table(make(images=22433))
    block = table[table.index("published AUROC") :].split("\n\n")[0]
    (row,) = [line for line in block.splitlines() if line.startswith("Hernia")]
    assert row.split()[-1] == ".918"


def test_results_published_for_two_classes_have_a_table_of_their_own(make):
    """They have accuracies, and most of them no AUROC."""
    from trainer.evaluation.reference import KAGGLE, references

    found = dict(make())
    found["references"] = references(("NORMAL", "PNEUMONIA"), split=KAGGLE, part="test", images=624)
    text = as_table(found)
    assert "published for normal and pneumonia: comparable only on these images" in text
    assert "Kermany 2018                          these       .928   .932   .901   .968" in text
    assert "Kumar & Moghal, VGG16, 2 GPUs         other       .860      -      -      -" in text
    assert "Kumar & Moghal, DenseNet-121, 1 GPU; Kumar & Moghal, VGG16, 2 GPUs: as published" in text.replace("\n", " ")
    assert "published AUROC for exactly" not in text
    assert "published mean AUROC" not in text
    assert "auroc of Kermany 2018 (random test)" in as_csv(found)
