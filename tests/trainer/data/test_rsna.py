"""Layout rsna: a row per box, and the names in ChestX-ray14 of its images."""

import json
import zipfile

import pytest

from trainer.data.labels import SPLITS
from trainer.data.layouts import read_labels
from trainer.data.layouts.rsna import MAPPING
from trainer.errors import InputError

HEADER = "patientId,x,y,width,height,Target"


def write(root, rows=()):
    every = [f"id-{n},,,,,0" for n in range(30)] + [f"id-{n},1.0,2.0,30.0,40.0,1" for n in range(30, 40)]
    (root / "stage_2_train_labels.csv").write_text("\n".join([HEADER, *every, *rows]) + "\n")
    return root


def refusal(*args, **kwargs):
    with pytest.raises(InputError) as refused:
        read_labels(*args, **kwargs)
    return str(refused.value)


def test_table_of_the_challenge_has_the_known_counts(shared, tmp_path):
    """26,684 images in 30,227 rows, 6,012 of them with opacities."""
    with zipfile.ZipFile(shared / "data/public-labels/kaggle_stage_2_train_labels.csv.zip") as archive:
        archive.extractall(tmp_path)
    source = read_labels(tmp_path)
    assert source.layout == "rsna"
    assert len(source.table) == 26_684
    assert source.table.labels_NK.sum() == 6_012
    assert sum(len(source.table.rows(split)) for split in SPLITS) == 26_684


def test_several_boxes_are_one_image(tmp_path):
    """Its label is that of each row, which must agree."""
    source = read_labels(write(tmp_path, ["id-30,5.0,5.0,9.0,9.0,1"]))
    assert len(source.table) == 40
    assert source.table.findings == ("Pneumonia",)
    assert source.table.labels_NK.sum() == 10
    assert "`id-30` has Target 0, but 1 in stage_2_train_labels.csv line 32" in refusal(
        write(tmp_path, ["id-30,,,,,0"])
    )
    assert "line 42: Target must be 0 or 1, got `2`" in refusal(write(tmp_path, ["id-50,,,,,2"]))


def test_without_the_mapping_the_overlap_with_nih_is_said(tmp_path):
    """A test of a model of ChestX-ray14 on these images would be none."""
    source = read_labels(write(tmp_path))
    assert any("a model trained on it must not be tested on them" in note for note in source.notes)
    assert len(source.table.unidentified) == 40


def test_mapping_gives_patients_and_names_of_nih(tmp_path):
    """Images of one patient of ChestX-ray14 are in one split."""
    root = write(tmp_path)
    pairs = [{"subset_img_id": f"id-{n}", "img_id": f"{n // 4 + 1:08d}_{n % 4:03d}.png"} for n in range(38)]
    (root / MAPPING).write_text(json.dumps([*pairs, {"subset_img_id": "id-99", "img_id": "00000099_000.png"}]))
    source = read_labels(root)
    assert source.table.unidentified == {"id-38", "id-39"}
    assert source.table.patients_N.tolist()[:8] == [0] * 4 + [1] * 4
    assert source.nih_names["id-5"] == "00000002_001.png"
    assert "id-99" not in source.nih_names
    assert "38 of 40 images are identified as ChestX-ray14's" in source.notes[1]
    assert source.unread == ()


@pytest.mark.parametrize("content", ["{", "7", '{"a": 1}', '[{"img_id": "x"}]'])
def test_mapping_of_another_form_is_refused(tmp_path, content):
    """Else its patients would be missing without a word."""
    root = write(tmp_path)
    (root / MAPPING).write_text(content)
    assert "it is not a list with `subset_img_id` and `img_id`" in refusal(root)


@pytest.mark.parametrize(
    "pair",
    [{"subset_img_id": "id-99", "img_id": "00000099_000.png"}, {"subset_img_id": "id-1", "img_id": "another-name.png"}],
)
def test_mapping_of_other_images_is_refused(tmp_path, pair):
    """It would identify no patient, and the overlap with ChestX-ray14 would not be found."""
    root = write(tmp_path)
    (root / MAPPING).write_text(json.dumps([pair]))
    assert "it has none of the 40 images of stage_2_train_labels.csv" in refusal(root)
