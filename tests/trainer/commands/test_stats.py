"""`trainer stats`: the prevalence of findings, without torch."""

import json
import subprocess
import sys

import pytest

from tests.trainer.data.test_layouts import image, write_folders, write_nih
from trainer import __main__ as program
from trainer.commands.stats import stats
from trainer.data.labels import FINDINGS


@pytest.fixture
def phantoms(tmp_path, capsys):
    """Thirty phantoms, drawn by the command."""
    assert program.main(["synth", "--out", str(tmp_path / "cxr"), "--images", "30", "--side", "32"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cxr'}\n"
    return tmp_path / "cxr"


def test_stats_prints_a_table_csv_or_json(phantoms, capsys):
    """Data on stdout, nothing else there."""
    for form, shown in (("table", "Atelectasis  "), ("csv", "Atelectasis,"), ("json", '"Atelectasis"')):
        assert program.main(["stats", "--data", str(phantoms), "--format", form]) == 0
        out = capsys.readouterr()
        assert shown in out.out
        assert out.err == ""
    assert all(finding in out.out for finding in FINDINGS)
    json.loads(out.out)


def test_stats_needs_no_torch(phantoms):
    """It is what one runs first, on any machine."""
    code = "import sys; from trainer.__main__ import main; main(sys.argv[1:]); print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, "stats", "--data", str(phantoms)], capture_output=True, text=True, check=True
    )
    assert done.stderr == "False\n"


def test_missing_and_unread_files_are_named(tmp_path, capsys):
    """Training refuses missing images and does not read the other files, so the command names both."""
    write_nih(tmp_path / "nih")
    write_folders(tmp_path / "nih", [f"images/{image(n)}" for n in range(1, 46)])
    stats(data=tmp_path / "nih")
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-2].split() == ["images", "35", "5", "10"]
    assert "note: 5 of 50 images have no file, the first is `00000046_000.png`; there are train 35 of 35" in shown.err
    assert "Training needs --on-missing-image skip" in shown.err
    stats(data=tmp_path / "nih", on_missing_image="skip")
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-2].split() == ["images", "35", "5", "5"]
    assert "5 of 50 images have no file" in shown.err
    write_folders(
        tmp_path, [f"{split}/{name}/{split}{n}.png" for split in ("train", "test") for name in "ab" for n in range(20)]
    )
    write_folders(tmp_path, ["train/a/x.jfif"])
    stats(data=tmp_path, layout="folders")
    assert "note: 1 file looks like an image but is not read" in capsys.readouterr().err


def test_stats_names_label_files_that_it_did_not_read(phantoms, capsys):
    """The numbers are those of one edition; the notes are not among the data."""
    (phantoms / "Data_Entry_2017_v2020.csv").write_text((phantoms / "Data_Entry_2017.csv").read_text())
    assert program.main(["stats", "--data", str(phantoms), "--format", "json"]) == 0
    out = capsys.readouterr()
    json.loads(out.out)
    assert out.err.startswith("note: labels are read from `Data_Entry_2017_v2020.csv`; not read")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("chexpert_train.csv.gz", "no column `split`"),
        ("vinbigdata-train.csv.gz", "no column `Image Index`"),
        ("kaggle_stage_2_train_labels.csv.zip", "it is a zip archive"),
    ],
)
def test_label_files_of_other_public_sets_are_refused_by_name(shared, tmp_path, capsys, name, told):
    """Whatever name they are given: none of them has the labels of this layout."""
    (tmp_path / ("labels.csv" if name.endswith("zip") else "labels.csv.gz")).symlink_to(
        shared / "data/public-labels" / name
    )
    assert program.main(["stats", "--data", str(tmp_path)]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert told in out.err


def test_stats_states_fractions_and_splits_without_a_known_label(tmp_path, capsys):
    """Percentages alone would not show either."""
    rows = [
        f"{n}.png,P{n},{('train', 'val', 'test')[n % 3]},{'' if n % 3 == 1 else (0.4, 0.6)[n % 2]}" for n in range(30)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["Image Index,patient_id,split,Edema", *rows]) + "\n")
    assert program.main(["stats", "--data", str(tmp_path)]) == 0
    notes = capsys.readouterr().err
    assert "note: 20 labels are fractions: the percentages count them as positive from 0.5 on" in notes
    assert "note: no label of the 10 images in val is known: nothing can be evaluated on them" in notes
