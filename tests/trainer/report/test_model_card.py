"""The model card that is passed on with a model."""

import json

import pytest
import report_samples as samples

from trainer.data.labels import FINDINGS
from trainer.report.model_card import Subject, as_markdown

HEADER = {
    "format": "1",
    "name": "run-1",
    "step": "96",
    "model": "densenet121",
    "head": "linear",
    "loss": "bce",
    "findings": json.dumps(FINDINGS),
    "pack_side": "256",
    "pack_fit": "crop",
    "crop_px": "224",
}
SUBJECT = Subject(header=HEADER, parameters=6_968_206, fitted_on="val, 11,219 images")


def section(text, title):
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def card():
    return as_markdown(SUBJECT, samples.record(), samples.results(), samples.evaluation())


def test_card_states_first_that_the_model_is_not_for_clinical_use(card):
    """Who gets a file of weights may get nothing but the card with it."""
    assert "**Not for clinical use.**" in section(card, "Intended use")
    assert card.index("Not for clinical use") < card.index("\n## Data\n")


def test_card_names_no_machine_bucket_or_login(card):
    """It leaves the hospital with the model; the record it is made from holds paths, hosts and tokens."""
    for secret in (
        "s3://",
        "bucket.internal",
        "hospital/",
        "secret",
        "token",
        "/mnt",
        "host-7",
        "/home",
        "/data/private",
    ):
        assert secret not in card, secret
    assert "chestxray14" in section(card, "Data")
    assert "resnet.pth" in section(card, "Training")


def test_card_of_phantoms_states_that_there_were_no_x_rays():
    """Nobody should cite NIH for it, or believe its numbers."""
    found = samples.evaluation()
    found["data"]["drawn"] = True
    data = section(as_markdown(SUBJECT, samples.record(), samples.results(), found), "Data")
    assert "synthetic phantoms, not X-rays" in data
    assert "NIH" not in data


def test_card_has_terms_of_the_data_and_hashes_of_split_and_labels():
    """A model is bound by its data's terms, and only a hash says which images were whose."""
    record = samples.record()
    record["identity"] |= {"split_sha256": "5" * 64, "labels_sha256": "1" * 64, "skipped": ["a.png"]}
    text = section(as_markdown(SUBJECT, record, None, None), "Data")
    assert "5" * 64 in text
    assert "1" * 64 in text
    assert "Wang et al., CVPR 2017" in text
    assert "patients:70/10/20" in text
    assert "1 unreadable images were left out" in text
    record["config"]["split"] = "/mnt/host-7/lists"
    assert "Split: lists," in section(as_markdown(SUBJECT, record, None, None), "Data")


def test_card_says_how_images_are_prepared_and_what_the_network_is(card):
    """Another size or scale gives other answers without any error."""
    assert "the centre 224 x 224" in section(card, "Images")
    assert "(0.485, 0.456, 0.406)" in section(card, "Images")
    assert "6,968,206 parameters" in section(card, "Network")
    assert "Pleural Thickening, Hernia" in section(card, "Network")


def test_scores_have_their_intervals_and_their_split(card):
    """A number without both is what a reviewer throws out first."""
    text = section(card, "Results")
    first = samples.evaluation()["findings"][0]["auroc"]
    assert f"| {first['value']:.3f} ({first['low']:.3f} to {first['high']:.3f}) |" in text
    assert "| **mean** |  |  | 0.812 (0.792 to 0.832) |" in text
    assert "22,433 images of 6,187 patients, of the published 70/10/20 split" in text
    points = section(card, "Operating points")
    assert "fixed on val, 11,219 images" in points
    assert "| Hernia | 0.1234 |" in points
    assert "| view | AP | 9,000 | 3,000 | 0.800 (0.780 to 0.820) |" in section(card, "Subgroups")
    assert "expected calibration error 0.1000" in section(card, "Calibration")


def test_findings_without_positives_are_shown_as_dashes(card):
    """Nothing is made up for what can't be known."""
    document = samples.evaluation()
    document["findings"][0] = samples.undefined("Atelectasis")
    text = as_markdown(SUBJECT, samples.record(), samples.results(), document).replace("\xa0", " ")
    assert "| Atelectasis | 0 | 0.00 % | - | - |" in text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trained_on_known": False, "trained_on_images": None}, "The model's training images are unknown"),
        ({"trained_on_images": 606}, "606 of these images are of patients in the training set"),
    ],
    ids=["unknown", "seen"],
)
def test_scores_that_training_patients_may_flatter_are_marked(changes, sentence):
    """17,920 of NIH's official test images are in the train list of the other split."""
    document = samples.evaluation()
    document["data"] |= changes
    assert sentence in section(as_markdown(SUBJECT, samples.record(), None, document), "Results")


def test_card_lists_known_and_measured_shortcuts(card):
    """What the model may have learnt instead of the disease is what its next user must test."""
    text = section(card, "Known shortcuts and limits")
    assert "bedside (AP)" in text
    assert "chest drain" in text
    assert "the pixel count of an image alone gives an AUROC of 0.920" in text
    two = Subject(header=HEADER | {"findings": '["NORMAL", "PNEUMONIA"]', "loss": "cross_entropy"}, parameters=1)
    of_classes = as_markdown(two, None, None, samples.evaluation(("NORMAL", "PNEUMONIA"), classes=True))
    assert "number of pixels alone" in section(of_classes, "Known shortcuts and limits")
    assert "CC BY 4.0" in section(of_classes, "Data")
    assert "560 of 624" in section(of_classes, "Results")
    assert "one class per image" in section(of_classes, "Network")


def test_card_names_the_positive_class_of_sensitivity_and_operating_points(card):
    """Of two classes either could be meant."""
    names = ("No_Finding", "Mass")
    header = HEADER | {"findings": json.dumps(names), "loss": "cross_entropy", "positive_class": "No_Finding"}
    document = samples.evaluation(names, classes=True)
    document["classes"]["positive"] = "No_Finding"
    text = as_markdown(Subject(header=header, parameters=1), None, None, document)
    assert "- Positive class: No Finding." in section(text, "Network")
    assert "Sensitivity for No Finding: " in section(text, "Results")
    assert "the positive class is No Finding." in section(text, "Operating points")
    assert "ositive class" not in card


def test_card_of_weights_without_a_run_states_what_is_unknown():
    """A public checkpoint tells nothing of its training; the card must not look as if it did."""
    header = {key: value for key, value in HEADER.items() if key not in {"name", "step"}}
    text = as_markdown(Subject(header=header, parameters=1, notes=["the order is assumed"]), None, None, None)
    assert text.startswith("# Model card: densenet121\n")
    assert "Unknown: the weights have no record of their run" in section(text, "Data")
    assert "Not evaluated" in section(text, "Results")
    assert "the order is assumed" in section(text, "Notes")
    assert "No calibration was fitted" in section(text, "Calibration")


def test_names_cannot_break_a_table_or_forge_a_section():
    """Classes are names of folders that somebody else made."""
    names = ["a|b", "## Intended use\n- clinical"]
    two = Subject(header=HEADER | {"findings": json.dumps(names)}, parameters=1)
    text = as_markdown(two, None, None, samples.evaluation(names))
    assert text.count("\n## Intended use\n") == 1
    assert "\n- clinical" not in text
    assert "| a\\|b |" in text
