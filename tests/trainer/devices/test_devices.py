"""Devices are alike, and nobody else knows which one there is."""

import copy
import os
import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainer import devices
from trainer.config import from_argv
from trainer.devices import cpu, cuda, hpu, inductor
from trainer.errors import InputError
from trainer.runtime import cores

ROOT = Path(__file__).parents[3]
MODULES = [cpu, cuda, hpu]


@pytest.fixture
def habana(monkeypatch):
    """The stand-in for the vendor's package, gone again afterwards."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "stubs"))
    for name in ("PT_HPU_LAZY_MODE", "HLS_MODULE_ID", "ID", "STUB_IMAGE", "STUB_CARDS", "STUB_BACKEND"):
        monkeypatch.setenv(name, "x")  # so that what the stub sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(dist, "_DEFAULT_FIRST_BUCKET_BYTES", 1, raising=False)
    yield
    hpu._fused_clip.cache_clear()
    for name in [name for name in sys.modules if name.startswith("habana_frameworks")]:
        del sys.modules[name]
    if hasattr(torch, "hpu"):
        del torch.hpu
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
        torch._dynamo.config.optimize_ddp = True
        registry = sys.modules["torch._dynamo.backends.registry"]
        registry._BACKENDS.pop("hpu_backend", None)
        registry._COMPILER_FNS.pop("hpu_backend", None)


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
        if devices.load(name).missing() is None:
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
    assert os.environ["HLS_MODULE_ID"] == "3"
    assert dist._DEFAULT_FIRST_BUCKET_BYTES > 27 * 2**20


@pytest.mark.usefixtures("habana")
@pytest.mark.parametrize(("lazy", "marks"), [("1", 1), ("0", 0)])
def test_gaudi_marks_steps_in_lazy_mode_only(monkeypatch, lazy, marks):
    """Without a marker lazy mode gathers a graph without end; in eager mode the marker only warns."""
    monkeypatch.setenv("PT_HPU_LAZY_MODE", lazy)
    hpu.flush()
    assert len(sys.modules["habana_frameworks.torch.core"].marks) == marks


def backend():
    """The stand-in's compile backend."""
    return sys.modules["habana_frameworks.torch.compile_backend"]


@pytest.mark.usefixtures("habana")
@pytest.mark.parametrize(
    ("image", "variable", "requested", "chosen"),
    [
        ("fork", "1", None, "lazy"),
        ("fork", "0", None, "compile"),
        ("fork", None, None, "compile"),
        ("fork", "1", "lazy", "lazy"),
        ("fork", "0", "eager", "eager"),
        ("upstream", "0", None, "compile"),
        ("upstream", None, None, "compile"),
        ("upstream", "0", "compile", "compile"),
        ("upstream", None, "eager", "eager"),
    ],
)
@pytest.mark.parametrize("compile_", ["auto", "agrees"])
def test_gaudis_mode_is_the_requested_one_or_the_one_the_bridge_was_loaded_for(
    monkeypatch, image, variable, requested, chosen, compile_
):
    """Both image kinds; without a request never eager, which lost AUC without an error (docs/decisions/0032)."""
    monkeypatch.setenv("STUB_IMAGE", image)
    if variable is not None:
        monkeypatch.setenv("PT_HPU_LAZY_MODE", variable)
    agreeing = {"compile": "on"}.get(chosen, "off") if compile_ == "agrees" else "auto"
    assert devices.find("auto").choose_mode(requested, agreeing) == chosen
    assert requested is not None or hpu.inference_mode() == chosen
    assert sys.modules["habana_frameworks.torch"].acquired == []


