"""Layout csv: findings of any names, labels that may be unknown, and other columns."""

import numpy as np
import pytest
from raw_labels import raw

from trainer.data.labels import FINDINGS, SPLITS
from trainer.data.layouts import read_file, read_labels
from trainer.data.locate import locate_images
from trainer.errors import InputError
from trainer.label_choices import LabelChoices


def write(root, header, rows):
    lines = [",".join(header), *(",".join(row) for row in rows)]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def rows_of(*columns, count=30):
    """Images of three splits; each column a function of the row."""
    return [[f"scans/{n}.png", f"p{n}", SPLITS[n % 3], *(str(column(n)) for column in columns)] for n in range(count)]


BASE = ("Path", "patient_id", "split")


def refusal(*args, **kwargs):
    with pytest.raises(InputError) as refused:
        read_labels(*args, **kwargs)
    return str(refused.value)


def test_any_findings_uncertain_and_unknown(tmp_path):
    """A hospital's own export."""
    values = ("1", "0", "-1", "", "1.0", "0.0", "-1.0", "0.25", "NaN")
    root = write(tmp_path, (*BASE, "Covid", "Rib fracture"), rows_of(lambda n: values[n % 9], lambda n: n % 2))
    source = read_labels(root)
    assert source.table.findings == ("Covid", "Rib fracture")
    expected = np.array([1, 0, -1, np.nan, 1, 0, -1, 0.25, np.nan], np.float32)
    np.testing.assert_array_equal(raw(root).labels_NK[:9, 0], expected)
    assert "findings are the columns Covid, Rib fracture of labels.csv" in source.notes[0]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("Age", lambda n: n % 2),
        ("Follow-up #", lambda n: n % 2),
        ("ward", lambda n: "north"),
        ("Notes", lambda n: ""),
        ("Dose", lambda n: n),
        ("QualityScore", lambda n: 0.5),
        ("No Finding", lambda n: n % 2),
    ],
)
def test_other_columns_are_metadata(tmp_path, name, column):
    """By their values, or by a name that no finding has."""
    root = write(tmp_path, (*BASE, "Edema", name), rows_of(lambda n: n % 2, column))
    assert read_labels(root).table.findings == ("Edema",)


def test_column_that_is_nearly_one_of_labels_is_refused(tmp_path):
    """Else a typing error would take a finding out of the training."""
    root = write(tmp_path, (*BASE, "Edema", "Covid"), rows_of(lambda n: n % 2, lambda n: "yes" if n == 7 else n % 2))
    assert "column `Covid` holds labels, and `yes`" in refusal(root)
    chosen = read_labels(root, choices=LabelChoices(findings="Edema"))
    assert chosen.table.findings == ("Edema",)


def test_named_columns_are_findings_whatever_they_look_like(tmp_path):
    """And each cell must be a label."""
    root = write(tmp_path, (*BASE, "Edema", "Grade"), rows_of(lambda n: n % 2, lambda n: n % 4))
    assert read_labels(root).table.findings == ("Edema",)
    text = refusal(root, choices=LabelChoices(findings="Grade"))
    assert "labels.csv line 4: Grade must be 1, 0, -1 for uncertain, blank, or between 0 and 1, got `2`" in text
    renamed = LabelChoices(findings="Oedema", rename=("Oedema=Edema",))
    assert read_labels(root, choices=renamed).table.findings == ("Oedema",)


def test_columns_of_chestxray14_keep_its_order(tmp_path):
    """Runs and label files of earlier versions have it."""
    header = ("Image Index", "Patient ID", "split", *reversed(FINDINGS))
    rows = rows_of(*[(lambda n, k=k: int(n % 14 == k)) for k in range(14)])
    source = read_labels(write(tmp_path, header, rows))
    assert source.table.findings == FINDINGS
    assert source.notes == ()


