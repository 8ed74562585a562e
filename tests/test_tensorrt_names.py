"""Every name of TensorRT that the program uses exists in each binding that it supports.

The names were read from the packages themselves. What only some bindings have is taken through
``getattr(trt, "Name", None)`` or after ``hasattr``.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.plans import real_binding

ROOT = Path(__file__).parents[1]
API = json.loads((Path(__file__).parent / "data" / "tensorrt_names.json").read_text())
CLASSES: dict[str, dict[str, Any]] = API["classes"]
PYTHON_OWN = {"__init__", "__name__", "__version__"}

# The variables that hold TensorRT's objects, by file; a leading underscore doesn't count.
OBJECTS = {
    "daemon/centernetd/inference/engines/trt.py": {
        "engine": "ICudaEngine",
        "context": "IExecutionContext",
        "runtime": "Runtime",
    },
    "daemon/centernetd/plan/binding.py": {},
    "daemon/centernetd/plan/build.py": {
        "builder": "Builder",
        "network": "INetworkDefinition",
        "parser": "OnnxParser",
        "error": "ParserError",
        "config": "IBuilderConfig",
        "profile": "IOptimizationProfile",
        "timings": "ITimingCache",
    },
}


def uses_tensorrt(path: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute) and _name(node.value) == "trt"
        for node in ast.walk(ast.parse(path.read_text()))
    )


def used_names(source: str, objects: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (class, attribute) of all uses; a name of the module itself has the class ``""``."""
    tree = ast.parse(source)
    asked_for = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr")
        and isinstance(node.args[1], ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or node.attr in asked_for | PYTHON_OWN:
            continue
        owner = _name(node.value)
        if owner == "trt":
            yield "", node.attr
        elif owner in objects:
            yield objects[owner], node.attr
        elif isinstance(node.value, ast.Attribute) and _name(node.value.value) == "trt":
            yield node.value.attr, node.attr


def _name(node: ast.expr) -> str:
    """Return what a variable, or an attribute of an object of ours, is called."""
    if isinstance(node, ast.Name):
        return node.id.lstrip("_")
    if isinstance(node, ast.Attribute) and _name(node.value) == "self":
        return node.attr.lstrip("_")
    return ""


def missing(class_name: str, attribute: str) -> list[str]:
    """Return the bindings that lack a name."""
    if class_name == "":
        has = API["bindings"] if attribute in API["functions"] else _with_class(attribute)
    elif attribute in CLASSES.get(class_name, {"everywhere": []})["everywhere"]:
        has = API["bindings"]
    else:
        has = CLASSES.get(class_name, {"in_some": {}})["in_some"].get(attribute, [])
    return [name for name in API["bindings"] if name not in has]


def _with_class(name: str) -> list[str]:
    return list(CLASSES[name]["in"]) if name in CLASSES else []


@pytest.mark.parametrize("path", OBJECTS)
def test_every_name_is_in_every_binding(path: str) -> None:
    names = set(used_names((ROOT / path).read_text(), OBJECTS[path]))
    assert names, "it doesn't use TensorRT at all"
    assert {name: missing(*name) for name in names if missing(*name)} == {}


def test_no_file_that_uses_tensorrt_is_forgotten() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("daemon/centernetd/**/*.py")
        if uses_tensorrt(path)
    }
    assert found - set(OBJECTS) == set()


@pytest.mark.parametrize(
    ("line", "lacking"),
    [
        ("builder.create_network(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)", 0),
        ("builder.platform_has_fast_fp16", 2),
        ("trt.BuilderFlag.FP16", 2),
        ("trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH", 2),
        ("trt.ComputeCapability.SM89", 3),
        ("trt.IRuntimeCache", 3),
        ("builder.max_workspace_size", 4),
        ("trt.Bilder", 4),
        ("hasattr(trt, 'IRuntimeCache') and trt.IRuntimeCache", 0),
    ],
)
def test_what_a_binding_lacks_is_seen(line: str, lacking: int) -> None:
    found = [missing(*name) for name in used_names(line, {"builder": "Builder"})]
    assert max(map(len, found), default=0) == lacking


def test_the_list_is_true_of_the_installed_binding() -> None:
    trt = real_binding().trt
    (listed,) = (name for name in API["bindings"] if name.startswith("tensorrt_rtx "))
    if listed.split()[1] != trt.__version__:
        pytest.skip(f"the list is of {listed}, and {trt.__version__} is installed")
    for name, known in CLASSES.items():
        here = {
            *known["everywhere"],
            *(key for key, where in known["in_some"].items() if listed in where),
        }
        assert here <= set(dir(getattr(trt, name, None))), name