@pytest.mark.usefixtures("habana")
@pytest.mark.parametrize(
    ("variable", "requested", "found", "fix"),
    [
        ("1", "compile", "PT_HPU_LAZY_MODE is 1", "PT_HPU_LAZY_MODE=0"),
        ("1", "eager", "PT_HPU_LAZY_MODE is 1", "PT_HPU_LAZY_MODE=0"),
        ("0", "lazy", "PT_HPU_LAZY_MODE is 0", "PT_HPU_LAZY_MODE=1"),
        (None, "lazy", "PT_HPU_LAZY_MODE is not set", "PT_HPU_LAZY_MODE=1"),
    ],
)
def test_mode_that_contradicts_the_environment_is_refused(monkeypatch, variable, requested, found, fix):
    """The bridge has read the variable by then; the run would train in another mode than its record says."""
    if variable is not None:
        monkeypatch.setenv("PT_HPU_LAZY_MODE", variable)
    device = devices.find("hpu")
    monkeypatch.setenv("PT_HPU_LAZY_MODE", variable or "")  # too late to have an effect
    if variable is None:
        monkeypatch.delenv("PT_HPU_LAZY_MODE")
    with pytest.raises(InputError, match=f"`{requested}` .*{found}") as refusal:
        device.choose_mode(requested, "auto")
    assert fix in refusal.value.hint


@pytest.mark.usefixtures("habana")
@pytest.mark.parametrize("name", ["auto", "hpu"])
def test_lazy_mode_of_an_upstream_image_is_refused_and_nothing_takes_its_place(monkeypatch, name):
    """With `auto`, training on the processor of a Gaudi node would go unnoticed."""
    monkeypatch.setenv("STUB_IMAGE", "upstream")
    monkeypatch.setenv("PT_HPU_LAZY_MODE", "1")
    with pytest.raises(InputError, match=r"PT_HPU_LAZY_MODE=1: Stock PyTorch version .* Lazy mode") as refusal:
        devices.find(name)
    assert "--gaudi-mode compile" in refusal.value.hint


@pytest.mark.usefixtures("habana")
def test_compile_mode_needs_the_bridges_backend(monkeypatch):
    """Otherwise the first step says so, after the images have been decoded."""
    monkeypatch.setenv("STUB_BACKEND", "0")
    with pytest.raises(InputError, match="no backend `hpu_backend`"):
        devices.find("hpu").choose_mode("compile", "auto")


@pytest.mark.parametrize("module", [cpu, cuda], ids=lambda module: module.name)
@pytest.mark.parametrize("mode", ["lazy", "compile", "eager"])
def test_other_devices_refuse_a_mode(module, mode):
    """A flag without an effect hides a mistake."""
    assert module.choose_mode(None, "off") == "eager"
    assert module.inference_mode() == "eager"
    with pytest.raises(InputError, match=f"cannot use the mode `{mode}` on {module.name}.*--gaudi-mode"):
        module.choose_mode(mode, "off")


@pytest.mark.usefixtures("habana")
def test_compile_flag_of_gaudi_follows_the_mode_that_the_bridge_was_loaded_for(monkeypatch):
    """Off is the other mode of the same bridge; on needs one that was loaded without lazy mode."""
    assert [hpu.choose_mode(None, each) for each in ("auto", "on", "off")] == ["compile", "compile", "eager"]
    monkeypatch.setattr(sys.modules["habana_frameworks.torch.core"], "is_lazy", lambda: True)
    assert [hpu.choose_mode(None, each) for each in ("auto", "off")] == ["lazy", "lazy"]
    with pytest.raises(InputError, match=r"`compile` \(from `--compile on`\).*the bridge was loaded for lazy mode"):
        hpu.choose_mode(None, "on")


@pytest.fixture
def no_compiler(monkeypatch):
    """A machine without compilers."""
    monkeypatch.setattr(inductor.shutil, "which", lambda _: None)
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("habana")
def test_low_activation_memory_does_not_choose_eager_on_gaudi(monkeypatch):
    """It lost AUC without an error (docs/decisions/0032), so only who asks for it gets it."""
    monkeypatch.setenv("PT_HPU_LAZY_MODE", "0")
    device = devices.find("hpu")
    words = ["--data", "/d", "--output", "/o", "--name", "r", "--cache-dir", "/c", "--activation-memory", "low"]
    with pytest.raises(InputError, match=r"--activation-memory low on hpu in the mode `compile`") as refusal:
        devices.training_mode(device, from_argv(words))
    assert "--gaudi-mode" in refusal.value.hint
    for asked in (("--gaudi-mode", "eager"), ("--compile", "off")):
        assert devices.training_mode(device, from_argv([*words, *asked])) == "eager"
    assert devices.training_mode(cpu, from_argv(words)) == "eager"


