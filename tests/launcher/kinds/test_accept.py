"""Dry runs before anything is created."""

import pytest
from submitted import paths, spec

from launcher.cluster.errors import InvalidError
from launcher.kinds.accept import check_accepted
from launcher.spec.manifest import render

RUNTIME = {
    "spec": {
        "mlPolicy": {"torch": {}},
        "template": {"spec": {"replicatedJobs": [{"name": "node", "template": {}}]}},
    }
}
CLUSTER_RUNTIMES = "/apis/trainer.kubeflow.org/v1alpha1/clustertrainingruntimes"


@pytest.fixture
def objects(api):
    api.state.serve_trainer()
    return render(spec(api="trainjob"))


def put_runtime(api, name, **changes):
    api.state.put(f"{CLUSTER_RUNTIMES}/{name}", {"metadata": {"name": name}, **RUNTIME, **changes})


def test_train_job_is_validated_with_a_runtime_that_exists(cluster, api, objects):
    """Trainer's webhook refuses one whose runtime does not exist, which its own cannot yet."""
    put_runtime(api, "mpi", spec=RUNTIME["spec"] | {"mlPolicy": {"mpi": {}}})
    put_runtime(api, "torch-distributed")
    answer = check_accepted(cluster, objects)
    assert answer["spec"]["runtimeRef"] == {
        "apiGroup": "trainer.kubeflow.org",
        "kind": "ClusterTrainingRuntime",
        "name": "torch-distributed",
    }
    assert objects[-1]["spec"]["runtimeRef"]["name"] == "t1"
    assert not [path for path in paths(api) if "t1" in path]


@pytest.mark.parametrize("is_forbidden", [False, True])
def test_without_any_runtime_the_other_objects_are_validated(cluster, api, objects, is_forbidden):
    if is_forbidden:
        put_runtime(api, "torch-distributed")
        api.state.forbidden.add(("list", "clustertrainingruntimes"))
    assert check_accepted(cluster, objects) is None
    assert [path.rpartition("/")[2] for path in api.state.asked("POST")] == [
        "persistentvolumes",
        "persistentvolumeclaims",
        "trainingruntimes",
    ]


def test_a_refused_runtime_is_an_error(cluster, api, objects):
    api.state.fail("POST", "trainingruntimes", 422, "spec.mlPolicy: bad", times=1)
    with pytest.raises(InvalidError, match=r"spec\.mlPolicy: bad"):
        check_accepted(cluster, objects)
