"""Labels of readers beside text-mined ones, in the form of Google's adjudicated labels."""

import numpy as np
import pytest

from trainer.data.layouts.nih import read_table
from trainer.errors import InputError
from trainer.evaluation.readers import columns_of, read

NIH = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height]"
GOOGLE = f"{NIH},Fracture,Pneumothorax,Nodule or mass,Set Id"
ROWS = [
    "00000001_000.png,Hernia,0,1,58,M,PA,2500,2048,NO,YES,no,test",
    "00000002_000.png,Mass,1,2,59,F,AP,2500,2048,NO,NO,Yes,val",
]


@pytest.fixture
def file(tmp_path):
    def write(header=GOOGLE, rows=ROWS):
        path = tmp_path / "google.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


def test_columns_of_readers_are_found_by_their_values(file):
    """Only these may be evaluated; a comment is no label."""
    assert columns_of(file()) == ("Fracture", "Pneumothorax", "Nodule or mass")
    comments = [row + ",seen twice" for row in ROWS]
    assert columns_of(file(GOOGLE + ",Comment", comments)) == ("Fracture", "Pneumothorax", "Nodule or mass")
    assert columns_of(file(NIH, [",".join(row.split(",")[:9]) for row in ROWS])) == ()


def test_columns_that_cannot_be_assigned_to_values_are_named_too(file):
    """NIH's first edition has fewer names than columns: what follows is shifted."""
    shorter = GOOGLE.replace("OriginalImage[Width,Height]", '"OriginalImage[Width,Height]"')
    assert "Nodule or mass" in columns_of(file(shorter))
    path = file(shorter)
    with pytest.raises(InputError, match="line 2: 13 columns instead of 12"):
        read(path, read_table(path, path, {}), ("Fracture",))
    unnamed = f"{NIH},Unnamed: 11"
    assert columns_of(file(unnamed, [",".join(row.split(",")[:9]) for row in ROWS])) == ()


def test_yes_and_no_are_read_with_the_part_of_each_image(file):
    """In the order of the text-mined table, whose patients they share."""
    path = file()
    found = read(path, read_table(path, path, {}), ("Nodule or mass", "Fracture"))
    assert found.findings == ("Nodule or mass", "Fracture")
    assert found.labels_NK.tolist() == [[0, 0], [1, 0]]
    assert found.split_N.tolist() == [2, 1]
    without = [row.rpartition(",")[0] for row in ROWS]
    path = file(GOOGLE.removesuffix(",Set Id"), without)
    assert np.array_equal(read(path, read_table(path, path, {}), ("Fracture",)).split_N, [-1, -1])


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("YES,no", ",no", "line 2: `Pneumothorax` must be YES or NO, got ``"),
        ("YES,no", "MAYBE,no", "line 2: `Pneumothorax` must be YES or NO, got `MAYBE`"),
        (",val", ",other", "line 3: `Set Id` must be train, val or test, got `other`"),
    ],
)
def test_value_that_is_neither_yes_nor_no_is_refused_with_its_line(file, old, new, told):
    """A blank read as NO would be a wrong label."""
    path = file(rows=[row.replace(old, new) for row in ROWS])
    with pytest.raises(InputError) as refused:
        read(path, read_table(path, path, {}), ("Pneumothorax",))
    assert told in str(refused.value)