def test_processor_compiles_on_request_only(monkeypatch):
    """It gains little there, and the first step takes minutes."""
    monkeypatch.setattr(inductor.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert [cpu.choose_mode(None, each) for each in ("auto", "on", "off")] == ["eager", "compile", "eager"]


@pytest.mark.usefixtures("no_compiler")
def test_processor_without_a_compiler_is_refused(monkeypatch):
    with pytest.raises(InputError, match=r"cannot compile the network on cpu: there is no C\+\+ compiler"):
        cpu.choose_mode(None, "on")
    monkeypatch.setenv("CXX", "/opt/g++")
    assert cpu.choose_mode(None, "on") == "compile"


@pytest.mark.parametrize(
    ("without", "reason"),
    [
        ("triton", "triton is not installed"),
        ("gcc", "there is no C compiler"),
        ("Python.h", "Python's headers"),
        ("Volta", "triton has no code for GPUs older than Volta, such as Tesla P100"),
    ],
)
def test_gpu_trains_without_compilation_where_something_is_missing_and_names_it(
    gpu, monkeypatch, tmp_path, without, reason
):
    """Runtime bases have no compiler; training slower than it could, without a word, would not be noticed."""
    gpu(
        "Tesla P100" if without == "Volta" else "NVIDIA A100", (6, 0) if without == "Volta" else (8, 0), "sm_80", "13.0"
    )
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(inductor.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(inductor.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(inductor.sysconfig, "get_path", lambda _: str(tmp_path))
    if without != "Volta":
        assert [cuda.choose_mode(None, each) for each in ("auto", "on", "off")] == ["compile", "compile", "eager"]
        assert cuda.cannot_compile() is None
    if without == "triton":
        monkeypatch.setattr(inductor.importlib.util, "find_spec", lambda _: None)
    if without == "gcc":
        monkeypatch.setattr(inductor.shutil, "which", lambda _: None)
        monkeypatch.delenv("CC", raising=False)
    if without == "Python.h":
        (tmp_path / "Python.h").unlink()
    assert [cuda.choose_mode(None, each) for each in ("auto", "off")] == ["eager", "eager"]
    assert reason in cuda.cannot_compile()
    with pytest.raises(InputError, match=f"on cuda: {reason}.*--compile on"):
        cuda.choose_mode(None, "on")


@pytest.mark.parametrize("module", [cpu, cuda], ids=lambda module: module.name)
def test_other_devices_compile_with_inductor_as_one_graph(module, monkeypatch):
    """Split by dynamo for the reduction of buckets, a network would be compiled in parts although it has one bucket."""
    import torch._dynamo

    network, seen = nn.Linear(2, 2), []
    monkeypatch.setattr(torch, "compile", lambda one, **how: (seen.append(how), one)[1])
    assert module.compiled(network, "eager") is network
    assert seen == []
    module.compiled(network, "compile")
    assert seen == [{"dynamic": False}]
    assert torch._dynamo.config.optimize_ddp is False
    torch._dynamo.config.optimize_ddp = True


def test_compiled_code_is_kept_in_a_folder_of_this_user(monkeypatch, tmp_path):
    """What is in it is executed; and every worker would start as many compilers as the node has cores."""
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    config = SimpleNamespace(compile_threads=96)
    monkeypatch.setitem(sys.modules, "torch._inductor.config", config)
    tmp_path.chmod(0o777)
    monkeypatch.setenv(
        "TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_me"
    )  # by torch, when it was loaded
    inductor.keep_files_in(tmp_path, 96)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
    assert config.compile_threads == 4
    inductor.keep_files_in(tmp_path, 0)
    assert config.compile_threads == 1
    for name, value in (("TORCHINDUCTOR_CACHE_DIR", "/elsewhere"), ("TORCHINDUCTOR_COMPILE_THREADS", "9")):
        monkeypatch.setenv(name, value)
    inductor.keep_files_in(tmp_path / "other", 3)  # the user's own take precedence
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/elsewhere"
    assert config.compile_threads == 1


def gradients(part, x):
    """Gradients of the parameters, and the output."""
    output = part(x)
    output.square().mean().backward()
    return [parameter.grad.clone() for parameter in part.parameters()], output.detach()


@pytest.mark.usefixtures("habana")
@pytest.mark.parametrize(("mode", "graphs"), [("compile", 1), ("eager", 0)])
def test_compile_mode_compiles_once_with_static_shapes_and_equal_numbers(monkeypatch, mode, graphs):
    """The same parameters: what is compiled trains the network that is saved."""
    monkeypatch.setenv("PT_HPU_LAZY_MODE", "0")
    devices.find("hpu")
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(5, 3)
    expected = gradients(network, x)
    network.zero_grad()
    compiled = hpu.compiled(network, mode)
    assert [*map(id, compiled.parameters())] == [*map(id, network.parameters())]
    for _ in range(3):
        network.zero_grad()
        found = gradients(compiled, x)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found[0], expected[0], strict=True))
    assert torch.equal(found[1], expected[1])
    assert len(backend().graphs) == graphs
    assert (compiled is network) == (mode != "compile")


@pytest.mark.usefixtures("habana")
def test_compiled_part_trains_in_ddp(monkeypatch, tmp_path):
    """Compiled before DDP wraps it, so that no graph contains a collective, which the backend refuses."""
    from trainer.training.state import in_parallel

    monkeypatch.setenv("PT_HPU_LAZY_MODE", "0")
    devices.find("hpu")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        parallel = in_parallel(2, cpu, hpu.compiled(network, "compile"))
        gradients(parallel, torch.randn(5, 3))
    finally:
        dist.destroy_process_group()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert len(backend().graphs) == 1


@pytest.mark.usefixtures("habana")
def test_gaudi_has_one_bucket_for_all_gradients_and_no_device_ids():
    """26.6 MiB of gradients; `device_ids` is an error on this device."""
    options = hpu.ddp_options()
    assert options["bucket_cap_mb"] >= 32
    assert "device_ids" not in options
    hpu.missing()
    assert hpu.peak_memory_bytes() == 123
    hpu.reset_peak_memory()
    assert sys.modules["habana_frameworks.torch"].forgotten == ["peak"]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
@pytest.mark.usefixtures("habana")
def test_gradients_are_clipped_to_the_same_numbers_on_every_device(module):
    """With the vendor's own operation, too; and its norm is read like torch's."""
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    for one in parameters:
        one.grad = torch.full((2,), 4.0)
    norm = module.clip(parameters, 2.0)
    assert norm.shape == torch.Size([])
    assert norm.item() == pytest.approx(8.0)
    assert torch.allclose(parameters[0].grad, torch.full((2,), 1.0))
    if module is hpu:
        module.clip(parameters, 2.0)
        assert sys.modules["habana_frameworks.torch.hpex.normalization"].made == [
            2.0
        ]  # its limit is copied to the card once


@pytest.mark.usefixtures("habana")
def test_counters_of_gaudi_name_what_ran_on_the_host(monkeypatch):
    """An unsupported operation costs speed without an error."""
    assert hpu.counters() == {"graph_compilation": 5, "cpu_fallback/aten::nonzero": 2, "cpu_fallback/aten::sort": 1}
    assert cuda.counters() == cpu.counters() == {}
    metrics = sys.modules["habana_frameworks.torch.hpu.metrics"]
    monkeypatch.setattr(metrics, "metric_global", lambda _: None)  # earlier releases have other names
    assert hpu.counters() == {}
    for name in ("hpu.metrics", "hpex.normalization"):
        monkeypatch.setitem(sys.modules, f"habana_frameworks.torch.{name}", None)
    hpu._fused_clip.cache_clear()
    assert hpu.counters() == {}
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.full((1,), 3.0)
    assert hpu.clip([parameter], 1.0).item() == 3.0


def test_synchronisations_of_a_gpu_raise_in_the_block_only(monkeypatch):
    """The mode is of the whole process."""
    modes = [0]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with suppress(ValueError), cuda.forbid_sync():
        modes.append(f"within: {modes[-1]}")
        raise ValueError
    assert modes == [0, "error", "within: error", 0]
    with cpu.forbid_sync(), hpu.forbid_sync():
        pass


class _Stream:
    """A stream of a GPU that notes what is queued on it."""

    current = None

    def __init__(self, name="copies"):
        self.name, self.queued = name, []

    def __enter__(self):
        self.before, _Stream.current = _Stream.current, self

    def __exit__(self, *_):
        _Stream.current = self.before

    def wait_event(self, event):
        self.queued.append(f"wait for {event.stream.name}")


class _Event:
    def record(self, stream):
        self.stream = stream
        stream.queued.append("event")

    def synchronize(self):
        self.stream.queued.append("host waits")


def test_copy_to_a_gpu_has_a_stream_of_its_own_and_kernels_wait_for_it_once_it_is_taken(monkeypatch):
    """On the stream of the kernels the copy of the next batch would wait for this step; and a wait queued at once would hold this step up."""
    computing, used = _Stream("computing"), []
    monkeypatch.setattr(_Stream, "current", computing)
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: _Stream.current)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, stream: used.append(stream))

    def to(host, where, *, non_blocking):
        assert (where, non_blocking) == ("cuda", True)
        _Stream.current.queued.append("copy")
        return host

    monkeypatch.setattr(torch.Tensor, "to", to)
    cuda._copy_stream.cache_clear()
    host = torch.arange(3)
    take, copied = cuda.start_upload(host)
    assert cuda._copy_stream().queued == ["copy", "event"]
    assert computing.queued == used == []
    assert take() is host
    assert (computing.queued, used) == (["wait for copies"], [computing])
    copied()
    assert cuda._copy_stream().queued == ["copy", "event", "host waits"]
    assert cuda.upload(host)[0] is host
    assert computing.queued == ["wait for copies"] * 2
    cuda._copy_stream.cache_clear()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_profiler_records_host_and_device(module):
    activities = [each.name for each in module.profiled()]
    assert activities == ["CPU"] if module is cpu else ["CPU", module.name.upper()]


