"""The bill of materials that images/sbom.py writes, for this environment."""

import json
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from packaging.licenses import canonicalize_license_expression
from packaging.utils import canonicalize_name

SCRIPT = Path(__file__).parents[1] / "images/sbom.py"
SBOM = SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def _object(required, optional=None):
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


TEXT = {"type": "string", "minLength": 1}
LICENCES = {
    "type": "array",
    "minItems": 1,
    "maxItems": 1,
    "items": {"oneOf": [_object({"expression": TEXT}), _object({"license": _object({"name": TEXT})})]},
}
COMPONENT = _object(
    {"type": {"enum": ["application", "library", "operating-system"]}, "bom-ref": TEXT, "name": TEXT},
    {"version": TEXT, "purl": {"type": "string", "pattern": "^pkg:(pypi|deb)/"}, "licenses": LICENCES},
)
# The part of CycloneDX's own schema for 1.6 that the script uses, and nothing beside it.
SCHEMA = _object(
    {
        "$schema": {"const": "http://cyclonedx.org/schema/bom-1.6.schema.json"},
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"const": "1.6"},
        "version": {"type": "integer", "minimum": 1},
        "metadata": _object({"component": COMPONENT}),
        "components": {"type": "array", "uniqueItems": True, "items": COMPONENT},
    }
)


@pytest.fixture(scope="module")
def bill():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_bill_of_materials_fits_the_cyclonedx_schema(bill):
    """Scanners refuse documents that break the schema, or take them for empty."""
    jsonschema.validate(bill, SCHEMA)
    references = [each["bom-ref"] for each in bill["components"]] + [bill["metadata"]["component"]["bom-ref"]]
    assert len(references) == len(set(references))


def test_bill_of_materials_lists_installed_packages_and_nothing_else(bill):
    """torch, which the images take from their base, is found the same way: by what the interpreter sees."""
    listed = {
        (each["name"], each["version"])
        for each in [*bill["components"], bill["metadata"]["component"]]
        if each.get("purl", "").startswith("pkg:pypi/")
    }
    assert listed == {(canonicalize_name(each.name), each.version) for each in distributions()}
    assert {"torch", "numpy", "boto3"} <= {name for name, _ in listed}
    assert bill["metadata"]["component"]["name"] == "chexnet-jobs"


def test_debian_packages_are_listed(bill):
    """Vulnerable libraries of an image are mostly these."""
    if not shutil.which("dpkg-query"):
        pytest.skip("no dpkg here")
    layout = "${db:Status-Status} ${Package} ${Version} ${Architecture}\\n"
    rows = subprocess.run(["dpkg-query", "-W", "-f", layout], capture_output=True, text=True, check=True).stdout
    installed = sorted(tuple(row.split()[1:3]) for row in rows.splitlines() if row.startswith("installed "))
    listed = [(c["name"], c["version"]) for c in bill["components"] if c.get("purl", "").startswith("pkg:deb/")]
    assert sorted(listed) == installed
    assert any(each["type"] == "operating-system" for each in bill["components"])


def test_licence_expressions_are_valid_spdx(bill):
    """The schema wants SPDX there; free text has a place of its own."""
    stated = [each["licenses"][0] for each in bill["components"] if "licenses" in each]
    assert len(stated) > 20
    for licence in stated:
        if "expression" in licence:
            canonicalize_license_expression(licence["expression"])


def package(**fields):
    """A distribution with these lines of metadata."""
    pairs = [(key.replace("_", "-"), value) for key, value in fields.items()]
    metadata = SimpleNamespace(get_all=lambda key: [value for name, value in pairs if name == key] or None)
    return SimpleNamespace(name=fields["Name"], version=fields["Version"], metadata=metadata)


def test_names_and_versions_of_builds_are_written_as_package_urls():
    """The vendor's torch has a plus sign in its version, which a URL must not have bare."""
    component = SBOM.python_component(package(Name="Habana_Torch.plugin", Version="1.24.0+git1007"))
    assert component["purl"] == "pkg:pypi/habana-torch-plugin@1.24.0%2Bgit1007"
    assert component["version"] == "1.24.0+git1007"
    debian = SBOM.debian_component("debian", "debian-12", "libstdc++6", "1:12.2.0-14+deb12u1~a", "amd64")
    assert debian["purl"] == "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1~a?arch=amd64&distro=debian-12"


@pytest.mark.parametrize(
    ("fields", "licences"),
    [
        ({}, None),
        ({"License": "UNKNOWN"}, None),
        ({"License": "BSD"}, [{"license": {"name": "BSD"}}]),
        ({"License": "The whole\ntext"}, None),
        ({"License": "x" * 200}, None),
        ({"License": "MIT License", "License_Expression": "MIT"}, [{"expression": "MIT"}]),
    ],
)
def test_licence_is_taken_only_where_it_is_stated_briefly(fields, licences):
    """A guess would be worse than nothing."""
    component = SBOM.python_component(package(Name="x", Version="1", **fields))
    assert component.get("licenses") == licences


def test_bill_of_materials_is_the_same_each_time(bill):
    """An image that is built again without a change gets the same file."""
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == bill