def test_images_may_lie_beside_the_table(tmp_path):
    """Paths are relative to it."""
    rows = rows_of(lambda n: n % 2)
    for n, row in enumerate(rows):
        row[0] = row[0] if n % 2 else f"{n}.png"
        (tmp_path / row[0]).parent.mkdir(exist_ok=True)
        (tmp_path / row[0]).touch()
    source = read_labels(write(tmp_path, (*BASE, "Edema"), rows))
    assert locate_images(source) == [tmp_path / row[0] for row in rows]


def test_views_of_a_column(tmp_path):
    """Under its usual names."""
    root = write(
        tmp_path, (*BASE, "Edema", "ViewPosition"), rows_of(lambda n: n % 2, lambda n: ("PA", "lateral")[n % 2])
    )
    assert read_labels(root).table.views[:2] == ("PA", "LATERAL")


def test_paths_do_not_leave_the_directory(tmp_path):
    """Whatever a table from elsewhere says."""
    (tmp_path / "secret.png").touch()
    root = tmp_path / "data"
    root.mkdir()
    rows = rows_of(lambda n: n % 2)
    rows[0][0] = "../secret.png"
    with pytest.raises(InputError, match=r"\.\./secret\.png: missing"):
        locate_images(read_labels(write(root, (*BASE, "Edema"), rows)))


def test_table_with_paths_is_read_alone(tmp_path):
    """As labels of an evaluation."""
    root = write(tmp_path, (*BASE, "Edema"), rows_of(lambda n: n % 2))
    source = read_file(root / "labels.csv")
    assert source.layout == "csv"
    assert source.table.images[:2] == ("scans/0.png", "scans/1.png")


@pytest.mark.parametrize(
    "choices",
    [
        LabelChoices(findings="A"),
        LabelChoices(findings="C,A"),
        LabelChoices(findings="Any", rename=("Any=B|C",)),
    ],
)
def test_split_that_is_drawn_is_the_same_whatever_findings_are_chosen(tmp_path, choices):
    """Models of some findings are compared on the same images."""
    columns = [lambda n: int(n % 4 == 0), lambda n: int(n % 5 == 0), lambda n: int(n % 7 == 0), lambda n: n + 0.5]
    root = write(tmp_path, (*BASE, "A", "B", "C", "Dose"), rows_of(*columns, count=90))
    every = read_labels(root, split="patients:70/10/20").table
    assert every.findings == ("A", "B", "C")
    chosen = read_labels(root, split="patients:70/10/20", choices=choices)
    assert chosen.table.findings == choices.chosen_findings()
    np.testing.assert_array_equal(chosen.table.split_N, every.split_N)
    of_run = read_labels(root, split="patients:70/10/20", of_run=choices).table
    np.testing.assert_array_equal(of_run.split_N, every.split_N)


def test_columns_that_are_not_chosen_may_be_of_any_kind(tmp_path):
    """They have no part in the split either."""
    columns = [lambda n: n % 2, lambda n: "yes" if n == 5 else 0, lambda n: "yes" if n == 6 else 1]
    root = write(tmp_path, (*BASE, "A", "B", "Edema"), rows_of(*columns))
    assert read_labels(root, choices=LabelChoices(findings="A")).table.findings == ("A",)


def test_blank_cells_do_not_make_a_column_one_of_labels(tmp_path):
    """However they are written: most rows of a column such as the body mass index may be unknown."""
    columns = [lambda n: n % 2, lambda n: "24.5" if n == 5 else "nan", lambda n: "" if n else "24.5", lambda _: "NaN"]
    root = write(tmp_path, (*BASE, "A", "BMI", "Waist", "Nothing"), rows_of(*columns))
    assert read_labels(root).table.findings == ("A",)


def test_column_of_texts_is_no_finding_and_its_cells_stay_unsaid(tmp_path):
    """They may identify patients."""
    (tmp_path / "labels.csv").write_text(
        "Image Index,patient_id,split,Edema\na.png,SMITH-77,train,1\nb.png,JONES-88,val,0\nc.png,7,test,0\n"
    )
    with pytest.raises(InputError) as caught:
        read_labels(tmp_path, choices=LabelChoices(findings="patient_id"))
    words = str(caught.value)
    assert "cannot use columns of" in words
    assert "`patient_id`" in words
    assert "SMITH" not in words