def test_gpu_has_one_bucket_for_all_gradients(monkeypatch, tmp_path):
    """26.6 MiB of gradients; without a cap of its own, the first bucket is one of 1 MiB."""
    from trainer.models import architectures

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    options = {key: value for key, value in cuda.ddp_options().items() if key != "device_ids"}
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        network = architectures.build("densenet121", "linear", 14)
        buckets = DistributedDataParallel(network, **options).reducer._get_zeros_like_grad_buckets()
        assert [bucket.is_last() for bucket in buckets] == [True]
        del buckets
    finally:
        dist.destroy_process_group()


def test_compiled_network_in_ddp_has_the_gradients_of_the_plain_one(tmp_path, monkeypatch):
    """Bit for bit with the same kernels: one graph inside DistributedDataParallel, and its hooks on the network's own parameters."""
    import torch._dynamo

    from trainer.training.state import in_parallel

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda one, **how: compile_(one, backend="aot_eager", **how))
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
    networks, x_NCHW = [nn.Sequential(*layers)], torch.randn(2, 3, 8, 8)
    networks.append(copy.deepcopy(networks[0]))
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        for network, mode in zip(networks, ("eager", "compile"), strict=True):
            in_parallel(2, cpu, cpu.compiled(network, mode))(x_NCHW).square().mean().backward()
    finally:
        dist.destroy_process_group()
        torch._dynamo.reset()
        torch._dynamo.config.optimize_ddp = True
    plain, compiled = ({name: each.grad for name, each in network.named_parameters()} for network in networks)
    assert plain.keys() == compiled.keys()
    assert all(torch.equal(compiled[name], plain[name]) for name in plain)
    assert networks[1].state_dict().keys() == networks[0].state_dict().keys()


