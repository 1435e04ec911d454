"""The benchmark of inference: its data set is one, its commands work on it, and its ratios are of what the images add to the start-up.

Times are not asserted.
"""

import sys
from pathlib import Path

import pytest

sys.path.append(
    str(Path(__file__).parents[1] / "benchmarks")
)  # at the end: benchmarks/launcher.py must not hide the package

import inference as benchmark

from trainer.__main__ import main
from trainer.data.synthetic import write_phantoms


@pytest.fixture
def model(tmp_path):
    return benchmark.saved_model(tmp_path / "model.safetensors", 32)


def test_ratios_are_those_of_the_images_beyond_the_start_up(capsys):
    few = benchmark.Run(wall_s=2.0, cpu_s=3.0, peak_mib=100.0)
    many = benchmark.Run(wall_s=7.5, cpu_s=12.0, peak_mib=200.0)
    benchmark.report("predict", [(few, many)], [10.0], 2)
    assert capsys.readouterr().out.split() == [
        *("predict", "2.0", "5.5", "1.10", "(1.10-1.10)", "0.90", "(0.90-0.90)", "200"),
    ]


def test_decoding_and_the_network_are_timed_for_all_images(tmp_path, model):
    write_phantoms(tmp_path / "drawn", images=30, side=48, progress=lambda _: None)
    pictures = sorted((tmp_path / "drawn/images").iterdir())
    decode_s, model_s = benchmark.alone_s(pictures, 20, model, "fp32")
    assert decode_s > 0
    assert model_s > 0


def test_commands_of_the_benchmark_run_on_its_data_set(tmp_path, model, capsys):
    write_phantoms(tmp_path / "drawn", images=30, side=48, progress=lambda _: None)
    data = benchmark.linked(sorted((tmp_path / "drawn/images").iterdir()), 8, tmp_path / "data")
    assert len(list((data / "images").iterdir())) == 8
    for name, way in benchmark.commands(tmp_path, model, "fp32").items():
        if not name.startswith("train"):
            assert main(way(data)[3:]) == 0, name
    capsys.readouterr()
