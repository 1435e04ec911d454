"""States and weights that were made to harm whoever loads them: each is refused as what it is, before it takes memory."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict

import pytest
import torch

from trainer.errors import InputError
from trainer.limits import LimitError
from trainer.models import tensor_file, zip_archive
from trainer.models.architectures import build
from trainer.models.pretrained import read_weights
from trainer.models.zip_archive import stored_entries
from trainer.training.schedule import Plateau
from trainer.training.snapshot import RankState, TrainState, check_fits, check_moments, from_bytes

WHERE = "s3://b/r/checkpoints/step-00000003/state.pt"


def saved(content, **how):
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def a_network():
    torch.manual_seed(0)
    return build("densenet_tiny", "linear", 2)


def trained_state():
    """A state of one step, as training leaves it."""
    network = a_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, fused=False)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    rank = RankState(dict(network.named_buffers()), {"cpu": torch.get_rng_state()}, 0.5)
    return TrainState(3, network.state_dict(), [rank], optimizer.state_dict(), Plateau())


def plain(state):
    """The state as it is saved, to be spoiled."""
    return torch.load(io.BytesIO(state.to_bytes()), weights_only=True)


@pytest.fixture(scope="module")
def whole():
    return trained_state()


def repacked(content, change):
    """The archive with what `change` makes of each entry's name, content and compression."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as there, zipfile.ZipFile(out, "w") as new:
        for info in there.infolist():
            name, data, method = change(info.filename, there.read(info))
            new.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def deflated(content):
    return repacked(content, lambda name, data: (name, data, zipfile.ZIP_DEFLATED))


def bombed(content):
    """One of the tensors is 64 MiB of zeros, packed in 64 KiB."""
    return repacked(
        content, lambda name, data: (name, bytes(64 << 20) if name.endswith("data/0") else data, zipfile.ZIP_DEFLATED)
    )


def overlapping(content):
    """Every entry is the first one, as in a zip that unpacks to more than it has."""
    count, first, _ = zip_archive._directory(content)
    changed = bytearray(content)
    at = first
    for _number in range(count):
        struct.pack_into("<L", changed, at + 42, 0)
        at += 46 + sum(struct.unpack_from("<3H", changed, at + 28))
    return bytes(changed)


def with_pickle(content, pickled):
    return repacked(
        content, lambda name, data: (name, pickled if name.endswith("data.pkl") else data, zipfile.ZIP_STORED)
    )


def calling(module, name, arguments):
    """A pickle that calls this."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + arguments + b"R."


def number(value):
    return b"\x8a\x08" + value.to_bytes(8, "little") + b"\x85"


DEEP = b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b"."

PICKLES = {
    "code": calling("os", "system", b"X\x04\x00\x00\x00true\x85"),
    "bytes by the gigabyte": calling("builtins", "bytearray", number(8 << 30)),
    "a tensor by its size": calling("torch", "FloatTensor", number(8 << 30)),
    "a storage by its size": calling("torch.storage", "UntypedStorage", number(8 << 30)),
    "nothing": b"",
    "no end": b"\x80\x02]",
    "empty stack": b"\x80\x02.",
    "text cut off": b"\x80\x02X\xff\xff\xff\xffab.",
    "text of bad bytes": b"\x80\x02X\x01\x00\x00\x00\xff.",
    "number of 2000 bits": b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".",
    "not in the memo": b"\x80\x02h\x09.",
    "deep": DEEP,
    "no pickle": b"\xff\xfe\xfd",
}


@pytest.mark.parametrize("pickled", PICKLES.values(), ids=PICKLES)
def test_pickle_that_is_no_state_is_refused_with_the_files_name_and_no_advice(whole, pickled):
    """torch's own words are to load it without its guard."""
    with pytest.raises(InputError) as refusal:
        from_bytes(with_pickle(whole.to_bytes(), pickled), WHERE)
    text = str(refusal.value)
    assert f"cannot read `{WHERE}`: it is not a training state of this program" in text
    assert "weights_only" not in text
    assert "add_safe_globals" not in text


