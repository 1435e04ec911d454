"""Layout padchest: lists as text, labels by physicians and by a network, images nested or flat."""

import numpy as np
import pytest

from trainer.data.labels import SPLITS
from trainer.data.layouts import read_labels
from trainer.data.layouts.padchest import names_in
from trainer.data.locate import locate_images
from trainer.errors import InputError
from trainer.label_choices import LabelChoices

NAME = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
HEADER = ",ImageID,ImageDir,StudyID,PatientID,Projection,MethodLabel,Labels"


def row(n, labels, method="Physician", projection="PA"):
    return f'{n},{n:040d}.png,{n % 3},{n},{n // 2},{projection},{method},"{labels}"'


def write(root, rows):
    (root / NAME).write_text("\n".join([HEADER, *rows]) + "\n")
    return root


def usual(count=40):
    return [row(n, "['cardiomegaly', ' pleural  effusion']" if n % 2 else "['normal']") for n in range(count)]


def refusal(*args, **kwargs):
    with pytest.raises(InputError) as refused:
        read_labels(*args, **kwargs)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("['normal']", {"normal"}),
        (
            "[' Pleural  effusion ', \"costophrenic angle blunting\"]",
            {"pleural effusion", "costophrenic angle blunting"},
        ),
        ("['a','b',]", {"a", "b"}),
        ("['', ' ']", set()),
        ("[]", set()),
        ("", set()),
    ],
)
def test_names_of_a_list(text, names):
    """Without stray blanks."""
    assert names_in(text) == names


@pytest.mark.parametrize("text", ["normal", "['a'", "['a' 'b']", "[1]", "__import__('os')", "['a'][0]", "[" * 20_000])
def test_text_that_is_no_list_is_refused(text):
    """Nothing is evaluated."""
    with pytest.raises(ValueError, match="must be a list of names"):
        names_in(text)


def test_labels_and_split_by_patient(tmp_path):
    """Blank cells and empty lists are unknown, not healthy."""
    rows = [
        *usual(),
        row(40, "[]"),
        row(41, ""),
        row(42, "['exclude', 'cardiomegaly']"),
        row(43, "['suboptimal study']"),
    ]
    source = read_labels(write(tmp_path, rows))
    table = source.table
    assert table.findings == ("cardiomegaly", "pleural effusion")
    assert table.labels_NK[:2].tolist() == [[0, 0], [1, 1]]
    assert np.isnan(table.labels_NK[40:]).all()
    assert len(table) == 42
    assert table.shared_patients() == 0
    assert [len(table.rows(split)) > 0 for split in SPLITS] == [True] * 3
    assert "1 images are labelled `exclude` and left out" in source.notes
    assert "2 images have no label at all: their findings are blank" in source.notes
    assert any("the data set has no split" in note for note in source.notes)


def test_only_labels_by_physicians_on_request(tmp_path):
    """A network made the others, in a requested split too."""
    rows = [*usual(), *(row(n, "['normal']", method="RNN_model") for n in range(40, 60))]
    root = write(tmp_path, rows)
    assert len(read_labels(root).table) == 60
    for split in ("given", "patients:70/10/20"):
        source = read_labels(root, split=split, choices=LabelChoices(physician_labels_only=True))
        assert len(source.table.used()) == 40
        assert "20 images are not labelled by a physician and left out" in source.notes


def test_rare_labels_are_read_only_where_they_are_named(tmp_path):
    """One in more than a thousand images cannot be validated."""
    root = write(tmp_path, [*usual(1_200), row(1_200, "['situs inversus']")])
    source = read_labels(root)
    assert "situs inversus" not in source.table.findings
    assert any("1 labels of fewer than 1/1000 of the images are not read" in note for note in source.notes)
    named = read_labels(root, choices=LabelChoices(findings="situs inversus,normal")).table
    assert named.labels_NK[-1, named.findings.index("situs inversus")] == 1
    assert named.labels_NK[0, named.findings.index("normal")] == 1
    np.testing.assert_array_equal(named.split_N, source.table.split_N)  # drawn on the same labels


def test_views_of_the_set(tmp_path):
    """`AP_horizontal` is AP, `L` lateral."""
    views = ["PA", "AP", "AP_horizontal", "L", "COSTAL", "UNK"]
    rows = [row(n, "['normal']" if n % 2 else "['mass']", projection=views[n % 6]) for n in range(30)]
    assert read_labels(write(tmp_path, rows)).table.views[:6] == ("PA", "AP", "AP", "LATERAL", "", "")


@pytest.mark.parametrize("nested", [False, True])
def test_images_nested_or_flat(tmp_path, nested):
    """As in the archives 0 to 54, or all in one folder."""
    source = read_labels(write(tmp_path, usual()))
    for n, name in enumerate(source.table.images):
        path = tmp_path / (f"{n % 3}/{name}" if nested else name)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert [path.name for path in locate_images(source)] == list(source.table.images)


def test_bad_rows_are_named(tmp_path):
    """A list that is cut off, an image twice, a row without image."""
    rows = [*usual(), row(40, "['a'"), row(3, "['normal']"), row(41, "['normal']").replace(f"{41:040d}.png", "")]
    text = refusal(write(tmp_path, rows))
    assert "line 42: Labels must be a list of names in quotes, got `['a'`" in text
    assert f"line 43: `{3:040d}.png` is listed twice" in text
    assert "line 44: ImageID must not be empty" in text


def test_images_of_unknown_patients_are_left_out(tmp_path):
    """They could be of a patient in another split."""
    rows = [*usual(), row(41, "['normal']").replace(",20,PA", ",,PA")]
    source = read_labels(write(tmp_path, rows))
    assert len(source.table) == 40
    assert "1 images are without PatientID and left out" in source.notes
