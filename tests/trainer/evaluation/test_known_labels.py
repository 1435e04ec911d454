"""Evaluation with unknown labels: each finding as if only the images existed where it is known."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from label_tables import table

from trainer.evaluation.calibration import calibrated, fit
from trainer.evaluation.cohort import cohort_part, cohort_rows
from trainer.evaluation.document import Data, from_json, has_unknown, known_images, to_json
from trainer.evaluation.evaluate import EvaluationRequest, evaluate
from trainer.evaluation.known_labels import binary, fractions, known_rows
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.mined import MinedLabels
from trainer.evaluation.score_checks import is_exclusive
from trainer.evaluation.scores import as_table as scores_table
from trainer.evaluation.scores import score
from trainer.evaluation.summary import as_csv, as_table
from trainer.report.model_card import _results

N, FINDINGS = 600, ("A", "B", "C")


@pytest.fixture(scope="module")
def full():
    """Log-odds, labels that are all known, and patients of 600 images."""
    random = np.random.default_rng(7)
    labels = (random.random((N, 3)) < [0.4, 0.2, 0.3]).astype(np.float32)
    return random.normal(labels * 1.5 - 1), labels, random.integers(0, 200, N)


@pytest.fixture(scope="module")
def partly(full):
    """The same with unknown labels: half of A, more of positives of B than of negatives, and all of C."""
    log_odds, labels, patients = full
    random, labels = np.random.default_rng(8), labels.copy()
    labels[random.random(N) < 0.5, 0] = np.nan
    labels[(random.random(N) < 0.3) | ((labels[:, 1] == 1) & (random.random(N) < 0.3)), 1] = np.nan
    labels[:, 2] = np.nan
    return log_odds, labels, patients


def assessed(part, **more):
    """Their evaluation."""
    log_odds, labels, patients = part
    fitted = more.pop("calibrator", None)
    if fitted is not None:
        more["calibrated"] = calibrated(fitted, log_odds, FINDINGS)
    data = Data(
        labels="labels.csv",
        part="test",
        split="other",
        images=len(labels),
        patients=len(np.unique(patients)),
        fitted_on=None,
        trained_on_known=True,
        trained_on_images=0,
    )
    asked = {"model": "m", "findings": FINDINGS, "data": data, "classes": False, "resamples": 60, **more}
    return evaluate(EvaluationRequest(log_odds_NK=log_odds, labels_NK=labels, patients_N=patients, **asked))


def calibrator(part):
    log_odds, labels, _ = part
    return fit(log_odds[::2], labels[::2], FINDINGS, [str(n) for n in range(300)], "val, 300 images")


def only_known(part, k):
    """The images where finding k is known, with the patients' own numbers."""
    rows = ~np.isnan(part[1][:, k])
    return tuple(each[rows] for each in part)


def without_intervals(document):
    """The numbers of a finding without its intervals and bands, which depend on the patients that are drawn."""
    if isinstance(document, dict):
        return {key: without_intervals(value) for key, value in document.items() if key not in {"low", "high"}}
    return document


@pytest.mark.parametrize("k", [0, 1])
def test_numbers_of_a_finding_are_those_of_its_known_images(partly, k):
    """Curves, calibration, thresholds and counts: an unknown label is neither positive nor negative anywhere."""
    fitted = calibrator(partly)
    found = assessed(partly, calibrator=fitted)["findings"][k]
    log_odds, labels, patients = only_known(partly, k)
    alone = assessed((log_odds, labels, patients), calibrator=fitted)["findings"][k]
    assert without_intervals(found) == without_intervals(alone)
    assert found["known"] == len(labels) < N
    assert found["prevalence"] == pytest.approx(np.nanmean(labels[:, k]))
    assert found["positives"] + int((labels[:, k] == 0).sum()) == found["known"]


def test_calibration_and_thresholds_are_fitted_on_known_labels(partly):
    """Each finding as if fitted alone on its known images."""
    both = calibrator(partly)
    log_odds, labels, _ = (each[::2] for each in partly)
    for k, name in enumerate(FINDINGS[:2]):
        rows = ~np.isnan(labels[:, k])
        alone = fit(log_odds[rows][:, [k]], labels[rows][:, [k]], [name], ["x"], "val")
        assert (both.slope_K[k], both.intercept_K[k]) == (alone.slope_K[0], alone.intercept_K[0])
        assert {rule: by_finding[name] for rule, by_finding in both.thresholds.items()} == {
            rule: by_finding[name] for rule, by_finding in alone.thresholds.items()
        }
    assert both.notes == ("C: not calibrated and no thresholds: its label is unknown for all validation images",)
    assert (both.slope_K[2], both.intercept_K[2]) == (1.0, 0.0)


