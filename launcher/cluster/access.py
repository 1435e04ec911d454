"""Flags that select the cluster, the user and the namespace, named as in kubectl."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter


@dataclass(frozen=True, kw_only=True)
class Access:
    """Connection flags of commands that take the namespace from the job."""

    context: Annotated[str | None, Parameter(show_default=False)] = None
    """Kubeconfig context to use; the default is the current context."""

    kubeconfig: Annotated[str | None, Parameter(show_default=False)] = None
    """Path to the kubeconfig file; the default is KUBECONFIG or ~/.kube/config."""


@dataclass(frozen=True, kw_only=True)
class Target(Access):
    """Connection flags and the namespace."""

    namespace: Annotated[str | None, Parameter(name=("--namespace", "-n"), show_default=False)] = None
    """Namespace to use; the default is the namespace of the context."""
