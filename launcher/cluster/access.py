"""Flags that select the cluster, the user and the namespace, named as in kubectl, and the same flags in commands that are printed."""

import re
import shlex
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from trainer.location import expanded

_COMMAND: Final = re.compile(
    r"\bkubectl(?= [a-z-])|\blauncher (?:list|submit|prepare|scale|doctor)\b(?: (?:--name|-n|--file) [^\s;`,]+)*"
    r"|\blauncher (?:status|events|wait|delete|clone|resume|checkpoints|pull|logs)\b(?: [^\s;`,-][^\s;`,]*)?"
)
"""Start of a command in a text, up to the job's name; the launcher's other commands use no cluster."""

_END: Final = re.compile(r"[;`\n]|, |$")
"""What may follow a command in a text."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """Connection flags of commands that take the namespace from the job."""

    context: Annotated[str | None, Parameter(show_default=False)] = None
    """Kubeconfig context to use; the default is the current context."""

    kubeconfig: Annotated[str | None, Parameter(show_default=False)] = None
    """Path to the kubeconfig file; the default is KUBECONFIG or ~/.kube/config."""

    def in_commands(self, text: str, namespace: str | None = None) -> str:
        """The text, with these flags in each command of kubectl and the launcher in it, which else might go to another cluster.

        The namespace is added to the launcher's commands; those of kubectl have theirs, or need none. Flags that a command has stay.
        """
        kubeconfig = expanded(self.kubeconfig) if self.kubeconfig else None
        given = {"--kubeconfig": kubeconfig, "--context": self.context}
        parts, end = [], 0
        for command in _COMMAND.finditer(text):
            stop = _END.search(text, command.end())
            rest = text[command.end() : stop.start() if stop else len(text)]
            flags = [f" {flag} {shlex.quote(value)}" for flag, value in given.items() if value and flag not in rest]
            has_namespace = re.search(r" (-n|--namespace|-A)\b", command[0] + rest) is not None
            if namespace and not has_namespace and command[0] != "kubectl":
                flags.append(f" -n {namespace}")
            parts += [text[end : command.end()], *flags]
            end = command.end()
        return "".join([*parts, text[end:]])


@dataclass(frozen=True, kw_only=True)
class Target(Access):
    """Connection flags and the namespace."""

    namespace: Annotated[str | None, Parameter(name=("--namespace", "-n"), show_default=False)] = None
    """Namespace to use; the default is the namespace of the context."""

    api: Annotated[Literal["auto", "pytorchjob", "trainjob", "job"], Parameter(show_default=False)] = "auto"
    """Only jobs of this kind (`job`: those of `launcher prepare`), which decides where a PyTorchJob and a TrainJob have the same name. Where none of this kind has the name, `clone` and `resume` make the new job of this kind."""

    def in_commands(self, text: str, namespace: str | None = None) -> str:
        """As of `Access`, with this namespace."""
        return super().in_commands(text, namespace or self.namespace)
