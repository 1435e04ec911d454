"""The Dockerfiles, as far as can be told without building them: hadolint, and the rules that a build on a real base relies on."""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement

from launcher.spec.accelerators import ACCELERATORS, GAUDI
from launcher.spec.pod_frame import USER_ID
from trainer.devices import cuda

ROOT = Path(__file__).parents[1]
DOCKERFILES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("Dockerfile.cuda", "Dockerfile.hpu")}
PINNED = sorted((ROOT / "images").glob("*.txt"))
PINS = SimpleNamespace(**runpy.run_path(str(ROOT / "images/pins.py")))
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


CUDA_HINTS = [((5, 2), "13.0"), ((6, 0), "13.0"), ((10, 0), "12.6"), ((13, 0), "13.0")]
"""GPUs without kernels in an image of this CUDA."""


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


def test_cuda_image_can_measure_gpu_utilisation():
    """Torch asks NVIDIA's library, which bases with torch lack: the extra `cuda` would bring it, with another torch."""
    [install] = [rest for rest in values("Dockerfile.cuda", "RUN") if "-r /tmp/pins.txt" in rest]
    assert "images/nvidia.txt" in install
    assert (ROOT / "images/nvidia.txt").read_text(encoding="utf-8").startswith("nvidia-ml-py==")


def test_images_start_the_same_way():
    """What works with one must work with the other."""
    for instruction in ("ENTRYPOINT", "CMD", "WORKDIR", "USER", "COPY"):
        assert values("Dockerfile.cuda", instruction) == values("Dockerfile.hpu", instruction), instruction
    assert values("Dockerfile.cuda", "ENTRYPOINT") == ['["python", "-m", "trainer"]']


@every_image
def test_image_has_labels_with_version_revision_and_licence(name):
    """An image in a registry is all that is left of a build."""
    [labels] = values(name, "LABEL")
    for key in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{key}=" in labels


@every_image
def test_build_context_holds_what_is_copied_and_nothing_else(name):
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
    assert "kubernetes" not in {entry.name for path in PINNED for entry in pinned(path)}
    assert not re.search(r"\[[^]]*launcher", " ".join(values(name, "RUN")))


def test_vendor_image_keeps_its_own_torch_and_paths():
    """Another torch trains on the processor without a word; a path set anew loses the vendor's libraries.

    What makes an image one for Gaudi is the bridge: images with stock torch have it too, and no `+git` in torch's version.
    """
    text = " ".join(rest for first, rest in instructions("Dockerfile.hpu"))
    assert not re.search(r"pip install [^&]*\b(torch|torchvision|numpy)\b", text)
    assert "assert not torch.__file__.startswith('/opt/venv')" in text
    assert (
        len(re.findall(r"\|\| python3 -m venv --system-site-packages --without-pip /", text)) == 2
    )  # no ensurepip on its ubuntu24.04
    assert "/bin/pip " not in text
    assert "assert importlib.util.find_spec('habana_frameworks')" in text
    assert "+git" not in text
    assert not re.search(r"\b(PYTHONPATH|LD_LIBRARY_PATH|PT_HPU_LAZY_MODE)=", text)
    assert "HABANA_LOGS=/tmp/" in text


def base_image(name, **arguments):
    """The base with these build arguments."""
    given = defaults(name) | arguments
    return re.sub(r"\$\{(\w+)\}", lambda match: given[match[1]], given["BASE_IMAGE"])


GAUDI_BASES = "vault.habana.ai/gaudi-docker"