@pytest.mark.usefixtures("habana")
def test_random_generator_of_a_card_is_saved_and_put_back():
    """A run that goes on draws what it would have drawn."""
    hpu.missing()
    hpu.set_random_state(torch.arange(4, dtype=torch.uint8))
    assert hpu.random_state().tolist() == [0, 1, 2, 3]
    assert cpu.random_state() is None  # the processor's is kept for every device


CUDA_13 = "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
CUDA_12_6 = "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"
"""Kernels of torch 2.14 for each. Source: torch.cuda.get_arch_list() of 2.14.1+cu130; torch's .ci/manywheel/build_cuda.sh."""


@pytest.mark.parametrize(
    ("capability", "kernels", "runs"),
    [
        ((8, 0), "sm_80", True),
        ((8, 6), "sm_80", True),  # equal major, higher minor
        ((8, 9), "sm_86", True),
        ((8, 0), "sm_86", False),  # never the other way round
        ((9, 0), "sm_80", False),  # binary code stays in its major
        ((9, 0), "compute_80", True),  # PTX does not
        ((7, 5), "compute_80", False),
        ((9, 0), "sm_90a", True),
        ((9, 1), "sm_90a", False),
        ((10, 0), "compute_90a", False),
        ((10, 3), "sm_100f", True),
        ((12, 0), "sm_100f", False),
        ((12, 0), "compute_100f", False),
        ((12, 1), "sm_120", True),
        ((10, 0), "sm_100", True),
        ((6, 0), "gfx90a", False),
        ((6, 0), "sm_", False),
    ],
)
def test_kernels_run_on_gpus_as_cuda_defines_it(capability, kernels, runs):
    """Minor versions are compatible upwards, majors only by PTX, suffixes narrow both."""
    assert cuda.runs_on(capability, kernels) is runs


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of this name and capability below a torch with these kernels."""

    def put(name, capability, kernels, version):
        monkeypatch.setattr(torch.version, "cuda", version)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)  # opening sets it
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", kernels.split)

    return put


@pytest.mark.parametrize(
    ("name", "capability", "kernels", "version"),
    [
        ("Quadro M2000M", (5, 0), CUDA_12_6, "12.6"),
        ("Tesla M40", (5, 2), CUDA_12_6, "12.6"),
        ("Tesla P100-PCIE-16GB", (6, 0), CUDA_12_6, "12.6"),
        ("Quadro P6000", (6, 1), CUDA_12_6, "12.6"),
        ("Tesla V100-SXM2-32GB", (7, 0), CUDA_12_6, "12.6"),
        ("Tesla T4", (7, 5), CUDA_13, "13.0"),
        ("NVIDIA A10G", (8, 6), CUDA_13, "13.0"),
        ("NVIDIA L4", (8, 9), CUDA_13, "13.0"),
        ("NVIDIA H200", (9, 0), CUDA_13, "13.0"),
        ("NVIDIA B300", (10, 3), CUDA_13, "13.0"),
        ("NVIDIA GeForce RTX 5090", (12, 0), CUDA_13, "13.0"),
        ("NVIDIA H200", (9, 0), "", "13.0"),  # a build that does not tell
    ],
)
def test_gpu_with_kernels_in_this_torch_is_opened(gpu, name, capability, kernels, version):
    """What runs is not refused."""
    gpu(name, capability, kernels, version)
    assert cuda.open(0, 1) == torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("name", "capability", "kernels", "version", "hint"),
    [
        ("Tesla M40", (5, 2), CUDA_13, "13.0", "--build-arg CUDA_VERSION=12.6"),
        ("Tesla M40", (5, 2), "sm_60 sm_70", "12.6", "--build-arg BASE_IMAGE="),
        ("Tesla P100-PCIE-16GB", (6, 0), CUDA_13, "13.0", "--build-arg CUDA_VERSION=12.6"),
        ("GeForce GTX 1080 Ti", (6, 1), CUDA_13, "13.2", "--build-arg CUDA_VERSION=12.6"),
        ("Tesla V100-SXM2-32GB", (7, 0), CUDA_13, "13.0", "--build-arg CUDA_VERSION=12.6"),
        ("NVIDIA B200", (10, 0), CUDA_12_6, "12.6", "with its defaults"),
        ("NVIDIA GeForce RTX 5090", (12, 0), CUDA_12_6, "12.6", "with its defaults"),
        ("NVIDIA Next", (13, 0), CUDA_13, "13.0", "--build-arg BASE_IMAGE="),
        ("NVIDIA A100", (8, 0), "sm_86 sm_90", "12.6", "--build-arg BASE_IMAGE="),
    ],
)
def test_gpu_without_kernels_in_this_torch_is_refused_with_the_image_to_take(
    gpu, name, capability, kernels, version, hint
):
    """Otherwise the first kernel fails, after the data set has been downloaded and decoded."""
    gpu(name, capability, kernels, version)
    with pytest.raises(InputError, match=re.escape(f"{name} (compute capability {capability[0]}.")) as refusal:
        cuda.open(0, 1)
    assert f"CUDA {version}" in str(refusal.value)
    assert hint in refusal.value.hint


@pytest.mark.parametrize(
    ("name", "capability", "generation"),
    [
        ("Tesla K80", (3, 7), "Kepler"),
        ("Tesla K40c", (3, 5), "Kepler"),
        ("Tesla M2090", (2, 0), "Fermi"),
    ],
)
@pytest.mark.parametrize("kernels", [CUDA_13, CUDA_12_6])
def test_gpus_older_than_maxwell_are_refused_by_name(gpu, name, capability, generation, kernels):
    """No image helps them, so none is named."""
    gpu(name, capability, kernels, "12.6")
    with pytest.raises(InputError, match=f"{name} .*: {generation} is older than Maxwell") as refusal:
        cuda.open(0, 1)
    assert "Dockerfile" not in refusal.value.hint


@pytest.mark.parametrize(("major", "precision"), [(6, "fp32"), (7, "fp32"), (8, "bf16"), (12, "bf16")])
def test_precision_of_auto_is_one_that_the_gpu_computes_in(monkeypatch, major, precision):
    """Before Ampere torch emulates bf16."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or major >= 8
    )
    assert cuda.native_precision() == precision
    assert (cpu.native_precision(), hpu.native_precision()) == ("fp32", "bf16")


