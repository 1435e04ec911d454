"""The edition of ChestX-ray14's labels."""

import gzip
from dataclasses import replace

import numpy as np
import pytest

from trainer.data.labels import FINDINGS
from trainer.data.layouts import read_file
from trainer.evaluation.edition import edition
from trainer.evaluation.label_file import read


@pytest.fixture
def newest(shared):
    return read_file(shared / "data/nih-labels/Data_Entry_2017_v2020.csv.gz").table


def test_both_editions_are_recognised_by_the_rows_that_differ(shared, newest):
    """Whatever the files are called: public copies have other names."""
    assert edition(newest, "Data_Entry_2017.csv") == "v2020"
    for name, changed in (("train", 127), ("val", 18), ("test", 36)):
        path = shared / f"data/nih-labels/{name}_list.txt.gz"
        table = read_file(path).table
        assert edition(table, "Data_Entry_2017_v2020.csv") == "2017"
        labels = dict(zip(newest.images, newest.labels_NK, strict=True))
        differs_N = [
            not np.array_equal(labels[image], row) for image, row in zip(table.images, table.labels_NK, strict=True)
        ]
        assert sum(differs_N) == changed
        mixed = np.array([labels[image] for image in table.images])
        mixed[np.flatnonzero(differs_N)[0]] = table.labels_NK[np.flatnonzero(differs_N)[0]]
        told = edition(replace(table, labels_NK=mixed), "")
        assert told == f"mixed: of the rows that changed in 2020, 1 are as in 2017 and {changed - 1} as in v2020"


def test_folders_and_suffix_of_images_do_not_hide_the_edition(newest):
    """Smaller copies are JPEG files in folders."""
    renamed = tuple(f"images_001/{name.removesuffix('.png')}.jpg" for name in newest.images)
    assert edition(replace(newest, images=renamed), "") == "v2020"


def test_without_a_row_that_differs_the_name_of_the_file_tells(tmp_path):
    """And the text says that it is no more than the name; labels of other findings have no edition."""
    content = "Image Index,Finding Labels,Patient ID\n00000001_000.png,Hernia,1\n"
    for name, told in (
        ("Data_Entry_2017.csv", "2017 by the name of its file"),
        ("Data_Entry_2017_v2020.csv", "v2020 by the name of its file"),
        ("mine.csv", "unknown"),
    ):
        (tmp_path / name).write_text(content)
        assert read(tmp_path / name).edition == f"{told} ({name})"
        assert edition(replace(read(tmp_path / name).table, findings=FINDINGS[::-1]), name) is None
    (tmp_path / "list.gz").write_bytes(gzip.compress(b"00000001_000.png " + b"0 " * 14))
    assert read(tmp_path / "list.gz").edition == "unknown (list.gz)"
