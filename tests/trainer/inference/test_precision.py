"""`--precision` of predict, evaluate and explain: close to fp32, named in the output, and refused where the processor lacks units."""

import json

import pytest

from trainer.__main__ import main
from trainer.data.image_files import image_files
from trainer.devices import cpu


@pytest.fixture
def with_units(monkeypatch):
    """A processor that says it computes in bf16; torch emulates it where it does not."""
    monkeypatch.setattr(cpu, "check_precision", lambda _precision: None)


@pytest.fixture
def image(finished_run):
    return image_files([finished_run.data])[0].path


def run(capsys, *argv):
    code = main([*map(str, argv), "--device", "cpu"])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.usefixtures("with_units")
def test_predictions_in_bf16_are_close_to_fp32_and_say_so(capsys, finished_run, image):
    by_precision = {}
    for precision in ("fp32", "bf16"):
        flags = ["--model", finished_run.root, "--format", "jsonl", "--precision", precision]
        code, out, err = run(capsys, "predict", image, *flags)
        by_precision[precision] = json.loads(out)
        assert code == 0
        assert by_precision[precision]["precision"] == precision
        assert ("the network is computed in bf16" in err) == (precision == "bf16")
    fp32, bf16 = by_precision["fp32"]["raw"], by_precision["bf16"]["raw"]
    assert fp32 != bf16
    for finding, value in fp32.items():
        assert bf16[finding] == pytest.approx(value, abs=0.02)


@pytest.mark.usefixtures("with_units")
def test_lines_of_maps_in_bf16_say_so(capsys, finished_run, image, tmp_path):
    lines = {}
    for precision in ("fp32", "bf16"):
        flags = ["--model", finished_run.root, "--findings", "Mass", "--no-overlays", "--precision", precision]
        code, out, _ = run(capsys, "explain", image, *flags, "--out", tmp_path / precision)
        assert code == 0
        lines[precision] = json.loads(out)
        assert lines[precision]["precision"] == precision
    assert lines["bf16"]["probability"] != lines["fp32"]["probability"]
    assert lines["bf16"]["probability"] == pytest.approx(lines["fp32"]["probability"], abs=0.02)
    assert lines["bf16"]["cells"] == lines["fp32"]["cells"]


@pytest.mark.usefixtures("with_units")
def test_evaluation_in_bf16_is_close_to_fp32_and_notes_it(capsys, finished_run):
    documents = {}
    for precision in ("fp32", "bf16"):
        flags = ["--data", finished_run.data, "--precision", precision, "--format", "json", "--resamples", "5"]
        code, out, _ = run(capsys, "evaluate", finished_run.root, *flags)
        assert code == 0
        documents[precision] = json.loads(out)
    note = "the network is computed in bf16, which is less exact than fp32 (--precision)"
    assert note not in documents["fp32"]["notes"]
    assert note in documents["bf16"]["notes"]
    brier = {
        precision: [finding["raw"]["brier"] for finding in document["findings"] if finding["raw"]]
        for precision, document in documents.items()
    }
    assert len(brier["fp32"]) > 5
    assert brier["bf16"] != brier["fp32"]
    assert brier["bf16"] == pytest.approx(brier["fp32"], abs=0.01)


@pytest.mark.parametrize("command", ["predict", "explain", "evaluate"])
def test_bf16_is_refused_before_the_model_is_read_where_the_processor_lacks_units(
    monkeypatch, capsys, tmp_path, image, command
):
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("model name : Old\nflags : fpu sse2\n")
    flags = {
        "predict": [image, "--model", "no/such/run"],
        "explain": [image, "--model", "no/such/run", "--out", tmp_path / "out"],
        "evaluate": ["no/such/run", "--data", tmp_path],
    }
    code, _, err = run(capsys, command, *flags[command], "--precision", "bf16")
    assert code == 2
    assert "cannot compute in bf16 on this processor: Old" in err
    assert not (tmp_path / "out").exists()