@pytest.mark.parametrize("pickled", PICKLES.values(), ids=PICKLES)
def test_pickle_that_is_no_weights_is_refused_with_the_files_name_and_no_advice(tmp_path, whole, pickled):
    """Also as torch wrote files until 2020."""
    legacy = saved({}, _use_new_zipfile_serialization=False)
    for content in (with_pickle(whole.to_bytes(), pickled), legacy[: legacy.index(b"}q\x00.")] + pickled, pickled):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(InputError, match=r"w\.pth") as refusal:
            read_weights(tmp_path / "w.pth")
        assert "weights_only" not in str(refusal.value)


@pytest.mark.parametrize("spoil", [deflated, bombed, overlapping])
def test_entries_that_are_more_than_the_file_are_refused_before_they_are_unpacked(whole, spoil, in_memory):
    """4.5 MB unpacked to 8 GB."""
    content = spoil(whole.to_bytes())
    with in_memory(len(content) + (8 << 20)), pytest.raises(InputError, match=r"compressed|overlap"):
        from_bytes(content, WHERE)


def test_ambiguous_zip_archive_is_refused(whole):
    """What is looked at must be what is loaded."""
    content = whole.to_bytes()
    for odd in (
        content + content[-22:],
        content[:-1],
        content + b"x",
        content[:-22] + b"PK\5\6" + bytes(18),
        b"PK\3\4",
    ):
        with pytest.raises(InputError, match="not a training state"):
            from_bytes(odd, WHERE)


def test_archive_with_far_too_many_entries_is_refused(whole, monkeypatch):
    """Each takes memory before it is looked at."""
    monkeypatch.setattr(zip_archive, "STATE_ENTRIES", 10)
    with pytest.raises(InputError, match="more than 10 entries"):
        from_bytes(whole.to_bytes(), WHERE)


def test_state_larger_than_any_is_refused(whole, monkeypatch):
    """By its length alone."""
    monkeypatch.setattr(tensor_file, "STATE_BYTES", 1000)
    with pytest.raises(InputError, match="more than 1000 bytes"):
        from_bytes(whole.to_bytes(), WHERE)


@pytest.mark.parametrize("zipped", [True, False])
def test_entries_of_an_archive_of_torch_are_read(zipped):
    """In the form of today and in that of before."""
    content = OrderedDict(a=torch.arange(3.0), b=torch.arange(4).to(torch.uint8))
    loaded = tensor_file.load(saved(content, _use_new_zipfile_serialization=zipped))
    assert torch.equal(loaded["a"], content["a"])
    assert torch.equal(loaded["b"], content["b"])
    if zipped:
        assert bytes(stored_entries(saved(content))["archive/data/0"]) == content["a"].numpy().tobytes()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(1 << 40),
        torch.zeros(1).expand(1 << 20, 1 << 20),
        torch.zeros(3).to_sparse(),
        torch.zeros(3, device="meta"),
    ],
    ids=["expanded", "square", "sparse", "meta"],
)
def test_tensor_larger_than_its_storage_is_refused(whole, tensor):
    """A byte that claims to be a terabyte becomes one when it is copied."""
    loaded = plain(whole)
    loaded["optimizer"]["state"][0]["exp_avg"] = tensor
    with pytest.raises(InputError, match=r"state\.pt"):
        from_bytes(saved(loaded), WHERE)


def encoded_again_and_again(times):
    """Bytes whose length doubles each time, by what torch calls for bytes."""
    encode = b"c_codecs\nencode\nq\x01"
    name = b"X\x03\x00\x00\x00hex"
    pickled = b"\x80\x02" + encode + b"0" + b"X\x04\x00\x00\x00aaaaX\x06\x00\x00\x00latin1\x86q\x02" + b"0h\x01h\x02R"
    for _ in range(times):
        pickled += b"q\x030h\x01h\x03" + name + b"\x86R"
    return pickled + b"."


