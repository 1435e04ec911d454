"""The drawn data set: the same every time, complete, and never over something else."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from trainer.data.labels import FINDINGS, SPLITS
from trainer.data.layouts import read_labels
from trainer.data.locate import locate_images
from trainer.data.split import check_patients
from trainer.data.synthetic import write_phantoms
from trainer.errors import InputError


def hashes(root):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (root / "images").iterdir()}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """200 small phantoms."""
    root = tmp_path_factory.mktemp("phantoms")
    write_phantoms(root, images=200, side=64)
    return root


def test_phantoms_are_a_complete_nih_data_set(phantoms):
    """What is tried out on phantoms must be what happens with the release."""
    source = read_labels(phantoms)
    assert source.layout == "nih"
    assert source.table.findings == FINDINGS
    assert len(locate_images(source)) == 200
    check_patients(source.table, "phantoms")
    assert 0.15 < len(source.table.rows("test")) / 200 < 0.25


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_finding_is_in_training_and_test_images(tmp_path, seed):
    """A finding without positives has no AUROC, which would be the first thing a newcomer sees."""
    write_phantoms(tmp_path / "out", images=200, seed=seed, side=32)
    table = read_labels(tmp_path / "out").table
    for split in SPLITS:
        assert table.labels_NK[table.rows(split)].any(axis=0).all() or split == "val"


def test_prevalence_is_even_enough_to_learn_from(phantoms):
    """Each finding needs positives in a small set, and healthy chests must stay common."""
    labels_NK = read_labels(phantoms).table.labels_NK
    assert labels_NK.mean(axis=0).min() > 0.06
    assert labels_NK.mean(axis=0).max() < 0.3
    assert 0.2 < (labels_NK.sum(axis=1) == 0).mean() < 0.45


def test_larger_set_begins_like_a_smaller_one(tmp_path, phantoms):
    """Drawing more must not change what was measured on fewer."""
    write_phantoms(tmp_path / "few", images=30, side=64)
    assert hashes(tmp_path / "few").items() <= hashes(phantoms).items()


def test_another_seed_draws_other_images(tmp_path, phantoms):
    """Two seeds are two data sets."""
    write_phantoms(tmp_path / "other", images=30, seed=1, side=64)
    assert not set(hashes(tmp_path / "other").values()) & set(hashes(phantoms).values())


def test_some_images_are_rgba_with_equal_channels(phantoms):
    """The release has such files, and a reader that trips over them must trip here."""
    modes = {path.name: mode_of(path) for path in (phantoms / "images").iterdir()}
    rgba = [name for name, mode in modes.items() if mode == "RGBA"]
    assert len(rgba) == 200 // 23
    assert set(modes.values()) == {"L", "RGBA"}
    with Image.open(phantoms / "images" / rgba[0]) as picture:
        pixels_HWC = np.asarray(picture)
    assert (pixels_HWC[..., :3] == pixels_HWC[..., :1]).all()
    assert (pixels_HWC[..., 3] == 255).all()


def mode_of(path):
    with Image.open(path) as picture:
        return picture.mode


def test_lists_end_without_newline(phantoms):
    """As in the release, where counting lines misses one."""
    for name in ("train_val_list.txt", "test_list.txt"):
        assert (phantoms / name).read_text().endswith(".png")


def test_progress_is_reported_after_each_image(tmp_path):
    """A bar that stands still looks like a hang."""
    told = []
    write_phantoms(tmp_path / "out", images=30, side=32, progress=told.append)
    assert told == [1] * 30


def test_non_empty_directory_is_refused_and_unchanged(tmp_path):
    """Nothing of the user's is overwritten."""
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match=r"must be new or empty, got .* with `mine.txt`"):
        write_phantoms(tmp_path, images=30)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("exists", [False, True], ids=["new", "empty"])
@pytest.mark.parametrize(
    "stop", [KeyboardInterrupt, OSError(28, "No space left on device")], ids=["Ctrl-C", "full disk"]
)
def test_interrupted_synth_leaves_nothing(tmp_path, exists, stop):
    """The same command must work again, and nobody may take a part of a data set for the whole."""
    out = tmp_path / "out"
    if exists:
        out.mkdir()

    def progress(_):
        raise stop

    with pytest.raises((KeyboardInterrupt, InputError)):
        write_phantoms(out, images=30, side=32, progress=progress)
    assert [path.name for path in tmp_path.rglob("*")] == ["out"] * exists
    write_phantoms(out, images=30, side=32)
    assert len(read_labels(out).table) == 30
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_data_set_appears_only_once_it_is_complete(tmp_path):
    """Whoever looks while it is drawn sees no data set."""
    seen = []
    write_phantoms(tmp_path / "out", images=30, side=32, progress=lambda _: seen.append((tmp_path / "out").exists()))
    assert not any(seen)


