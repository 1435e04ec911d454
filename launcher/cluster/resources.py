"""Kubernetes resources that the launcher uses, and their API paths."""

from dataclasses import dataclass
from typing import Any, Final

Object = dict[str, Any]
"""A Kubernetes object as plain JSON."""


@dataclass(frozen=True)
class Resource:
    """One kind of object and its API path."""

    group_version: str
    """`v1`, or `GROUP/VERSION`."""

    plural: str
    """Name in paths and in RBAC rules."""

    kind: str

    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group, empty for the core one."""
        return self.group_version.rpartition("/")[0]

    def named(self, name: str) -> str:
        """An object's name as kubectl prints it: `pytorchjob.kubeflow.org/NAME`, `persistentvolume/NAME`."""
        return f"{self.kind.lower()}{'.' * bool(self.group)}{self.group}/{name}"

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """Path of one object, or of all objects of a namespace or, without one, of the cluster."""
        root = f"/apis/{self.group_version}" if self.group else f"/api/{self.group_version}"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace is not None else ""
        return f"{root}{place}/{self.plural}" + (f"/{name}" if name is not None else "")


def _in_versions_of_kueue(
    plural: str, kind: str, *, group: str = "kueue.x-k8s.io", namespaced: bool = True
) -> tuple[Resource, ...]:
    """A resource in the versions that releases of Kueue serve, newest first; `Cluster.first_served` reads it."""
    return tuple(Resource(f"{group}/{version}", plural, kind, namespaced) for version in ("v1beta2", "v1beta1"))


PYTORCH_JOBS: Final = Resource("kubeflow.org/v1", "pytorchjobs", "PyTorchJob")
TRAIN_JOBS: Final = Resource("trainer.kubeflow.org/v1alpha1", "trainjobs", "TrainJob")
RUNTIMES: Final = Resource("trainer.kubeflow.org/v1alpha1", "trainingruntimes", "TrainingRuntime")
CLUSTER_RUNTIMES: Final = Resource(
    "trainer.kubeflow.org/v1alpha1", "clustertrainingruntimes", "ClusterTrainingRuntime", namespaced=False
)
JOB_SETS: Final = Resource("jobset.x-k8s.io/v1alpha2", "jobsets", "JobSet")
BATCH_JOBS: Final = Resource("batch/v1", "jobs", "Job")
PODS: Final = Resource("v1", "pods", "Pod")
CONFIG_MAPS: Final = Resource("v1", "configmaps", "ConfigMap")
SERVICES: Final = Resource("v1", "services", "Service")
EVENTS: Final = Resource("v1", "events", "Event")
CLAIMS: Final = Resource("v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES: Final = Resource("v1", "persistentvolumes", "PersistentVolume", namespaced=False)
NODES: Final = Resource("v1", "nodes", "Node", namespaced=False)
NAMESPACES: Final = Resource("v1", "namespaces", "Namespace", namespaced=False)
SECRETS: Final = Resource("v1", "secrets", "Secret")
SERVICE_ACCOUNTS: Final = Resource("v1", "serviceaccounts", "ServiceAccount")
QUOTAS: Final = Resource("v1", "resourcequotas", "ResourceQuota")
DEPLOYMENTS: Final = Resource("apps/v1", "deployments", "Deployment")
CSI_DRIVERS: Final = Resource("storage.k8s.io/v1", "csidrivers", "CSIDriver", namespaced=False)
CSI_NODES: Final = Resource("storage.k8s.io/v1", "csinodes", "CSINode", namespaced=False)
PRIORITY_CLASSES: Final = Resource("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", namespaced=False)
LOCAL_QUEUES: Final = _in_versions_of_kueue("localqueues", "LocalQueue")
WORKLOADS: Final = _in_versions_of_kueue("workloads", "Workload")
QUEUE_PRIORITIES: Final = _in_versions_of_kueue("workloadpriorityclasses", "WorkloadPriorityClass", namespaced=False)
PENDING_WORKLOADS: Final = _in_versions_of_kueue(
    "localqueues", "PendingWorkloadsSummary", group="visibility.kueue.x-k8s.io"
)
"""Kueue's list of pending workloads, at `NAME/pendingworkloads`. Source: kueue, apis/visibility."""

RESOURCE_SLICES: Final = Resource("resource.k8s.io/v1", "resourceslices", "ResourceSlice", namespaced=False)
DEVICE_CLASSES: Final = Resource("resource.k8s.io/v1", "deviceclasses", "DeviceClass", namespaced=False)
RESOURCE_CLAIMS: Final = Resource("resource.k8s.io/v1", "resourceclaims", "ResourceClaim")
WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io/v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)

DEVICE_CLASS_PREFIX: Final = "deviceclass.resource.kubernetes.io/"
"""Prefix of the extended resource that each DeviceClass has by its name. Source: kubernetes 1.35, api/resource/v1/types.go."""

OURS: Final = "app.kubernetes.io/managed-by=chexnet-launcher"
"""Selector of the objects that the launcher created."""

INSTANCE_LABEL: Final = "app.kubernetes.io/instance"
"""Label of a launcher's object with the name of its job."""

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
"""Label of a job with the name of its LocalQueue. Source: kueue v0.19.2, pkg/controller/constants."""

QUEUE_PRIORITY_LABEL: Final = "kueue.x-k8s.io/priority-class"
"""Label of a job with the name of its WorkloadPriorityClass. Source: as above."""

DATA: Final = "chexnet-launcher/data"
"""Annotation of a claim with the `s3://BUCKET/PREFIX` that it holds; set by an administrator."""
