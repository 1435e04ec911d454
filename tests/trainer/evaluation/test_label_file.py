"""Labels from one file of any kind, or a data set."""

import gzip

import pytest

from tests.trainer.data.test_layouts import write_folders
from trainer.data.labels import FINDINGS
from trainer.errors import InputError
from trainer.evaluation.label_file import read

ZEROS = ",".join(["0"] * 13)

ENTRIES = """Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position
00000001_000.png,Hernia,0,1,58,M,PA
00000001_001.png,No Finding,1,1,59,M,AP
"""

TABLES = {
    "Data_Entry_2017_v2020.csv": ENTRIES,
    "test_list.txt": "00000001_000.png " + "0 " * 13 + "1\n00000001_001.png " + "0 " * 14 + "\n",
    "labels.csv": f"Image Index,{','.join(FINDINGS)}\n00000001_000.png,{ZEROS},1\n00000001_001.png,{ZEROS},0\n",
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", list(TABLES))
def test_every_format_of_label_file_gives_the_same_labels(tmp_path, name, packed):
    """A file is known by what is in it, for public copies have other names."""
    path = tmp_path / (f"copy-of-{name}.gz" if packed else f"copy-of-{name}")
    path.write_bytes(gzip.compress(TABLES[name].encode()) if packed else TABLES[name].encode())
    found = read(path)
    assert found.table.images == ("00000001_000.png", "00000001_001.png")
    assert found.table.labels_NK[:, -1].tolist() == [1, 0]
    assert found.table.labels_NK.sum() == 1
    assert found.table.patients_N.tolist() == [0, 0]
    assert not found.has_splits
    assert found.is_list == (name == "test_list.txt")
    assert (found.metadata is not None) == name.startswith("Data_Entry")
    assert found.rows("all").tolist() == [0, 1]
    with pytest.raises(InputError, match="has no image in it, got `test`"):
        found.rows("test")


def test_split_column_of_labels_csv_gives_the_splits(tmp_path):
    """Only the test part may be scored unless another is asked for."""
    header, first, second = TABLES["labels.csv"].splitlines()
    (tmp_path / "labels.csv").write_text(f"{header},split\n{first},train\n{second},test\n")
    found = read(tmp_path / "labels.csv")
    assert found.has_splits
    assert found.rows("test").tolist() == [1]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "there are none"),
        (b"\x89PNG\r\n\x1a\n", "cannot read"),
        (b"Image Index,Hernia\na.png,1\n", "cannot identify the patients"),
        (b"Image Index,Ward\na.png,north\n", "no column holds a finding"),
        (b"Image Index,Finding Labels,Patient ID\na.png,Gout,1\n", "unknown finding `Gout`"),
        (b"a.png 0 1\n", "2 values instead of 14"),
    ],
)
def test_file_without_labels_is_refused(tmp_path, content, told):
    """Anything may be given for --labels, an image too."""
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(InputError, match=told):
        read(tmp_path / "labels")


def test_absent_label_file_is_refused(tmp_path):
    """The commonest mistake is a path."""
    with pytest.raises(InputError, match=r"cannot read `.*nowhere.csv`: no such file or directory"):
        read(tmp_path / "nowhere.csv")


def test_columns_of_readers_in_a_data_set_are_named_too(tmp_path):
    """The table of a directory is read like one that is given alone, but for its columns of readers."""
    header, *rows = ENTRIES.splitlines()
    names = [f"0000000{patient}_000.png" for patient in range(1, 9)]
    rows = [f"{name},No Finding,0,{number},58,M,PA,YES" for number, name in enumerate(names)]
    (tmp_path / "Data_Entry_2017.csv").write_text("\n".join([f"{header},Fracture", *rows]) + "\n")
    (tmp_path / "train_val_list.txt").write_text("\n".join(names[:6]))
    (tmp_path / "test_list.txt").write_text("\n".join(names[6:]))
    found = read(tmp_path)
    assert found.readers == ("Fracture",)
    assert not found.is_selection
    (note,) = found.notes
    assert note.startswith("Data_Entry_2017.csv also has labels of readers, which were not used: `Fracture`")
    assert '--labels Data_Entry_2017.csv --rename "Fracture=FINDING|FINDING"' in note
    assert found.edition == "2017 by the name of its file (Data_Entry_2017.csv)"


@pytest.mark.parametrize(("split", "says"), [("given", False), ("patients:60/20/20", True)])
def test_kaggle_test_set_that_is_split_again_is_noted(tmp_path, split, says):
    """The preset for two classes splits all images by patient."""
    files = [f"test/NORMAL/IM-{n:04d}-0001.jpeg" for n in range(1, 235)]
    files += [f"test/PNEUMONIA/person{n}_virus_{n}.jpeg" for n in range(1, 391)]
    files += [f"train/NORMAL/IM-{n:04d}-0001.jpeg" for n in range(501, 520)]
    files += [f"train/PNEUMONIA/person{n}_virus_{n}.jpeg" for n in range(501, 520)]
    found = read(write_folders(tmp_path, files), split=split)
    assert any("test/ is the Kaggle test set, but its images are split again" in note for note in found.notes) == says
    assert found.is_public
