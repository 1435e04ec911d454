"""The document of evidence against scikit-learn and by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from trainer.data.labels import FINDINGS as NIH
from trainer.errors import InputError
from trainer.evaluation.calibration import calibrated, fit
from trainer.evaluation.document import Data, from_json, to_json
from trainer.evaluation.evaluate import DRAWN, EvaluationRequest, evaluate
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.metrics import class_log_odds, probability

FINDINGS = ("A", "B", "C")


def data(**changes):
    known = Data(
        labels="labels.csv",
        part="test",
        split="other",
        images=600,
        patients=200,
        fitted_on=None,
        trained_on_known=True,
        trained_on_images=0,
    )
    return {**known, **changes}


@pytest.fixture(scope="module")
def images():
    """Log-odds, labels and patients of 600 images; nobody has the last finding."""
    random = np.random.default_rng(0)
    labels = (random.random((600, 3)) < [0.4, 0.1, 0.0]).astype(np.uint8)
    return random.normal(labels * 1.5 - 1), labels, random.integers(0, 200, 600)


@pytest.fixture(scope="module")
def calibrator(images):
    log_odds, labels, _ = images
    return fit(log_odds[::2], labels[::2], FINDINGS, [str(n) for n in range(300)], "val, 300 images")


def assessed(predicted, **more):
    log_odds, labels, patients = predicted
    calibrator = more.pop("calibrator", None)
    if calibrator is not None:
        more["calibrated"] = calibrated(calibrator, log_odds, more.get("findings", FINDINGS))
    asked = {"model": "m", "findings": FINDINGS, "data": data(), "classes": False, "resamples": 60, **more}
    return evaluate(EvaluationRequest(log_odds_NK=log_odds, labels_NK=labels, patients_N=patients, **asked))


def test_scores_are_scikit_learns_with_intervals_around_them(images):
    """The one thing everybody will check."""
    log_odds, labels, _ = images
    found = assessed(images)
    for k, finding in enumerate(found["findings"][:2]):
        assert finding["auroc"]["value"] == pytest.approx(roc_auc_score(labels[:, k], log_odds[:, k]))
        assert finding["auprc"]["value"] == pytest.approx(average_precision_score(labels[:, k], log_odds[:, k]))
        assert finding["auroc"]["low"] < finding["auroc"]["value"] < finding["auroc"]["high"]
        assert finding["positives"] == labels[:, k].sum()
    values = [finding["auroc"]["value"] for finding in found["findings"][:2]]
    assert found["mean_auroc"]["value"] == pytest.approx(sum(values) / 2)


def test_phantoms_are_marked_and_not_compared_with_published_scores():
    """Their AUROC of .94 beside a published .84 would be read as a success."""
    random = np.random.default_rng(0)
    labels = (random.random((60, 14)) < 0.4).astype(np.uint8)
    images = (random.normal(labels * 1.0), labels, np.arange(60))
    real, drawn = (assessed(images, findings=NIH, data=data(drawn=is_drawn)) for is_drawn in (False, True))
    assert real["references"]
    assert DRAWN not in real["notes"]
    assert drawn["references"] == []
    assert drawn["notes"][0] == DRAWN


def test_finding_without_positives_is_null_and_noted(images):
    """JSON knows no nan, and a 0 would be read as a score."""
    found = assessed(images)
    last = found["findings"][2]
    assert last["auroc"] == {"value": None, "low": None, "high": None}
    assert set(last["roc"]["y"]) == {None}
    assert "C: not evaluated: no image here has it" in found["notes"]
    assert json.loads(to_json(found)) == found


def test_same_seed_gives_the_same_bytes_and_another_seed_other_intervals(images):
    """A table that changes when it is made again can't be reviewed."""
    assert to_json(assessed(images)) == to_json(assessed(images))
    assert assessed(images)["mean_auroc"] != assessed(images, seed=1)["mean_auroc"]


