"""docs/quickstart.md runs as the notebook it is, without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_readme import ROOT, needs_weights

PAGE = ROOT / "docs/quickstart.md"
CUT_OFF = """
import sys
def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        if arguments[1][0] not in ("127.0.0.1", "::1", "localhost"):
            raise RuntimeError(f"{arguments[1]} was asked")
sys.addaudithook(watch)
"""


@needs_weights
def test_the_notebook_runs(tmp_path: Path) -> None:
    jupytext = pytest.importorskip("jupytext")
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = jupytext.read(PAGE)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert len(code) == PAGE.read_text(encoding="utf-8").count("```python")
    assert not [cell for cell in code if cell.source.startswith("%%")]
    code[0].source = CUT_OFF + code[0].source
    (tmp_path / "assets").symlink_to(ROOT / "assets", target_is_directory=True)
    file = tmp_path / "docs/quickstart.ipynb"
    file.parent.mkdir()
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    jupytext.write(book, file)
    # In a process of its own, as a loop of events may run in this one.
    program = "from nbclient.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--inplace", "--timeout=120", file],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ran = [cell for cell in json.loads(file.read_text())["cells"] if cell["cell_type"] == "code"]
    pictures = [cell for cell in ran for output in cell["outputs"] if "image/png" in str(output)]
    assert len(pictures) == 3
    assert "cat (256, " in str(ran[-2]["outputs"])
