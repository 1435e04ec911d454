"""Walking a folder: each folder once, whatever links lead to it."""

import os

import pytest

from trainer.data.class_folders import unreadable_folder
from trainer.data.directory_walk import files_below, files_in
from trainer.errors import InputError
from trainer.limits import FOLDER_DEPTH


def names(folder, problems=None):
    return [path.relative_to(folder).as_posix() for path in files_below(folder, (problems or []).append)]


@pytest.fixture
def tree(tmp_path):
    for name in ("b/2.png", "b/1.png", "a/x.png", "c.png", ".hidden.png", ".cache/y.png", "b/deep/z.png"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(b"")
    return tmp_path / "root"


def test_files_come_before_subfolders_in_order_of_names(tree):
    """The order of a table of labels, and so of training, comes from it."""
    assert names(tree) == ["c.png", "a/x.png", "b/1.png", "b/2.png", "b/deep/z.png"]


@pytest.mark.parametrize("target", [".", "..", "root/b", "/", "root/b/deep/loop"])
def test_link_that_leads_back_or_up_is_not_entered(tree, target):
    """A walk through it has no end, or takes in images of other classes."""
    links = {".": ".", "..": "..", "root/b": str(tree / "b"), "/": "/", "root/b/deep/loop": "loop"}
    (tree / "b/deep/loop").symlink_to(links[target])
    assert [name for name in names(tree) if name.startswith("b/deep/loop/")] == []
    assert len(names(tree)) == 5 + (target == "root/b/deep/loop")


def test_linked_folder_is_read_once(tree, tmp_path):
    """Data sets that lie on several disks are put together by links."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/o.png").write_bytes(b"")
    for name in ("linked", "linked-too"):
        (tree / name).symlink_to(tmp_path / "other")
    assert [name for name in names(tree) if "linked" in name] == ["linked/o.png"]


def test_folders_that_are_nested_too_deeply_are_a_problem(tmp_path):
    """A walk that calls itself would end with a traceback."""
    deep = tmp_path
    for _ in range(FOLDER_DEPTH + 1):
        deep = deep / "d"
        deep.mkdir()
    (deep / "x.png").write_bytes(b"")
    problems = []
    assert names(tmp_path, problems) == []
    with pytest.raises(InputError, match=f"folders nested more than {FOLDER_DEPTH} deep"):
        list(files_below(tmp_path, unreadable_folder))


def test_pipes_and_dangling_links_are_listed_as_files(tree):
    """Whoever opens it finds out what it is: it is named then, and not left out in silence."""
    os.mkfifo(tree / "pipe.png")
    (tree / "nowhere.png").symlink_to(tree / "gone")
    assert names(tree)[:3] == ["c.png", "nowhere.png", "pipe.png"]


def test_folder_is_read_under_its_own_name_and_not_through_a_link(tree):
    """A link from one class to another would give the images of one two labels."""
    (tree / "a/other").symlink_to("../b")
    (tree / "b/back").symlink_to("../a")
    found = [path.relative_to(tree).as_posix() for _, path in files_in([tree / "a", tree / "b"], [].append)]
    assert found == ["a/x.png", "b/1.png", "b/2.png", "b/deep/z.png"]


def test_second_link_to_a_folder_is_reported(tree, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/o.png").touch()
    for name in "ab":
        (tree / name / "linked").symlink_to(tmp_path / "other")
    twice = []
    list(files_in([tree / "a", tree / "b"], [].append, lambda link, first: twice.append((link, first))))
    assert twice == [(tree / "b/linked", tree / "a/linked")]