@pytest.mark.parametrize(
    ("arguments", "base"),
    [
        ("", "1.24.1/ubuntu24.04/habanalabs/pytorch-installer-2.11.0:1.24.1-482"),
        (
            "GAUDI_KIND=pytorch-upstream-installer",
            "1.24.1/ubuntu24.04/habanalabs/pytorch-upstream-installer-2.11.0:1.24.1-482",
        ),
        (
            "GAUDI_VERSION=1.24.0 GAUDI_BUILD=1007 TORCH_VERSION=2.10.0 BASE_OS=ubuntu22.04",
            "1.24.0/ubuntu22.04/habanalabs/pytorch-installer-2.10.0:1.24.0-1007",
        ),
        (
            "GAUDI_VERSION=1.21.3 GAUDI_BUILD=57 TORCH_VERSION=2.6.0 BASE_OS=ubuntu22.04",
            "1.21.3/ubuntu22.04/habanalabs/pytorch-installer-2.6.0:1.21.3-57",
        ),
    ],
)
def test_gaudi_releases_and_both_image_kinds_are_chosen_by_arguments_that_the_file_explains(arguments, base):
    """The comment at its top is where whoever builds looks."""
    assert base_image("Dockerfile.hpu", **dict(each.split("=") for each in arguments.split())) == (
        f"{GAUDI_BASES}/{base}"
    )
    assert arguments in DOCKERFILES["Dockerfile.hpu"].partition("ARG ")[0]


@pytest.mark.parametrize(
    ("arguments", "tag"),
    [({}, "2.14.1-cuda13.0-cudnn9-runtime"), ({"CUDA_VERSION": "12.6"}, "2.14.1-cuda12.6-cudnn9-runtime")],
)
def test_cuda_image_exists_for_new_gpus_and_for_pascal_to_ampere(arguments, tag):
    """CUDA 13 has no kernels for P100 and V100."""
    assert base_image("Dockerfile.cuda", **arguments) == f"pytorch/pytorch:{tag}"


@pytest.mark.parametrize(("capability", "version"), CUDA_HINTS)
def test_images_that_the_trainer_names_can_be_built(monkeypatch, capability, version):
    """An error that names an argument which the Dockerfile lacks would send users round in circles."""
    monkeypatch.setattr(torch.version, "cuda", version)
    words = cuda._image_for(capability)
    assert "Dockerfile.cuda" in words
    arguments = re.findall(r"--build-arg (\w+)=([\w.]+|…)", words)
    assert len(arguments) == words.count("--build-arg")
    assert bool(arguments) == ("with its defaults" not in words)
    for argument, value in arguments:
        assert argument in defaults("Dockerfile.cuda")
        example = f"{argument}=" if value == "…" else f"{argument}={value}"
        assert example in DOCKERFILES["Dockerfile.cuda"].partition("ARG ")[0]


def test_every_image_that_the_trainer_can_name_is_among_those_tested(monkeypatch):
    """Each branch."""
    said = []
    for capability, version in CUDA_HINTS:
        monkeypatch.setattr(torch.version, "cuda", version)
        said.append(cuda._image_for(capability))
    assert len(set(said)) == 3


def test_bases_are_marked_as_not_pulled():
    """Nobody may take the tags for tried."""
    for text in DOCKERFILES.values():
        assert "None of these bases has been pulled" in text.partition("ARG ")[0]


