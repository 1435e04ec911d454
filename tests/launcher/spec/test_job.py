"""What a job may be: how workers share nodes, and what is refused on construction."""

import re

import pytest

from launcher.spec.fields import settings_of
from launcher.spec.job import JobSpec
from launcher.spec.manifest import render
from launcher.spec.options import PodOptions, PolicyOptions
from trainer.errors import InputError
from trainer.location import Location


def job(**changes):
    """A job that is complete and fits, with these fields changed."""
    fields = {
        "accelerator": "cpu",
        "image": "registry.example/chexnet:1",
        "data": "s3://cxr/images",
        "output": "s3://cxr/runs",
        "name": "t1",
    }
    return JobSpec(**(fields | changes))


@pytest.mark.parametrize(
    ("accelerator", "workers", "given", "per_node", "nodes"),
    [
        ("gaudi", 8, None, 8, 1),
        ("gaudi", 32, None, 8, 4),
        ("gaudi", 12, None, 4, 3),
        ("gaudi", 6, None, 2, 3),
        ("gaudi", 7, None, 1, 7),
        ("gaudi", 8, 2, 2, 4),
        ("cuda", 12, None, 6, 2),
        ("cuda", 7, None, 7, 1),
        ("cuda", 16, 16, 16, 1),
        ("cpu", 1, None, 1, 1),
        ("cpu", 11, None, 1, 11),
    ],
)
def test_workers_share_nodes_evenly(accelerator, workers, given, per_node, nodes):
    """The user counts workers; pods follow from them, and on Gaudi only groups of cards that can talk."""
    spec = job(accelerator=accelerator, workers=workers, workers_per_node=given)
    assert (spec.per_node, spec.nodes) == (per_node, nodes)


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        pytest.param({"workers": 0}, "--workers 0: it must be 1 to 4096", "--workers 1", id="no workers"),
        pytest.param({"workers": 10**9}, "must be 1 to 4096", "--workers 4096", id="workers beyond any cluster"),
        pytest.param(
            {"workers_per_node": 10**9}, "must be 1 to 4096", "--workers-per-node 1", id="a node beyond any cluster"
        ),
        pytest.param(
            {"workers_per_node": 2},
            "cannot divide 1 worker (",
            "--workers-per-node 1",
            id="one worker for nodes of two",
        ),
        pytest.param(
            {"workers": 12, "workers_per_node": 8}, "12 workers", "--workers-per-node 6", id="workers do not fill nodes"
        ),
        pytest.param(
            {"accelerator": "gaudi", "workers": 12, "workers_per_node": 8},
            "12 workers",
            "--workers-per-node 4",
            id="nor on gaudi",
        ),
        pytest.param(
            {"accelerator": "gaudi", "workers": 12, "workers_per_node": 6},
            "must be 1, 2, 4, 8",
            "--workers-per-node 4",
            id="cards that cannot talk",
        ),
        pytest.param(
            {"workers_per_node": 0}, "--workers-per-node 0 on cpu: it must be 1 to 4096", None, id="empty nodes"
        ),
        pytest.param({"name": "Capital"}, "`Capital` as a name", None, id="name with capitals"),
        pytest.param({"name": "x" * 60}, "got 60", None, id="name of 60 characters"),
        pytest.param(
            {"name": "x" * 53, "workers": 101},
            "64 characters of at most 63",
            f"--name {'x' * 52}",
            id="name without room for 101 pods",
        ),
        pytest.param({"namespace": "Team A"}, "namespace", None, id="namespace"),
        pytest.param({"data": ""}, "cannot use ``", "--data s3://BUCKET/PREFIX", id="empty data"),
        pytest.param({"output": ""}, "cannot use ``", "--output s3://BUCKET/PREFIX", id="empty output"),
        pytest.param({"elastic": f"1:{'9' * 5000}"}, "MIN:MAX", None, id="elastic beyond any number"),
        pytest.param({"image": ""}, "as an image", "--image REGISTRY/NAME:TAG", id="empty image"),
        pytest.param({"data": "cxr"}, "from `--data`", "--data s3://BUCKET/PREFIX", id="relative data"),
        pytest.param({"data": "s3://"}, "from `--data`", None, id="no bucket"),
        pytest.param({"output": "gs://cxr/runs"}, "from `--output`", None, id="another cloud"),
        pytest.param(
            {"train_flags": ("--data", "/x")}, "cannot use `--data`", "--accelerator", id="the launcher's flag"
        ),
        pytest.param(
            {"train_flags": ("--cache_dir=/x", "--name=y")},
            "`--cache-dir`, `--name`",
            None,
            id="two of them, spelled oddly",
        ),
        pytest.param(
            {"train_flags": ("--epoch", "3")},
            "unknown option: --epoch. Did you mean --epochs?",
            "--help",
            id="unknown trainer flag",
        ),
        pytest.param(
            {"train_flags": ("--preset", "smoke", "--positive-class", "Normal")},
            "each finding has its own sensitivity (from `--positive-class`)",
            "remove --positive-class",
            id="positive class of independent findings",
        ),
        pytest.param(
            {"train_flags": ("--uncertain", "Edema=perhaps")},
            "it must be ones, zeros, ignore or a number from 0 to 1, got `Edema=perhaps` (from `--uncertain`)",
            "--uncertain ignore --uncertain Edema=ones",
            id="unknown policy of uncertain labels",
        ),
        pytest.param(
            {"train_flags": ("--batch-size", "8", "--global-batch-size", "8")},
            "two batch sizes",
            None,
            id="two batch sizes",
        ),
        pytest.param(
            {"workers": 3, "train_flags": ("--global-batch-size", "8")},
            "8",
            "--global-batch-size 9",
            id="batch not shared",
        ),
        pytest.param(
            {
                "workers": 16,
                "elastic": "1:2",
                "train_flags": ("--preset", "smoke", "--crop-px", "32", "--global-batch-size", "16"),
            },
            "BatchNorm layers need more than one value",
            "--global-batch-size 32, or --crop-px 61 or more",
            id="elastic, one image per worker at the largest size",
        ),
        pytest.param({"elastic": "2"}, "MIN:MAX", None, id="elastic is no range"),
        pytest.param({"elastic": "3:2"}, "MIN at most MAX", None, id="elastic range upside down"),
        pytest.param({"workers": 8, "elastic": "1:4"}, "need 1 node", "--workers 32", id="elastic with other nodes"),
        pytest.param({"elastic": "1:1"}, "need 1 node", "--workers 2", id="elastic with one node"),
        pytest.param(
            {"workers": 16, "elastic": "1:2"},
            "without a global batch",
            "-- --global-batch-size N",
            id="elastic, batch per worker",
        ),
        pytest.param(
            {"workers": 24, "elastic": "1:3", "train_flags": ("--global-batch-size", "24")},
            "among 8, 16, 24 workers",
            "-- --global-batch-size 48",
            id="elastic, batch not shared by each size",
        ),
    ],
)
def test_jobs_that_could_not_run_are_refused(changes, message, hint):
    """Bad input is named before anything is spent on it, with something that works."""
    with pytest.raises(InputError) as refusal:
        job(**changes)
    assert message in str(refusal.value.args[0])
    assert refusal.value.hint
    assert (hint or "") in refusal.value.hint


