"""The rules of the layout, read from the source itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pakman"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("pakman", "errors", "version", "stack", "names", "addresses"),
    (
        "problems", "pem", "validation", "manifest", "project", "repository", "templating", "service", "recipe", "apk",
        "arguments", "flag_groups", "nested_arguments", "parsers", "references", "refusals", "settings",
        "settings_file", "mirrors", "install_script",
    ),
    (
        "command", "git", "detection", "scratch", "github", "inputs", "event", "trace", "signing", "snapshot",
        "buildroots", "runroots", "builders", "bucket", "download", "indexes", "inspect", "previous", "progress",
        "api", "archive", "instellar", "notify",
    ),
    (
        "build", "channels", "checks", "test", "test_report", "deploy", "generate", "online", "publish", "outputs",
        "pushed", "release", "stack_report",
    ),
    (
        "channel_commands", "cli", "commands", "deploy_commands", "key_commands", "release_commands", "reports",
        "repository_commands", "stack_commands", "test_commands", "shipping", "__main__",
    ),
)  # fmt: skip
"""Facts, values, effects, stories, doors: a module imports from its own layer and those above it in this list."""

MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 500
WATCHER = "buildroots.processes"
"""A program of its own, too, which `command` runs."""


def layer(module: str) -> int:
    """Return the layer of a dotted module name below `pakman`."""
    head = module.split(".")[0]
    for number, names in enumerate(LAYERS):
        if head in names:
            return number
    raise AssertionError(f"pakman/{head} belongs to no layer: name it in LAYERS")


def dotted(path: Path) -> str:
    """Return a module's name below `pakman`: apk/write.py is apk.write."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "pakman"


def imported(tree: ast.AST) -> set[str]:
    """Return the modules of this program that a source imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.split(".")[0] == "pakman":
            base = node.module.removeprefix("pakman").lstrip(".")
            found |= {base} if base else {alias.name for alias in node.names if not alias.name.startswith("__")}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("pakman.") for alias in node.names if alias.name.startswith("pakman.")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_lower_layer_never_imports_a_higher_one(path: Path) -> None:
    own = layer(dotted(path))
    higher = {module for module in imported(ast.parse(path.read_text())) if layer(module) > own}
    assert not higher, f"{path.name} imports {higher}"


def uses(path: Path, wanted: set[str]) -> set[str]:
    """Return which of the dotted names (`os.environ`) a source uses, by attribute or by `from os import environ`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found & wanted


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_programs_are_run_only_by_command(path: Path) -> None:
    programs = {
        f"os.{name}" for name in ("system", "popen", "posix_spawn", "execv", "execve", "execvp", "execvpe", "fork")
    }
    programs |= {f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output", "getoutput")}
    assert dotted(path) == "command" or not uses(path, programs)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_environment_and_arguments_are_read_only_in_the_doors(path: Path) -> None:
    assert dotted(path) in {"cli", "__main__", WATCHER} or not uses(path, {"os.environ", "os.getenv", "sys.argv"})


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_the_clock_is_an_argument(path: Path) -> None:
    clock = {"time.time", "datetime.now", "datetime.utcnow", "date.today", "datetime.today"}
    assert dotted(path) in {"cli", "__main__"} or not uses(path, clock)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_can_be_held_in_mind(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
