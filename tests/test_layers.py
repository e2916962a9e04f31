"""The house: which folder may import from which, and what a room keeps to itself.

``FOLDERS`` is the order of docs/design.md. An import inside a function counts like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import driveshard

ROOT = Path(driveshard.__file__).parent
FOLDERS = {
    "core": "",
    "archive": "core",
    "sources": "core",
    "storage": "core",
    "config": "core sources storage",
    "upload": "core archive sources storage config",
    "dataset": "core archive sources storage config upload",
    "cli": "core archive sources storage config upload dataset emulator",
    "emulator": "",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}
OURS = [name for name in MODULES if name.partition(".")[0] in FOLDERS]


def imported(name: str) -> Iterator[str]:
    """The modules of driveshard that a module imports, wherever in it."""
    for statement in ast.walk(MODULES[name]):
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").partition(".")[0] == "driveshard":
            assert not statement.level, "relative imports are not used here"
            for alias in statement.names:
                found = f"{statement.module}.{alias.name}".partition(".")[2]
                while found and found not in MODULES:
                    found = found.rpartition(".")[0]
                yield found


def libraries(name: str) -> set[str]:
    """The top-level names of everything a module imports."""
    found = set()
    for statement in ast.walk(MODULES[name]):
        if isinstance(statement, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            found.add(statement.module.partition(".")[0])
    return found


@pytest.mark.parametrize("name", OURS)
def test_imports_follow_the_order_of_the_folders(name: str) -> None:
    folder = name.partition(".")[0]
    allowed = {folder, *FOLDERS[folder].split(), ""}
    assert {one.partition(".")[0] for one in imported(name)} <= allowed


def test_no_modules_import_each_other_in_a_circle() -> None:
    order = TopologicalSorter({name: set(imported(name)) - {name, ""} for name in OURS}).static_order()
    assert set(OURS) <= set(order)  # raises CycleError


def test_every_folder_has_its_place() -> None:
    assert {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(FOLDERS)


def test_the_public_names_are_loaded_when_asked_for() -> None:
    assert {name for name in driveshard.__all__ if not hasattr(driveshard, name)} == set()


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("googleapiclient", "storage.drive"),
        ("httplib2", "storage.drive"),
        ("google", "storage.drive"),
        ("sqlite3", "core.sqlite storage.account_usage upload.ledger upload.dry_run upload.run"),
        ("tenacity", "storage.retry"),
        ("filelock", "upload.ledger.lock storage.drive.credentials storage.folder.records dataset.cached_parts"),
        ("cloudpickle", "sources.python.given"),
        ("click", "cli"),
        ("rich", "cli"),
        ("multiprocessing", "upload.pack sources.python.foreign"),
        ("dask", "upload.pack.dask upload.pack.local_cluster"),
        ("distributed", "upload.pack.dask upload.pack.dask_workers upload.pack.local_cluster"),
    ],
)
def test_a_library_is_used_in_its_rooms_only(library: str, rooms: str) -> None:
    users = {name for name in OURS if library in libraries(name) and not name.startswith("emulator")}
    assert {name for name in users if not any(f"{name}.".startswith(f"{room}.") for room in rooms.split())} == set()


def test_modules_and_functions_stay_small() -> None:
    long = {name for name in OURS if MODULES[name].body and MODULES[name].body[-1].end_lineno > 400}  # type: ignore[operator]
    functions = [
        (name, node.name, (node.end_lineno or 0) - node.lineno + 1)
        for name in OURS
        for node in ast.walk(MODULES[name])
        if isinstance(node, ast.FunctionDef)
    ]
    assert not long
    assert not [one for one in functions if one[2] > 50]
    assert sorted(length for *_, length in functions)[len(functions) // 2] < 10