@pytest.mark.parametrize("field", ["name", "namespace", "image", "data", "elastic"])
def test_a_refusal_is_one_line_whatever_was_given(field):
    """Line breaks and colours of the terminal are shown as what was typed, not acted on."""
    with pytest.raises(InputError) as refusal:
        job(**{field: "a\nb\x1b[31mé"})
    assert "a\\nb\\x1b[31mé" in str(refusal.value.args[0])
    assert "\n" not in refusal.value.hint


def test_elastic_job_has_its_range_of_nodes():
    """MIN:MAX counts nodes, and MAX is what the workers make."""
    spec = job(accelerator="cuda", workers=16, elastic="1:2", train_flags=("--global-batch-size", "128"))
    assert (spec.fewest_nodes, spec.nodes, spec.per_node) == (1, 2, 8)


@pytest.mark.parametrize(
    ("data", "output", "seen_output", "run"),
    [
        ("s3://b/cxr", "s3://b/runs/", "s3://b/runs/", "s3://b/runs/t1"),
        ("/srv/cxr", "/srv/runs", "/output", "/srv/runs/t1"),
    ],
)
def test_trainer_flags_name_paths_of_the_container(data, output, seen_output, run):
    """Mounted places go by their mount paths, buckets by their own names."""
    spec = job(data=data, output=output)
    assert (spec.train.data, spec.train.output, spec.train.cache_dir) == ("/data", seen_output, "/cache")
    assert (spec.train.name, spec.train.device, spec.run) == ("t1", "cpu", run)


