"""In a directory that a user names, commands replace what they have written there, and nothing else."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from trainer.__main__ import main
from trainer.errors import InputError
from trainer.explanation import map_writer
from trainer.storage import LocalStorage
from trainer.storage.files import is_abandoned, open_new, partial_name
from trainer.storage.output_files import check

pytestmark = pytest.mark.usefixtures("drawn_at_once")

THEIRS = b"theirs, and the only copy"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def pictures(tmp_path):
    """Two images; the picture of the first's Mass would be called as the second is."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(("a.png", "a.Mass.png")):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 48), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def arguments(command, run, out):
    return {
        "report": f"report {run.root} --out {out}",
        "comparison": f"report {run.root} {run.root} --out {out}",
        "evaluate": f"evaluate {run.root} --data {run.data} --cache-dir {run.cache} --out {out} --resamples 20 --device cpu",
        "export": f"export {run.root} --out {out} --to safetensors,torch",
    }[command].split()


WRITTEN = [
    ("report", "index.html"),
    ("report", "curves.png"),
    ("comparison", "scaling.csv"),
    ("comparison", "scaling.png"),
    ("evaluate", "metrics.json"),
    ("evaluate", "roc.png"),
    ("evaluate", "predictions/test.csv"),
    ("export", "model.safetensors"),
    ("export", "card.md"),
]


@pytest.mark.parametrize(("command", "name"), WRITTEN)
def test_foreign_file_is_named_and_kept(command, name, finished_run, out, capsys):
    """The directory is the user's; a metrics.json in it may be of any program."""
    (out / name).parent.mkdir(parents=True)
    (out / name).write_bytes(THEIRS)
    assert main(arguments(command, finished_run, out)) == 2
    assert name in capsys.readouterr().err
    assert files(out) == {name: THEIRS}


@pytest.mark.parametrize("command", ["report", "comparison", "evaluate", "export"])
def test_the_same_command_again_replaces_what_it_wrote(command, finished_run, out, capsys):
    """And leaves what lies beside it."""
    assert main(arguments(command, finished_run, out)) == 0, capsys.readouterr().err
    (out / "notes.txt").write_bytes(THEIRS)
    before = files(out)
    assert main(arguments(command, finished_run, out)) == 0, capsys.readouterr().err
    assert files(out).keys() == before.keys()
    assert (out / "notes.txt").read_bytes() == THEIRS


def test_table_of_an_earlier_version_is_replaced(finished_run, out, capsys):
    """It had no column of known labels."""
    out.mkdir()
    (out / "metrics.csv").write_text("finding,images,positives,prevalence\nEdema,3,1,0.333\n")
    assert main(arguments("evaluate", finished_run, out)) == 0, capsys.readouterr().err
    assert (out / "metrics.csv").read_text().startswith("finding,images,known,positives,")


@pytest.mark.parametrize("name", ["metrics.json", "predictions"])
def test_evaluation_is_not_written_through_a_link(name, finished_run, out, tmp_path):
    """It would land in a file or folder elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.json").write_bytes(THEIRS)
    out.mkdir()
    (out / name).symlink_to(elsewhere / "kept.json" if "." in name else elsewhere)
    main(arguments("evaluate", finished_run, out))
    assert files(elsewhere) == {"kept.json": THEIRS}


def test_dangling_link_is_replaced_and_no_file_made_where_it_points(finished_run, out, tmp_path):
    """What it names is not the program's to make."""
    out.mkdir()
    (out / "index.html").symlink_to(tmp_path / "elsewhere.html")
    assert main(arguments("report", finished_run, out)) == 0
    assert not (tmp_path / "elsewhere.html").exists()
    assert not (out / "index.html").is_symlink()