def test_patient_numbers_may_have_gaps(images):
    """They are numbers of the whole data set, of which one part is scored."""
    log_odds, labels, patients = images
    assert assessed((log_odds, labels, patients * 7 + 3)) == assessed(images)


def test_operating_points_are_counted_at_the_fixed_thresholds(images, calibrator):
    """Sensitivity and specificity of a threshold are what a clinic would see."""
    log_odds, labels, _ = images
    found = assessed(images, calibrator=calibrator)
    for k, finding in enumerate(found["findings"][:2]):
        for rule, point in finding["operating_points"].items():
            assert point["threshold"] == calibrator.thresholds[rule][FINDINGS[k]]
            taken = probability(calibrator.apply(log_odds)[:, k]) >= point["threshold"]
            tn, fp, fn, tp = confusion_matrix(labels[:, k], taken).ravel().tolist()
            counts = {"true_positives": tp, "false_positives": fp, "false_negatives": fn, "true_negatives": tn}
            assert point["counts"] == counts
            assert point["sensitivity"]["value"] == pytest.approx(tp / (tp + fn))
            assert point["specificity"]["value"] == pytest.approx(tn / (tn + fp))
            assert point["ppv"]["value"] == pytest.approx(tp / (tp + fp))
            assert point["npv"]["value"] == pytest.approx(tn / (tn + fn))
            assert point["sensitivity"]["low"] <= point["sensitivity"]["value"] <= point["sensitivity"]["high"]
    assert found["findings"][2]["operating_points"] == {}
    assert "C: not calibrated and no thresholds: validation has no image with it" in found["notes"]


def test_scored_labels_change_neither_thresholds_nor_calibration(images, calibrator):
    """Fitted on the images it is judged on, any model looks calibrated."""
    log_odds, labels, patients = images
    before = assessed(images, calibrator=calibrator)
    after = assessed((log_odds, 1 - labels, patients), calibrator=calibrator)
    assert before["scale"] == "calibrated"
    predicted = [
        [[one_bin["predicted"] for one_bin in finding["calibrated"]["bins"]] for finding in one["findings"]]
        for one in (before, after)
    ]
    fixed = [
        [[point["threshold"] for point in finding["operating_points"].values()] for finding in one["findings"]]
        for one in (before, after)
    ]
    assert predicted[0] == predicted[1]
    assert fixed[0] == fixed[1]
    assert before["findings"][0]["auroc"] != after["findings"][0]["auroc"]


def test_given_probabilities_are_ranked_as_they_are(images):
    """Log-odds of very small probabilities tie; the probabilities do not."""
    _, labels, patients = images
    tiny = np.arange(1, 601)[:, None] * 1e-12 + 0 * labels
    log_odds = np.full(labels.shape, -16.0)
    found = assessed((log_odds, labels, patients), probabilities_NK=tiny)
    assert found["findings"][0]["auroc"]["value"] == pytest.approx(roc_auc_score(labels[:, 0], tiny[:, 0]))


@pytest.mark.parametrize(
    ("given", "positive", "sensitivity"), [(None, "Abnormal", (30, 30)), ("Normal", "Normal", (0, 30))]
)
def test_sensitivity_is_of_the_positive_class(given, positive, sensitivity):
    """A model that calls every image abnormal misses no abnormal one."""
    labels = np.repeat(np.eye(2, dtype=np.uint8), 30, axis=0)
    found = evaluate(
        EvaluationRequest(
            model="m",
            log_odds_NK=np.tile([1.0, -1.0], (60, 1)),
            labels_NK=labels,
            patients_N=np.arange(60),
            findings=("Abnormal", "Normal"),
            data=data(images=60),
            classes=True,
            positive_class=given,
            resamples=5,
        )
    )["classes"]
    assert found["positive"] == positive
    assert (found["sensitivity"]["correct"], found["sensitivity"]["total"]) == sensitivity
    assert found["specificity"]["correct"] == 30 - sensitivity[0]


