"""Whether nodes have room for the job, now, later or never."""

import pytest
from doctor_samples import gaudi, gaudi_node, node, pod_set
from submitted import spec

from launcher.cluster.capacity import Served
from launcher.doctor import fit
from launcher.spec.options import PodOptions


def holding(name, count):
    requests = {"requests": {"habana.ai/gaudi": count}, "limits": {"habana.ai/gaudi": count}}
    return {
        "metadata": {"name": f"p-{name}", "namespace": "other"},
        "spec": {"nodeName": name, "containers": [{"name": "c", "resources": requests}]},
        "status": {"phase": "Running"},
    }


TAINT = {"key": "gaudi", "value": "yes", "effect": "NoSchedule"}

FITS = {
    "now": (gaudi(8), [gaudi_node("a")], [], "OK", ["1 pod with 8 habana.ai/gaudi", "now on a"]),
    "two now": (gaudi(16), [gaudi_node("a"), gaudi_node("b")], [], "OK", ["2 pods, each", "now on a, b"]),
    "half is in use": (
        gaudi(8),
        [gaudi_node("a"), gaudi_node("b")],
        [holding("a", "4"), holding("b", "6")],
        "WARN",
        ["0 fit now", "2 nodes lack habana.ai/gaudi (a pod needs 8, free: at most 4 on a)"],
    ),
    "one of two is in use": (gaudi(16), [gaudi_node("a"), gaudi_node("b")], [holding("b", "1")], "WARN", ["1 fit now"]),
    "too few nodes": (gaudi(16), [gaudi_node("a")], [], "FAIL", ["can never fit", "hold 1"]),
    "too small": (gaudi(8), [gaudi_node("a", "4")], [], "FAIL", ["can never fit", "needs 8, total: 4 on a"]),
    "no huge pages": (gaudi(8), [gaudi_node("a", pages="0")], [], "FAIL", ["1 node lacks hugepages-2Mi"]),
    "taint": (gaudi(8), [gaudi_node("a", taints=[TAINT])], [], "FAIL", ["with the taint `gaudi=yes:NoSchedule`"]),
    "taint tolerated": (
        gaudi(8, pod=PodOptions(toleration=("gaudi=yes:NoSchedule",))),
        [gaudi_node("a", taints=[TAINT])],
        [],
        "OK",
        ["now on a"],
    ),
    "selector": (
        gaudi(8, pod=PodOptions(node_selector=("zone=north",))),
        [gaudi_node("a", labels={"zone": "south"})],
        [],
        "FAIL",
        ["zone=north"],
    ),
    "cordoned": (gaudi(8), [gaudi_node("a", cordoned=True)], [], "FAIL", ["cordoned"]),
    "no nodes": (gaudi(8), [], [], "FAIL", ["there are no nodes"]),
    "usage unseen": (gaudi(8), [gaudi_node("a")], None, "WARN", ["not permitted to list the pods in use"]),
    "cpu": (spec(workers=2), [node("a")], [], "OK", ["1 cpu and 8Gi memory"]),
    "cpu too small": (spec(workers=8), [node("a", memory="16Gi")], [], "FAIL", ["lacks memory (a pod needs 32Gi"]),
    "elastic takes fewer": (
        gaudi(16, elastic="1:2", train_flags=("--global-batch-size", "64")),
        [gaudi_node("a"), gaudi_node("b")],
        [holding("b", "1")],
        "OK",
        ["only 1 of them, which `--elastic` allows"],
    ),
}


@pytest.mark.parametrize("name", FITS)
def test_fit_check_distinguishes_fits_now_later_and_never(name):
    """Three different things to do: submit, wait, or ask for something else; the sentence names what is in the way."""
    job, nodes, pods, status, words = FITS[name]
    outcome = fit.fit(pod_set(job), nodes, pods)
    assert outcome.status == status, outcome
    assert [word for word in words if word not in outcome.found] == []
    assert outcome.status != "FAIL" or outcome.fix


@pytest.mark.parametrize(
    ("nodes", "status"),
    [
        ([gaudi_node("a")], "OK"),
        ([gaudi_node("a"), gaudi_node("b", pages="1Gi")], "WARN"),
        ([gaudi_node("a", pages="0"), node("b", hugepages_2Mi="64Gi")], "FAIL"),
    ],
)
def test_huge_pages_must_be_on_the_nodes_with_accelerators(nodes, status):
    outcome = fit.huge_pages(pod_set(gaudi(8)).pod_spec, nodes)
    assert outcome.status == status
    assert "29008Mi" in outcome.found
    assert status == "OK" or "vm.nr_hugepages=14504" in outcome.fix


def test_devices_of_a_dra_driver_are_room_for_pods():
    """Node allocatable is empty there; claims, not the pods' requests, say what is free."""
    bare = gaudi_node("a", "0")
    for served, status, words in (
        (Served(total=8, free=8), "OK", "now on a"),
        (Served(total=8, free=8, exact=False), "OK", "now on a; DRA devices are counted as at most so many"),
        (Served(total=8, free=3), "WARN", "a pod needs 8, free: 3 on a"),
        (Served(total=4, free=4), "FAIL", "a pod needs 8, total: 4 on a"),
    ):
        devices = {"a": {"habana.ai/gaudi": served}}
        outcome = fit.fit(pod_set(gaudi(8)), [bare], [], devices)
        assert outcome.status == status
        assert words in outcome.found
        assert fit.huge_pages(pod_set(gaudi(8)).pod_spec, [bare], devices).status == "OK"


def test_pods_count_where_claims_cannot_be_listed():
    devices = {"a": {"habana.ai/gaudi": Served(total=8, free=None)}}
    bare = gaudi_node("a", "0")
    assert fit.fit(pod_set(gaudi(8)), [bare], [], devices).status == "OK"
    outcome = fit.fit(pod_set(gaudi(8)), [bare], [holding("a", "5")], devices)
    assert "free: 3 on a" in outcome.found
