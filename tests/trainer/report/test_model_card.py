"""The model card that is passed on with a model."""

import json

import pytest
import report_samples as samples

from trainer.card_file import FIELDS
from trainer.data.labels import FINDINGS
from trainer.data.public import KERMANY, NIH, PHANTOMS
from trainer.evaluation.calibration import Calibrator
from trainer.evaluation.reference import KAGGLE, references
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
LINES = Calibrator(
    findings=FINDINGS,
    slope_K=(1.0,) * 14,
    intercept_K=(0.0,) * 14,
    thresholds={},
    fitted_on="val, 11,219 images",
    images_sha256="0" * 64,
)
SUBJECT = Subject(header=HEADER, parameters=6_968_206, calibrator=LINES)
TWO = ("NORMAL", "PNEUMONIA")
OF_TWO = HEADER | {"findings": json.dumps(TWO), "loss": "cross_entropy", "positive_class": "PNEUMONIA"}


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
    record = samples.record() | {"data_set": NIH}
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
    two = Subject(header=OF_TWO, parameters=1)
    of_classes = as_markdown(two, {"data_set": KERMANY}, None, samples.evaluation(TWO, classes=True))
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


OF_NIH = ("NIH", "Wang et al.", "bedside (AP)", "chest drain", "CheXpert", "natural language processing")
OF_KERMANY = ("Kermany", "CC BY 4.0", "number of pixels alone predicts", "Guangzhou", "third expert")


@pytest.mark.parametrize(
    ("data_set", "there", "absent"),
    [(NIH, OF_NIH, OF_KERMANY), (KERMANY, OF_KERMANY, OF_NIH), (PHANTOMS, (), OF_NIH), (None, (), OF_NIH + OF_KERMANY)],
)
@pytest.mark.parametrize("header", [HEADER, OF_TWO], ids=["14 findings", "two classes"])
def test_sentences_about_a_data_set_are_in_the_cards_of_its_models_only(data_set, there, absent, header):
    """A csv of the 14 findings of another hospital got NIH's terms and shortcuts, and any two classes those of Kermany."""
    names = json.loads(header["findings"])
    document = samples.evaluation(names, classes=len(names) == 2)
    document["data"] |= {"split": "other", "edition": None}
    record = samples.record() | {"data_set": data_set}
    text = as_markdown(Subject(header=header, parameters=1), record, samples.results(), document)
    about = "".join(section(text, title) for title in ("Data", "Known shortcuts and limits"))
    assert [words for words in there if words not in about] == []
    assert [words for words in absent if words in about] == []
    assert "the pixel count of an image alone gives an AUROC of 0.920" in about
    if data_set is None:
        assert "not stated: fill in \\`reference_standard\\`" in about


@pytest.mark.parametrize(
    ("changes", "is_nih"),
    [
        ({"split": "random"}, True),
        ({"split": "official"}, True),
        ({"split": "other", "edition": "v2020 (labels.csv)"}, True),
        ({"split": "other", "edition": "2017 by the name of its file (Data_Entry_2017.csv)"}, False),
        ({"split": "other", "edition": "unknown (labels.csv)"}, False),
        ({"split": "other"}, False),
        ({"split": "random", "drawn": True}, False),
    ],
)
def test_run_of_an_earlier_version_is_of_nih_only_where_its_evaluation_shows_it(changes, is_nih):
    """Its record has no name of a data set."""
    document = samples.evaluation()
    document["data"] |= changes
    text = as_markdown(SUBJECT, samples.record(), None, document)
    assert ("the NIH asks to link" in text) == is_nih


def test_calibration_of_classes_is_one_temperature():
    """There is no line for each of them."""
    fit = Calibrator(
        findings=TWO, slope_K=(0.8, 0.8), intercept_K=(0.0, 0.0), thresholds={}, fitted_on="val, 60 images",
        images_sha256="0" * 64, classes=True,
    )  # fmt: skip
    of_classes = as_markdown(Subject(header=OF_TWO, parameters=1, calibrator=fit), None, None, None)
    assert "Fitted on val, 60 images: one temperature, 1.250, for all classes." in section(of_classes, "Calibration")
    assert "line through" not in of_classes
    assert "one line through the log-odds of each finding" in section(
        as_markdown(SUBJECT, None, None, None), "Calibration"
    )