def test_intervals_are_of_resamples_of_all_patients(partly):
    """Patients without a known label are drawn too: findings are compared on the same draws."""
    found = assessed(partly, calibrator=calibrator(partly), resamples=200)
    for finding in found["findings"][:2]:
        assert finding["auroc"]["low"] < finding["auroc"]["value"] < finding["auroc"]["high"]
        assert all(
            low <= high for low, high in zip(finding["net_benefit"]["low"], finding["net_benefit"]["high"], strict=True)
        )
    fewer = assessed(only_known(partly, 0), resamples=200)["findings"][0]["auroc"]
    wide, narrow = ((one["high"] - one["low"]) for one in (found["findings"][0]["auroc"], fewer))
    assert wide == pytest.approx(narrow, rel=0.3)


def test_few_patients_with_a_known_label_are_too_few(full):
    """600 images of 200 patients, but four patients whose label is known to be positive."""
    log_odds, labels, patients = full
    labels = labels.copy()
    positives = np.unique(patients[labels[:, 0] == 1])[:4]
    labels[(labels[:, 0] == 1) & ~np.isin(patients, positives), 0] = np.nan
    found = assessed((log_odds, labels, patients))["findings"][0]
    assert found["positive_patients"] == 4
    assert found["too_few"] == "only 4 patients with it"
    assert found["auroc"]["low"] is None


def test_finding_that_is_never_known_has_a_reason_and_no_number(partly):
    found = assessed(partly, calibrator=calibrator(partly))
    last = found["findings"][2]
    assert last["auroc"]["value"] is None
    assert last["known"] == last["positives"] == last["prevalence"] == 0
    assert "C: not evaluated: its label is unknown for all images here" in found["notes"]
    counts = [known_images(found, one) for one in found["findings"][:2]]
    assert any(f"A ({counts[0]:,}), B ({counts[1]:,}), C (0)" in note for note in found["notes"])
    values = [one["auroc"]["value"] for one in found["findings"][:2]]
    assert found["mean_auroc"]["value"] == pytest.approx(np.mean(values))


def test_known_labels_of_one_class_are_not_evaluated_and_say_so(full):
    log_odds, labels, patients = full
    labels = labels.copy()
    labels[labels[:, 0] == 0, 0] = np.nan
    assert (
        "A: not evaluated: every image here with a known label has it"
        in assessed((log_odds, labels, patients))["notes"]
    )


def test_all_known_is_the_document_of_before(full):
    """Not a bit differs where nothing is unknown, whatever the type of the labels."""
    log_odds, labels, patients = full
    ours = assessed(full, calibrator=calibrator(full))
    whole = (log_odds, labels.astype(np.uint8), patients)
    assert to_json(ours) == to_json(assessed(whole, calibrator=calibrator(whole)))
    assert not has_unknown(ours)
    assert "unknown" not in as_table(ours)


def test_subgroups_and_comparisons_use_known_labels(partly):
    log_odds, labels, patients = partly
    sex = np.where(patients % 2, "M", "F")
    metadata = Metadata(sex, np.full(N, np.nan), np.full(N, ""))
    other = log_odds + np.random.default_rng(1).normal(size=log_odds.shape)
    found = assessed(partly, metadata=metadata, other=("other", other), calibrator=calibrator(partly))
    rows = ~np.isnan(labels[:, 0])
    alone = assessed(
        tuple(each[rows] for each in partly),
        metadata=metadata.rows(np.flatnonzero(rows)),
        other=("other", other[rows]),
        calibrator=calibrator(partly),
    )
    for group, same in zip(found["subgroups"], alone["subgroups"], strict=True):
        assert group["auroc"]["A"]["value"] == same["auroc"]["A"]["value"]
        assert without_intervals(group["findings"]["A"]) == without_intervals(same["findings"]["A"])
        assert group["findings"].keys() == {"A", "B"}
    ours, theirs = (one["comparison"]["differences"][0] for one in (found, alone))
    assert (ours["ours"], ours["other"]) == (theirs["ours"], theirs["other"])
    assert found["comparison"]["differences"][2]["ours"] is None


def test_text_mined_labels_are_evaluated_on_the_images_that_readers_know(partly, full):
    found = assessed(partly, mined=MinedLabels(("A",), full[1][:, :1]))
    ours, mean = found["mined"]
    assert ours["auroc"]["value"] == found["findings"][0]["auroc"]["value"]
    assert ours["positives"] == found["findings"][0]["positives"]
    assert ours["difference"]["value"] == 0
    assert mean["auroc"]["value"] == ours["auroc"]["value"]


