"""Text of others in whatever the trainer reads moves no terminal and begins no line, whichever command shows it."""

import json
import logging
import sys
import warnings

import numpy as np
import pytest
from canary import CANARY, check_quiet
from PIL import Image

from trainer.__main__ import main
from trainer.data.labels import FINDINGS
from trainer.data.layouts import read_labels
from trainer.report.model_card import _cell, _items
from trainer.screen import screened
from trainer.storage import open_storage

NAME = "\x1b]0;x\x07\n[rank 0] forged\u202e"
"""Such text as a file may be called."""


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path, format="PNG")


@pytest.mark.parametrize("odd", [NAME, "\u202egnp", "a\x9bb", "x\u2028y", "x\ty", "x\udc80"], ids=ascii)
@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_class_folders_with_unprintable_names_are_refused(tmp_path, capsys, odd, form):
    """A model's file could not hold the others, and they would be in every table."""
    for split in ("train", "test"):
        for name in ("NORMAL", odd):
            picture(tmp_path / split / name / "person1_virus_1.png")
    assert main(["stats", "--data", str(tmp_path), "--format", form]) == 2
    assert "its name" in check_quiet(capsys).err


def test_image_whose_name_has_a_line_break_is_named(tmp_path, capsys):
    """A pack's list of names has one a line."""
    for split in ("train", "test"):
        for name in ("NORMAL", "PNEUMONIA"):
            picture(tmp_path / split / name / "person1_virus_1\n[rank 0].png")
    assert main(["stats", "--data", str(tmp_path)]) == 2
    assert "[rank 0].png: its name has a line break" in check_quiet(capsys).err


def test_class_names_may_be_in_any_script(tmp_path):
    for split, number in (("train", 1), ("train", 2), ("test", 3)):
        for name in ("肺炎", "Öff=1"):
            picture(tmp_path / split / name / f"person{number}_virus_{number}.png")
    assert read_labels(tmp_path).table.findings == ("Öff=1", "肺炎")


def table(header, rows):
    def quoted(cell):
        return '"' + cell.replace('"', '""') + '"'

    return "".join(",".join(map(quoted, row)) + "\n" for row in [header, *rows])


HEADER = ["Image Index", *FINDINGS, "Patient ID", "split"]
ROW = ["1.png", *("0" * 14), "p", "test"]


def files(folder):
    """Label lists, tables of predictions and of boxes that have the canary in one place each."""
    prob = ["Image Index", *(f"prob_{name}" for name in FINDINGS)]
    for number in range(len(HEADER)):
        header, row = list(HEADER), list(ROW)
        header[number] += CANARY
        row[number] += CANARY
        yield "labels.csv", table(header, [ROW])
        yield "labels.csv", table(HEADER, [row, row])
    for number in (0, 1):
        header, row = list(prob), ["1.png", *(["0.5"] * 14)]
        header[number] += CANARY
        row[number] += CANARY
        yield "predictions.csv", table(header, [["1.png", *(["0.5"] * 14)]])
        yield "predictions.csv", table(prob, [row, row])
    nih = ["Image Index", "Finding Labels", "Patient ID", "Patient Age"]
    for number in range(len(nih)):
        row = ["00000001_000.png", "Mass", "1", "7"]
        row[number] += CANARY
        yield "labels.csv", table(nih, [row, row])
    yield "labels.csv", f"x{CANARY} 1 0\n"
    yield (
        "boxes.csv",
        table(["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"], [[CANARY, CANARY, "1", "1", CANARY, "1"]]),
    )
    yield "boxes.csv", table([CANARY], [])


def test_control_characters_in_cells_of_tables_are_escaped(tmp_path, capsys):
    """Of labels, of predictions by anybody's model, and of boxes."""
    (tmp_path / "d").mkdir()
    for name, text in files(tmp_path):
        good = {
            "labels.csv": table(HEADER, [ROW]),
            "predictions.csv": table(["Image Index", "prob_Mass"], [["1.png", "0.5"]]),
        }
        for each, content in (good | {name: text}).items():
            (tmp_path / "d" / each).write_text(content, encoding="utf-8", newline="")
        main(["stats", "--data", str(tmp_path / "d"), "--layout", "csv"])
        check_quiet(capsys)
        main(
            [
                "evaluate",
                "--predictions",
                str(tmp_path / "d" / "predictions.csv"),
                "--labels",
                str(tmp_path / "d" / "labels.csv"),
            ]
        )
        check_quiet(capsys)
    main(["stats", "--data", str(tmp_path / "d"), "--val-list", CANARY.replace("\0", "")])
    assert any(check_quiet(capsys))


def test_control_characters_in_names_of_files_and_flags_are_escaped(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / NAME / "a.png")
    for argv in (
        ["stats", "--data", NAME],
        ["predict", NAME, "--model", NAME],
        ["predict", NAME, "--model", "."],
        ["explain", NAME, "--model", NAME, "--out", NAME],
        ["export", NAME, "--to", NAME],
        ["evaluate", "--model", NAME, "--data", NAME],
        ["report", NAME, f"x{NAME}"],
        [NAME],
        ["stats", f"--{NAME}"],
        ["preflight", "--data", NAME, "--output", NAME, "--name", "a"],
    ):
        main(argv)
        assert any(check_quiet(capsys))


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_control_characters_in_documents_of_a_run_are_escaped(tmp_path, capsys, form):
    """Every text of run.json and results.json."""
    run = open_storage(str(tmp_path / "run"))
    texts = {"model": CANARY, "device": CANARY, "data": f"/x/{CANARY}", "name": CANARY}
    run.write("run.json", json.dumps({**texts, "config": texts, "identity": texts, "world_size": 2}).encode())
    run.write(
        "results.json", json.dumps({**texts, "test": {"mean_auroc": 0.5, "images": 3}, "training_s": 3.0}).encode()
    )
    main(["report", str(tmp_path / "run"), "--format", form])
    assert any(check_quiet(capsys))


def test_control_characters_in_warnings_and_logs_of_libraries_are_escaped(capsys):
    """pydicom and others quote what files hold."""
    with screened():
        sys.stderr.write(warnings.formatwarning(CANARY.replace("\n", ""), UserWarning, "x.py", 1, line=""))
        logging.lastResort.handle(logging.LogRecord("x", logging.WARNING, "x", 1, CANARY.replace("\n", ""), (), None))
    assert any(check_quiet(capsys))


@pytest.mark.parametrize("text", [CANARY, "<script>", "[x](http://evil)", "`", "|", "![x](y)"], ids=ascii)
def test_model_card_escapes_markdown_and_line_breaks_of_names(text):
    """It is shown on pages that render it."""
    shown = _items([_cell(text)])
    assert shown.count("\n") == 0
    assert not any(mark in shown.replace(f"\\{mark}", "") for mark in "|`<*[")
