"""Print what is installed here as a software bill of materials, CycloneDX 1.6 in JSON.

Python packages of this interpreter's environment, those of the base image among them, and Debian packages. Licences stand
where a package states one as an expression or in one line. The same image gives the same text.
Source: https://cyclonedx.org/docs/1.6/json/; package URLs: https://github.com/package-url/purl-spec
"""

import json
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from typing import Any, Final
from urllib.parse import quote

OURS: Final = "chexnet-jobs"

LONGEST_LICENCE: Final = 100
"""Characters; some packages have the whole text in this field."""

Component = dict[str, Any]


def python_component(distribution: Distribution) -> Component:
    """One Python package. Its name is compared as indexes do (PEP 503)."""
    name = re.sub(r"[-_.]+", "-", distribution.name).lower()
    purl = f"pkg:pypi/{name}@{quote(distribution.version, safe=':')}"
    component = {"type": "library", "bom-ref": purl, "name": name, "version": distribution.version, "purl": purl}
    return component | _licences(distribution)


def _licences(distribution: Distribution) -> Component:
    for expression in distribution.metadata.get_all("License-Expression") or []:
        return {"licenses": [{"expression": expression}]}
    for stated in distribution.metadata.get_all("License") or []:
        if stated.strip() not in {"", "UNKNOWN"} and "\n" not in stated.strip() and len(stated) <= LONGEST_LICENCE:
            return {"licenses": [{"license": {"name": stated.strip()}}]}
    return {}


def python_components() -> list[Component]:
    """Every package once, also one that another version in front of it hides; what is left of a broken removal has no name."""
    named = (each for each in distributions() if each.metadata.get_all("Name") and each.metadata.get_all("Version"))
    found = {each["bom-ref"]: each for each in map(python_component, named)}
    return [found[reference] for reference in sorted(found)]


def operating_system() -> Component | None:
    """The distribution that the image is made of, None where none is stated."""
    try:
        stated = platform.freedesktop_os_release()
    except OSError:
        return None
    version = {"version": stated["VERSION_ID"]} if "VERSION_ID" in stated else {}
    return {"type": "operating-system", "bom-ref": "operating-system", "name": stated["ID"]} | version


def debian_components(system: Component | None) -> list[Component]:
    """Installed Debian packages; none where there is no dpkg."""
    if system is None or not shutil.which("dpkg-query"):
        return []
    layout = "${db:Status-Status}\\t${Package}\\t${Version}\\t${Architecture}\\n"
    listed = subprocess.run(["dpkg-query", "-W", "-f", layout], capture_output=True, text=True, check=True).stdout
    rows = sorted(line.split("\t")[1:] for line in listed.splitlines() if line.startswith("installed\t"))
    distro = "-".join(part for part in (system["name"], system.get("version")) if part)
    return [debian_component(system["name"], distro, *row) for row in rows]


def debian_component(system: str, distro: str, name: str, version: str, architecture: str) -> Component:
    place = f"pkg:deb/{system}/{quote(name, safe='')}@{quote(version, safe=':')}"
    purl = f"{place}?arch={architecture}&distro={quote(distro, safe='')}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def document() -> dict[str, Any]:
    """The whole bill; the trainer itself is what it is about."""
    packages = python_components()
    ours = [each | {"type": "application"} for each in packages if each["name"] == OURS]
    system = operating_system()
    components = [each for each in packages if each["name"] != OURS] + ([system] if system else [])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        **({"metadata": {"component": ours[0]}} if ours else {}),
        "components": components + debian_components(system),
    }


def main() -> None:
    json.dump(document(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
