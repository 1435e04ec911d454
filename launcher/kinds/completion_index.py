"""Completion index of the pods of an Indexed Job of Kubernetes."""

from typing import Final

from launcher.cluster.resources import Object

COMPLETION_INDEX: Final = "batch.kubernetes.io/job-completion-index"
"""Label of the pods, and their annotation where the cluster sets no such label. Source: kubernetes, pkg/apis/batch/types.go."""


def role_and_index(pod: Object, role: str) -> tuple[str, int]:
    """This role and the completion index; after a restart, several pods have the same. No role and 0 for other pods."""
    labels = pod["metadata"].get("labels") or {}
    annotations = pod["metadata"].get("annotations") or {}
    index = labels.get(COMPLETION_INDEX, annotations.get(COMPLETION_INDEX))
    return (role, int(index)) if index is not None else ("", 0)
