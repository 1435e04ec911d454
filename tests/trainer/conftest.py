"""What all tests of the trainer share."""

import tracemalloc
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from recipes import later_wins


@pytest.fixture(autouse=True, scope="session")
def _units_for_bf16(tmp_path_factory):
    """bf16 is refused on a processor without units for it; torch computes the same numbers there, slowly."""
    from trainer.devices import cpu

    invented = tmp_path_factory.mktemp("processor") / "cpuinfo"
    invented.write_text("model name\t: Invented 1\nflags\t\t: fpu avx512_bf16\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "CPUINFO", invented)
        yield


def _draw_at_once(patch):
    from matplotlib.figure import Figure

    from trainer.report.drawing import Drawing

    patch.setattr("trainer.report.page.as_svg", lambda _: "<svg/>")
    for module in ("runs_page", "history_figures", "evaluation_figures"):
        patch.setattr(f"trainer.report.{module}.as_png", lambda _: b"\x89PNG")
    figures = "trainer.report.evaluation_figures"
    patch.setattr(f"{figures}._multiples", lambda findings, *_: [Drawing(Figure(), one["name"]) for one in findings])
    patch.setattr(f"{figures}._grid", lambda *_: Drawing(Figure(), ""))


@pytest.fixture
def drawn_at_once(monkeypatch):
    """For tests in which figures would take seconds, and what they show does not count."""
    _draw_at_once(monkeypatch)


@pytest.fixture
def in_memory():
    """Within the block Python holds no more bytes at a time than this."""

    @contextmanager
    def bounded(most_bytes):
        tracemalloc.start()
        try:
            yield
            assert tracemalloc.get_traced_memory()[1] < most_bytes
        finally:
            tracemalloc.stop()

    return bounded


@dataclass(frozen=True)
class FinishedRun:
    """A run that has trained to its end, with its data set and the cache it used."""

    root: Path
    data: Path
    cache: Path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """Eighty phantoms and a tiny network trained on them for one epoch; read it, and copy it to change it.

    Its report has no figures, as in tests that are `drawn_at_once`.
    """
    from trainer.config import from_argv
    from trainer.data.synthetic import write_phantoms
    from trainer.runs.rank_log import RankLog
    from trainer.runtime.console import Reporter
    from trainer.runtime.world import World
    from trainer.training.loop import train

    folder = tmp_path_factory.mktemp("finished")
    run = FinishedRun(folder / "r", folder / "data", folder / "cache")
    write_phantoms(run.data, images=80, side=48)
    recipe = "--preset smoke --model densenet_tiny --pack-side 36 --crop-px 32 --epochs 1 --batch-size 8 --device cpu"
    flags = f"--split patients:50/25/25 --data {run.data} --output {folder} --cache-dir {run.cache} --name r"
    with pytest.MonkeyPatch.context() as patch:
        _draw_at_once(patch)
        train(from_argv([*recipe.split(), *flags.split()]), World(), Reporter(0), RankLog(0))
    return run


@pytest.fixture(scope="session")
def two_classes(tmp_path_factory):
    """A data set of folders: 60 pictures of noise, the second class coarser and less wide; 40 of them for training."""
    from PIL import Image

    root = tmp_path_factory.mktemp("two") / "data"
    for split, images in (("train", 20), ("test", 10)):
        for number, name in enumerate(("NORMAL", "PNEUMONIA")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for image in range(images):
                noise = Image.effect_noise((24, 24), 40 + 80 * number)
                noise.resize((56 - 8 * number, 48)).save(folder / f"{split}-{number}-{image}.png")
    return root


@pytest.fixture
def classify(two_classes, tmp_path, tmp_path_factory):
    """Start or go on with a run of the pneumonia recipe on those, its network tiny: name and more flags to its results.

    Without its report, which takes longer than the training, unless `--report` is among them.
    """
    from trainer.config import from_argv
    from trainer.runs.rank_log import RankLog
    from trainer.runtime.console import Reporter
    from trainer.runtime.world import World
    from trainer.training.loop import train

    recipe = (
        "--preset pneumonia --model densenet_tiny --weights none --pack-side 36 --crop-px 32 --epochs 2 --batch-size 8"
        f" --device cpu --split patients:60/20/20 --data {two_classes} --output {tmp_path}"
        f" --cache-dir {tmp_path_factory.getbasetemp() / 'two-cache'}"
    ).split()

    def start(name, *flags):
        bare = [flag for flag in flags if flag == "--report" or flag.startswith("--no-")]
        rest = [flag for flag in flags if flag not in bare]
        argv = later_wins(*recipe, *rest)
        bare += [] if "--report" in bare else ["--no-report"]
        return train(from_argv([*argv, *bare, "--name", name]), World(), Reporter(0), RankLog(0))

    return start


@pytest.fixture
def make_trained():
    """A trained model around a network: nothing is known of where it is from."""
    from trainer.data.packs.records import Geometry
    from trainer.models.load import LoadedModel

    def make(network, **known):
        unknown = {"calibrator": None, "trained_on": None, "record": None, "step": None}
        model = {
            "origin": "here",
            "model": "densenet_tiny",
            "head": "linear",
            "findings": ("a", "b", "c"),
            "loss": "bce",
        }
        images = {"geometry": Geometry(side=36, fit="crop"), "crop_px": 32}
        return LoadedModel(network=network, **unknown | model | images | known)

    return make
