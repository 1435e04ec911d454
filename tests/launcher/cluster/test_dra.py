"""Devices that DRA drivers serve as extended resources: which count, on which nodes, and which are free."""

import pytest
from dra_objects import DRIVER, OF_DRIVER, PATH, RESOURCE, cards, claim, device, device_class, put, slice_of

from launcher.cluster.capacity import Served, rooms
from launcher.cluster.dra import DeviceObjects, class_of, read_devices, served_devices

TAINT = {"key": "example.com/broken", "effect": "NoSchedule"}


def node(name, allocatable=None, **labels):
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": {"cpu": "8", "pods": "110"} | (allocatable or {})},
    }


CLASSES = (device_class(),)
NODES = [node("a", zone="north"), node("b", zone="south")]


def served(*slices, nodes=NODES, resource=RESOURCE, classes=CLASSES, **objects):
    """Total and free devices on each node that has any."""
    found = served_devices(DeviceObjects(classes=tuple(classes), slices=slices, **objects), nodes, [resource])
    return {name: of[resource] for name, of in found.items() if of}


def wanting(count):
    return {"containers": [{"resources": {"requests": {RESOURCE: count}}}]}


def test_devices_of_a_node_are_counted_for_the_resource_of_their_class():
    assert served(slice_of("a", cards(8))) == {"a": Served(total=8, free=8)}


def test_implicit_name_of_a_class_is_served_too():
    """From Kubernetes 1.35 each class has it, also one with a name of its own."""
    name = f"deviceclass.resource.kubernetes.io/{DRIVER}"
    for explicit in (RESOURCE, None):
        found = served(slice_of("a", cards(2)), resource=name, classes=[device_class(resource=explicit)])
        assert found == {"a": Served(total=2, free=2)}
    assert served(slice_of("a", cards(2)), classes=[device_class(resource=None)]) == {}


def test_newest_class_of_a_name_serves_it():
    """Source: extendedresourcecache.go; a tie goes to the first name."""
    old, new, tie = (
        device_class(name, created=f"2026-0{month}-01T00:00:00Z") for name, month in (("a", 1), ("c", 2), ("b", 2))
    )
    assert class_of(RESOURCE, [old, new, tie]) == tie
    assert class_of(RESOURCE, [old, new]) == new
    assert class_of("other.example.com/gpu", [old, new]) is None


def test_devices_that_the_class_does_not_select_are_not_counted():
    """NVIDIA's driver lists cards and their MIG partitions side by side."""
    parts = [device("mig", attributes={"type": {"string": "mig"}})]
    assert served(slice_of("a", [*cards(2), *parts])) == {"a": Served(total=2, free=2)}
    assert served(slice_of("a", cards(2), driver="net.example.com")) == {}


def test_slices_reach_nodes_by_name_selector_or_all():
    """A pool that several nodes reach counts on each, so the sum is an upper bound."""
    north = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["north"]}]}]}
    by_field = {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]}
    shared = Served(total=1, free=1, exact=False)
    assert served(slice_of(None, cards(1), nodeSelector=north)) == {"a": shared}
    assert served(slice_of(None, cards(1), nodeSelector=by_field)) == {"b": shared}
    assert served(slice_of(None, cards(1), nodeSelector={"nodeSelectorTerms": [{}]})) == {}
    assert served(slice_of(None, cards(1), allNodes=True)) == {"a": shared, "b": shared}
    assert served(slice_of(None, cards(1))) == {}, "a kind of selection that is not known yet"


def test_devices_may_select_nodes_each():
    devices = [device("x", nodeName="a"), device("y", nodeName="b"), device("z", allNodes=True)]
    found = served(slice_of(None, devices, perDeviceNodeSelection=True))
    assert {name: (each.total, each.exact) for name, each in found.items()} == {"a": (2, False), "b": (2, False)}


def test_only_the_newest_generation_of_a_pool_counts():
    """While a driver changes a pool, slices of both generations exist."""
    old, new = slice_of("a", cards(8), generation=3), slice_of("a", cards(2), generation=4)
    assert served(old, new) == {"a": Served(total=2, free=2)}
    assert served(new, old) == {"a": Served(total=2, free=2)}
    elsewhere = slice_of("b", [], pool="a", generation=5)
    assert served(old, new, elsewhere) == {}, "the newest generation of the pool has moved to another node"


def test_pool_that_is_incomplete_or_invalid_does_not_count():
    """The scheduler takes nothing from it until the driver has published the rest."""
    half = slice_of("a", cards(4), of=2)
    assert served(half) == {}
    other = slice_of("a", [device(f"more-{index}") for index in range(4)], of=2)
    assert served(half, other) == {"a": Served(total=8, free=8)}
    assert served(half, slice_of("a", cards(4), of=2)) == {}, "two devices of one name"
    assert served(half, slice_of("b", cards(1))) == {"b": Served(total=1, free=1)}


def test_tainted_devices_do_not_count_unless_the_taint_only_informs():
    """A claim for an extended resource tolerates nothing."""
    devices = [
        device("a", TAINT),
        device("b", TAINT | {"effect": "NoExecute"}),
        device("c", TAINT | {"effect": "None"}),
    ]
    assert served(slice_of("a", devices)) == {"a": Served(total=1, free=1, tainted=2)}


def test_devices_of_claims_are_taken():
    """Whoever claims them: a pod by name, or the scheduler for a pod that requests the extended resource."""
    generated = claim(
        "a", "gpu-1", "gpu-2", name="g", annotations={"resource.kubernetes.io/extended-resource-claim": "true"}
    )
    claims = (claim("a", "gpu-0"), generated, claim("b", "gpu-3"), claim("a", "gpu-4", driver="net.example.com"))
    assert served(slice_of("a", cards(8)), claims=claims) == {"a": Served(total=8, free=5)}