def test_empty_directory_is_filled_in_place(tmp_path):
    """It may be a mount, or where the user's shell stands."""
    before = tmp_path.stat().st_ino
    write_phantoms(tmp_path, images=30, side=32)
    assert tmp_path.stat().st_ino == before
    assert {path.name for path in tmp_path.iterdir()} == {
        "Data_Entry_2017.csv",
        "images",
        "phantoms.json",
        "test_list.txt",
        "train_val_list.txt",
    }


def test_directory_that_cannot_be_written_is_named_with_a_hint(tmp_path):
    """A file where the directory should be is the user's to move."""
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"cannot write to `.*`: Not a directory \(from `--out`\)") as refused:
            write_phantoms(out, images=30, side=32)
        assert refused.value.hint


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        pytest.param({"side": 31}, "32 to 4096 pixels, got 31 (from `--side`)", id="small"),
        pytest.param({"side": 4097}, "32 to 4096 pixels, got 4097 (from `--side`)", id="large"),
        pytest.param({"side": -1}, "got -1 (from `--side`)", id="negative side"),
        pytest.param({"seed": -1}, "below 2**63, got -1 (from `--seed`)", id="negative seed"),
        pytest.param({"seed": 2**63}, f"got {2**63} (from `--seed`)", id="seed of 64 bits"),
    ],
)
def test_invalid_image_counts_and_sizes_are_refused(tmp_path, numbers, words):
    """By name, and before anything is written."""
    with pytest.raises(InputError) as refused:
        write_phantoms(tmp_path / "out", images=30, **numbers)
    assert words in str(refused.value)
    assert refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_too_few_images_are_refused(tmp_path):
    """They could not fill three parts, which would be noticed only later."""
    with pytest.raises(InputError, match=r"at least 30 images are needed, got 29 \(from `--images`\)"):
        write_phantoms(tmp_path / "out", images=29)
    assert not (tmp_path / "out").exists()


KILLED = """
import os, pathlib, signal, sys
from trainer.data.synthetic import write_phantoms
write_phantoms(pathlib.Path(sys.argv[1]), images=30, side=32, progress=lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.parametrize("exists", [False, True], ids=["new", "empty"])
def test_draft_of_a_killed_synth_is_removed_by_the_next(tmp_path, exists):
    """An empty directory with half a data set in it would be refused for ever."""
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    assert [path for path in tmp_path.rglob(".out-*.partial") if path.is_dir()]
    write_phantoms(out, images=30, side=32)
    assert not list(tmp_path.rglob(".out-*.partial"))
    assert len(hashes(out)) == 30


def test_draft_of_a_running_synth_is_kept(tmp_path):
    """Two may draw to one place; the second to be done is refused."""

    def draw_another(_done):
        if not (tmp_path / "out").exists():
            write_phantoms(tmp_path / "out", images=31, side=32)

    with pytest.raises(InputError, match="cannot write to"):
        write_phantoms(tmp_path / "out", images=30, side=32, progress=draw_another)
    assert len(hashes(tmp_path / "out")) == 31


@pytest.mark.parametrize("put", ["file of the user", "link", "linked images", "another name"])
def test_foreign_files_beside_a_draft_are_kept(tmp_path, put):
    """Whatever has a name like a draft's."""
    mine = tmp_path / "mine"
    (mine / "images").mkdir(parents=True)
    (mine / "test_list.txt").write_text("mine")
    (mine / "images/00000001_000.png").write_text("mine")
    draft = tmp_path / (".out-01234567.partial" if put != "another name" else ".out-01.partial")
    if put == "link":
        draft.symlink_to(mine)
    else:
        draft.mkdir()
        (draft / "notes.txt").write_text("mine")
    if put == "linked images":
        (draft / "images").symlink_to(mine / "images")
    write_phantoms(tmp_path / "out", images=30, side=32)
    assert draft.exists()
    assert put == "link" or (draft / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in mine.rglob("*") if path.is_file()) == ["00000001_000.png", "test_list.txt"]


def test_file_that_appears_during_synth_is_not_replaced(tmp_path):
    """The directory was empty when the drawing began."""
    out = tmp_path / "out"
    out.mkdir()

    def put(_done):
        (out / "test_list.txt").write_text("mine")

    with pytest.raises(InputError, match="cannot write to"):
        write_phantoms(out, images=30, side=32, progress=put)
    assert (out / "test_list.txt").read_text() == "mine"
