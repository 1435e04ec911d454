"""`launcher render`."""

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from launcher.commands.parameters import From, Job
from launcher.settings.sources import Sources
from launcher.spec import manifest


def render(
    *,
    job: Job,
    sources: From = Sources(),  # noqa: ARG001, B008 - read by apply_settings; frozen
    form: Annotated[Literal["yaml", "json", "name"], Parameter(name="-o")] = "yaml",
) -> None:
    """Print the objects.

    Parameters
    ----------
    form
        Output format.
    """
    forms = {"yaml": manifest.to_yaml, "json": manifest.to_json, "name": manifest.to_name}
    sys.stdout.write(forms[form](manifest.render(job)))
