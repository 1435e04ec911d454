"""Metadata of a job's object, the same for every kind."""

import json
from typing import Final

from launcher.cluster.resources import QUEUE_LABEL, QUEUE_PRIORITY_LABEL, Object
from launcher.spec.fields import settings_of
from launcher.spec.job import JobSpec
from launcher.spec.pod_template import all_labels

SETTINGS: Final = "chexnet-launcher/settings"
"""Annotation with the settings of the job as JSON; `clone` and `resume` read it."""


def metadata(spec: JobSpec) -> Object:
    """Name, labels and the settings from which the job can be created again."""
    return {
        "name": spec.name,
        "namespace": spec.namespace,
        "labels": all_labels(spec) | queue_labels(spec.policy.queue, spec.policy.queue_priority),
        "annotations": {SETTINGS: json.dumps(settings_of(spec), sort_keys=True)},
    }


def queue_labels(queue: str | None, priority: str | None) -> dict[str, str]:
    """Labels of a job for Kueue."""
    named = {QUEUE_LABEL: queue, QUEUE_PRIORITY_LABEL: priority}
    return {label: name for label, name in named.items() if name}