def test_fields_that_nobody_stated_are_seen_to_be_lacking():
    """A reader must not take silence for an answer; the flag of the export goes before the run's."""
    record = samples.record() | {"card": {"owner": "Ward 7 | lab", "contact": "a@b.example", "nonsense": "x"}}
    subject = Subject(
        header=HEADER, parameters=1, stated={"contact": "c@d.example", "reference_standard": "two readers"}
    )
    text = as_markdown(subject, record, None, None)
    stated = section(text, "Stated by the owner")
    assert "| Owner of the model (`owner`) | Ward 7 \\| lab |" in stated
    assert "| Contact (`contact`) | c@d.example |" in stated
    assert stated.count("| not stated |") == len(FIELDS) - 3
    assert "nonsense" not in text
    assert "| Reference standard | two readers |" in section(text, "Data")


def test_card_has_seeds_edition_duplicates_and_missing_images():
    """A reviewer asks for each; what a run of an earlier version did not record is said so."""
    record = samples.record(seed=3, split="patients:70/10/20@5")
    assert "| Images without a file | not recorded |" in section(as_markdown(SUBJECT, record, None, None), "Data")
    record |= {
        "data_set": NIH,
        "label_edition": "v2020 (labels.csv)",
        "missing_images": 1200,
        "published_split": "official",
    }
    record["duplicates"] = [{"a.png": "train", "b.png": "test"}]
    data = section(as_markdown(SUBJECT, record, None, samples.evaluation()), "Data")
    assert "| Seeds | training 3, split 5, resamples 0 |" in data
    assert "| Edition of the labels | v2020 (labels.csv) |" in data
    assert "| Test images | those of NIH's official split |" in data
    assert "| Images without a file | 1,200 |" in data
    assert "| Equal images in several splits | 2, 1 of them in test |" in data
    record |= {"data_set": None, "label_edition": "2017 by the name of its file (Data_Entry_2017.csv)"}
    assert "| Edition of the labels | no known edition" in section(as_markdown(SUBJECT, record, None, None), "Data")


def test_subgroups_have_differences_and_reasons():
    """A row of dashes is read as "no such patients"; documents of earlier versions have neither."""
    new = section(as_markdown(SUBJECT, None, None, samples.of_format_2(samples.evaluation())), "Subgroups")
    assert "| by | group | images | patients | mean AUROC | minus that of all others |" in new
    assert "| sex | F | 9,000 | 3,000 | 0.800 (0.780 to 0.820) | -0.030 (-0.050 to -0.010) |" in new
    assert "| view | AP | 9,000 | 3,000 | not scored: 14 patients, fewer than 20 | - |" in new
    old = section(as_markdown(SUBJECT, None, None, samples.evaluation()), "Subgroups")
    assert "| by | group | images | patients | mean AUROC |" in old.splitlines()


def test_edition_that_only_the_evaluation_has_is_not_unknown():
    """Runs of earlier versions did not record it."""
    document = samples.evaluation()
    document["data"]["edition"] = "2017 (labels.csv)"
    data = section(as_markdown(SUBJECT, samples.record(), None, document), "Data")
    assert "| Edition of the labels | 2017 (labels.csv) |" in data


def test_scale_of_thresholds_is_that_of_the_evaluation():
    """A threshold applied to the other scale moves a specificity from 1.00 to .54."""
    old, new = samples.evaluation(), samples.of_format_2(samples.evaluation())
    for document, words in ((old, "before"), (new, "after")):
        text = as_markdown(SUBJECT, samples.record(), None, document)
        assert f"applied once, to probabilities {words} calibration." in section(text, "Operating points")


def test_results_of_an_earlier_version_say_so():
    """Their intervals go down to 1.00 (1.00 to 1.00), and calibration.json beside the card has other thresholds."""
    old, new = samples.evaluation(), samples.of_format_2(samples.evaluation())
    words = "computed by an earlier version"
    assert words in section(as_markdown(SUBJECT, samples.record(), None, old), "Notes")
    assert words not in as_markdown(SUBJECT, samples.record(), None, new)


def test_results_published_for_two_classes_stand_with_their_images():
    """Kermany's are of the Kaggle test set; those of the paper of no known one."""
    document = samples.evaluation(TWO, classes=True)
    document["references"] = references(TWO, split=KAGGLE, part="test", images=624)
    text = section(as_markdown(Subject(header=OF_TWO, parameters=1), None, None, document), "Published results")
    assert "| this model | these | 0.897 | 0.812 | 0.812 | 0.812 |" in text
    assert "| Kermany 2018 | these | 0.928 | 0.932 | 0.901 | 0.968 |" in text
    assert "| Kumar & Moghal, VGG16, 2 GPUs | other | 0.860 | - | - | - |" in text
    assert "no share of 624" in text
