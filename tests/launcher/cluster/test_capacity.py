"""What nodes have for a pod: amounts, barriers, and what is left when others are there."""

from fractions import Fraction

import pytest

from launcher.cluster.capacity import Barrier, accelerator, quantity, requests, rooms, shown

GI = 2**30


def container(**amounts):
    return {
        "name": "c",
        "resources": {"requests": {name.replace("_", "/"): amount for name, amount in amounts.items()}},
    }


def pod(*containers, **spec):
    return {"containers": list(containers), **spec}


def node(name="node-a", labels=None, taints=(), ready="True", unschedulable=False, **allocatable):
    amounts = {"cpu": "8", "memory": "32Gi", "pods": "110"} | {
        key.replace("_", "/"): value for key, value in allocatable.items()
    }
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"taints": list(taints), "unschedulable": unschedulable},
        "status": {"allocatable": amounts, "conditions": [{"type": "Ready", "status": ready}]},
    }


def held(on, owner=None, **amounts):
    """A pod that is on a node."""
    metadata = {"name": "p", "namespace": "n"} | ({"ownerReferences": [{"kind": owner}]} if owner else {})
    return {"metadata": metadata, "spec": {"nodeName": on, "containers": [container(**amounts)]}}


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("8", 8),
        (8, 8),
        ("500m", Fraction(1, 2)),
        ("64Mi", 64 * 2**20),
        ("1.5Gi", 3 * 2**29),
        ("2k", 2000),
        ("1e3", 1000),
        ("1E", 10**18),
        ("3u", Fraction(3, 10**6)),
        ("267847642337", 267847642337),
    ],
)
def test_quantities_are_parsed_exactly(text, amount):
    """A card more or less decides; nothing is rounded."""
    assert quantity(text) == amount


def test_invalid_quantity_is_refused():
    """Counting on with a wrong number would name the wrong cause."""
    with pytest.raises(ValueError, match="not a quantity"):
        quantity("lots")


@pytest.mark.parametrize(
    ("name", "amount", "text"),
    [
        ("memory", 64 * 2**20, "64Mi"),
        ("memory", 256 * GI, "256Gi"),
        ("hugepages-2Mi", 29008 * 2**20, "29008Mi"),
        ("memory", 1000, "1000"),
        ("memory", 0, "0"),
        ("cpu", Fraction(5, 2), "2500m"),
        ("cpu", 80, "80"),
        ("habana.ai/gaudi", 8, "8"),
    ],
)
def test_amounts_are_formatted_with_units(name, amount, text):
    """The sentence says `64Mi`, as the manifest does."""
    assert shown(name, Fraction(amount)) == text


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        pytest.param(pod(container(cpu="1"), container(cpu="500m")), "1500m", id="containers add up"),
        pytest.param(
            pod(container(cpu="1"), initContainers=[container(cpu="3"), container(cpu="2")]), "3", id="largest init"
        ),
        pytest.param(pod(container(cpu="1"), initContainers=[container(cpu="500m")]), "1", id="small init"),
        pytest.param(
            pod(container(cpu="1"), initContainers=[container(cpu="2") | {"restartPolicy": "Always"}]),
            "3",
            id="sidecar",
        ),
        pytest.param(
            pod(
                container(cpu="1"),
                initContainers=[container(cpu="2") | {"restartPolicy": "Always"}, container(cpu="4")],
            ),
            "6",
            id="init beside a sidecar",
        ),
        pytest.param(pod(container(cpu="1"), overhead={"cpu": "250m"}), "1250m", id="overhead"),
    ],
)
def test_effective_requests_of_a_pod(spec, cpu):
    """As the scheduler counts: init containers run before the others, sidecars beside them."""
    assert requests(spec) == {"cpu": quantity(cpu), "pods": 1}


def test_accelerator_is_distinguished_from_network_adapters():
    """A job on DL1 asks for both; the cards are what is scarce."""
    wanted = {"vpc.amazonaws.com/efa": Fraction(4), "habana.ai/gaudi": Fraction(8), "cpu": Fraction(1)}
    assert accelerator(wanted) == "habana.ai/gaudi"
    assert accelerator({"cpu": Fraction(1), "hugepages-2Mi": Fraction(1)}) is None


TAINT = {"key": "team", "value": "radiology", "effect": "NoSchedule"}
IN = {"key": "pool", "operator": "In", "values": ["gaudi", "gaudi3"]}


