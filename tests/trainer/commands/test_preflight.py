"""The device row of `trainer preflight`: whether the image fits the device, with a card and without one."""

import json
import sys

import pytest
import torch

from trainer.__main__ import main
from trainer.commands.preflight import device
from trainer.config import from_argv
from trainer.devices import cpu
from trainer.devices.hpu import unsupported as no_bridge
from trainer.runs.checks import outcome_of
from trainer.runtime.world import World


def found_for(*flags):
    """Result of the check of the device."""
    config = from_argv(["--data", "/d", "--output", "/o", "--name", "r", "--cache-dir", "/c", *flags])
    return outcome_of(lambda: device(config, World()))


@pytest.fixture
def failing(tmp_path):
    """Flags of a run whose data set does not exist."""
    return [
        "--data",
        str(tmp_path / "none"),
        "--output",
        str(tmp_path),
        "--name",
        "r",
        "--weights",
        "none",
        "--device",
        "cpu",
    ]


def test_device_is_the_last_row_and_a_failed_check_gives_exit_code_3(capsys, failing):
    """Loading torch takes seconds, and the other rows do not wait for it."""
    assert main(["preflight", *failing, "--json"]) == 3
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows[-1] == {
        "check": "device",
        "status": "OK",
        "found": f"torch {torch.__version__} for cpu",
        "fix": "",
    }
    assert "error: preflight failed:\n  data: " in err


def test_table_has_a_line_for_each_check_and_its_fix(capsys, failing, tmp_path):
    (tmp_path / "none").mkdir()
    assert main(["preflight", *failing]) == 3
    lines = capsys.readouterr().out.splitlines()
    data = next(number for number, line in enumerate(lines) if line.startswith("FAIL    data "))
    assert lines[data + 1].strip() == "fix: check --data: bucket, prefix or directory"
    assert "skipped labels         needs `data`" in lines
    assert lines[-1].startswith("OK      device         torch ")


def test_launcher_of_an_earlier_version_gets_the_rows_it_reads(capsys, failing):
    """It calls `probe`, and takes any exit code but 0 for a pod that failed."""
    assert main(["probe", *failing]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"check", "status", "found", "fix"} == set(rows[0])
    assert {row["check"] for row in rows if row["status"] == "FAIL"} == {"data"}


def test_help_does_not_show_the_earlier_name(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "preflight" in out
    assert "probe" not in out


def test_image_without_the_vendors_bridge_fails():
    """A pod of doctor has no card, but it has the job's image."""
    if no_bridge() is None:
        pytest.skip("Gaudi's bridge is here")
    found = found_for("--device", "hpu")
    assert found.status == "FAIL"
    assert "habana-torch-plugin is not installed" in found.found


def test_image_without_cuda_fails(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert found_for("--device", "cuda").status == "FAIL"


def test_machine_without_a_card_is_no_failure_of_the_image(monkeypatch):
    """As in the pod of `doctor --in-cluster`, which asks for none."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = found_for("--device", "cuda")
    assert (found.status, found.fix) == ("skipped", "")
    assert "no GPU or no driver is visible" in found.found


def test_card_without_kernels_fails_with_the_image_to_take(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla P100-PCIE-16GB")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (6, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90"])
    for name in ("cuda", "auto"):
        if name == "auto" and no_bridge() is None:
            continue
        found = found_for("--device", name)
        assert found.status == "FAIL"
        assert "Tesla P100-PCIE-16GB (compute capability 6.0)" in found.found
        assert "CUDA_VERSION=12.6" in found.fix


def test_mode_that_the_device_does_not_have_fails():
    found = found_for("--device", "cpu", "--gaudi-mode", "compile")
    assert (found.status, found.fix) == ("FAIL", "remove --gaudi-mode")


def test_precision_that_the_processor_has_no_units_for_fails(monkeypatch, tmp_path):
    """Training refuses it."""
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
    cpu.CPUINFO.write_text("model name : Old\nflags : fpu\n")
    found = found_for("--device", "cpu", "--precision", "bf16")
    assert (found.status, found.fix) == ("FAIL", "--precision fp32")
    assert "cannot compute in bf16 on this processor: Old" in found.found
    assert found_for("--device", "cpu", "--precision", "fp32").status == "OK"


def test_node_that_lacks_huge_pages_is_a_warning(capsys, failing, monkeypatch):
    """As at the start of a run."""
    monkeypatch.setattr(cpu, "host_shortage", lambda: "no huge pages are free")
    assert main(["preflight", *failing, "--json"]) == 3
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (row["check"], row["status"], row["found"]) == ("huge pages", "WARN", "no huge pages are free")


def test_row_does_not_open_the_device(monkeypatch):
    """A card is held until its process ends, and the job may start meanwhile."""
    monkeypatch.setattr(cpu, "open", lambda *_: sys.exit("opened"))
    assert found_for("--device", "cpu").status == "OK"
