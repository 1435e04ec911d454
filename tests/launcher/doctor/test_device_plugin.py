"""Whether nodes offer the accelerator, by whom, and whether what they offer are cards."""

import pytest
from doctor_samples import gaudi, gaudi_node, node, pod_set
from dra_objects import DRIVER, OF_DRIVER, RESOURCE, cards, claim, device, device_class, slice_of

from launcher.cluster.capacity import Served
from launcher.cluster.dra import DeviceObjects, served_devices
from launcher.doctor import fit
from launcher.doctor.device_plugin import device_plugin

TAINTED = {"a": {"habana.ai/gaudi": Served(total=0, free=0, tainted=1)}}
SHARING = "nvidia.com/gpu.sharing-strategy"


def by_dra(nodes, *, resource=RESOURCE, per_pod=1, **objects):
    given = DeviceObjects(**objects)
    return device_plugin(
        resource, nodes, objects=given, devices=served_devices(given, nodes, [resource]), per_pod=per_pod
    )


def gpus(name, count, resource=RESOURCE, **labels):
    made = node(name, labels={key.replace("__", "/"): value for key, value in labels.items()})
    made["status"]["allocatable"][resource] = str(count)
    return made


def labelled(name, count, labels, resource=RESOURCE):
    return gpus(name, count, resource) | {"metadata": {"name": name, "labels": labels}}


def test_accelerator_that_no_node_offers_hints_at_the_device_plugin():
    """`habana.ai/gaudi` appears on nodes only once the plugin runs there."""
    assert device_plugin("habana.ai/gaudi", [node("a")]).status == "FAIL"
    assert device_plugin("habana.ai/gaudi", [gaudi_node("a"), node("b")]).found == "8 habana.ai/gaudi on 1 node"
    assert device_plugin(None, []).status == "skipped"


@pytest.mark.parametrize(
    ("resource", "nodes", "classes", "instead"),
    [
        ("habana.ai/gaudi", [node("a")], [device_class("gaudi.intel.com", "x", resource="intel.com/gaudi")], True),
        ("nvidia.com/gpu", [gpus("a", 7, "nvidia.com/mig-1g.10gb")], [], True),
        ("nvidia.com/gpu", [gpus("a", 0, "nvidia.com/mig-1g.10gb")], [], False),
        ("nvidia.com/gpu", [gaudi_node("a"), gpus("b", 4, "amd.com/gpu")], [device_class(resource=None)], False),
        ("example.com/gpu", [gpus("a", 8)], [], False),
        ("nvidia.com/gpu", [gpus("a", 8, "nvidia.com/hostdev")], [], False),
        ("habana.ai/gaudi", [gpus("a", 8, "gpu.intel.com/i915")], [], False),
    ],
)
def test_other_names_of_the_same_accelerator_are_suggested(resource, nodes, classes, instead):
    """Intel's DRA driver calls its cards otherwise than the device plugin, and a card in MIG parts is no `nvidia.com/gpu`."""
    outcome = by_dra(nodes, resource=resource, classes=tuple(classes))
    assert outcome.status == "FAIL"
    assert outcome.fix.startswith("--resource ") == instead, outcome.fix
    assert "device plugin" in outcome.fix


def test_unhealthy_accelerators_are_reported():
    """The node has eight, the plugin offers six."""
    ill = gaudi_node("a", "6")
    ill["status"]["capacity"] = {"habana.ai/gaudi": "8"}
    outcome = device_plugin("habana.ai/gaudi", [ill])
    assert outcome.status == "WARN"
    assert "not healthy: 2 on a" in outcome.found


def test_devices_of_a_dra_driver_count_as_offered():
    """Node allocatable is empty, and the job runs all the same (KEP-5004)."""
    outcome = by_dra([node("a"), node("b")], classes=(device_class(),), slices=(slice_of("a", cards(8)),))
    assert (outcome.status, outcome.found) == (
        "OK",
        "8 nvidia.com/gpu on 1 node by DRA (DeviceClass `gpu.nvidia.com`)",
    )


def test_nodes_with_a_device_plugin_and_nodes_with_a_driver_add_up():
    """A cluster moves from one to the other node by node; where both are, the plugin's count is the one that holds."""
    nodes = [gpus("a", 4), node("b")]
    slices = (slice_of("a", cards(8)), slice_of("b", cards(2)))
    outcome = by_dra(nodes, classes=(device_class(),), slices=slices)
    assert outcome.found == "6 nvidia.com/gpu on 2 nodes, 2 of them by DRA (DeviceClass `gpu.nvidia.com`)"


def test_selector_that_is_not_understood_counts_at_most():
    classes = (device_class(DRIVER, f"{OF_DRIVER} && device.capacity['{DRIVER}'].memory.compareTo(q) >= 0"),)
    outcome = by_dra([node("a")], classes=classes, slices=(slice_of("a", cards(8)),))
    assert (outcome.status, outcome.found.partition(" by")[0]) == ("OK", "at most 8 nvidia.com/gpu on 1 node")