def test_classes_are_counted_by_the_likeliest():
    """Accuracy of the pneumonia system is over unpadded images, beside always saying the commonest."""
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [1.0, 0.0], [0.0, 0.5]])
    labels = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [1, 0]])
    found = evaluate(
        EvaluationRequest(
            model="m",
            log_odds_NK=class_log_odds(logits),
            labels_NK=labels,
            patients_N=np.arange(5),
            findings=("NORMAL", "PNEUMONIA"),
            data=data(images=5),
            classes=True,
            resamples=20,
        )
    )["classes"]
    counts = {key: (found[key]["correct"], found[key]["total"]) for key in ("accuracy", "sensitivity", "specificity")}
    assert counts == {"accuracy": (3, 5), "sensitivity": (2, 3), "specificity": (1, 2)}
    assert found["positive"] == "PNEUMONIA"
    assert found["majority_share"] == 0.6
    assert found["recall"]["NORMAL"]["value"] == 0.5


def test_subgroups_comparison_and_unknown_patients_are_reported(images):
    """Who is in no group must be said, or the groups seem to be all."""
    log_odds, _, _ = images
    sex = np.array(["M", "F", ""] * 200)
    people = Metadata(sex, np.full(600, 50.0), np.array(["PA"] * 600))
    found = assessed(images, metadata=people, other=("other.csv", -log_odds))
    assert [(group["by"], group["group"], group["images"]) for group in found["subgroups"]] == [
        ("sex", "M", 200),
        ("sex", "F", 200),
    ]
    assert "sex unknown for 200 of 600 images, which are in no group by sex" in found["notes"]
    rows = {row["name"]: row for row in found["comparison"]["differences"]}
    assert rows["A"]["other"] == pytest.approx(1 - rows["A"]["ours"])
    assert rows["C"]["difference"] == {"value": None, "low": None, "high": None}
    assert rows["mean"]["p"] == pytest.approx(2 / 61)


def test_resamples_that_lack_a_finding_are_counted():
    """Five positives are missing from one draw in a hundred and fifty."""
    random = np.random.default_rng(1)
    labels = np.zeros((40, 1), np.uint8)
    labels[:5] = 1
    found = evaluate(
        EvaluationRequest(
            model="m",
            log_odds_NK=random.normal(size=(40, 1)),
            labels_NK=labels,
            patients_N=np.arange(40),
            findings=("A",),
            data=data(images=40),
            classes=False,
            resamples=1000,
        )
    )
    assert any("of 1,000 resamples skipped" in note for note in found["notes"])
    assert found["findings"][0]["auroc"]["low"] is not None


def test_one_patient_gives_scores_and_no_intervals(images, calibrator):
    """Every draw of one patient is the same: an interval without width would look like certainty."""
    log_odds, labels, _ = images
    found = assessed((log_odds, labels, np.zeros(600, int)), calibrator=calibrator)
    scores = [found["mean_auroc"], found["mean_auprc"], *(one["auroc"] for one in found["findings"][:2])]
    scores += [point["ppv"] for point in found["findings"][0]["operating_points"].values()]
    assert all(score["value"] is not None for score in scores)
    assert {(score["low"], score["high"]) for score in scores} == {(None, None)}
    assert any(
        note.startswith("no intervals for fewer than 5 patients") and "A (only 1 patient with it)" in note
        for note in found["notes"]
    )
    assert not [note for note in found["notes"] if "resamples skipped" in note]


