"""Patients that a model knows, found in other data sets: by name of the image, by number, by what the table says."""

import gzip

import numpy as np
import pytest

from trainer.evaluation.overlap import of_patients


def names(path):
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def numbered(images):
    """Patient numbers as NIH's table gives them: by the first eight digits."""
    seen = {}
    return np.array([seen.setdefault(name[:8], len(seen)) for name in images])


@pytest.mark.parametrize(("part", "expected"), [("train", 17_920), ("val", 2_463), ("test", 5_213)])
def test_patients_of_the_random_lists_are_found_in_the_official_test(shared, part, expected):
    """One checkpoint must not be scored on both: most of one's test is in the other's train."""
    labels = shared / "data/nih-labels"
    known = names(labels / f"{part}_list.txt.gz")
    scored = names(labels / "official/test_list.txt")
    assert len(scored) == 25_596
    assert len(set(known) & set(scored)) == expected
    assert int(of_patients(known, scored, numbered(scored)).sum()) == expected


def test_patient_with_one_image_in_both_sets_overlaps():
    """Follow-ups look alike: a new image of a known patient is no new patient."""
    images = ["00000001_000.png", "00000001_007.png", "00000002_000.png"]
    found = of_patients({"00000001_003.png"}, images, np.array([0, 0, 1]))
    assert found.tolist() == [True, True, False]


def test_patients_come_from_the_table_where_file_names_hold_none():
    """A labels.csv says who is who."""
    found = of_patients({"scan-a.png"}, ["scan-a.png", "scan-b.png", "scan-c.png"], np.array([4, 4, 9]))
    assert found.tolist() == [True, True, False]


def test_folders_do_not_hide_a_patient():
    """The same images lie in folders in one data set and beside a list in another."""
    found = of_patients({"train/NORMAL/00000001_000.png"}, ["00000001_000.png", "00000002_000.png"], np.array([0, 1]))
    assert found.tolist() == [True, False]
    children = ["test/PNEUMONIA/person7_virus_2.jpeg", "test/PNEUMONIA/person7_bacteria_2.jpeg"]
    found = of_patients({"train/PNEUMONIA/person7_virus_1.jpeg"}, children, np.array([0, 1]))
    assert found.tolist() == [True, False]


def test_file_names_without_a_patient_are_not_one_patient():
    """Nothing in common is no match."""
    assert not of_patients({"x.png"}, ["y.png", "z.png"], np.array([0, 1])).any()
    assert not of_patients(set(), ["y.png"], np.array([0])).any()
