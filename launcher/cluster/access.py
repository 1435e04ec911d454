"""Which cluster, and as whom: the flags that kubectl's users know."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach the cluster; for commands whose namespace is the job's."""

    context: Annotated[str | None, Parameter(show_default=False)] = None
    """Context of the kubeconfig; its current one unless given."""

    kubeconfig: Annotated[str | None, Parameter(show_default=False)] = None
    """Kubeconfig file; that of KUBECONFIG, or ~/.kube/config, unless given."""


@dataclass(frozen=True, kw_only=True)
class Target(Access):
    """How to reach the cluster, and which namespace of it."""

    namespace: Annotated[str | None, Parameter(name=("--namespace", "-n"), show_default=False)] = None
    """Namespace; that of the context unless given."""
