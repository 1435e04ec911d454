"""Expressions of DeviceClasses: what is understood is evaluated right, and what is not is unknown."""

import pytest

from launcher.cluster.device_selector import evaluate, selects

DRIVER = "gpu.nvidia.com"
IS = "device.driver == 'gpu.nvidia.com'"
OTHER = "device.driver == 'net.example.com'"
A = "device.attributes['gpu.nvidia.com']"
DEVICE = {
    "name": "gpu-0",
    "attributes": {
        "type": {"string": "gpu"},
        "gpu.nvidia.com/index": {"int": 3},
        "healthy": {"bool": True},
        "cudaDriverVersion": {"version": "13.0.0"},
        "example.com/rack": {"string": "it's && || (here)"},
    },
}

EXPRESSIONS = {
    IS: True,
    'device.driver == "gpu.nvidia.com"': True,
    "'gpu.nvidia.com' == device.driver": True,
    "device.driver=='gpu.nvidia.com'": True,
    OTHER: False,
    "device.driver != 'gpu.nvidia.com'": False,
    f"{IS} && {A}.type == 'gpu'": True,
    f"{IS} && {A}.type == 'mig'": False,
    f"{IS}\n  && {A}.index >= 2 && {A}.index < 4": True,
    f"{A}.index > 3": False,
    f"{A}.index != 0": True,
    f"{A}.healthy": True,
    f"!{A}.healthy": False,
    f"{A}.healthy == false": False,
    f"{A}.absent == 'x'": False,
    f"{A}.absent != 'x'": False,
    "device.attributes['other.example.com'].type == 'gpu'": False,
    "device.attributes['example.com'].rack == 'it\\'s && || (here)'": True,
    'device.attributes["example.com"].rack == "it\'s && || (here)"': True,
    f"{OTHER} || {IS}": True,
    f"{OTHER} || {A}.type == 'mig'": False,
    f"{OTHER} && {A}.type == 'mig' || {IS}": True,
    f"({OTHER} || {IS}) && {A}.type == 'gpu'": True,
    f"!({OTHER})": True,
    f"!({OTHER} || {IS})": False,
    f"({IS}) && ({OTHER})": False,
}

UNKNOWN = [
    f"{IS} && device.capacity['{DRIVER}'].memory.compareTo(quantity('10Gi')) >= 0",
    f"{A}.cudaDriverVersion.isGreaterThan(semver('12.0.0'))",
    f"{A}.cudaDriverVersion == '13.0.0'",
    f"{A}.index == 'three'",
    f"{A}.productName.lowerAscii().matches('^.*a100.*$')",
    f"{IS} ? {A}.type == 'gpu' : false",
    f"{A}.?type.orValue('gpu') == 'gpu'",
    f"'type' in {A}",
    "f(a && b)",
    "true",
    "",
    "'",
    "(" * 3,
    ")" * 3,
    "&&",
    "!" * 100 + A,
    "(" * 1000 + IS + ")" * 1000,
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_usual_expressions_are_evaluated(expression):
    """These are the forms that the vendors' classes have."""
    assert evaluate(expression, DRIVER, DEVICE) is EXPRESSIONS[expression]


@pytest.mark.parametrize("expression", UNKNOWN, ids=lambda text: text[:40])
def test_other_expressions_are_unknown(expression):
    """A guess would count devices that are none of the class's, or miss some."""
    assert evaluate(expression, DRIVER, DEVICE) is None


@pytest.mark.parametrize("expression", UNKNOWN[:3], ids=["capacity", "version", "version as text"])
def test_unknown_part_does_not_matter_where_another_decides(expression):
    """Devices of other drivers are excluded, whatever the rest means."""
    assert evaluate(f"{OTHER} && {expression}", DRIVER, DEVICE) is False
    assert evaluate(f"{IS} || {expression}", DRIVER, DEVICE) is True
    assert evaluate(f"{IS} && ({expression})", DRIVER, DEVICE) is None


def test_each_selector_of_a_class_must_match():
    """A class without any takes every device."""
    yes, no, unknown = ({"cel": {"expression": each}} for each in (IS, OTHER, "f(x)"))
    assert selects([], DRIVER, DEVICE) is True
    assert selects([yes, yes], DRIVER, DEVICE) is True
    assert selects([yes, unknown], DRIVER, DEVICE) is None
    assert selects([unknown, no], DRIVER, DEVICE) is False
    assert selects([{}], DRIVER, DEVICE) is None