@pytest.mark.parametrize("positives", [1, 2, 3, 4])
def test_number_of_fewer_than_five_patients_has_no_interval(images, positives):
    """All resamples with them look alike, so that an interval would be a single number: AUROC 1.000 (1.000 to 1.000)."""
    log_odds, labels, patients = images
    few = labels.copy()
    few[:, 0] = np.isin(patients, np.arange(positives))
    sure = np.where(few[:, [0]] > 0, 9.0, log_odds)
    found = assessed((sure, few, patients))
    first, second = found["findings"][:2]
    assert first["auroc"] == {"value": 1.0, "low": None, "high": None}
    assert first["auprc"]["low"] is first["raw"]["intercept"]["low"] is first["raw"]["observed_expected"]["low"] is None
    assert set(first["roc"]["low"]) == set(first["net_benefit"]["high"]) == {None}
    assert first["too_few"] == f"only {positives} patient{'s' * (positives > 1)} with it"
    assert second["too_few"] is None
    assert second["auroc"]["low"] is not None
    assert found["mean_auroc"]["low"] is found["mean_auprc"]["low"] is None
    (note,) = [note for note in found["notes"] if note.startswith("no intervals")]
    assert "and so for the mean" in note
    assert f"A ({first['too_few']})" in note


def test_finding_separated_without_an_error_gets_the_interval_of_newcombe():
    """All resamples give 1, so they have no spread; the lower bound follows from the number of patients."""
    labels = np.arange(60)[:, None] < 12
    found = assessed((labels * 3.0, labels.astype(np.uint8), np.arange(60)), findings=("A",))
    auroc = found["findings"][0]["auroc"]
    assert auroc["value"] == auroc["high"] == 1
    assert 0.8 < auroc["low"] < 0.97
    assert found["mean_auroc"] == auroc
    assert found["findings"][0]["auprc"] == {"value": 1.0, "low": None, "high": None}


def test_calibration_that_makes_the_error_greater_is_told(images, calibrator):
    """One fitted on other patients may not fit these."""
    moved = replace(calibrator, intercept_K=(4.0, 0.0, 0.0))
    (note,) = [one for one in assessed(images, calibrator=moved)["notes"] if one.startswith("calibration made")]
    assert note.startswith("calibration made the expected calibration error greater on these images: A (0.")


def test_stated_prevalence_gives_predictive_values_by_bayes(images, calibrator):
    """A test set with 40 % positives says nothing about screening."""
    found = assessed(images, calibrator=calibrator, prevalences={"A": 0.01})
    first, second = found["findings"][:2]
    assert (first["stated_prevalence"], second["stated_prevalence"]) == (0.01, None)
    for point in first["operating_points"].values():
        sensitivity, specificity = point["sensitivity"]["value"], point["specificity"]["value"]
        ppv = sensitivity * 0.01 / (sensitivity * 0.01 + (1 - specificity) * 0.99)
        npv = specificity * 0.99 / (specificity * 0.99 + (1 - sensitivity) * 0.01)
        assert point["stated_ppv"]["value"] == pytest.approx(ppv)
        assert point["stated_npv"]["value"] == pytest.approx(npv)
        for one in (point["stated_ppv"], point["stated_npv"]):
            assert one["low"] < one["value"] < one["high"]
    assert "stated_ppv" not in second["operating_points"]["youden"]


