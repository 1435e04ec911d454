"""Sex, age and view from tables of either edition."""

import math

import numpy as np
import pytest

from trainer.data.layouts import read_labels
from trainer.data.synthetic import write_phantoms
from trainer.evaluation.metadata import of_dataset, of_file, years


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("58", 58),
        ("058Y", 58),
        ("0", 0),
        ("011M", 0),
        ("013M", 1),
        ("003D", 0),
        ("100", 100),
        ("414", None),
        ("", None),
        ("-1", None),
        ("5.5", None),
    ],
)
def test_ages_of_both_editions_are_read_and_impossible_ones_unknown(text, age):
    """The 2017 table says 058Y and has ages of 414 years, which would fill the oldest group."""
    assert math.isnan(years(text)) if age is None else years(text) == age


NIH = """Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position
b.png,No Finding,0,1,057Y,M,PA
a.png,Hernia,0,2,414,X,LL
"""


def test_metadata_follows_the_order_of_the_images(tmp_path):
    """A value of another image would put patients into the wrong group."""
    (tmp_path / "entries.csv").write_text(NIH)
    found = of_file(tmp_path / "entries.csv", ["a.png", "b.png", "c.png"])
    assert found.sex_N.tolist() == ["", "M", ""]
    assert found.view_N.tolist() == ["", "PA", ""]
    assert found.age_N[1] == 57
    assert math.isnan(found.age_N[0])


@pytest.mark.parametrize("text", ["Image Index,Hernia\na.png,1\n", "a.png 0 1\n"])
def test_table_without_columns_of_metadata_gives_none(tmp_path, text):
    """No subgroup table is better than one of unknown people."""
    (tmp_path / "labels.csv").write_text(text)
    assert of_file(tmp_path / "labels.csv", ["a.png"]) is None


def test_data_set_without_a_metadata_table_has_no_metadata(tmp_path):
    """Lists and folders hold names and labels only."""
    assert of_dataset(tmp_path, "folders", ["a.png"]) is None
    (tmp_path / "labels.csv").write_text("Image Index,Patient Gender\na.png,F\n")
    assert of_dataset(tmp_path, "csv", ["a.png"]).sex_N.tolist() == ["F"]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Sex,Age,ViewPosition", "Female,61,PA"),
        ("gender,age (years),Projection", "f,61.0,PA"),
        ("PatientSex,PatientAge,View", "F,061Y,pa"),
        ("patient_sex,patient_age,view_position", "female,61Y,PA erect"),
    ],
)
def test_columns_under_other_usual_names_are_read(tmp_path, header, row):
    """A subgroup was lost without a word where a column had another name."""
    (tmp_path / "labels.csv").write_text(f"Image Index,{header}\na.png,{row}\n")
    found = of_file(tmp_path / "labels.csv", ["a.png"])
    assert (found.sex_N[0], found.age_N[0], found.view_N[0], found.notes) == ("F", 61, "PA", ())


def test_lost_subgroups_are_named_with_column_and_value(tmp_path):
    (tmp_path / "labels.csv").write_text("Image Index,Sex,Age,View\na.png,1,adult,PA\nb.png,2,child,AP_horizontal\n")
    found = of_file(tmp_path / "labels.csv", ["a.png", "b.png"])
    assert found.view_N.tolist() == ["PA", "AP"]
    assert found.notes == (
        "no subgroups by sex: no value of column `Sex` is understood, such as `1`, `2`",
        "no subgroups by age: no value of column `Age` is understood, such as `adult`, `child`",
    )


@pytest.mark.parametrize(
    ("layout", "kinds"),
    [
        ("csv", {"sex", "age", "view"}),
        ("chexpert", {"sex", "age", "view"}),
        ("mimic-cxr", {"view"}),
        ("padchest", {"sex", "view"}),
        ("vindr", None),
    ],
)
def test_metadata_of_other_layouts(tmp_path, layout, kinds):
    """From their own tables, of all images of all of them."""
    write_phantoms(tmp_path / "data", images=30, side=32, layout=layout)
    images = read_labels(tmp_path / "data").table.images
    found = of_dataset(tmp_path / "data", layout, images)
    if kinds is None:
        assert found is None
        return
    known = {"sex": found.sex_N != "", "age": ~np.isnan(found.age_N), "view": found.view_N != ""}
    assert {kind for kind, is_known_N in known.items() if is_known_N.any()} == kinds
    assert all(known[kind].all() for kind in kinds - {"view"})
    assert known["view"].mean() > 0.7