@pytest.mark.parametrize(
    ("given", "of_torch", "workers", "expected"),
    [(None, 8, 1, 6), (None, 8, 2, 3), (None, 1, 2, 1), ("8", 8, 2, None)],
)
def test_threads_are_a_workers_share_of_the_processors(monkeypatch, given, of_torch, workers, expected):
    """Of those that the container may use: torch takes all of the node. OMP_NUM_THREADS is left alone, and a smaller number."""
    made = {}
    monkeypatch.setattr(cores, "usable_cores", lambda: 6)
    monkeypatch.setattr(torch, "get_num_threads", lambda: of_torch)
    monkeypatch.setattr(torch, "get_num_interop_threads", lambda: made.get("interop", 4))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: made.update(intraop=count))
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda count: made.update(interop=count))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    for _ in range(2):
        cpu.open(0, workers)
    assert made == {"interop": 1} | ({} if expected is None else {"intraop": expected})


def test_threads_between_operations_that_run_already_are_left_alone(monkeypatch):
    """Torch refuses a change then."""

    def refused(_):
        raise RuntimeError("parallel work has started")

    monkeypatch.setattr(torch, "get_num_interop_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_interop_threads", refused)
    assert cpu.open(0, 1) == torch.device("cpu")


@pytest.mark.parametrize(
    ("variable", "accepts", "expected"),
    [
        ("OTHER", {2**30, 2**25}, [(-3, 2**30), (-1, 2**31 - 1)]),
        ("OTHER", {2**25}, [(-3, 2**30), (-3, 2**25), (-1, 2**31 - 1)]),
        ("OTHER", set(), [(-3, 2**30), (-3, 2**25)]),
        ("MALLOC_TRIM_THRESHOLD_", {2**30, 2**25}, []),
        ("OTHER", None, []),
    ],
    ids=["glibc", "glibc before 2.35", "a library that refuses", "set up by the user", "another library"],
)
def test_freed_memory_is_kept_unless_the_user_sets_the_allocator_up(monkeypatch, variable, accepts, expected):
    """Where the C library has no such setting, training goes on without it. A trim threshold alone would make steps slower."""
    made = []
    functions = {} if accepts is None else {"mallopt": lambda *given: (made.append(given), given[1] in accepts)[1]}
    monkeypatch.setattr(cpu.ctypes, "CDLL", lambda _: SimpleNamespace(**functions))
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(variable, "1")
    cpu.open(0, 1)
    assert made == expected


