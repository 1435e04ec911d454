"""Layout vindr: several readers an image, who disagree."""

import shutil

import numpy as np
import pytest

from trainer.data.labels import SPLITS
from trainer.data.layouts import read_labels
from trainer.data.layouts.vindr import FINDINGS
from trainer.data.locate import locate_images
from trainer.errors import InputError
from trainer.label_choices import LabelChoices

HEADER = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"


def write(root, rows):
    (root / "train.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return root


def readings(image, *found):
    """One row per reader: a finding, or none."""
    return [
        f"{image},{name},0,R{reader},1.0,2.0,3.0,4.0" if name else f"{image},No finding,14,R{reader},,,,"
        for reader, name in enumerate(found)
    ]


def images(count, *found):
    return [row for n in range(count) for row in readings(f"{n:032x}", *found)]


def test_table_of_the_challenge_has_the_known_counts(shared, tmp_path):
    """15,000 images of 67,914 rows; readers disagree on 3,683."""
    shutil.copy(shared / "data/public-labels/vinbigdata-train.csv.gz", tmp_path / "train.csv.gz")
    source = read_labels(tmp_path)
    assert source.layout == "vindr"
    assert len(source.table) == 15_000
    assert "readers disagree on 3,683 of 15,000 images" in source.notes[1]
    counts = dict(zip(source.table.findings, source.table.labels_NK.sum(axis=0).astype(int).tolist(), strict=True))
    assert counts["Aortic enlargement"] == 2_346
    assert counts["Pneumothorax"] == 58
    assert [len(source.table.rows(split)) for split in SPLITS] == [10_500, 1_500, 3_000]
    mean = read_labels(tmp_path, choices=LabelChoices(readers="mean"))
    np.testing.assert_array_equal(mean.table.labels_NK > 0.5, source.table.labels_NK == 1)
    assert mean.table.split_sha256() == source.table.split_sha256()
    assert set(np.round(np.unique(mean.table.labels_NK) * 3, 5).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("found", "majority", "mean"),
    [
        (("Edema?", "", ""), None, None),
        (("Cardiomegaly", "", ""), 0, 1 / 3),
        (("Cardiomegaly", "Cardiomegaly", ""), 1, 2 / 3),
        (("Cardiomegaly", ""), 0, 1 / 2),
    ],
)
def test_majority_or_mean_of_the_readers(tmp_path, found, majority, mean):
    """Exactly half is no majority."""
    root = write(tmp_path, images(20, *found))
    if majority is None:
        with pytest.raises(InputError, match="unknown class `Edema\\?`"):
            read_labels(root)
        return
    k = FINDINGS.index("Cardiomegaly")
    assert read_labels(root).table.labels_NK[0, k] == majority
    soft = read_labels(root, choices=LabelChoices(readers="mean")).table.labels_NK[0, k]
    assert soft == np.float32(mean)


def test_two_boxes_of_one_reader_are_one_vote(tmp_path):
    """A reader who draws two nodules has not seen them twice."""
    rows = [*images(20, "", "", ""), f"{0:032x},Nodule/Mass,8,R0,1,2,3,4", f"{0:032x},Nodule/Mass,8,R0,5,6,7,8"]
    labels_NK = read_labels(write(tmp_path, rows)).table.labels_NK
    assert labels_NK[0, FINDINGS.index("Nodule/Mass")] == 0


def test_each_image_is_a_patient_of_its_own_and_said_so(tmp_path):
    """The table has no patients."""
    source = read_labels(write(tmp_path, images(20, "", "ILD", "")))
    assert source.table.unidentified == set(source.table.images)
    assert any("names no patients" in note for note in source.notes)


@pytest.mark.parametrize("place", ["train/{}.dicom", "{}.dcm", "png/{}.png", "a/b/{}.jpg"])
def test_images_are_found_by_their_id(tmp_path, place):
    """As published, or as resized copies."""
    root = write(tmp_path, images(20, "", "", ""))
    for n in range(20):
        path = root / place.format(f"{n:032x}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / f"{0:032x}.txt").touch()
    assert locate_images(read_labels(root))[3] == root / place.format(f"{3:032x}")
    (root / f"{3:032x}.jpeg").touch()
    with pytest.raises(InputError, match="1 of 20 are missing or duplicated"):
        locate_images(read_labels(root))
