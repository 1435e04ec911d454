"""Devices are alike, and nobody else knows which one there is."""

import re
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainer import devices
from trainer.devices import cpu, cuda, hpu
from trainer.errors import InputError

ROOT = Path(__file__).parents[3]
MODULES = [cpu, cuda, hpu]


@pytest.fixture
def habana(monkeypatch):
    """The stand-in for the vendor's package, gone again afterwards."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "stubs"))
    for name in ("PT_HPU_LAZY_MODE", "HLS_MODULE_ID", "ID"):
        monkeypatch.setenv(name, "x")  # so that what the stub sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(dist, "_DEFAULT_FIRST_BUCKET_BYTES", 1, raising=False)
    yield
    for name in [name for name in sys.modules if name.startswith("habana_frameworks")]:
        del sys.modules[name]
    if hasattr(torch, "hpu"):
        del torch.hpu


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_every_device_module_implements_the_protocol(module):
    """The loop calls these on whatever device it is given."""
    members = [name for name in dir(devices.Device) if not name.startswith("_")] + list(devices.Device.__annotations__)
    assert [name for name in members if not hasattr(module, name)] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_ddp_does_not_broadcast_buffers(module, monkeypatch):
    """Broadcasting them each step costs time and hides that averaging is done on purpose."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    options = module.ddp_options()
    assert False in (options.get("broadcast_buffers"), options.get("forward_sync_buffers"))


def test_named_device_that_is_missing_is_refused():
    """Training for a day on the processor without noticing is the expensive failure."""
    for name in ("cuda", "hpu"):
        if devices._load(name).missing() is None:
            pytest.skip("an accelerator is here")
        with pytest.raises(InputError, match=f"cannot use {name}: "):
            devices.find(name)


def test_auto_takes_the_processor_where_nothing_else_is():
    """Laptops."""
    if cuda.missing() is None or hpu.missing() is None:
        pytest.skip("an accelerator is here")
    assert devices.find("auto") is cpu


@pytest.mark.usefixtures("habana")
def test_gaudi_is_preferred_and_detected_without_acquiring_a_card(monkeypatch):
    """A card is locked until its process ends, so looking must not take one."""
    assert devices.find("auto") is hpu
    assert sys.modules["habana_frameworks.torch"].acquired == []
    monkeypatch.setenv("STUB_CARDS", "0")
    with pytest.raises(InputError, match="no Gaudi card is visible"):
        devices.find("hpu")


@pytest.mark.usefixtures("habana")
def test_gaudi_worker_gets_its_card_from_torchruns_environment(monkeypatch):
    """The bridge chooses by LOCAL_RANK when its collectives are imported; no index is ever passed."""
    for name, value in {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "2", "HABANA_VISIBLE_MODULES": "7,5,3,1"}.items():
        monkeypatch.setenv(name, value)
    assert hpu.open(2, 4) == torch.device("hpu")
    import os

    assert os.environ["HLS_MODULE_ID"] == "3"
    assert dist._DEFAULT_FIRST_BUCKET_BYTES > 27 * 2**20


@pytest.mark.usefixtures("habana")
@pytest.mark.parametrize(("lazy", "marks"), [("1", 1), ("0", 0)])
def test_gaudi_marks_steps_in_lazy_mode_only(monkeypatch, lazy, marks):
    """Without a marker lazy mode gathers a graph without end; in eager mode the marker only warns."""
    monkeypatch.setenv("PT_HPU_LAZY_MODE", lazy)
    hpu.flush()
    assert len(sys.modules["habana_frameworks.torch.core"].marks) == marks


@pytest.mark.usefixtures("habana")
def test_gaudi_has_one_bucket_for_all_gradients_and_no_device_ids():
    """26.6 MiB of gradients; `device_ids` is an error on this device."""
    options = hpu.ddp_options()
    assert options["bucket_cap_mb"] >= 32
    assert "device_ids" not in options
    hpu.missing()
    assert hpu.peak_memory_bytes() == 123


@pytest.mark.usefixtures("habana")
def test_random_generator_of_a_card_is_saved_and_put_back():
    """A run that goes on draws what it would have drawn."""
    hpu.missing()
    hpu.set_random_state(torch.arange(4, dtype=torch.uint8))
    assert hpu.random_state().tolist() == [0, 1, 2, 3]
    assert cpu.random_state() is None  # the processor's is kept for every device


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_utilisation_is_a_fraction_or_unknown(module):
    """A figure beside the run: where it can't be had the run goes on without it."""
    if module is cuda and cuda.missing() is None:
        assert 0 <= module.utilisation() <= 1
    else:
        assert module.utilisation() is None


@pytest.mark.parametrize(("answer", "share"), [(37, 0.37), (0, 0.0)])
def test_utilisation_of_a_gpu_is_a_fraction(monkeypatch, answer, share):
    """The driver counts in percent."""
    monkeypatch.setattr(torch.cuda, "utilization", lambda: answer)
    assert cuda.utilisation() == share


@pytest.mark.parametrize("error", [ModuleNotFoundError("pynvml"), RuntimeError("driver"), ValueError("not supported")])
def test_utilisation_that_the_driver_refuses_is_unknown(monkeypatch, error):
    """Nobody's training may end for a figure."""

    def refuse():
        raise error

    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    assert cuda.utilisation() is None


@pytest.mark.usefixtures("habana")
def test_hardware_name_of_each_device(monkeypatch):
    """A time per batch says nothing without it."""
    hpu.missing()
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 28)
    assert [module.hardware() for module in MODULES] == ["28 threads", "NVIDIA H100", "GAUDI2"]


def test_options_are_known_to_this_torch(tmp_path):
    """Keywords come and go between torch 2.6 and 2.15; a deprecated one warns, which is an error here."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        DistributedDataParallel(nn.Linear(1, 1), **cpu.ddp_options())
    finally:
        dist.destroy_process_group()


def test_no_other_module_branches_on_the_device_type():
    """A device interface is finished when nobody asks."""
    forbidden = re.compile(r"torch\.cuda|torch\.hpu|habana_frameworks|[=!]= *[\"'](hpu|cuda|cpu|gaudi)[\"']")
    allowed = {ROOT / "launcher/spec/accelerators.py"}
    files = [path for package in ("trainer", "launcher") for path in (ROOT / package).rglob("*.py")]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        if path.parent.name != "devices" and path not in allowed
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if forbidden.search(line)
    ]
    assert found == []