@pytest.fixture
def processor(monkeypatch, tmp_path):
    """The processor that this text of /proc/cpuinfo describes; None for a system without it."""

    def described(text):
        monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
        if text is not None:
            cpu.CPUINFO.write_text(text)

    return described


@pytest.mark.parametrize(
    "text",
    [
        "processor\t: 0\nmodel name\t: Xeon 3\nflags\t\t: fpu avx512f avx512_bf16 la57\n",
        "processor\t: 0\nmodel name\t: Xeon 4\nflags\t\t: fpu amx_bf16 amx_tile\n\nprocessor\t: 1\nflags\t: fpu\n",
        "processor\t: 0\nFeatures\t: fp asimd bf16\nCPU part\t: 0xd40\n",
    ],
    ids=["avx512", "amx", "arm"],
)
def test_processors_with_units_for_bf16_compute_in_it(processor, text):
    processor(text)
    assert devices.arithmetic(cpu, "bf16") == "bf16"
    assert devices.arithmetic(cpu, "auto") == "fp32"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("model name\t: Xeon 2\nflags\t: fpu avx512f avx512_vnni\n", "Xeon 2"),
        ("Features\t: fp asimd svebf16x\nCPU part\t: 0xd0c\n", "a processor without a name"),
        ("model name\t: avx512_bf16\n", "avx512_bf16 has none"),
        (None, r"a processor whose .*/cpuinfo cannot be read \(No such file or directory\)"),
    ],
)
def test_processors_without_units_for_bf16_are_refused_by_name(processor, text, name):
    """Emulated, it is slower than fp32, which is all that asking for it is about."""
    processor(text)
    with pytest.raises(InputError, match=rf"bf16 on this processor: {name}.* avx512_bf16.*`--precision`") as refusal:
        devices.arithmetic(cpu, "bf16")
    assert refusal.value.hint == "--precision fp32"
    assert devices.arithmetic(cpu, "fp32") == "fp32"


