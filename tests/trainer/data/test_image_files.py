"""Which files are meant by a directory."""

import os
from pathlib import Path

import pytest
from PIL import Image

from trainer.data.image_files import image_files
from trainer.report.picture_files import as_png


def listed(*places):
    return [(file.name, file.problem) for file in image_files(places)]


def test_directory_is_walked_in_order_of_names(tmp_path, monkeypatch):
    """Results are compared line by line."""
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.JPG", "b/1.png", "a.jpeg", "b/notes.txt", "b/.hidden.png", ".cache/x.png", "b/old.tif", "c.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "b" / "1.2.840.77").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "b" / "README").write_bytes(b"text")
    expected = ["a.jpeg", "c.dcm", "b/1.2.840.77", "b/1.png", "b/2.JPG", "b/old.tif"]
    assert listed(Path()) == [(name, None) for name in expected]


def test_pictures_of_this_program_are_left_out_of_a_directory(tmp_path):
    """Else the next call would take them for X-rays; a file that is named is taken."""
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    Image.new("L", (4, 4)).save(tmp_path / "a.Mass.png")
    for name in ("a.prediction.png", "predictions.png"):
        (tmp_path / name).write_bytes(as_png(Image.new("L", (4, 4))))
    assert [file.path.name for file in image_files([tmp_path])] == ["a.Mass.png", "a.png"]
    assert [file.path.name for file in image_files([tmp_path / "predictions.png"])] == ["predictions.png"]


def test_a_link_that_leads_back_is_followed_once(tmp_path):
    """Else a walk has no end."""
    Image.new("L", (4, 4)).save(tmp_path / "x.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert listed(tmp_path) == [(f"{tmp_path}/x.png", None)]


def test_unreadable_image_is_listed_with_its_problem(tmp_path):
    """A slip in one of many places must not go by unseen."""
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    assert listed(tmp_path / "x.png", tmp_path / "empty", tmp_path / "pipe.png") == [
        (f"{tmp_path}/x.png", "there is no such file"),
        (f"{tmp_path}/empty", "there is no image in this directory"),
        (f"{tmp_path}/pipe.png", "it is neither a file nor a directory"),
    ]


def test_a_pipe_in_a_directory_is_not_waited_for(tmp_path):
    """Whoever opens it stands still until somebody writes."""
    os.mkfifo(tmp_path / "pipe.png")
    Image.new("L", (4, 4)).save(tmp_path / "x.png")
    assert listed(tmp_path) == [
        (f"{tmp_path}/pipe.png", "it is neither a file nor a directory"),
        (f"{tmp_path}/x.png", None),
    ]


def test_file_name_that_is_too_long_is_listed_as_a_problem(tmp_path):
    """A slip of the shell must not cost the others."""
    Image.new("L", (4, 4)).save(tmp_path / "x.png")
    long = tmp_path / ("x" * 300)
    assert listed(long, tmp_path / "x.png") == [(str(long), "file name too long"), (f"{tmp_path}/x.png", None)]


def test_file_that_is_named_twice_is_read_once(tmp_path):
    """As itself and by its directory."""
    Image.new("L", (4, 4)).save(tmp_path / "x.png")
    assert listed(tmp_path / "x.png", tmp_path) == [(f"{tmp_path}/x.png", None)]


@pytest.mark.parametrize(("raw", "shown"), [(b"\xff.png", "\\xff.png"), (b"a\nb.png", "a\\nb.png")])
def test_names_that_cannot_be_printed_are_written_with_escapes(tmp_path, raw, shown):
    """A line is a file, and a terminal obeys what it is sent."""
    (tmp_path / os.fsdecode(raw)).write_bytes(b"")
    assert listed(tmp_path) == [(f"{tmp_path}/{shown}", None)]
