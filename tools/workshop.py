"""Pack what a teacher hands out: the offline book, and the chapters with the solutions left out."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tools import chapters
from tools.chapters import ROOT

START = re.compile(r"^(`{3,}|:{3,})\{solution-start\}", re.M)
END = re.compile(r"^(`{3,}|:{3,})\{solution-end\}", re.M)
INLINE = re.compile(r"^(?P<fence>`{3,}|:{3,})\{solution\}.*?^(?P=fence)[ \t]*$", re.M | re.S)
README = """SP4D workshop

book/       open book/index.html in a browser; it needs no network and no server
notebooks/  the chapters, with an empty cell in the place of each solution

To run the notebooks: python -m pip install -e ".[book]" in this folder (torch first, if you want a special build), then
jupyter lab notebooks
"""


def without_solutions(notebook: dict) -> dict:
    """A copy of a notebook in which every solution is an empty code cell.

    Solutions are the cells from one with ``solution-start`` to one with ``solution-end``, cells tagged ``solution``,
    and ``solution`` directives inside a cell.

    Raises
    ------
    ValueError
        If a solution is opened and not closed.
    """
    cells, inside = [], False
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        markdown = cell["cell_type"] == "markdown"
        if markdown and START.search(text):
            inside = True
            cells.append({"cell_type": "code", "id": cell["id"], "metadata": {}, "execution_count": None,
                          "outputs": [], "source": ["# Your answer\n"]})
        if not inside and "solution" not in cell["metadata"].get("tags", []):
            shown = INLINE.sub("", text) if markdown else text
            cells.append({**cell, "source": shown.splitlines(keepends=True)})
        if markdown and END.search(text):
            inside = False
    if inside:
        raise ValueError("a solution-start has no solution-end")
    return {**notebook, "cells": cells}


def pack(html: Path, folder: Path) -> int:
    """Write ``folder.zip`` with the built book and the chapters without solutions; returns an exit status."""
    if not (html / "_static" / "vendor" / "mathjax").exists():
        print("the book was built without Node and would need the network; install Node 18 or newer and try again")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    inner = folder / "sp4d-workshop"
    shutil.copytree(html, inner / "book")
    (inner / "notebooks").mkdir()
    for chapter in chapters.listed():
        text = json.dumps(without_solutions(chapters.read(chapter.source)), indent=1, ensure_ascii=False) + "\n"
        (inner / "notebooks" / chapter.source.name).write_text(text, encoding="utf-8")
    hidden = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("sp4dlib", "data"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, inner / name, ignore=hidden)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, inner / name)
    (inner / "WORKSHOP.txt").write_text(README, encoding="utf-8")
    archive = Path(shutil.make_archive(str(folder), "zip", folder))
    print(f"The workshop: {archive} ({archive.stat().st_size / 2**20:.0f} MiB)")
    return 0
