"""The namespace that kubectl would use, read from its configuration without a client."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def namespace_of(kubeconfig: str | None, context: str | None) -> str | None:
    """The namespace of a context, the current one unless named; None where nothing says one.

    Several files in KUBECONFIG are looked through in their order, as kubectl does; what can't be read says nothing here, and
    is refused by name when the cluster is opened.
    """
    documents = list(_documents(kubeconfig))
    wanted = context or next((each["current-context"] for each in documents if each.get("current-context")), None)
    for document in documents:
        for entry in document.get("contexts") or ():
            if entry.get("name") == wanted:
                namespace = (entry.get("context") or {}).get("namespace")
                return str(namespace) if namespace else None
    return None


def _documents(kubeconfig: str | None) -> Iterator[dict[str, Any]]:
    import yaml  # noqa: PLC0415 - a fifth of the time that --help takes

    named = kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube/config")
    for path in named.split(os.pathsep):
        try:
            document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        if isinstance(document, dict):
            yield document