def test_claims_that_take_no_device_leave_it_free():
    """Not allocated yet, for administration, or a share of a device that several may have."""
    waiting = {"metadata": {"name": "w"}, "spec": {}, "status": {}}
    claims = (waiting, claim("a", "gpu-0", adminAccess=True), claim("a", "gpu-1", shareID="s"))
    assert served(slice_of("a", cards(2)), claims=claims) == {"a": Served(total=2, free=2)}


def test_free_devices_are_unknown_without_the_right_to_list_claims():
    found = served(slice_of("a", cards(2)), denied=frozenset({"resourceclaims"}))
    assert found == {"a": Served(total=2, free=None)}


def test_partitions_of_one_card_share_its_counters():
    """One card, published whole and in halves: never more than two devices, and a taken half leaves one half, not the card."""

    def part(name, kind, slices):
        consumed = [{"counterSet": "card", "counters": {"slices": {"value": str(slices)}}}]
        return device(name, attributes={"type": {"string": kind}}, consumesCounters=consumed)

    counters = slice_of("a", [], of=2, sharedCounters=[{"name": "card", "counters": {"slices": {"value": "2"}}}])
    devices = slice_of("a", [part("whole", "gpu", 2), part("half-0", "mig", 1), part("half-1", "mig", 1)], of=2)
    by_driver = [device_class(DRIVER, OF_DRIVER)]
    assert served(counters, devices) == {"a": Served(total=1, free=1)}
    assert served(counters, devices, classes=by_driver) == {"a": Served(total=2, free=2)}
    taken = (claim("a", "half-0"),)
    assert served(counters, devices, claims=taken) == {"a": Served(total=1, free=0)}
    assert served(counters, devices, classes=by_driver, claims=taken) == {"a": Served(total=2, free=1)}


def test_device_that_several_may_have_is_an_uncertain_count():
    found = served(slice_of("a", [device("x", allowMultipleAllocations=True)]))
    assert found == {"a": Served(total=1, free=1, exact=False)}


def test_selector_that_is_not_understood_counts_the_drivers_devices_at_most():
    classes = [device_class(DRIVER, f"{OF_DRIVER} && f(device)")]
    found = served(slice_of("a", cards(3)), slice_of("a", cards(1), driver="net.example.com"), classes=classes)
    assert found == {"a": Served(total=3, free=3, exact=False)}


def test_where_a_device_plugin_offers_the_resource_it_alone_serves_it():
    """KEP-5004: on one node either the plugin or the driver; a plugin that offers none leaves it to the driver."""
    nodes = [node("a", {RESOURCE: "4"}), node("b", {RESOURCE: "0"})]
    objects = DeviceObjects(classes=(device_class(),), slices=(slice_of("a", cards(8)), slice_of("b", cards(8))))
    devices = served_devices(objects, nodes, [RESOURCE])
    assert [int(room.total[RESOURCE]) for room in rooms(wanting(1), nodes, [], devices)] == [4, 8]
    assert [int(room.total.get(RESOURCE, 0)) for room in rooms(wanting(1), nodes, [])] == [4, 0]


def test_pods_and_claims_do_not_count_twice():
    """A pod that requests three has a claim of three; another pod's claim names no extended resource at all."""
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "a"} | wanting(3)}
    claims = (claim("a", "gpu-0", "gpu-1", "gpu-2"), claim("a", "gpu-7", name="d"))
    objects = DeviceObjects(classes=(device_class(),), slices=(slice_of("a", cards(8)),), claims=claims)
    for known, free in ((objects, 4), (DeviceObjects(**vars(objects) | {"denied": frozenset({"resourceclaims"})}), 5)):
        devices = served_devices(known, NODES[:1], [RESOURCE])
        [room] = rooms(wanting(1), NODES[:1], [pod], devices)
        assert (room.total[RESOURCE], room.free[RESOURCE]) == (8, free)


def test_objects_are_read_only_where_a_class_serves_the_resource(api, cluster):
    """Status is asked for often; most clusters have no DRA driver for accelerators."""
    put(api, classes=[device_class()], slices=[slice_of("a", cards(8))], claims=[claim("a", "gpu-0")])
    found = read_devices(cluster, [RESOURCE])
    assert [len(found.classes), len(found.slices), len(found.claims)] == [1, 1, 1]
    assert served_devices(found, NODES, [RESOURCE])["a"] == {RESOURCE: Served(total=8, free=7)}
    before = len(api.state.requests)
    assert read_devices(cluster, ["habana.ai/gaudi"]).slices == ()
    assert len(api.state.requests) == before + 1
    assert read_devices(cluster, []) == DeviceObjects()
    assert len(api.state.requests) == before + 1


def test_server_without_the_api_has_no_devices(api, cluster):
    """Kubernetes before 1.34."""
    assert read_devices(cluster, [RESOURCE]) == DeviceObjects()
    assert api.state.asked("GET") == [f"{PATH}/deviceclasses"]


@pytest.mark.parametrize("plural", ["deviceclasses", "resourceslices", "resourceclaims"])
def test_kinds_that_the_user_may_not_list_are_named(api, cluster, plural):
    put(api, classes=[device_class()], slices=[slice_of("a", cards(8))], claims=[claim("a", "gpu-0")])
    api.state.forbidden.add(("list", plural))
    assert read_devices(cluster, [RESOURCE]).denied == {plural}