def test_tainted_devices_are_reported_like_unhealthy_ones():
    ill = device("ill", {"key": "gpu.nvidia.com/xid", "effect": "NoSchedule"})
    outcome = by_dra([node("a")], classes=(device_class(),), slices=(slice_of("a", [*cards(7), ill]),))
    assert outcome.status == "WARN"
    assert "not healthy: 1 on a" in outcome.found
    outcome = by_dra([node("a")], classes=(device_class(),), slices=(slice_of("a", [ill]),))
    assert outcome.status == "FAIL"
    assert "that is healthy: 1 on a are not" in outcome.found
    assert fit.huge_pages(pod_set(gaudi(1)).pod_spec, [node("a")], TAINTED).status == "skipped"


def test_class_without_devices_points_to_its_driver():
    """The device plugin is not what lacks then."""
    outcome = by_dra([node("a")], classes=(device_class(),))
    assert outcome.status == "FAIL"
    assert "no ResourceSlice has a device of the DeviceClass `gpu.nvidia.com`" in outcome.found
    assert "DRA driver must run" in outcome.fix


@pytest.mark.parametrize(
    ("denied", "classes"), [("deviceclasses", ()), ("resourceslices", (device_class(),))], ids=["classes", "slices"]
)
def test_user_who_may_not_look_is_not_told_that_there_is_nothing(denied, classes):
    """A job that would run must not be stopped by a role of an earlier version."""
    outcome = by_dra([node("a")], classes=classes, denied=frozenset({denied}))
    assert outcome.status == "WARN"
    assert f"not permitted to list {denied}" in outcome.found


def test_claims_that_may_not_be_listed_are_mentioned():
    slices, denied = (slice_of("a", cards(8)),), frozenset({"resourceclaims"})
    outcome = by_dra([node("a")], classes=(device_class(),), slices=slices, denied=denied)
    assert outcome.status == "OK"
    assert "not permitted to list resourceclaims" in outcome.found
    outcome = by_dra([node("a")], classes=(device_class(),), slices=slices, claims=(claim("a", "gpu-0"),))
    assert outcome.found.startswith("8 nvidia.com/gpu"), "what is taken is the row `room on nodes`"


@pytest.mark.parametrize(
    ("resource", "labels", "words"),
    [
        (RESOURCE, {"nvidia.com/gpu.replicas": "4", SHARING: "time-slicing"}, "time-slicing: 16 on a are 4 devices"),
        (RESOURCE, {"nvidia.com/gpu.replicas": "4", SHARING: "mps"}, "mps: 16 on a are 4 devices for 4 pods each"),
        (RESOURCE, {"nvidia.com/gpu.replicas": "8"}, "shared: 16 on a are 2 devices for 8 pods each"),
        (RESOURCE, {"nvidia.com/gpu.product": "Tesla-T4-SHARED"}, "shared: a offers more than it has devices"),
        (RESOURCE, {SHARING: "time-slicing"}, "shared: a offers more than it has devices"),
        (
            "nvidia.com/mig-1g.5gb",
            {"nvidia.com/mig-1g.5gb.replicas": "2", SHARING: "time-slicing"},
            "time-slicing: 16 on a are 8 devices for 2 pods each",
        ),
        (
            RESOURCE,
            {"nvidia.com/gpu.product": "A100-SXM4-40GB-MIG-1g.5gb", "nvidia.com/mig.strategy": "single"},
            "MIG: each on a is a part of a card, A100-SXM4-40GB-MIG-1g.5gb",
        ),
    ],
)
def test_counts_that_are_larger_than_the_cards_are_warned_of(resource, labels, words):
    """Sixteen that are four cards would train at a fourth of the speed, with a fourth of the memory each."""
    outcome = device_plugin(resource, [labelled("a", 16, labels, resource)])
    assert outcome.status == "WARN"
    assert words in outcome.found
    assert "--node-selector" in outcome.fix


def test_sharing_that_the_job_asks_for_is_said_and_no_problem_for_one_worker():
    """`nvidia.com/gpu.shared` is a name that only sharing has."""
    shared = "nvidia.com/gpu.shared"
    nodes = [labelled("a", 8, {"nvidia.com/gpu.replicas": "4", SHARING: "time-slicing"}, shared)]
    one = device_plugin(shared, nodes, per_pod=1)
    assert (one.status, one.found) == (
        "OK",
        "8 nvidia.com/gpu.shared on 1 node; time-slicing: 8 on a are 2 devices for 4 pods each",
    )
    two = device_plugin(shared, nodes, per_pod=2)
    assert two.status == "WARN"
    assert "--workers-per-node 1" in two.fix


@pytest.mark.parametrize("replicas", ["1", "0", "", "many", "-4"])
def test_labels_without_sharing_are_not_warned_of(replicas):
    """GPU feature discovery sets them on every node."""
    labels = {"nvidia.com/gpu.replicas": replicas, SHARING: "none", "nvidia.com/gpu.product": "Tesla-T4"}
    assert device_plugin(RESOURCE, [labelled("a", 4, labels)]).status == "OK"


def test_nodes_that_offer_none_are_not_described():
    labels = {"nvidia.com/gpu.replicas": "4", SHARING: "time-slicing"}
    assert device_plugin(RESOURCE, [gpus("a", 4), labelled("b", 0, labels)]).found == "4 nvidia.com/gpu on 1 node"
