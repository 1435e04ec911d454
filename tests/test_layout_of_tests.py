"""Tests lie where their module lies: a reader finds the tests of `trainer/data/split.py` in `tests/trainer/data/test_split.py`."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("trainer", "launcher")

ACROSS_MODULES = {
    "tests/launcher/cluster/test_api_faults.py",
    "tests/launcher/cluster/test_api_limits.py",
    "tests/launcher/commands/test_cli.py",
    "tests/launcher/commands/test_hostile_files.py",
    "tests/launcher/commands/test_next_commands.py",
    "tests/launcher/commands/test_safe_path.py",
    "tests/launcher/spec/test_foreign_objects.py",
    "tests/launcher/spec/test_properties.py",
    "tests/trainer/formats/test_foreign_text.py",
    "tests/trainer/inference/test_any_findings.py",
    "tests/trainer/inference/test_precision.py",
    "tests/trainer/report/test_figures.py",
    "tests/trainer/report/test_in_a_browser.py",
    "tests/trainer/runs/test_hostile_run.py",
}
"""Files about several modules of their room; the others are named after one module, or after the room."""


def files(package):
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / package).rglob("test_*.py"))


FILES = [name for package in PACKAGES for name in files(package)]


def subjects(room):
    """What a file of tests in the folder of this room may be named after."""
    packages = [path.parent for path in room.glob("*/__init__.py")]
    paths = [path for folder in (room, *packages) for path in folder.glob("*.py") if path.stem != "__init__"]
    modules = {path.stem.strip("_") for path in paths}
    return modules | {package.name for package in packages} | {room.name}


def is_named_after(name, subject):
    """`test_pack.py` and `test_pack_damage.py` are about `pack.py`."""
    stem = Path(name).stem.removeprefix("test_")
    return stem == subject or stem.startswith(f"{subject}_")


@pytest.mark.parametrize("name", FILES)
def test_file_of_tests_is_in_the_room_of_the_module_it_is_named_after(name):
    """Or it is listed as one about several modules."""
    room = ROOT / Path(name).parent.relative_to("tests")
    assert room.is_dir(), f"there is no room {room.relative_to(ROOT)}"
    named = any(is_named_after(name, subject) for subject in subjects(room))
    assert named != (name in ACROSS_MODULES), "name it after its module, or list it; not both"


def test_listed_files_exist():
    """An entry that is left over would allow a file of that name later."""
    assert set(FILES) >= ACROSS_MODULES


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_has_tests(package):
    """`make test ROOM=NAME` knows the rooms by their tests."""
    rooms = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert rooms == {Path(name).parent.name for name in files(package)} - {package}


def test_untested_names_are_noticed():
    """The checks above can fail."""
    room = ROOT / "trainer/data"
    assert {"packs", "split", "data"} <= subjects(room)
    assert is_named_after("tests/trainer/data/test_pack_damage.py", "pack")
    assert not is_named_after("tests/trainer/data/test_packing.py", "pack")
    assert not any(is_named_after("tests/trainer/data/test_cellar.py", subject) for subject in subjects(room))
