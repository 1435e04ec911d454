"""The Dockerfiles, as far as can be told without building them: hadolint, and the rules that a build on a real base relies on."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.accelerators import ACCELERATORS, GAUDI
from launcher.manifest import USER_ID

ROOT = Path(__file__).parents[1]
DOCKERFILES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("Dockerfile.cuda", "Dockerfile.hpu")}
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


def instructions(name):
    """(INSTRUCTION, rest) of each, with continued lines joined."""
    joined = re.sub(r"\\\n", " ", DOCKERFILES[name])
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(first, " ".join(rest.split())) for first, _, rest in (line.partition(" ") for line in lines)]


def values(name, instruction):
    return [rest for first, rest in instructions(name) if first == instruction]


def defaults(name):
    """Build arguments that have a default."""
    return dict(rest.split("=", 1) for rest in values(name, "ARG"))


every_image = pytest.mark.parametrize("name", DOCKERFILES)


@every_image
def test_hadolint_finds_nothing(name):
    """What it knows of Dockerfiles is more than the tests below."""
    if not HADOLINT:
        pytest.skip("no hadolint")
    done = subprocess.run([HADOLINT, str(ROOT / name)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@every_image
def test_base_can_be_chosen_and_pinned(name):
    """`--build-arg BASE_IMAGE=…@sha256:…` must reach FROM; a second stage would escape it."""
    assert values(name, "FROM") == ["${BASE_IMAGE}"]
    assert "BASE_IMAGE" in defaults(name)


@every_image
def test_image_runs_as_the_user_of_the_manifests(name):
    """Files in it must be readable by the user that pods run as."""
    assert values(name, "USER") == [f"{USER_ID}:{USER_ID}"]
    assert instructions(name).index(("USER", f"{USER_ID}:{USER_ID}")) > max(
        number for number, (first, _) in enumerate(instructions(name)) if first in {"RUN", "COPY"}
    )


def test_image_for_gpus_can_tell_how_much_they_are_in_use():
    """Torch asks NVIDIA's library, which bases with torch lack: the extra `cuda` would bring it, with another torch."""
    [install] = [rest for rest in values("Dockerfile.cuda", "RUN") if "-c /tmp/pins.txt" in rest]
    assert " nvidia-ml-py " in install
    assert "\nnvidia-ml-py==" in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_images_start_the_same_way():
    """What works with one must work with the other."""
    for instruction in ("ENTRYPOINT", "CMD", "WORKDIR", "USER", "COPY"):
        assert values("Dockerfile.cuda", instruction) == values("Dockerfile.hpu", instruction), instruction
    assert values("Dockerfile.cuda", "ENTRYPOINT") == ['["python", "-m", "trainer"]']


@every_image
def test_image_says_what_it_is(name):
    """An image in a registry is all that is left of a build."""
    [labels] = values(name, "LABEL")
    for key in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{key}=" in labels


@every_image
def test_context_holds_what_is_copied_and_nothing_else(name):
    """Data sets, keys and environments that lie about in a checkout must not reach the build."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = {source.split("/")[0] for rest in values(name, "COPY") for source in rest.split()[:-1]}
    assert let_in == copied
    assert all((ROOT / source).exists() for source in copied)


@every_image
def test_trainer_image_holds_no_kubernetes_client(name):
    """Code in a pod has no business with the cluster."""
    installs = re.findall(r"pip install [^&]*", " ".join(values(name, "RUN")))
    assert installs
    assert not any("launcher" in install for install in installs)


def test_vendor_image_keeps_its_own_torch_and_paths():
    """Stock torch trains on the processor without a word; a path set anew loses the vendor's libraries."""
    text = " ".join(rest for first, rest in instructions("Dockerfile.hpu"))
    assert not re.search(r"pip install [^&]*\b(torch|torchvision|numpy)\b", text)
    assert "assert '+git' in torch.__version__" in text
    assert not re.search(r"\b(PYTHONPATH|LD_LIBRARY_PATH|PT_HPU_LAZY_MODE)=", text)
    assert "HABANA_LOGS=/tmp/" in text


def test_image_lines_are_those_that_the_launcher_suggests():
    """Where no image is given the launcher says which to build; it must be the one that is described here."""
    assert f"{defaults('Dockerfile.hpu')['GAUDI_VERSION']}, torch {defaults('Dockerfile.hpu')['TORCH_VERSION']}" in (
        GAUDI["2"].image
    )
    older = dict(re.findall(r"(GAUDI_VERSION|GAUDI_BUILD|TORCH_VERSION)=([\d.]*\d)", GAUDI["1"].image))
    for argument, version in older.items():
        assert f"{argument}={version}" in DOCKERFILES["Dockerfile.hpu"].partition("ARG ")[0]
    assert set(older) == {"GAUDI_VERSION", "GAUDI_BUILD", "TORCH_VERSION"}
    assert "Dockerfile.cuda" in ACCELERATORS["cuda"].image


def pins(name, base, folder):
    """The constraints that the build makes from what a base image has installed."""
    [script] = [rest for rest in values(name, "RUN") if "constraints.txt" in rest]
    commands = [each for each in script.split(" && ") if each.startswith(("sed ", "grep ", "cat "))]
    assert len(commands) == 4
    (folder / "base.txt").write_text("".join(f"{line}\n" for line in base))
    line = " && ".join(commands).replace("/tmp/", f"{folder}/")
    subprocess.run(["sh", "-ec", line], cwd=ROOT, check=True)
    return (folder / "pins.txt").read_text().splitlines()


@every_image
def test_base_without_torch_gets_the_versions_of_the_tests(name, tmp_path):
    """A plain Python base has only pip."""
    assert pins(name, ["pip==23.0.1", "setuptools==66.1.1"], tmp_path) == (
        (ROOT / "constraints.txt").read_text().splitlines()
    )


@every_image
def test_torch_and_numpy_of_the_base_stay_what_they_are(name, tmp_path):
    """Two pins of one package would fail the build, ours alone would replace the base's."""
    base = ["numpy==1.26.4", "pillow==9.5.0", "torch==2.10.0a0+gitc1e5ed4", "torchvision==0.25.0+cpu"]
    made = pins(name, base, tmp_path)
    for package in ("numpy", "torch", "torchvision"):
        assert [line for line in made if line.startswith(f"{package}==")] == [
            line for line in base if line.startswith(f"{package}==")
        ]
    assert "pillow==9.5.0" not in made
    assert any(line.startswith("pillow==") for line in made)