def test_pythons_that_are_named_are_those_with_wheels():
    """torch 2.14 has wheels for 3.10 to 3.14; torch 2.15 begins with 3.11."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.10"' in text
    assert re.findall(r"Python :: (3\.\d+)", text) == ["3.10", "3.11", "3.12", "3.13", "3.14"]


def test_dockerfiles_build_the_images_that_the_launcher_suggests():
    """Where no image is given the launcher says which to build; it must be the one that is described here."""
    assert f"{defaults('Dockerfile.hpu')['GAUDI_VERSION']}, torch {defaults('Dockerfile.hpu')['TORCH_VERSION']}" in (
        GAUDI["2"].image
    )
    older = dict(re.findall(r"(GAUDI_VERSION|GAUDI_BUILD|TORCH_VERSION)=([\d.]*\d)", GAUDI["1"].image))
    for argument, version in older.items():
        assert f"{argument}={version}" in DOCKERFILES["Dockerfile.hpu"].partition("ARG ")[0]
    assert set(older) == {"GAUDI_VERSION", "GAUDI_BUILD", "TORCH_VERSION"}
    assert "Dockerfile.cuda" in ACCELERATORS["cuda"].image


@every_image
def test_every_install_is_by_hash_or_without_an_index(name):
    """Whatever else an index answers, the build must not take it; --only-binary keeps sources from running."""
    installs = re.findall(r"pip (?:install|wheel) [^&]*", " ".join(values(name, "RUN")))
    assert len(installs) == 4
    for install in installs:
        from_files = "--require-hashes --only-binary :all: -r " in install
        assert from_files or "--no-index" in install or "--no-deps --no-build-isolation" in install, install


@every_image
def test_image_contains_a_bill_of_materials(name):
    """After the last install, in a place that the user of the image can read."""
    [last] = [rest for rest in values(name, "RUN") if "images/sbom.py" in rest]
    assert last.endswith("/opt/venv/bin/python images/sbom.py > /usr/share/doc/chexnet/sbom.cdx.json")
    assert last.index("pip install") < last.index("images/sbom.py")
    assert [rest for rest in values(name, "RUN") if "pip install" in rest][-1] == last


def pinned(path):
    """The requirements of a file with hashes."""
    return [Requirement(entry.split("\\")[0].strip()) for entry in PINS.entries(path.read_text(encoding="utf-8"))]


def test_requirement_files_with_hashes_are_found():
    """The next tests are about files that they find."""
    assert {path.name for path in PINNED} == {"requirements.txt", "torch.txt", "nvidia.txt", "build.txt"}


@pytest.mark.parametrize("path", PINNED, ids=lambda path: path.name)
def test_requirements_of_images_have_the_versions_of_constraints_and_hashes(path):
    """`make constraints` writes all of them; one that was left behind would put other versions into images than the tests ran with."""
    tested = {
        (entry.name, str(entry.specifier))
        for entry in map(Requirement, (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    }
    text = path.read_text(encoding="utf-8")
    assert {(entry.name, str(entry.specifier)) for entry in pinned(path)} <= tested
    for entry in PINS.entries(text):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    assert "".join(PINS.entries(text)) == text


def test_requirements_of_images_cover_the_projects_dependencies():
    """Requirements that are in no file are refused by the build, on the machine of whoever builds."""
    for path, names in {
        "requirements.txt": {*requirement_names("dependencies"), "pydicom"},
        "torch.txt": {"torch", "torchvision"},
        "build.txt": {"hatchling"},
    }.items():
        assert names <= {entry.name for entry in pinned(ROOT / "images" / path)}, path
    assert not {"torch", "torchvision"} & {entry.name for entry in pinned(ROOT / "images/requirements.txt")}


def requirement_names(key):
    """Names in an array of pyproject.toml, lower case; Python 3.10 has no parser for it."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    array = re.search(rf"^{key} = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)[1]
    return {Requirement(each).name.lower() for each in re.findall(r'"([^"]+)"', array)}


def test_plain_python_base_gets_every_pinned_requirement():
    """A plain Python base has only pip."""
    text = (ROOT / "images/requirements.txt").read_text(encoding="utf-8")
    assert PINS.chosen(text, ["pip", "setuptools"]) == text


def test_torch_and_numpy_of_the_base_image_are_not_replaced():
    """The build's pip refuses what has no hash, so the base's own torch and NumPy must not be asked for."""
    text = "".join((ROOT / "images" / each).read_text(encoding="utf-8") for each in ("requirements.txt", "torch.txt"))
    base = ["NumPy", "pillow", "torch", "torchvision", "torch_tb_profiler", "habana-torch-plugin"]
    names = {Requirement(entry.split("\\")[0]).name for entry in PINS.entries(PINS.chosen(text, base))}
    assert not {"numpy", "torch", "torchvision"} & names
    assert {"pillow", "pandas", "boto3", "sympy"} <= names


def test_pins_are_printed_for_packages_that_the_base_lacks(tmp_path):
    """As the build calls it: this environment has NumPy."""
    file = tmp_path / "two.txt"
    file.write_text("numpy==1 ; python_version < '3' \\\n    --hash=sha256:00\nrich==2 \\\n    --hash=sha256:11\n")
    done = subprocess.run([sys.executable, ROOT / "images/pins.py", file], capture_output=True, text=True, check=True)
    assert done.stdout == "rich==2 \\\n    --hash=sha256:11\n"