def test_fractions_count_as_positive_from_a_half_on_and_that_is_said(full):
    log_odds, labels, patients = full
    soft = np.where(labels == 1, np.float32(0.5), np.float32(1 / 3))
    found, whole = assessed((log_odds, soft, patients)), assessed(full)
    assert found["findings"] == whole["findings"]
    assert f"{3 * N:,} labels are fractions: from 0.5 on they count as positive" in found["notes"]


def test_tables_csv_and_card_have_n_where_labels_are_unknown(partly, full):
    found = assessed(partly)
    known = f"{known_images(found, found['findings'][0]):,}"
    positives = f"{found['findings'][0]['positives']}/{known}"
    head, row = (line.split() for line in as_table(found).split("\n\n")[1].splitlines()[:2])
    assert head[:2] == ["positives/n", "prevalence"]
    assert row[:2] == ["A", positives]
    header, *rows = (line.split(",") for line in as_csv(found).splitlines())
    assert [row[header.index("known")] for row in rows] == [known, str(found["findings"][1]["known"]), "0", ""]
    assert [row[header.index("images")] for row in rows] == [str(N)] * 4
    card = _results(None, found)
    assert f"| A | {known} |" in card
    assert "| C | 0 | 0 | - | - | - |" in card
    assert as_table(found).split("\n\n")[1].splitlines()[3].split() == ["C", "0/0", "-", "-", "-"]
    assert "known labels" not in _results(None, assessed(full))


def test_document_of_a_version_without_known_counts_is_read(full):
    earlier = copy.deepcopy(assessed(full))
    for finding in earlier["findings"]:
        del finding["known"]
    read = from_json(to_json(earlier), "metrics.json")
    assert [known_images(read, finding) for finding in read["findings"]] == [N] * 3
    assert not has_unknown(read)


def test_scores_of_a_run_are_of_known_labels(partly):
    log_odds, labels, patients = partly
    scores = score(log_odds, labels, patients, FINDINGS, classes=False)
    for k in (0, 1):
        rows = ~np.isnan(labels[:, k])
        alone = score(log_odds[rows][:, [k]], labels[rows][:, [k]], patients[rows], [FINDINGS[k]], classes=False)
        assert scores.auroc_K[k] == alone.auroc_K[0]
    assert np.isnan(scores.auroc_K[2])
    assert scores.mean_auroc == pytest.approx(np.nanmean(scores.auroc_K))
    losses = np.logaddexp(0, log_odds) - log_odds * labels
    assert scores.loss == pytest.approx(np.nanmean(losses))
    known = (~np.isnan(labels)).sum(axis=0).tolist()
    assert scores.as_json()["known"] == dict(zip(FINDINGS, known, strict=True))
    assert f"{known[0]:>13,}" in scores_table({"val": scores})


def test_scores_without_any_known_label_are_undefined():
    unknown = np.full((4, 3), np.nan)
    scores = score(np.zeros((4, 3)), unknown, np.arange(4), FINDINGS, classes=False)
    assert scores.as_json()["loss"] is None
    assert scores.as_json()["mean_auroc"] is None


def test_cohort_counts_positives_among_known_labels(partly):
    _, labels, patients = partly
    given = replace(table(patients, labels), findings=FINDINGS)
    part = cohort_part("test", given, np.arange(N), None, is_public=True)
    known = int((~np.isnan(labels[:, 0])).sum())
    assert part["known"]["A"] == known
    assert part["positives"]["A"] == int((labels[:, 0] == 1).sum())
    row = next(row for row in cohort_rows([part]) if row[0] == "with A")
    assert row[1] == f"{part['positives']['A']:,} of {known:,} known"


def test_values_are_binary_or_unknown():
    labels = np.array([[0, 1, np.nan], [0.49, 0.5, 2 / 3]], np.float32)
    np.testing.assert_array_equal(binary(labels), np.array([[0, 1, np.nan], [0, 1, 1]], np.float32))
    assert fractions(labels) == 3
    assert known_rows(labels[1]) == slice(None)
    assert known_rows(labels[0]).tolist() == [0, 1]


def test_exclusive_classes_are_certain():
    assert is_exclusive(np.array([[1, 0], [0, 1]], np.float32))
    assert not is_exclusive(np.array([[1, 0], [0.5, 0.5]], np.float32))
    assert not is_exclusive(np.array([[1, 0], [1, np.nan]], np.float32))
