"""Tables that a spreadsheet opens run nothing, and are read back equal."""

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import launcher
import trainer
from trainer.data.label_files import csv_rows
from trainer.data.labels import LabelTable
from trainer.data.prevalence import Prevalence, as_csv
from trainer.evaluation import predictions
from trainer.evaluation.scores import predictions_csv
from trainer.formats import spreadsheet
from trainer.layout import SPLIT
from trainer.runs.earlier_run import split_by_image
from trainer.storage import LocalStorage
from trainer.training.setup import _split_csv

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\uff1d1",
    "=cmd|' /C calc'!A0",
    "'=1",
    "''+1",
    " =1",
    "\u00a0\u3000@a",
    "\ufeff-1",
    "' =1",
]
OLD = ["'abc", "a=1", "'", "", "00000001_000.png", "train/=x/1.png", "a,b", 'a"b', "a;=1"]


@given(st.text(alphabet="'=+-@\t\r\nab\uff1d\u2028\u00a0\ufeff "))
@example("'=a")
def test_any_cell_text_is_read_back(text):
    """Taking off one apostrophe that was there before would make another name of it."""
    assert spreadsheet.read(spreadsheet.kept(text)) == text


@given(st.text())
def test_no_written_cell_begins_like_a_formula(text):
    kept = spreadsheet.kept(text)
    assert kept[:1] not in tuple("\t\r\n")
    assert kept.lstrip().lstrip("\ufeff")[:1] not in tuple("=+-@\uff1d\uff0b\uff0d\uff20")


@pytest.mark.parametrize("text", OLD)
def test_ordinary_text_is_written_unchanged_and_files_of_earlier_versions_are_read(text):
    assert spreadsheet.kept(text) == text
    assert spreadsheet.read(text) == text


def test_numbers_stay_numbers():
    assert spreadsheet.line(["-x", -1.5, 3, None]) == "'-x,-1.5,3,\n"


NAMES = (
    "=1.png",
    "@a.png",
    "'abc.png",
    "'=b.png",
    "a\u2028b.png",
    "ok.png",
    "-2.png",
    "\tc.png",
    "d\re.png",
    "f\ng.png",
)


def test_predictions_are_read_back(tmp_path):
    """A run writes them, and `evaluate --predictions` reads them."""
    path = tmp_path / "val.csv"
    path.write_bytes(predictions_csv(NAMES, np.zeros((len(NAMES), 1)), ["Mass"], None))
    assert predictions.read(path).images == NAMES
    cells = [row[0] for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))]
    assert not [cell for cell in cells if cell[:1] in set("=+-@\t\r")]


def table(names):
    return LabelTable(
        ("Mass",), names, np.arange(len(names)), np.zeros((len(names), 1), np.uint8), np.zeros(len(names), np.int8)
    )


def test_split_is_read_back(tmp_path):
    """By it later scoring knows what a model was trained on: a name that is read wrong is a patient who was not seen."""
    storage = LocalStorage(str(tmp_path))
    storage.write(SPLIT, _split_csv(table(NAMES)))
    assert split_by_image(storage) == dict.fromkeys(NAMES, "train")


def test_split_of_an_earlier_version_is_read(tmp_path):
    """It wrote names as they are."""
    names = ("=1.png", "'abc.png", "00000001_000.png")
    storage = LocalStorage(str(tmp_path))
    text = "Image Index,split\n" + "".join(f"{name},train\n" for name in names)
    storage.write(SPLIT, gzip.compress(text.encode()))
    assert split_by_image(storage) == dict.fromkeys(names, "train")


def test_predictions_of_an_earlier_version_are_read(tmp_path):
    path = tmp_path / "val.csv"
    path.write_text("Image Index,prob_Mass\n=1.png,0.5\n'abc.png,0.5\n-2.png,0.5\n", encoding="utf-8")
    assert predictions.read(path).images == ("=1.png", "'abc.png", "-2.png")


@pytest.mark.parametrize("name", FORMULAS)
def test_prevalence_csv_holds_no_formula(name):
    """Classes are called like their folders."""
    stats = Prevalence(("a", name), ((1.0, 2.0),) * 3, ((1, 1),) * 3, (1, 1, 1), (1, 1, 1))
    cells = [cell for row in csv.reader(io.StringIO(as_csv(stats), newline="")) for cell in row]
    assert not [cell for cell in cells if cell.lstrip("\ufeff \u00a0\u3000")[:1] in set("=+-@\t\r")]
    assert spreadsheet.read(cells[8]) == name


def test_cell_with_line_breaks_is_one_cell(tmp_path):
    """Python splits text into lines at more than CSV does."""
    path = tmp_path / "t.csv"
    text = "a\u2028b\x85c\x0bd\x1ce"
    path.write_text(f"Image Index,x\n{text},1\n", encoding="utf-8")
    assert [row for _, row in csv_rows(path)] == [["Image Index", "x"], [text, "1"]]


def test_every_csv_of_the_programs_is_written_through_spreadsheet():
    """One that is added later must be too; what `synth` writes are its own words."""
    writers = {
        path.name
        for package in (trainer, launcher)
        for path in Path(package.__file__).parent.rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in ("csv.writer(", "csv.DictWriter(", ".to_csv("))
    }
    assert writers == {"form.py", "spreadsheet.py"}