def test_evaluation_does_not_depend_on_the_order_of_rows(images, calibrator):
    """With names, all numbers are those of the images, however a file lists them."""
    log_odds, labels, patients = images
    names = [f"{number:04d}.png" for number in range(600)]
    order = np.random.default_rng(5).permutation(600)
    sex = np.array(["M", "F"] * 300)
    people = Metadata(sex, np.full(600, 50.0), np.array(["PA"] * 600))
    one = assessed(images, calibrator=calibrator, images=names, metadata=people)
    other = assessed(
        (log_odds[order], labels[order], patients[order]),
        calibrator=calibrator,
        images=[names[row] for row in order],
        metadata=people.rows(order),
    )
    assert one == other


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), images=st.integers(1, 40), patients=st.integers(1, 12), shift=st.floats(-4, 4))
def test_small_sets_give_finite_numbers_and_intervals_only_where_due(seed, images, patients, shift):
    """Whatever the labels: JSON is strict about nan, an interval contains its value, and few patients have none."""
    random = np.random.default_rng(seed)
    labels = (random.random((images, 2)) < [0.3, 0.9]).astype(np.uint8)
    log_odds = random.normal(labels * 2.0 + shift).round(1)
    belonging = random.integers(0, patients, images)
    calibrator = fit(log_odds, labels, ("A", "B"), [str(n) for n in range(images)], "val")
    people = Metadata(
        random.choice(["M", "F", ""], images), random.integers(0, 90, images) * 1.0, np.full(images, "PA")
    )
    asked = {"findings": ("A", "B"), "metadata": people, "other": ("o", log_odds[:, ::-1]), "resamples": 20}
    found = assessed((log_odds, labels, belonging), calibrator=calibrator, prevalences={"A": 0.1}, **asked)
    assert json.loads(to_json(found)) == found
    for k, finding in enumerate(found["findings"]):
        counts = [len(np.unique(belonging[labels[:, k] == value])) for value in (0, 1)]
        points = finding["operating_points"].values()
        shown = [finding["auroc"], finding["auprc"], *(point["sensitivity"] for point in points)]
        shown += [finding[scale][key] for scale in ("raw", "calibrated") for key in ("slope", "intercept")]
        for one in shown:
            assert one["low"] is None or one["low"] <= one["value"] <= one["high"]
            assert min(counts) >= 5 or one["low"] is None
        assert (finding["too_few"] is None) == (min(counts) >= 5)


def test_calibration_of_another_model_is_refused(images, calibrator):
    """Columns would be mixed up silently."""
    with pytest.raises(InputError, match="cannot calibrate"):
        assessed(images, calibrator=calibrator, findings=("A", "B", "D"))


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": 1}', b'{"format": 2}', b'{"format": 3}'])
def test_file_of_another_kind_is_refused(content):
    """A report must not be drawn from half a document."""
    with pytest.raises(InputError, match=r"cannot read the evaluation(.|\n)*metrics.json"):
        from_json(content, "metrics.json")


def test_evaluation_document_is_read_back(images):
    """Reports and cards are written from the file."""
    found = assessed(images)
    assert from_json(to_json(found), "metrics.json") == found


def test_earlier_document_loses_the_intervals_of_too_few_images(images):
    """It said 1.000 (1.000 to 1.000) of four positives, and would look surer than one of today beside it."""
    document = json.loads(to_json(assessed(images))) | {"format": 1}
    few, many, _ = document["findings"]
    few["positives"] = 4
    for one in document["findings"]:
        del one["too_few"], one["positive_patients"], one["negative_patients"]
    read = from_json(json.dumps(document).encode(), "metrics.json")
    assert read["findings"][0]["auroc"] == {"value": few["auroc"]["value"], "low": None, "high": None}
    assert read["findings"][0]["too_few"] == "only 4 images with it"
    assert read["findings"][1]["auroc"] == many["auroc"]
    assert "too_few" not in read["findings"][1]
    assert read["mean_auroc"]["low"] is read["mean_auprc"]["high"] is None


@pytest.mark.parametrize("smallest", [None, 5])
def test_small_subgroups_are_hidden_where_the_cohort_hides_them(images, smallest):
    """Data that is not public: three women would be known by their number, in the table and in a note."""
    _, _, patients = images
    sex = np.where(patients < 3, "F", "M")
    people = Metadata(sex, np.full(600, 50.0), np.full(600, "PA"))
    part = {"part": "test", "smallest_shown": smallest}
    found = assessed(images, metadata=people, cohort=[part])
    assert found["cohort"] == [part]
    assert "cohort" not in assessed(images, metadata=people)
    men, women = found["subgroups"]
    if smallest is None:
        assert (women["patients"], women["not_scored"]) == (3, "only 3 patients, fewer than 20")
        assert men["patients"] == len(set(patients[patients >= 3].tolist()))
    else:
        assert men["images"] is women["images"] is women["patients"] is None
        assert "sex F: not scored: too few patients" in found["notes"]
        assert any(note.startswith("numbers of sex F, M are not shown") for note in found["notes"])
        assert not any("3 patients" in note for note in found["notes"])
