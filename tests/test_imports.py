"""Imports point one way, between the four packages and between the rooms of the world model; nothing imports in a
circle; and `import lssvwm_rl` is light. Imports inside functions and under TYPE_CHECKING count as all others do. Stubs
do not: `lssvwm_rl/__init__.pyi` says where the public names of higher floors are, and Python never reads it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The lowest first: each may import what stands before it.
FLOORS = {
    "lssvwm_rl": ROOT,
    "lssvwm_envs": ROOT / "envs",
    "lssvwm_agents": ROOT / "agents",
    "lssvwm_bench": ROOT / "benchmarks",
}
GROUND = (
    *(
        "checked_text",
        "spaces",
        "policy",
        "files",
        "phases",
        "progress",
        "pictures",
        "stopping",
        "pipes",
        "named_paths",
        "native",
    ),
    *("cli", "command", "completion", "events"),
)
ROOMS = ("data", "model", "training", "measures", "commands")
HEAVY = ("torch", "numba", "zarr", "matplotlib", "stable_baselines3", "minigrid", "tyro", "rich")


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path, root): path for package, root in FLOORS.items() for path in (root / package).rglob("*.py")}


def imported(source: str, modules: set[str]) -> Iterator[str]:
    """What a source imports, as `a.b.c` for `from a.b import c` if that is one of `modules`, else as `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports name the whole module"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules else node.module


IMPORTS = {name: sorted(set(imported(path.read_text(), set(MODULES)))) for name, path in MODULES.items()}


def circle(graph: dict[str, list[str]]) -> list[str]:
    """The modules of a circle, the first one again at the end; empty if there is none."""
    whole: set[str] = set()  # what leads to no circle

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in whole or name not in graph:
            return []
        for other in graph[name]:
            if found := walk(other, [*path, name]):
                return found
        whole.add(name)
        return []

    return next((found for name in graph if (found := walk(name, []))), [])


def room(name: str) -> int | None:
    """The floor of a module inside lssvwm_rl, None of those outside and of the package itself."""
    parts = name.split(".")
    if parts[0] != "lssvwm_rl" or len(parts) == 1 or parts[1] == "__main__":
        return None
    return 0 if parts[1] in GROUND else 1 + ROOMS.index(parts[1])


def test_packages_import_only_what_they_stand_on():
    floors = list(FLOORS)
    wrong = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in others
        if other.split(".")[0] in floors[floors.index(name.split(".")[0]) + 1 :]
    ]
    assert wrong == []


def test_rooms_of_the_world_model_import_only_what_they_stand_on():
    wrong = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        if (own := room(name)) is not None
        for other in others
        if (floor := room(other)) is not None and floor > own
    ]
    assert wrong == []


def test_every_import_of_ours_exists():
    ours = {other for others in IMPORTS.values() for other in others if other.split(".")[0] in FLOORS}
    assert ours - set(MODULES) == set()


def test_modules_import_in_no_circle():
    assert " -> ".join(circle(IMPORTS)) == ""


def test_circles_are_found():
    assert circle({"a": ["b", "c"], "b": ["c"], "c": ["numpy"]}) == []
    assert circle({"a": ["b"], "b": ["c"], "c": ["d", "b"], "d": []}) == ["b", "c", "b"]
    hidden = "if TYPE_CHECKING:\n    from x import y\ndef f():\n    import z.w\n    from x import v"
    assert sorted(set(imported(hidden, {"x.y"}))) == ["x", "x.y", "z.w"]


@pytest.mark.parametrize("package", FLOORS)
def test_the_import_of_a_package_is_light(package):
    """CPU time is this process's own: a busy machine does not lengthen it much, so that the bar can stay low."""
    program = (
        "import sys, time\n"
        f"import {package}\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], time.process_time())"
    )
    path = ":".join(map(str, FLOORS.values()))
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    loaded, seconds = done.stdout.rsplit(maxsplit=1)
    assert loaded == "[]"
    assert float(seconds) < 1.0
