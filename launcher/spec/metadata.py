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
    queue = {QUEUE_LABEL: spec.policy.queue, QUEUE_PRIORITY_LABEL: spec.policy.queue_priority}
    return {
        "name": spec.name,
        "namespace": spec.namespace,
        "labels": all_labels(spec) | {label: name for label, name in queue.items() if name},
        "annotations": {SETTINGS: json.dumps(settings_of(spec), sort_keys=True)},
    }