def affinity(*terms):
    required = {"nodeSelectorTerms": [{"matchExpressions": list(rules)} for rules in terms]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


@pytest.mark.parametrize(
    ("spec", "on", "barrier"),
    [
        pytest.param(pod(), node(), None, id="open"),
        pytest.param(pod(), node(unschedulable=True), Barrier(kind="cordon", what=""), id="cordon"),
        pytest.param(pod(), node(ready="Unknown"), Barrier(kind="not ready", what=""), id="not ready"),
        pytest.param(pod(), node(taints=[TAINT]), Barrier(kind="taint", what="team=radiology:NoSchedule"), id="taint"),
        pytest.param(pod(), node(taints=[TAINT | {"effect": "PreferNoSchedule"}]), None, id="taint that only prefers"),
        pytest.param(
            pod(tolerations=[{"key": "team", "operator": "Exists"}]), node(taints=[TAINT]), None, id="any value"
        ),
        pytest.param(
            pod(tolerations=[{"key": "team", "value": "radiology"}]), node(taints=[TAINT]), None, id="this value"
        ),
        pytest.param(pod(tolerations=[{"operator": "Exists"}]), node(taints=[TAINT]), None, id="all taints"),
        pytest.param(
            pod(tolerations=[{"key": "team", "value": "other"}]),
            node(taints=[TAINT]),
            Barrier(kind="taint", what="team=radiology:NoSchedule"),
            id="other value",
        ),
        pytest.param(
            pod(tolerations=[{"key": "team", "operator": "Exists", "effect": "NoExecute"}]),
            node(taints=[TAINT]),
            Barrier(kind="taint", what="team=radiology:NoSchedule"),
            id="other effect",
        ),
        pytest.param(pod(nodeSelector={"pool": "gaudi"}), node(), Barrier(kind="label", what="pool=gaudi"), id="label"),
        pytest.param(pod(nodeSelector={"pool": "gaudi"}), node(labels={"pool": "gaudi"}), None, id="label that it has"),
        pytest.param(pod(affinity=affinity([IN])), node(labels={"pool": "gaudi3"}), None, id="affinity"),
        pytest.param(
            pod(affinity=affinity([IN])),
            node(),
            Barrier(kind="label", what="pool In gaudi,gaudi3"),
            id="affinity unmet",
        ),
        pytest.param(
            pod(affinity=affinity([IN], [{"key": "gen", "operator": "Gt", "values": ["1"]}])),
            node(labels={"gen": "2"}),
            None,
            id="one of two terms",
        ),
        pytest.param(
            pod(affinity=affinity([{"key": "gen", "operator": "Lt", "values": ["2"]}])),
            node(labels={"gen": "2"}),
            Barrier(kind="label", what="gen Lt 2"),
            id="number too large",
        ),
        pytest.param(
            pod(affinity=affinity([{"key": "gen", "operator": "Gt", "values": ["2"]}])),
            node(labels={"gen": "two"}),
            Barrier(kind="label", what="gen Gt 2"),
            id="no number",
        ),
        pytest.param(
            pod(affinity=affinity([{"key": "spot", "operator": "DoesNotExist"}])),
            node(),
            None,
            id="label that must not be",
        ),
        pytest.param(
            pod(affinity=affinity([{"key": "pool", "operator": "NotIn", "values": ["cpu"]}])),
            node(labels={"pool": "gaudi"}),
            None,
            id="not in",
        ),
        pytest.param(
            pod(affinity=affinity([{"key": "pool", "operator": "Exists"}])),
            node(labels={"pool": ""}),
            None,
            id="exists",
        ),
    ],
)
def test_obstacles_of_a_pod_on_a_node(spec, on, barrier):
    """The user is told which taint or label, and may then change it."""
    assert rooms(spec, [on], [])[0].barrier == barrier


def test_free_and_allocatable_resources_of_a_node():
    """Pods of DaemonSets never end; what others hold comes back."""
    pods = [
        held("node-a", cpu="2", **{"habana.ai_gaudi": "6"}),
        held("node-a", owner="DaemonSet", cpu="1"),
        held("node-b", cpu="4"),
        {"metadata": {"name": "pending"}, "spec": {"containers": [container(cpu="7")]}},
    ]
    room = rooms(pod(container(cpu="5")), [node(**{"habana.ai_gaudi": "8"})], pods)[0]
    assert (room.total["cpu"], room.free["cpu"]) == (7, 5)
    assert (room.total["habana.ai/gaudi"], room.free["habana.ai/gaudi"]) == (8, 2)
    assert (room.total["pods"], room.free["pods"]) == (109, 108)


def test_shortages_list_accelerators_first():
    """They are what a job waits for; the rest often follows from it."""
    room = rooms(pod(), [node(**{"habana.ai_gaudi": "4"})], [])[0]
    wanted = {
        name: quantity(text)
        for name, text in {"cpu": "9", "hugepages-2Mi": "1Gi", "habana.ai/gaudi": "8", "memory": "1Gi"}.items()
    }
    assert room.lacks(wanted) == ["habana.ai/gaudi", "hugepages-2Mi", "cpu"]
    assert room.lacks_now({"cpu": Fraction(8)}) == []


def test_number_of_pods_that_fit_on_a_node():
    """Whether a gang can ever be complete is counted with this."""
    room = rooms(pod(), [node(**{"habana.ai_gaudi": "8"})], [])[0]
    assert room.holds({"habana.ai/gaudi": Fraction(3), "cpu": Fraction(1)}) == 2
    assert room.holds({"habana.ai/gaudi": Fraction(16)}) == 0
    assert room.holds({"nvidia.com/gpu": Fraction(1)}) == 0
