"""Sentences about a run's data set."""

import pytest

from trainer.report.data_notes import incomplete


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({}, "the same value: Fracture."),
        ({"uncertain": {"Edema": {"used_as": "ignore"}}}, "the same value: Fracture."),
        ({"blank": {"Fracture": {"used_as": "zeros"}}}, "the same value: Fracture."),
        ({"uncertain": {"Fracture": {"used_as": "ignore"}}}, "the same value or an unknown one: Fracture."),
    ],
)
def test_findings_that_are_not_trained_are_named_with_the_reason(policy, why):
    record = {"left_out_findings": ["Fracture"], "label_policy": policy}
    assert incomplete(record) == [f"Not trained, as all training images have {why}"]
