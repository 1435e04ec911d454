"""Layout chexpert: labels as the table gives them, the release's folder, and the split that it lacks."""

import shutil

import numpy as np
import pytest
from raw_labels import raw

from trainer.data.labels import SPLITS
from trainer.data.layouts import read_labels
from trainer.data.layouts.chexpert import FINDINGS
from trainer.data.locate import locate_images, missing_images
from trainer.errors import InputError
from trainer.label_choices import LabelChoices

HEADER = ",".join(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", *FINDINGS])
RELEASE = "CheXpert-v1.0-small"

PUBLISHED = {
    "Enlarged Cardiomediastinum": (10798, 21638, 12403),
    "Cardiomegaly": (27000, 11116, 8087),
    "Lung Opacity": (105581, 6599, 5598),
    "Lung Lesion": (9186, 1270, 1488),
    "Edema": (52246, 20726, 12984),
    "Consolidation": (14783, 28097, 27742),
    "Pneumonia": (6039, 2799, 18770),
    "Atelectasis": (33376, 1328, 33739),
    "Pneumothorax": (19448, 56341, 3145),
    "Pleural Effusion": (86187, 35396, 11628),
    "Pleural Other": (3523, 316, 2653),
    "Fracture": (9040, 2512, 642),
    "Support Devices": (116001, 6137, 1079),
}
"""Positive, negative and uncertain images. Source: counted on train.csv of CheXpert-v1.0-small with the csv module alone."""


def row(split, patient, *cells, view="frontal", release=RELEASE):
    labels = [*cells, *[""] * (len(FINDINGS) - len(cells))]
    plane, side = ("Frontal", "AP") if view == "frontal" else ("Lateral", "")
    path = f"{release}/{split}/patient{patient:05d}/study1/view1_{view}.jpg"
    return ",".join([path, "Male", "60", plane, side, "", *labels])


def write(root, train=None, valid=None):
    root.mkdir(parents=True, exist_ok=True)
    train = [row("train", n, "1.0" if n % 2 else "0.0") for n in range(1, 41)] if train is None else train
    valid = [row("valid", n, "0.0") for n in range(101, 105)] if valid is None else valid
    for name, rows in (("train", train), ("valid", valid)):
        (root / f"{name}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return root


def refusal(*args, **kwargs):
    with pytest.raises(InputError) as refused:
        read_labels(*args, **kwargs)
    return str(refused.value)


def test_train_table_of_the_release_has_the_known_counts(shared, tmp_path):
    """Also in how many images are lateral, and how many patients there are."""
    root = write(tmp_path, valid=[row("valid", n, *["0.0"] * 13) for n in range(90001, 90031)])
    (root / "train.csv").unlink()
    shutil.copy(shared / "data/public-labels/chexpert_train.csv.gz", root / "train.csv.gz")
    table = raw(root)
    labels_NK = table.labels_NK[[not name.startswith("valid/") for name in table.images]]
    assert len(labels_NK) == 223_414
    counts = {
        name: tuple(int((labels_NK[:, k] == value).sum()) for value in (1, 0, -1)) for k, name in enumerate(FINDINGS)
    }
    assert counts == PUBLISHED
    assert table.views.count("LATERAL") == 32_387
    assert len(set(table.patients_N.tolist())) == 64_540 + 30
    table = read_labels(root).table
    assert [len(table.rows(split)) > 0 for split in SPLITS] == [True] * 3
    assert table.shared_patients() == 0


def test_labels_are_as_in_the_table(tmp_path):
    """What uncertain and blank labels count as is decided elsewhere."""
    cells = ["1.0", "0.0", "-1.0", ""]
    table = raw(write(tmp_path, [row("train", n, *cells) for n in range(20)]))
    np.testing.assert_array_equal(table.labels_NK[0, :4], np.array([1, 0, -1, np.nan], np.float32))
    assert table.findings == FINDINGS


def test_images_are_named_alike_in_every_release_and_found(tmp_path):
    """So that small and full size have the same split, and --data may be the release or its parent."""
    small = read_labels(write(tmp_path / "a" / RELEASE))
    full = write(
        tmp_path / "b",
        [row("train", n, "1.0" if n % 2 else "0.0", release="CheXpert-v1.0") for n in range(1, 41)],
    )
    assert read_labels(full).table.split_sha256() == small.table.split_sha256()
    parent = read_labels(tmp_path / "a")
    assert parent.root == tmp_path / "a" / RELEASE
    assert parent.table.images == small.table.images
    assert len(missing_images(parent)) == 44
    for name in parent.table.images[:-1]:
        (parent.root / name).parent.mkdir(parents=True)
        (parent.root / name).touch()
    assert missing_images(parent) == [parent.table.images[-1]]
    with pytest.raises(InputError, match=r"valid/patient00104/study1/view1_frontal.jpg: missing"):
        locate_images(parent)
    (parent.root / parent.table.images[-1]).parent.mkdir(parents=True)
    (parent.root / parent.table.images[-1]).touch()
    assert locate_images(parent)[0] == parent.root / "train/patient00001/study1/view1_frontal.jpg"


def test_train_and_test_folders_beside_the_tables_are_no_class_folders(tmp_path):
    """The full release has them."""
    root = write(tmp_path)
    for name in ("train/patient00001", "test/patient00001", "valid"):
        (root / name).mkdir(parents=True)
    assert read_labels(root).layout == "chexpert"


def test_two_releases_in_one_directory_are_refused(tmp_path):
    """Which one is meant cannot be known."""
    write(tmp_path / RELEASE)
    write(tmp_path / "CheXpert-v1.0")
    assert "more than one release of CheXpert, got `CheXpert-v1.0-small/` and `CheXpert-v1.0/`" in refusal(tmp_path)


@pytest.mark.parametrize(("valid_as", "carved"), [("val", "test"), ("test", "val")])
def test_split_that_is_missing_is_taken_from_train_and_said(tmp_path, valid_as, carved):
    """A tenth of the patients of train."""
    source = read_labels(write(tmp_path), choices=LabelChoices(valid_as=valid_as))
    sizes = {split: len(source.table.rows(split)) for split in SPLITS}
    assert sizes == {"train": 36, valid_as: 4, carved: 4}
    assert f"valid.csv is {valid_as}; {carved} is 1/10 of the patients of train" in source.notes[0]


def test_use_of_valid_is_refused_where_a_split_is_drawn(tmp_path):
    """It would have no effect."""
    choices = LabelChoices(valid_as="test")
    assert "cannot use --valid-as" in refusal(write(tmp_path), split="patients:70/10/20", choices=choices)


@pytest.mark.parametrize("key", ["Study", "Path"])
def test_test_labels_are_the_test_split(tmp_path, key):
    """By study, whose images are in its folder, or by image."""
    root = write(tmp_path)
    studies = [f"CheXpert-v1.0/test/patient{n:05d}/study1" for n in (201, 202)]
    ending = "" if key == "Study" else "/view1_frontal.jpg"
    rows = [",".join([each + ending, *["0.0"] * 14]) for each in studies]
    (root / "test_labels.csv").write_text("\n".join([",".join([key, "No Finding", *FINDINGS]), *rows]) + "\n")
    for study in studies:
        folder = root / study.partition("/")[2]
        folder.mkdir(parents=True)
        (folder / "view1_frontal.jpg").touch()
    source = read_labels(root)
    assert [source.table.images[row] for row in source.table.rows("test").tolist()] == [
        f"test/patient00{n}/study1/view1_frontal.jpg" for n in (201, 202)
    ]
    assert source.notes == ()
    assert read_labels(root, choices=LabelChoices(valid_as="test")).unread == ("test_labels.csv",)
    if key == "Study":
        shutil.rmtree(root / "test/patient00202")
        assert "study without image, got `test/patient00202/study1`" in refusal(root)


def test_bad_rows_are_named(tmp_path):
    """Each with its line, all at once."""
    rows = [row("train", 1, "2.0"), row("train", 2, "yes"), row("train", 3), row("train", 3), "a.jpg,,,,,,,"]
    text = refusal(write(tmp_path, rows))
    assert "train.csv line 2: Enlarged Cardiomediastinum must be 1, 0, -1 for uncertain" in text
    assert "train.csv line 3: Enlarged Cardiomediastinum must be" in text
    assert "line 5: `train/patient00003/study1/view1_frontal.jpg` is listed twice, first in train.csv line 4" in text
    assert "train.csv line 6: 8 columns instead of 19" in text


def test_patient_in_train_and_valid_is_refused(tmp_path):
    """Whatever the files say."""
    assert "no patient may be in two splits" in refusal(write(tmp_path, valid=[row("valid", 1)]))


def test_no_finding_is_read_only_where_it_is_named(tmp_path):
    """It follows from the other labels."""
    root = write(tmp_path)
    assert "No Finding" not in read_labels(root).table.findings
    named = LabelChoices(findings="No Finding,Edema")
    assert "No Finding" in read_labels(root, choices=named).table.findings
    renamed = LabelChoices(findings="Healthy", rename=("Healthy=No Finding",))
    assert read_labels(root, choices=renamed).table.findings == ("Healthy",)


def test_split_can_be_made_from_the_train_table_alone(tmp_path):
    """With --split patients:…, valid.csv is not needed."""
    root = write(tmp_path)
    (root / "valid.csv").unlink()
    assert "no `valid.csv`" in refusal(root, layout="chexpert")
    assert len(read_labels(root, split="patients:70/10/20").table) == 40


def test_split_is_the_same_whatever_is_chosen(tmp_path):
    """Results under two policies are compared on the same images."""
    views = ("frontal", "lateral")
    rows = [row("train", n, "-1.0" if n % 3 else "1.0", "1.0", view=views[n % 5 == 0]) for n in range(1, 61)]
    root = write(tmp_path, rows)
    every = read_labels(root)
    split_of = dict(zip(every.table.images, every.table.split_N.tolist(), strict=True))
    for choices in (
        LabelChoices(uncertain=("ones",)),
        LabelChoices(findings="Edema"),
        LabelChoices(projection="frontal"),
    ):
        table = read_labels(root, choices=choices).table
        assert table.split_N.tolist() == [split_of[name] for name in table.images]
    frontal = LabelChoices(projection="frontal")
    kept = {name: SPLITS[index] for name, index in zip(table.images, table.split_N.tolist(), strict=True)}
    moved = {name: "test" if split == "train" else split for name, split in kept.items()}
    again = read_labels(root, choices=frontal, kept_split=moved | {table.images[0]: "train"}).table
    assert len(again.rows("train")) == 1
    assert len(read_labels(root, kept_split=kept).table) == 64
