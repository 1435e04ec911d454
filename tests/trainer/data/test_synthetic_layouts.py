"""Phantoms in each layout: read, found, recognised as drawn, and trained on."""

import json
from typing import get_args

import numpy as np
import pytest
from recipes import placed, tiny

from trainer.config import from_argv
from trainer.data.decode import open_gray
from trainer.data.layouts import read_labels
from trainer.data.locate import absent_from, locate_images
from trainer.data.public import public_name
from trainer.data.synthetic import has_drawn, write_phantoms
from trainer.data.synthetic.write import Drawable, phantoms
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.world import World
from trainer.training.loop import train

NEW = ["csv", "chexpert", "mimic-cxr", "padchest", "vindr", "rsna"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """60 phantoms in each layout, drawn when first wanted."""
    roots = {}

    def root(layout):
        if layout not in roots:
            roots[layout] = tmp_path_factory.mktemp("drawn") / "data"
            write_phantoms(roots[layout], images=60, side=48, layout=layout)
        return roots[layout]

    return root


@pytest.mark.parametrize("layout", get_args(Drawable))
def test_layout_is_detected_and_its_images_are_the_phantoms(drawn, layout):
    """Every image of every table has its file, which decodes to what was drawn; some tables leave images out."""
    source = read_labels(drawn(layout))
    assert source.layout == layout
    assert len(source.table) == (59 if layout == "padchest" else 60)
    paths = locate_images(source)
    assert len(set(paths)) == len(paths)
    assert all(len(source.table.rows(split)) for split in ("train", "val", "test"))
    pixels = phantoms(60, side=48).astype(int)
    for path in paths[:3]:
        found = np.asarray(open_gray(path)).astype(int)
        assert np.abs(pixels - found).max(axis=(1, 2)).min() < 30  # JPEG changes noise a little
    assert has_drawn(source.root, layout) == (layout != "folders")
    assert public_name(source) == (None if layout == "folders" else "synthetic phantoms")


@pytest.mark.parametrize("layout", ["csv", "chexpert", "mimic-cxr", "padchest"])
def test_sets_with_unknown_labels_have_some(drawn, layout):
    """As the originals do."""
    policy = read_labels(drawn(layout)).policy
    assert policy["blank"]
    assert ("uncertain" in policy) == (layout != "padchest")


@pytest.mark.parametrize("layout", NEW)
def test_a_set_that_was_changed_is_no_longer_recognised(drawn, tmp_path, layout):
    """Someone may have put other images in its place."""
    source = drawn(layout)
    for path in source.iterdir():
        (tmp_path / path.name).symlink_to(path)
    table = next(path for path in tmp_path.iterdir() if ".csv" in path.name)
    content = table.read_bytes()
    table.unlink()
    table.write_bytes(content[: len(content) // 2])
    assert not has_drawn(tmp_path, layout)
    assert not has_drawn(source, "nih")


@pytest.mark.parametrize("layout", NEW)
def test_a_training_of_each_layout_runs(drawn, tmp_path, layout):
    """From the files of the set to a scored model."""
    flags = placed(tiny(1), drawn(layout), tmp_path, tmp_path / "cache", "r")
    train(from_argv([*flags, "--no-report"]), World(), Reporter(0), RankLog(0))
    record = json.loads((tmp_path / "r/run.json").read_text())
    assert record["layout"] == layout
    assert record["data_set"] == "synthetic phantoms"
    assert (tmp_path / "r/results.json").is_file()


@pytest.mark.parametrize("layout", get_args(Drawable))
def test_images_are_looked_for_in_a_bucket_as_in_a_directory(drawn, layout):
    """By the placement of the layout, on names of objects alone."""
    source = read_labels(drawn(layout))
    keys = [path.relative_to(source.root).as_posix() for path in source.root.rglob("*") if path.is_file()]
    assert absent_from(source, keys) == []
    gone = locate_images(source)[7].relative_to(source.root).as_posix()
    assert absent_from(source, [key for key in keys if key != gone]) == [source.table.images[7]]