@pytest.mark.parametrize(
    ("place", "parts"),
    [
        ("s3://b", ("b", "")),
        ("s3://b/", ("b", "")),
        ("s3://b/cxr", ("b", "cxr/")),
        ("s3://my.bucket/a/b/", ("my.bucket", "a/b/")),
    ],
)
def test_prefixes_of_a_bucket_end_in_a_slash(place, parts):
    """The mount driver takes no other."""
    assert (Location(place).bucket, Location(place).prefix) == parts


@pytest.mark.parametrize("accelerator", ["cuda", "cpu"])
@pytest.mark.parametrize("mode", ["lazy", "compile", "eager"])
def test_mode_of_gaudi_is_refused_on_other_accelerators(accelerator, mode):
    """It would do nothing."""
    with pytest.raises(InputError, match=f"cannot use --gaudi-mode {mode} on {accelerator}: only Gaudi has modes"):
        job(accelerator=accelerator, gaudi_mode=mode)


def test_mode_of_a_job_on_gaudi_is_removed_by_the_setting_that_the_hint_names():
    """`clone --set accelerator=cuda` keeps the mode, and has no flag to omit."""
    settings = settings_of(job(accelerator="gaudi", gaudi_mode="compile")) | {"name": "t2"}
    kept = {key: value if isinstance(value, list) else [value] for key, value in settings.items()}
    moved = kept | {"accelerator": ["cuda"]}
    with pytest.raises(InputError, match="only Gaudi has modes") as refusal:
        JobSpec.from_settings(moved)
    key, value = re.search(r"--set (\w+)=(\w+)", refusal.value.hint).groups()
    assert value == "null"
    assert JobSpec.from_settings({name: each for name, each in moved.items() if name != key}).mode is None


def test_variable_of_eager_mode_may_be_changed():
    """The mode itself is decided by the other."""
    name = "PT_HPU_EAGER_ENABLE_GRADIENT_VIEW_LAYOUT_OPT"
    assert job(accelerator="gaudi", gaudi_mode="eager", pod=PodOptions(env=(f"{name}=0",)))


def test_mode_after_the_dashes_is_refused():
    """The launcher sets the variable beside it."""
    with pytest.raises(InputError, match="cannot use `--gaudi-mode` after `--`") as refusal:
        job(accelerator="gaudi", train_flags=("--gaudi-mode", "compile"))
    assert "--gaudi-mode" in refusal.value.hint


@pytest.mark.parametrize("generation", ["1", "2", "3"])
@pytest.mark.parametrize(("mode", "chosen"), [(None, "lazy"), ("compile", "compile"), ("eager", "eager")])
def test_trainer_gets_the_mode_of_the_job(generation, mode, chosen):
    """Also the default: another release must not change it."""
    spec = job(accelerator="gaudi", gaudi_generation=generation, gaudi_mode=mode)
    assert (spec.mode, spec.train.gaudi_mode) == (chosen, chosen)
    assert job(accelerator="cuda").train.gaudi_mode is None


@pytest.mark.parametrize(
    ("mode", "value", "hint"),
    [(None, "0", "--gaudi-mode compile"), ("compile", "1", "--gaudi-mode lazy"), ("eager", "1", "--gaudi-mode lazy")],
)
def test_variable_that_contradicts_the_mode_is_refused(mode, value, hint):
    """The trainer would refuse it on the cards."""
    with pytest.raises(InputError, match=f"`PT_HPU_LAZY_MODE={value}` .*from `--env`") as refusal:
        job(accelerator="gaudi", gaudi_mode=mode, pod=PodOptions(env=(f"PT_HPU_LAZY_MODE={value}",)))
    assert hint in refusal.value.hint


@pytest.mark.parametrize(
    ("accelerator", "mode", "value"), [("gaudi", "compile", "0"), ("gaudi", None, "1"), ("cpu", None, "0")]
)
def test_variable_that_agrees_with_the_mode_is_allowed(accelerator, mode, value):
    """As jobs of earlier versions have it."""
    assert job(accelerator=accelerator, gaudi_mode=mode, pod=PodOptions(env=(f"PT_HPU_LAZY_MODE={value}",)))


def test_job_with_a_runtime_is_a_train_job_without_a_cluster_too():
    """`render` and a client dry run must print what `submit` creates, and refuse what it would refuse."""
    rendered = render(job(runtime="ours"))[-1]
    assert rendered["kind"] == "TrainJob"
    assert rendered["spec"]["runtimeRef"]["name"] == "ours"
    with pytest.raises(InputError, match="cannot use --ttl 1h with a TrainJob"):
        job(runtime="ours", policy=PolicyOptions(ttl="1h"))
    assert job().kind.api == "pytorchjob"
