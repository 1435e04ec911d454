"""The prevalence of findings in each split as a table, CSV and JSON."""

import dataclasses
import json

import pytest
from label_tables import table

from trainer.data.prevalence import as_csv, as_json, as_table, prevalence


@pytest.fixture
def small():
    """Two images in train, one in test, none in val."""
    labels = table([0, 0, 1], [[1, 0], [0, 0], [1, 0]], split=[0, 0, 2])
    return prevalence(dataclasses.replace(labels, findings=("Mass", "Pleural_Thickening")))


def test_prevalence_table_shows_percentages_and_counts(small):
    """People compare this table with the published one."""
    assert as_table(small) == (
        "                     train     val    test\n"
        "Mass                50.000       - 100.000\n"
        "Pleural_Thickening   0.000       -   0.000\n"
        "images                   2       -       1\n"
        "patients                 1       -       1\n"
    )


def test_prevalence_csv_has_the_rows_of_the_table(small):
    """A spreadsheet must read what the table shows."""
    assert as_csv(small).splitlines() == [
        "finding,train,val,test",
        "Mass,50.000000,,100.000000",
        "Pleural_Thickening,0.000000,,0.000000",
        "images,2,,1",
        "patients,1,,1",
    ]


def test_prevalence_json_has_null_for_an_empty_split(small):
    """A program must not take an empty split for a prevalence of 0."""
    stats = json.loads(as_json(small))
    assert stats["percent"]["Mass"] == {"train": 50.0, "val": None, "test": 100.0}
    assert stats["images"] == {"train": 2, "val": 0, "test": 1}
    assert stats["patients"] == {"train": 1, "val": 0, "test": 1}


def test_prevalence_is_of_known_labels_and_says_how_many():
    """One known positive of three images is 100 %, of one."""
    nan = float("nan")
    labels = table([0, 1, 2], [[1, 0], [nan, 1], [nan, nan]], split=[0, 0, 0])
    stats = prevalence(dataclasses.replace(labels, findings=("Mass", "Edema")))
    assert as_table(stats).splitlines()[1:3] == ["Mass     100.000       -       -", "Edema     50.000       -       -"]
    assert as_table(stats).splitlines()[-2:] == ["Mass           1       0       0", "Edema          2       0       0"]
    assert as_csv(stats).splitlines()[:2] == [
        "finding,train,val,test,train_known,val_known,test_known",
        "Mass,100.000000,,,1,0,0",
    ]
    assert json.loads(as_json(stats))["known"]["Edema"] == {"train": 2, "val": 0, "test": 0}


def test_finding_that_is_never_known_has_no_prevalence():
    stats = prevalence(table([0, 1], [[float("nan"), 1], [float("nan"), 0]], split=[0, 0]))
    assert json.loads(as_json(stats))["percent"]["finding 0"]["train"] is None
    assert as_csv(stats).splitlines()[1] == "finding 0,,,,0,0,0"
    assert "-" in as_table(stats).splitlines()[1]
