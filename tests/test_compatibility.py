"""A run, a pack and a manifest of an earlier version are continued by this one.

tests/compatibility/c4409b9.tar.xz was made by commit c4409b9 on `trainer synth --images 60 --side 40`: a run that SIGTERM stopped at
step 5 of 24, its pack, and the manifest that `launcher render` printed for it. On the machine that made it, the continued run ends
with the very bytes of the unbroken one; other processors round otherwise, so the test compares losses.
"""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import PIL
import pytest
import yaml

from trainer.data.layouts import read_labels
from trainer.data.locate import locate_images
from trainer.data.packs.key import pack_key
from trainer.data.packs.records import Geometry
from trainer.data.synthetic import write_phantoms

ARCHIVE = Path(__file__).with_name("compatibility") / "c4409b9.tar.xz"
UNBROKEN_LOSSES = {8: 0.682943, 16: 0.682348, 24: 0.676064}
"""Validation loss by step, of the unbroken run under c4409b9."""


@pytest.fixture
def earlier(tmp_path):
    """The folder with data, output and cache as the earlier version left them, and the rendered job."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    write_phantoms(tmp_path / "data", images=60, side=40, seed=0, progress=lambda _: None)
    source = read_labels(tmp_path / "data")
    geometry = Geometry(side=36, fit="crop")
    # A pack is found by names, sizes and times of the images and by the version of Pillow, which are this machine's.
    key = pack_key(source.table.images, locate_images(source), geometry)
    index = json.loads((tmp_path / "pack/manifest.json").read_text())
    (tmp_path / "pack/manifest.json").write_text(json.dumps(index | {"pillow": PIL.__version__}))
    (tmp_path / "cache/packs").mkdir(parents=True)
    (tmp_path / "pack").rename(tmp_path / "cache/packs" / key)
    (tmp_path / "output").mkdir()
    (tmp_path / "run").rename(tmp_path / "output/demo")
    return tmp_path


def test_archive_is_small():
    assert ARCHIVE.stat().st_size <= 500_000


@pytest.mark.parametrize("module", ["trainer.gang", "trainer.runtime.entrypoint"])
def test_entrypoint_redacts_secrets_under_both_names(tmp_path, module):
    """Its first lines come from torchrun and from Python, which know of no secrets."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys, warnings\n"
        "sys.addaudithook(lambda event, _: event == 'import' and 'torch.distributed.run' in str(_) "
        "and sys.stderr.write(os.environ['API_TOKEN'] + '\\n'))\n"
    )
    secret = "hidden-token-4711-of-the-test"
    done = subprocess.run(
        [sys.executable, "-m", module, "--nproc-per-node=1", str(tmp_path / "none.py")],
        env={**os.environ, "API_TOKEN": secret, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[1]}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode
    assert "***" in done.stderr
    assert secret not in done.stderr


@pytest.mark.e2e
def test_run_pack_and_manifest_of_an_earlier_version_are_continued(earlier):
    job = yaml.safe_load((earlier / "job.yaml").read_text())
    container = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["python", "-m", "trainer.gang"]
    paths = {f"={mount}": f"={earlier}{mount}" for mount in ("/data", "/output", "/cache")}
    arguments = [word if (place := next((p for p in paths if word.endswith(p)), None)) is None else word.replace(place, paths[place]) for word in container["args"]]  # fmt: skip
    variables = {each["name"]: each["value"] for each in container["env"]}
    split = (earlier / "output/demo/split.csv.gz").read_bytes()
    done = subprocess.run(
        [sys.executable, *container["command"][1:], *arguments],
        env={**os.environ, **variables, "HOME": str(earlier), "TMPDIR": str(earlier)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "decoding" not in done.stderr, "the pack is used as it is"
    assert "step 5" in done.stderr
    run = earlier / "output/demo"
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {entry["step"]: entry["val"]["loss"] for entry in entries} == pytest.approx(UNBROKEN_LOSSES, abs=2e-3)
    assert json.loads((run / "results.json").read_text())["last_step"] == 24
    assert (run / "split.csv.gz").read_bytes() == split
