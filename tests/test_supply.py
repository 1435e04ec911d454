"""What is installed is what was pinned, and images are named by tags that say what they are."""

import re
import subprocess
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

OURS = "chexnet-jobs"
INSTALLER = {"pip"}
"""It may come with the environment, in its Python's version."""

ELSEWHERE = {"hatchling", "tomlkit", "trove-classifiers", "uv", "nvidia-ml-py"}
"""Pinned, but not for this environment: building, installing, and images for GPUs."""


def constraints():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines]


def pins():
    """Versions by name, of those that are meant for this Python and machine."""
    here = [each for each in constraints() if each.marker is None or each.marker.evaluate()]
    found = {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in here}
    assert len(found) == len(here)
    return found


def test_installed_versions_are_those_of_constraints():
    """CI checks with it that an index gave nothing else, and nothing more. After a change of constraints.txt: `make setup`."""
    installed = {canonicalize_name(each.name): each.version for each in distributions()}
    ours = {name: version for name, version in installed.items() if name != OURS and name not in INSTALLER}
    pinned = pins()
    unpinned = {name: version for name, version in ours.items() if pinned.get(name) != version}
    absent = pinned.keys() - ours.keys() - ELSEWHERE
    assert (unpinned, absent) == ({}, set())


def test_every_constraint_pins_one_version():
    """A range would be no pin; a URL would name an index that others cannot reach."""
    for each in constraints():
        assert re.fullmatch(r"==[^*,]+", str(each.specifier)), each
        assert each.url is None
    assert not re.search(r"https?://|^-", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)


def arrays(name):
    """Requirements in the array of that name."""
    match = re.search(rf"^{name} = \[(.*?)\]", PYPROJECT, re.MULTILINE | re.DOTALL)
    return re.findall(r'"([^"]+)"', match[1])


def test_build_requirements_are_pinned_too():
    """The wheel's builder runs before anything of ours does."""
    assert arrays("build") == arrays("requires")
    names = {each.name for each in constraints()}
    assert {Requirement(each).name for each in arrays("build") + arrays("tools")} <= names
    [setup] = [line for line in MAKEFILE.splitlines() if "-e '." in line]
    assert "-c constraints.txt --build-constraints constraints.txt" in setup
    [tool] = [line for line in MAKEFILE.splitlines() if "pip install" in line and line.endswith(" uv")]
    assert "-c constraints.txt" in tool


TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
SNAPSHOTS = "tests/launcher/"
"""What clusters answered is kept as it was."""

IMAGE_FIELD = re.compile(r"^\s*(?:- )?[\"']?image[\"']?: *[\"']?([^\s\"',}]+)", re.MULTILINE)
IMAGE_FLAG = re.compile(r"--image[= ]([^\s`\"']+)")
PULLED = re.compile(r"\b(?:[a-z0-9-]+\.)+[a-z]+(?::\d+)?/[\w./${}-]+:latest\b|\b[\w.-]+/[\w.-]+:latest\b")
PINNED_IMAGE = re.compile(r"[^@]+@sha256:\w+|…@sha256:…|.*:(?!latest$)[\w${}.…-]+|[A-Z…<$].*")


def texts():
    names = [
        name
        for name in TRACKED
        if name.endswith((".yaml", ".yml", ".md", ".py", ".toml"))
        or name.startswith("Dockerfile")
        or name in {"Makefile", ".ci/run", ".ci/e2e"}
    ]
    return [name for name in names if not name.startswith(SNAPSHOTS) and name != "tests/test_supply.py"]


def test_files_that_may_name_images_are_found():
    """The next test is about files that it finds."""
    if not TRACKED:
        pytest.skip("no git checkout")
    assert {"Dockerfile.hpu", "k8s/README.md", "docs/install.md", "Makefile", "launcher/spec/accelerators.py"} <= set(
        texts()
    )


@pytest.mark.parametrize("name", texts())
def test_no_image_is_named_by_a_tag_that_moves(name):
    """`latest`, and no tag, which means the same, are another image tomorrow."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not PULLED.search(text)
    if name.startswith(("Dockerfile", "k8s/", "docs/")):
        named = IMAGE_FIELD.findall(text) + IMAGE_FLAG.findall(text)
        assert [image for image in named if not PINNED_IMAGE.fullmatch(image)] == []


@pytest.mark.parametrize("name", [name for name in TRACKED if name.startswith("Dockerfile")])
def test_default_base_of_an_image_has_a_tag_of_its_own(name):
    """A version and a build; which digest it has is for whoever builds to pin, and the file says how."""
    text = (ROOT / name).read_text(encoding="utf-8")
    values = dict(re.findall(r"^ARG (\w+)=(.+)$", text, re.MULTILINE))
    base = re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], values["BASE_IMAGE"])
    tag = base.rpartition("/")[2].partition(":")[2]
    assert re.fullmatch(r"\d+\.\d+\.\d+-.+", tag), base
    assert "BASE_IMAGE=" in text.partition("ARG ")[0]
    assert "@sha256:" in text.partition("ARG ")[0]


def test_workflow_runs_ci_alone_with_pinned_actions():
    """A tag can be moved to other code; what CI does stands in `.ci/run`, which runs anywhere."""
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    actions = re.findall(r"uses: (\S+)", text)
    assert actions
    assert [action for action in actions if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action)] == []
    assert re.findall(r"run: (.+)", text) == [".ci/run"]
    assert "\npermissions: {}\n" in text
