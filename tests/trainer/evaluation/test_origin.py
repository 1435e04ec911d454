"""What is known of a public data set is said of it, and of no other."""

import csv
import gzip

import pytest

from tests.trainer.data.test_layouts import image, values, write_folders, write_lists, write_nih
from trainer.data.labels import FINDINGS
from trainer.data.layouts import read_file, read_labels
from trainer.data.public import KERMANY, NIH, PHANTOMS
from trainer.data.synthetic import write_phantoms
from trainer.evaluation.origin import origin_of

RESPLIT = "patients:60/20/20"


def write_csv(root, names):
    """A labels.csv of the 14 findings; every third image has a mass."""
    root.mkdir(exist_ok=True)
    with (root / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Image Index", "Patient ID", *FINDINGS])
        for n, name in enumerate(names):
            rows.writerow([name, f"p{n}", *values(*["Mass"] * (n % 3 == 0)).split()])
    return root


def test_nih_samples_of_any_size_with_a_label_file_of_their_own_are_known(shared):
    """621 images and a labels.csv; some of the rows are those of one edition only."""
    assert origin_of(read_labels(shared / "data/nih-sample", split=RESPLIT)) == NIH


@pytest.mark.parametrize("file", ["test_list.txt.gz", "Data_Entry_2017_v2020.csv.gz"])
def test_label_files_of_nih_are_known_without_their_folder(shared, file):
    """`evaluate --labels` takes one file."""
    assert origin_of(read_file(shared / "data/nih-labels" / file)) == NIH


def test_layout_of_nih_with_its_names_is_known(tmp_path):
    """A user keeps the rows of the images that were downloaded."""
    assert origin_of(read_labels(write_nih(tmp_path / "nih"))) == NIH


def test_lists_with_names_in_nihs_form_are_not_nihs(tmp_path):
    """They have no column of patients, so that other hospitals must name their images so."""
    write_lists(tmp_path, [(1, 0), (2, 0)], [(3, 0)], [(4, 0)])
    assert origin_of(read_labels(tmp_path)) is None


@pytest.mark.parametrize(
    "names",
    [
        [f"h{n:04d}.png" for n in range(30)],
        [f"{n:08d}.png" for n in range(1, 31)],
        [image(n) for n in range(40_001, 40_031)],
        [image(n) for n in range(1, 31)],
    ],
    ids=["own names", "numbers", "numbers NIH has not given", "the very form of NIH's names"],
)
def test_csv_of_the_14_findings_of_another_hospital_is_not_nihs(tmp_path, names):
    """Its card got NIH's terms, views and drains; its patients need protection."""
    assert origin_of(read_labels(write_csv(tmp_path, names), split=RESPLIT)) is None


def test_folder_in_nihs_layout_with_names_of_ones_own_is_not_nihs(tmp_path):
    """The layout is how this program reads a table of findings and patients."""
    root = write_nih(tmp_path)
    for path in root.iterdir():
        path.write_text(path.read_text().replace("_000.png", "_cxr.png"))
    assert origin_of(read_labels(root, split=RESPLIT)) is None


def test_phantoms_are_phantoms_and_changed_ones_nobodys(tmp_path):
    """They have NIH's layout and names."""
    write_phantoms(tmp_path, images=40, side=32)
    assert origin_of(read_labels(tmp_path, split=RESPLIT)) == PHANTOMS
    (table,) = tmp_path.glob("Data_Entry*")
    table.write_text(table.read_text().replace("|Hernia", "").replace("Hernia", "No Finding"))
    assert origin_of(read_labels(tmp_path, split=RESPLIT)) is None


def test_pneumonia_set_is_known_in_part_and_other_classes_are_not(tmp_path, shared):
    """Two classes are not always normal and pneumonia of children in Guangzhou."""
    assert origin_of(read_labels(shared / "data/pneumonia-sample")) == KERMANY
    own = write_folders(
        tmp_path / "own", [f"train/{name}/p{n}.png" for name in ("NORMAL", "PNEUMONIA") for n in range(9)]
    )
    write_folders(own, [f"test/{name}/q{n}.png" for name in ("NORMAL", "PNEUMONIA") for n in range(9)])
    assert origin_of(read_labels(own)) is None


def test_part_of_a_list_of_the_70_10_20_split_is_known(shared, tmp_path):
    """By rows that changed in 2020."""
    content = gzip.decompress((shared / "data/nih-labels/val_list.txt.gz").read_bytes())
    (tmp_path / "some.txt").write_bytes(b"".join(content.splitlines(keepends=True)[:5000]))
    assert origin_of(read_file(tmp_path / "some.txt")) == NIH