def test_pickle_that_grows_by_repetition_is_refused(tmp_path, whole):
    """Thirty times make gigabytes of four letters."""
    (tmp_path / "w.pth").write_bytes(with_pickle(whole.to_bytes(), encoded_again_and_again(4)))
    with pytest.raises(InputError, match="nests encodings of bytes"):
        read_weights(tmp_path / "w.pth")


class _Zeros:
    """A number of numpy that is gigabytes of zeros."""

    def __reduce__(self):
        import numpy as np

        scalar = np.float64(0).__reduce__()[0]
        return scalar, (np.dtype("S100000000"), b"")


def test_numpy_scalars_in_a_pickle_are_read(tmp_path):
    """Checkpoints keep their best loss as one; other types of numpy's are of any size."""
    import numpy as np

    weights = {"state_dict": a_network().state_dict()}
    torch.save(weights | {"best": np.float64(0.5), "when": np.int64(3)}, tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth").state
    torch.save(weights | {"best": _Zeros()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth"):
        read_weights(tmp_path / "w.pth")


SAFETENSORS = {
    "long header": (1 << 62).to_bytes(8, "little"),
    "no JSON": (2).to_bytes(8, "little") + b"{[",
    "deep": (9000).to_bytes(8, "little") + b"[" * 9000,
    "shape": b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}',
    "overflow": b'{"a":{"dtype":"F32","shape":[9223372036854775807,0,9],"data_offsets":[0,0]}}',
    "negative": b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
    "offsets": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
    "dtype": b'{"a":{"dtype":"F999","shape":[1],"data_offsets":[0,4]}}',
    "findings": b'{"__metadata__":{"findings":"[1,2]"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "deep findings": b'{"__metadata__":{"findings":"'
    + b"[" * 9000
    + b'"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
}


@pytest.mark.parametrize("content", SAFETENSORS.values(), ids=SAFETENSORS)
def test_invalid_safetensors_file_is_refused(tmp_path, content):
    """As weights to start from."""
    header = content if content[:1] != b"{" else len(content).to_bytes(8, "little") + content + bytes(4)
    (tmp_path / "m.safetensors").write_bytes(header)
    with pytest.raises(InputError, match=r"m\.safetensors"):
        read_weights(tmp_path / "m.safetensors")


def spoiled(**changes):
    return lambda state: state | changes


def group(**changes):
    def change(state):
        state["optimizer"]["param_groups"][0] |= changes
        return state

    return change


def moment(**changes):
    def change(state):
        state["optimizer"]["state"][0] |= changes
        return state

    return change


def rank(**changes):
    def change(state):
        state["ranks"][0] |= changes
        return state

    return change


def weight(tensor):
    def change(state):
        state["model"]["classifier.bias"] = tensor
        return state

    return change


LOOP = []
LOOP.append(LOOP)

WRONG = {
    "a list": lambda _: [1, 2],
    "a text": lambda _: "state",
    "a tensor": lambda _: torch.zeros(3),
    "nothing": lambda _: {},
    "a part missing": lambda state: {key: value for key, value in state.items() if key != "plateau"},
    "a part more": spoiled(more=1),
    "text as step": spoiled(step="3"),
    "truth as step": spoiled(step=True),
    "float as step": spoiled(step=3.0),
    "step below 0": spoiled(step=-3),
    "huge step": spoiled(step=10**100),
    "another step": spoiled(step=4),
    "model of numbers": spoiled(model={"a": 1}),
    "model by number": spoiled(model={1: torch.zeros(1)}),
    "no model": spoiled(model=None),
    "weights that are no numbers": weight(torch.tensor([float("nan"), 0.0])),
    "infinite weights": weight(torch.tensor([float("inf"), 0.0])),
    "ranks by name": spoiled(ranks={}),
    "ranks of numbers": spoiled(ranks=[1]),
    "loop": spoiled(ranks=LOOP),
    "loss as text": rank(loss_sum="1"),
    "loss that is no number": rank(loss_sum=float("nan")),
    "huge loss": rank(loss_sum=10**400),
    "no generator": rank(random={}),
    "generator of floats": rank(random={"cpu": torch.zeros(5056)}),
    "optimiser of text": spoiled(optimizer="adam"),
    "optimiser without groups": spoiled(optimizer={"state": {}}),
    "groups by name": spoiled(optimizer={"state": {}, "param_groups": {}}),
    "parameters as text": group(params="all"),
    "rate as text": group(lr="0.1"),
    "rate that is no number": group(lr=float("nan")),
    "moments of text": moment(exp_avg="x"),
    "plateau of text": spoiled(plateau="x"),
    "plateau without best": spoiled(plateau={"factor": 1.0}),
    "factor above 1": spoiled(plateau={"factor": 2.0, "best_loss": 1.0}),
    "best as text": spoiled(plateau={"factor": 1.0, "best_loss": "inf"}),
    "best that is no number": spoiled(plateau={"factor": 1.0, "best_loss": float("nan")}),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_state_with_unexpected_entries_is_refused_with_their_name(whole, spoil):
    """Its hash may be right, and another program have written it."""
    from trainer.runs.checkpoints import manifest_of

    manifest = manifest_of(b"", whole, epoch=1.0, scored=None)
    with pytest.raises(
        InputError, match=r"cannot read `s3://b/r/checkpoints/step-00000003/state.pt`: it is not a training state"
    ):
        from_bytes(saved(spoil(plain(whole))), WHERE, manifest=manifest)


def drop_weight(state):
    del state["model"]["classifier.bias"]
    return state


UNFIT = {
    "a weight less": drop_weight,
    "a weight of another shape": weight(torch.zeros(3)),
    "a weight of another type": weight(torch.zeros(2, dtype=torch.int64)),
    "no ranks": spoiled(ranks=[]),
    "no buffers": rank(buffers={}),
    "short generator": rank(random={"cpu": torch.zeros(3, dtype=torch.uint8)}),
    "no optimiser": spoiled(optimizer={}),
    "no parameters": group(params=[]),
    "other parameters": group(params=[0, 1]),
    "another kind": group(amsgrad=True),
    "other moments": group(betas=[2.0, 3.0]),
    "moment of another shape": moment(exp_avg=torch.zeros(7)),
    "moment of another type": moment(exp_avg_sq=torch.zeros(16, 3, 7, 7, dtype=torch.float64)),
    "count of steps by the list": moment(step=torch.zeros(7)),
    "moment of a parameter that is none": lambda state: (
        state | {"optimizer": state["optimizer"] | {"state": {9999: {}}}}
    ),
}


@pytest.mark.parametrize("spoil", UNFIT.values(), ids=UNFIT)
def test_state_of_another_training_is_refused_before_any_step(whole, spoil):
    """By name, in place of an error of torch's in the middle."""
    state = from_bytes(saved(spoil(plain(whole))), WHERE)
    network = a_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.2, fused=False)

    def check():
        check_fits(state, network, 1, WHERE)
        check_moments(state, optimizer, WHERE)

    with pytest.raises(InputError, match=r"cannot continue from `s3://b/r/checkpoints/step-00000003/state.pt`"):
        check()


def test_state_of_the_same_training_is_accepted(whole):
    """At another rate and on another device, where only the kernels differ."""
    network = a_network()
    check_fits(whole, network, 1, WHERE)
    check_fits(whole, network, 8, WHERE)
    state = from_bytes(whole.to_bytes(), WHERE)
    check_moments(state, torch.optim.Adam(network.parameters(), lr=0.2, foreach=True), WHERE)


def test_exceeding_a_limit_raises_a_limit_error():
    """A caller may say what is too large."""
    with pytest.raises(LimitError, match="compressed"):
        tensor_file.load(deflated(saved({"a": torch.zeros(1000)})))


def test_pickle_of_torchs_magic_number_alone_is_refused():
    """The magic number of torch's old form is a pickle too."""
    with pytest.raises(tensor_file.NoStateError):
        tensor_file.load(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2))