def test_gpu_that_would_emulate_bf16_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100-PCIE-16GB")
    with pytest.raises(InputError, match=r"bf16 on Tesla V100-PCIE-16GB: .*before Ampere"):
        devices.arithmetic(cuda, "bf16")
    assert devices.arithmetic(cuda, "fp32") == "fp32"
    assert devices.arithmetic(cuda, "auto") == "fp32"


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


@pytest.mark.parametrize(
    ("driver", "needs", "reason"),
    [
        (None, "13.0", "no GPU or no driver is visible"),
        ((12, 2), "13.0", "the node's driver supports CUDA up to 12.2, and this torch is built for CUDA 13.0"),
        ((12, 2), "12.6", "no GPU or no driver is visible"),
        ((13, 2), "12.6", "no GPU or no driver is visible"),
    ],
)
def test_driver_that_is_too_old_for_this_torch_is_named(monkeypatch, driver, needs, reason):
    """Torch only says that there is no GPU. Minor releases of one CUDA fit each other's drivers."""
    monkeypatch.setattr(torch.version, "cuda", needs)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cuda, "_driver_cuda", lambda: driver)
    assert cuda.missing() == reason


def test_newest_cuda_of_the_driver_is_asked_from_its_own_library(monkeypatch):
    class Library:
        def __init__(self, name):
            assert name == "libcuda.so.1"

        def cuDriverGetVersion(self, version):  # noqa: N802 - its name there
            version._obj.value = 13020
            return 0

    monkeypatch.setattr(cuda.ctypes, "CDLL", Library)
    assert cuda.software().endswith("a driver for CUDA 13.2")
    monkeypatch.setattr(Library, "cuDriverGetVersion", lambda *_: 3)
    assert cuda.software().endswith("an unknown driver")

    def absent(_):
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(cuda.ctypes, "CDLL", absent)
    assert cuda.software().endswith("an unknown driver")


@pytest.mark.parametrize(("free", "is_short"), [("0", True), ("1200", False), (None, False), ("x", False)])
def test_gaudi_misses_huge_pages_only_where_the_node_reports_none(tmp_path, monkeypatch, free, is_short):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 1 kB\n" + (f"HugePages_Free:     {free}\n" if free else ""))
    monkeypatch.setattr(hpu, "_MEMINFO", meminfo)
    assert (hpu.host_shortage() is not None) == is_short


def test_software_of_gaudi_says_what_is_unknown():
    """The contract has no call for the version of the driver."""
    assert re.fullmatch(r"torch \S+, habana-torch-plugin .+, driver unknown", hpu.software())