def test_page_named_by_the_user_is_replaced(finished_run, tmp_path):
    """As any program does; a link gets a page in its place, and its target stays."""
    (tmp_path / "theirs").write_bytes(THEIRS)
    (tmp_path / "page.html").symlink_to(tmp_path / "theirs")
    assert main(["report", str(finished_run.root), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "theirs").read_bytes() == THEIRS
    assert b"<html" in (tmp_path / "page.html").read_bytes()


def test_report_is_not_written_into_what_is_no_run(tmp_path, capsys):
    """Many a program writes a run.json."""
    (tmp_path / "theirs/report").mkdir(parents=True)
    (tmp_path / "theirs/run.json").write_text('{"name": "theirs"}')
    (tmp_path / "theirs/report/index.html").write_bytes(THEIRS)
    assert main(["report", str(tmp_path / "theirs")]) == 2
    assert "is not the record of a run" in capsys.readouterr().err
    assert files(tmp_path / "theirs").keys() == {"run.json", "report/index.html"}


def test_report_of_a_run_is_not_written_through_a_link(finished_run, tmp_path, capsys):
    """A run's folder may be anybody's who shares the output."""
    run, elsewhere = tmp_path / "r", tmp_path / "elsewhere"
    shutil.copytree(finished_run.root, run)
    shutil.move(run / "report", elsewhere)
    (elsewhere / "index.html").write_bytes(THEIRS)
    (run / "report").symlink_to(elsewhere)
    assert main(["report", str(run)]) == 2
    assert "it is a link" in capsys.readouterr().err
    assert (elsewhere / "index.html").read_bytes() == THEIRS


def explain(run, images, out, *flags):
    return main(["explain", str(images), "--model", str(run.root), "--out", str(out), "--device", "cpu", *flags])


def test_picture_of_an_image_does_not_replace_another_image(finished_run, pictures, capsys):
    """OUT may be the folder of the images."""
    before = files(pictures)
    assert explain(finished_run, pictures, pictures, "--findings", "Mass") == 2
    assert "a.Mass.png" in capsys.readouterr().err
    assert files(pictures) == before


def test_pictures_of_an_earlier_call_are_replaced(finished_run, pictures, out):
    """Also those of a version that did not mark them, which are listed; and those of a call that was broken off."""
    for _ in range(2):
        assert explain(finished_run, pictures, out, "--findings", "Mass") == 0
    [first, second] = sorted(out.glob("*.png"))
    Image.open(first).save(first)  # without its mark
    assert explain(finished_run, pictures, out, "--findings", "Mass") == 0
    assert b"maPstrainer" in first.read_bytes()
    (out / "maps.jsonl").unlink()
    assert explain(finished_run, pictures, out, "--findings", "Mass") == 0
    second.write_bytes(THEIRS)
    (out / "maps.jsonl").unlink()
    assert explain(finished_run, pictures, out, "--findings", "Mass") == 2
    assert second.read_bytes() == THEIRS


@pytest.mark.parametrize("name", ["maps.jsonl", "randomisation.json"])
def test_foreign_jsonl_file_is_named_and_kept(name, finished_run, pictures, out, capsys):
    """They were emptied before the first map."""
    out.mkdir()
    (out / name).write_bytes(THEIRS)
    assert explain(finished_run, pictures, out, "--check-randomisation", "--findings", "Mass") == 2
    assert name in capsys.readouterr().err
    assert (out / name).read_bytes() == THEIRS


def test_interrupted_explain_does_not_replace_its_earlier_lines(finished_run, pictures, out, monkeypatch):
    """Whole, or as they were."""
    assert explain(finished_run, pictures, out, "--findings", "Mass", "--no-overlays") == 0
    before = files(out)

    def break_off(*_):
        raise InputError("broken off")

    monkeypatch.setattr(map_writer, "find_boxes_on_image", break_off)
    assert explain(finished_run, pictures, out, "--findings", "Mass", "--no-overlays") == 2
    assert files(out) == before


def half_written(path):
    """What a killed writer of this file leaves, some seconds later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(partial_name(path.name))
    partial.write_bytes(b"half")
    os.utime(partial, (1, 1))
    return partial


@pytest.mark.parametrize(("command", "name"), WRITTEN)
def test_partial_files_of_a_killed_command_are_removed_by_the_next(command, name, finished_run, out):
    """And no more than that: neither folders that the command does not write to are looked into, nor other files touched."""
    left, others = half_written(out / name), [half_written(out / "mine.txt"), half_written(out / "mine" / name)]
    written = out / f".{name.rpartition('/')[2]}-{'0' * 32}.partial"
    with open_new(written):
        os.utime(written, (1, 1))
        assert main(arguments(command, finished_run, out)) == 0
        assert written.exists()
    assert not left.exists()
    assert [path.read_bytes() for path in others] == [b"half", b"half"]


def test_partial_maps_and_overlays_are_removed_by_the_next_call(finished_run, pictures, out):
    """While a call writes its lines they are locked, so that another one into the same directory leaves them."""
    left = [half_written(out / name) for name in ("maps.jsonl", "a.Mass.png")]
    explain = f"explain --model {finished_run.root} --out {out} --findings Mass --device cpu {pictures}".split()
    assert main(explain) == 0
    assert [path.exists() for path in left] == [False, False]
    trained = SimpleNamespace(findings=("Mass",))
    with map_writer.opened(trained, map_writer.Output(out, 0.5, overlays=False), []):
        (lines,) = out.glob(".maps.jsonl-*")
        os.utime(lines, (1, 1))
        assert not is_abandoned(lines)


def test_pipe_in_place_of_a_file_is_not_waited_for(tmp_path):
    """Whoever opens one to read waits for a writer."""
    os.mkfifo(tmp_path / "metrics.json")
    with pytest.raises(InputError, match="not a regular file"):
        check(LocalStorage(str(tmp_path)), ["metrics.json"])


def test_plots_are_replaced_only_beside_a_document_of_ours(tmp_path):
    """A PNG file tells nobody who made it."""
    storage = LocalStorage(str(tmp_path))
    storage.write("roc.png", b"\x89PNG")
    names = ["metrics.json", "roc.png"]
    with pytest.raises(InputError, match=r"roc\.png"):
        check(storage, names, beside="metrics.json")
    storage.write("metrics.json", json.dumps({"format": "theirs"}).encode())
    with pytest.raises(InputError, match=r"metrics\.json\n  roc\.png"):
        check(storage, names, beside="metrics.json")
    storage.write("metrics.json", json.dumps({"format": 1}).encode())
    with pytest.raises(InputError):
        check(storage, names, beside="metrics.json")
    storage.write("metrics.json", b'{\n "format": 1,\n "model": "m"}')
    check(storage, names, beside="metrics.json")
