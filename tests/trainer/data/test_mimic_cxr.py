"""Layout mimic-cxr: tables joined by image and study, and what does not fit together."""

import gzip

import pytest
from raw_labels import raw

from trainer.data.layouts import read_labels
from trainer.data.layouts.chexpert import FINDINGS
from trainer.data.locate import locate_images
from trainer.errors import InputError

NAME = "mimic-cxr-2.0.0-{}.csv"


def ids(n):
    """Image, study and subject of the n-th image; two images a study, two studies a patient."""
    return f"{n:08x}-aaaa", str(50_000_000 + n // 2), str(10_000_000 + n // 4)


def tables(count=80):
    """Rows of each table by its name."""
    splits = ["train"] * (count - 16) + ["validate"] * 8 + ["test"] * 8
    studies = sorted({ids(n)[1:] for n in range(count)})
    return {
        "split": ["dicom_id,study_id,subject_id,split", *(",".join([*ids(n), splits[n]]) for n in range(count))],
        "metadata": [
            "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition",
            *(f"{ids(n)[0]},{ids(n)[2]},{ids(n)[1]},CHEST,{('PA', 'LL', 'AP', '')[n % 4]}" for n in range(count)),
        ],
        "chexpert": [
            ",".join(["subject_id", "study_id", "No Finding", *FINDINGS]),
            *(",".join([subject, study, "", "1.0", "-1.0", *[""] * 11]) for study, subject in studies),
        ],
    }


def write(root, rows, *, packed=False, names=NAME):
    for table, lines in rows.items():
        content = ("\n".join(lines) + "\n").encode()
        path = root / names.format(table)
        if packed:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)
    return root


def refusal(*args, **kwargs):
    with pytest.raises(InputError) as refused:
        read_labels(*args, **kwargs)
    return str(refused.value)


@pytest.mark.parametrize("packed", [False, True])
def test_tables_are_joined(tmp_path, packed):
    """Labels by study, split and view by image."""
    source = read_labels(write(tmp_path, tables(), packed=packed))
    table = source.table
    assert source.layout == "mimic-cxr"
    assert table.images[5] == "files/p10/p10000001/s50000002/00000005-aaaa.jpg"
    assert raw(tmp_path).labels_NK[5, :2].tolist() == [1, -1]
    assert source.table.views[:4] == ("PA", "LATERAL", "AP", "")
    assert [len(table.rows(split)) for split in ("train", "val", "test")] == [64, 8, 8]
    assert table.patients_N.tolist()[:8] == [0] * 4 + [1] * 4
    assert source.notes == ()


def test_images_are_where_the_release_has_them(tmp_path):
    """`files/p10/p10000000/s50000000/…`."""
    source = read_labels(write(tmp_path, tables()))
    for name in source.table.images:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert locate_images(source) == [tmp_path / name for name in source.table.images]


def test_negbio_is_read_where_chexpert_is_not_there(tmp_path):
    """Of two tables of labels, the other is named."""
    rows = tables()
    write(tmp_path, rows | {"negbio": rows["chexpert"]})
    assert read_labels(tmp_path).unread == ("mimic-cxr-2.0.0-negbio.csv",)
    (tmp_path / NAME.format("chexpert")).unlink()
    assert read_labels(tmp_path).unread == ()
    (tmp_path / NAME.format("negbio")).unlink()
    assert "no table of labels, `mimic-cxr-2.*-chexpert.csv` or `mimic-cxr-2.*-negbio.csv`" in refusal(tmp_path)


def test_a_few_images_without_labels_are_left_out_and_named(tmp_path):
    """As of the eight studies of the release that have no report."""
    rows = tables(400)
    rows["chexpert"] = rows["chexpert"][:-1]
    source = read_labels(write(tmp_path, rows))
    assert len(source.table) == 398
    assert "2 of 400 images of mimic-cxr-2.0.0-split.csv have no labels of their study" in source.notes[0]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("chexpert", "40 of 80 images of mimic-cxr-2.0.0-split.csv have no labels of their study"),
        ("split", "20 of 40 studies of mimic-cxr-2.0.0-chexpert.csv have no image"),
        ("metadata", "40 of 80 images of mimic-cxr-2.0.0-split.csv are not in mimic-cxr-2.0.0-metadata.csv"),
    ],
)
def test_tables_of_different_releases_are_refused(tmp_path, table, problem):
    """Half of one would be trained without a word."""
    rows = tables()
    rows[table] = rows[table][: len(rows[table]) // 2 + 1]
    text = refusal(write(tmp_path, rows))
    assert problem in text
    assert "different releases" in text


def test_rows_that_are_listed_twice_are_refused(tmp_path):
    """In each of the tables."""
    rows = {name: [*lines, lines[1]] for name, lines in tables().items()}
    text = refusal(write(tmp_path, rows))
    assert "3 problems" in text
    assert "split.csv line 82: `00000000-aaaa` is listed twice, first in mimic-cxr-2.0.0-split.csv line 2" in text
    assert "chexpert.csv line 42: study 50000000 is listed twice" in text
    assert "metadata.csv line 82: `00000000-aaaa` is listed twice" in text


def test_ids_that_would_leave_the_folder_are_refused(tmp_path):
    """They become paths."""
    rows = tables()
    rows["split"].append("../../x,50000000,10000000,train")
    assert "line 82: dicom_id, study_id and subject_id must be" in refusal(write(tmp_path, rows))
