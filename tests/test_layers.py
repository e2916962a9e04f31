"""Who may import whom. A module imports from rows above its own only, so there can be no cycle.

A new module takes its place in ROWS; an import inside a function, which may point down, its place in LATER.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import driveshard

ROOT = Path(driveshard.__file__).parent

ROWS = [
    # words and values, and what needs nothing else of ours
    "errors",
    "model events text channel checksums bottleneck durable schema remote_zip contact_sheet landscapes"
    " sources.encode sources.globs sources.jpeg",
    "database selections clock pacing console progress edge zipwriter drawing member_names destination drive.errors"
    " sources.base sources.pictures sources.target",
    # one job each
    "ledger account retry caution lock spool packer options report folder_records drive.session"
    " sources.estimate sources.folder sources.studio",
    "manifest budget config engine planner recover bars flags drive.client folder_destination"
    " sources.composite sources.python",
    "plan_files plan_samples transfer records jobfile drive.auth signing_in",
    "settling uploader drive.destination shelf status",
    "share",
    # wiring
    "pipeline reconcile proof reading dataset_folder",
    "job viewing",
    "api rehearsal demo sharing",
    "pushing",
    "cli",
    "__main__",
]

# Inside functions: dear libraries are loaded when they are needed, and the tables that find an implementation.
LATER = {
    "api": "rehearsal",
    "cli": "config demo edge emulator pacing pushing sharing signing_in status viewing",
    "destination": "drive.destination folder_destination",
    "edge": "__init__ config",
    "jobfile": "sources.composite sources.python sources.target",
    "options": "destination engine",
    "planner": "plan_files plan_samples",
    "report": "bars",
    "shelf": "drive.client drive.destination",
    "signing_in": "drive.auth",
}

LEVEL = {name: level for level, names in enumerate(ROWS) for name in names.split()}
PACKAGES = {"__init__", "drive", "sources"}  # hold no code but their docstring or the public names


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
OURS = [name for name in MODULES if not name.startswith("emulator") and name not in PACKAGES]


def ours(statement: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The modules of driveshard that a statement imports."""
    if isinstance(statement, ast.Import):
        named = [alias.name for alias in statement.names]
    elif statement.level:
        raise AssertionError("relative imports are not used here")
    else:
        named = [f"{statement.module}.{alias.name}" for alias in statement.names]
    for name in named:
        if name.partition(".")[0] == "driveshard":
            inside = name.partition(".")[2]
            while inside and inside not in MODULES:
                inside = inside.rpartition(".")[0]
            yield inside or "__init__"


def imports(name: str) -> tuple[set[str], set[str]]:
    """(imported with the module, imported later) of a module."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    later = {
        found
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in ast.walk(function)
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for found in ours(statement)
    }
    first = {
        found
        for statement in tree.body
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for found in ours(statement)
    }
    return first, later - first


def libraries(name: str) -> set[str]:
    """The top-level names of everything a module imports, at any depth."""
    found = set()
    for statement in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            found.add(statement.module.partition(".")[0])
    return found


def test_every_module_has_its_row() -> None:
    assert sorted(LEVEL) == sorted(OURS)


@pytest.mark.parametrize("name", OURS)
def test_imports_point_one_way(name: str) -> None:
    first, later = imports(name)
    below = {one for one in first if one in LEVEL and LEVEL[one] >= LEVEL[name]}
    assert not below, f"{name} must not import {sorted(below)}"
    assert first <= LEVEL.keys() | {"emulator", "__init__"}
    allowed = set(LATER.get(name, "").split())
    down = {one for one in later if one not in LEVEL or LEVEL[one] >= LEVEL[name]}
    assert down <= allowed, f"{name} must not import {sorted(down - allowed)} later"


def test_the_public_names_are_loaded_when_asked_for() -> None:
    first, later = imports("__init__")
    assert (first, later) == (set(), set())
    assert {getattr(driveshard, name) for name in driveshard.__all__}


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("emulator")])
def test_the_emulator_shares_nothing_with_the_client(name: str) -> None:
    first, later = imports(name)
    assert all(one.startswith("emulator") for one in first | later)


def test_only_the_tools_that_serve_it_know_the_emulator() -> None:
    users = {name for name in OURS if any(one.startswith("emulator") for one in set.union(*imports(name)))}
    assert users <= {"cli", "demo"}


HTTP = {"googleapiclient", "httplib2", "google", "google_auth_httplib2", "google_auth_oauthlib", "oauthlib"}


def test_only_the_drive_rooms_know_googles_libraries() -> None:
    users = {name for name in OURS if libraries(name) & HTTP}
    assert users <= {"drive.auth", "drive.client", "drive.destination"}


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("sqlite3", {"ledger", "account", "database", "records", "rehearsal", "job"}),
        ("tenacity", {"retry"}),
        ("filelock", {"lock"}),
        ("click", {"cli", "flags", "console"}),
        ("rich", {"bars", "report", "status", "console", "viewing"}),
        ("multiprocessing", {"engine"}),
        ("http", {"drive.client"}),
        ("urllib", {"drive.client", "drive.destination", "shelf", "demo"}),
        ("requests", set()),
    ],
)
def test_a_library_is_used_in_its_rooms_only(library: str, rooms: set[str]) -> None:
    assert {name for name in OURS if library in libraries(name)} <= rooms


def test_modules_stay_small() -> None:
    long = {name: lines for name in OURS if (lines := MODULES[name].read_text(encoding="utf-8").count("\n")) > 400}
    assert not long
