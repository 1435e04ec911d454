"""Columns under their usual names."""

import pytest

from trainer.data.columns import columns_of, is_known


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("patient", ["Patient ID", "PatientID", "patient_id", "subject_id", "Patient", "MRN", "participant_id"]),
        ("sex", ["Patient Gender", "Sex", "gender", "PatientSex", "patient_sex", "Biological Sex"]),
        ("age", ["Patient Age", "Age", "PatientAge", "age (years)", "Age at exam", "anchor_age"]),
        ("view", ["View Position", "ViewPosition", "view", "Projection", "AP/PA", "View Pos. (AP or PA)"]),
    ],
)
def test_usual_names_are_recognised(kind, names):
    assert columns_of(["x", *names], kind) == list(range(1, len(names) + 1))
    assert all(map(is_known, names))


@pytest.mark.parametrize("name", ["", "Mass", "Follow-up #", "page", "sexual", "image"])
def test_other_names_are_not(name):
    assert not is_known(name)
