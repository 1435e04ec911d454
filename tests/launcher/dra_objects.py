"""Objects of dynamic resource allocation, as a driver and the scheduler make them."""

DRIVER = "gpu.nvidia.com"
RESOURCE = "nvidia.com/gpu"
PATH = "/apis/resource.k8s.io/v1"
OF_DRIVER = f"device.driver == '{DRIVER}'"
WHOLE_CARDS = f"{OF_DRIVER} && device.attributes['{DRIVER}'].type == 'gpu'"


def device(name, *taints, **fields):
    return {"name": name, "attributes": {"type": {"string": "gpu"}}, "taints": list(taints), **fields}


def cards(count):
    return [device(f"gpu-{index}") for index in range(count)]


def slice_of(node, devices, *, pool=None, generation=1, of=1, driver=DRIVER, **spec):
    """A ResourceSlice of one node, or of those that `spec` selects."""
    where = {"nodeName": node} if node else {}
    pool = pool or node or "shared"
    body = {"pool": {"name": pool, "generation": generation, "resourceSliceCount": of}, "devices": devices}
    return {"metadata": {"name": f"{pool}-{driver}-{generation}"}, "spec": {"driver": driver} | body | where | spec}


def device_class(name=DRIVER, *expressions, resource=RESOURCE, created="2026-01-01T00:00:00Z"):
    spec = {"selectors": [{"cel": {"expression": each}} for each in expressions or (WHOLE_CARDS,)]}
    named = {"extendedResourceName": resource} if resource else {}
    return {"metadata": {"name": name, "creationTimestamp": created}, "spec": spec | named}


def claim(pool, *devices, name="c", driver=DRIVER, annotations=None, **result):
    """A ResourceClaim to which the scheduler has given these devices."""
    results = [{"request": "r", "driver": driver, "pool": pool, "device": each} | result for each in devices]
    metadata = {"name": name, "namespace": "team-b", "annotations": annotations or {}}
    return {"metadata": metadata, "spec": {}, "status": {"allocation": {"devices": {"results": results}}}}


def put(api, *, classes=(), slices=(), claims=()):
    """Store them on the API server double, which then serves their group."""
    for each in classes:
        api.state.put(f"{PATH}/deviceclasses/{each['metadata']['name']}", each)
    for each in slices:
        api.state.put(f"{PATH}/resourceslices/{each['metadata']['name']}", each)
    for each in claims:
        api.state.put(f"{PATH}/namespaces/team-b/resourceclaims/{each['metadata']['name']}", each)
    api.state.served.add("resource.k8s.io/v1")
