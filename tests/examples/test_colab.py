"""The notebook runs from top to bottom in a kernel of its own, on a link of an emulated Drive."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driveshard.emulator import Emulator
from driveshard.sources.composite.source import CompositeSource
from tests.rig import Rig

NOTEBOOK = Path(__file__).parents[2] / "examples" / "colab.ipynb"


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_kept_without_outputs_and_its_cells_are_short() -> None:
    cells = code_cells(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    assert [cell["metadata"].get("tags") for cell in cells[:2]] == [["install"], ["parameters"]]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    assert max(len(cell["source"]) for cell in cells) <= 20


@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_the_notebook_pulls_a_link_and_trains(
    tmp_path: Path, emulator: Emulator, composites: Callable[[int], CompositeSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, why in (("torch", "PyTorch"), ("nbclient", "nbclient"), ("ipykernel", "ipykernel")):
        pytest.importorskip(name, reason=f"{why} is not installed")
    import nbformat
    from nbclient import NotebookClient

    rig = Rig(tmp_path, emulator.url, name="few")
    result = rig.push(composites(5), share="anyone")
    own = {
        "DRIVESHARD_DRIVE_URL": f"{emulator.url}/",
        "DRIVESHARD_HOME": str(tmp_path / "stranger"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PYTHONPATH": os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    kernel = tmp_path / "jupyter" / "kernels" / "own" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "own", "language": "python", "env": own}))

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    install, parameters, *_ = code_cells(notebook)
    install.source = ""
    parameters.source = f"LINK = {result.link!r}\nSTEPS = 12"
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, kernel_name="own", resources=where).execute()

    cells = code_cells(notebook)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    (said,) = re.findall(r"loss (\d\.\d+) at first, (\d\.\d+) at last", "".join(o.get("text", "") for o in outputs))
    assert float(said[1]) < 0.9 * float(said[0])
    assert "60 samples" in str(cells[2].outputs[-1].data)
    assert "image/png" in cells[-1].outputs[-1].data
    assert (tmp_path / "data" / "manifest.json").is_file()
