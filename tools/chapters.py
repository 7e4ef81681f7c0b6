"""Execute the chapters of the book, each once for every state of itself, the library, the packages and the profile.

nbmake runs them (so that execution is also their test) in a copy of the tree. What it wrote is kept under
``_build/executed`` with a key of everything that a chapter's outputs depend on, and taken from there until that
changes. Prose and captions are not among it: the kept outputs are put into the notebook as it is now.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
EXECUTED = BUILD / "executed"
MEASURED = ROOT / "data" / "results" / "chapters.json"  # made from the chapters, so no input of theirs
CELL_LIMIT = {"ci": 300, "cpu": 3600, "gpu": 7200}      # seconds a cell may take before nbmake calls it hung


@dataclass(frozen=True)
class Chapter:
    """A notebook of the table of contents.

    Attributes
    ----------
    page : str
        Its name there, for example ``notebooks/01_colour_code``.
    """

    page: str

    @property
    def name(self) -> str:
        """File name without folder and ending."""
        return Path(self.page).name

    @property
    def source(self) -> Path:
        """The notebook in the repository."""
        return ROOT / f"{self.page}.ipynb"

    @property
    def title(self) -> str:
        """First heading of the notebook."""
        for cell in read(self.source)["cells"]:
            for line in "".join(cell["source"]).splitlines():
                if cell["cell_type"] == "markdown" and line.startswith("# "):
                    return line[2:].strip()
        return self.name


def read(path: Path) -> dict:
    """A notebook as plain JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(notebook: dict) -> list[dict]:
    """The cells that run."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def listed() -> list[Chapter]:
    """Chapters of ``_toc.yml``, in reading order."""
    found: list[Chapter] = []

    def walk(node) -> None:
        if isinstance(node, dict):
            if (ROOT / f"{node.get('file')}.ipynb").exists():
                found.append(Chapter(node["file"]))
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    return found


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape the outputs."""
    names = ("torch", "diffusers", "numpy", "scipy", "trimesh", "moderngl", "matplotlib", "plotly", "ipywidgets",
             "jupyter-book", "Sphinx", "myst-nb", "nbmake")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def _assets_state() -> str:
    """Which archive or folder of rigs the chapters will find."""
    path = Path(os.environ.get("SP4D_ASSETS", ""))
    if not os.environ.get("SP4D_ASSETS") or not path.exists():
        return "none"
    return f"{path.stat().st_size if path.is_file() else 'folder'} {path.name}"


@functools.cache
def _surroundings(profile: str) -> str:
    """Hash of what all chapters depend on besides their own cells."""
    digest = hashlib.sha256(f"{profile} {_assets_state()} {sorted(versions().items())}".encode())
    files = [*(ROOT / "sp4dlib").rglob("*"), *(ROOT / "data").rglob("*"), ROOT / "requirements" / "lock.txt"]
    for path in sorted(files):
        if path.is_file() and "__pycache__" not in path.parts and path != MEASURED:
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def key(chapter: Chapter, profile: str) -> str:
    """Hash of a chapter's code and of everything else its outputs depend on."""
    cells = [["".join(cell["source"]), cell["metadata"].get("tags"), cell["metadata"].get("nbmake")]
             for cell in code_cells(read(chapter.source))]
    return hashlib.sha256((_surroundings(profile) + json.dumps(cells)).encode()).hexdigest()[:16]


def with_outputs(chapter: Chapter, profile: str) -> str:
    """Text of the notebook as it is now, with the outputs and the widget state of its kept execution."""
    notebook, executed = read(chapter.source), read(stored(chapter, profile)[0])
    for cell, done in zip(code_cells(notebook), code_cells(executed), strict=True):
        cell["outputs"], cell["execution_count"] = done["outputs"], done["execution_count"]
    if "widgets" in executed["metadata"]:
        notebook["metadata"]["widgets"] = executed["metadata"]["widgets"]
    return json.dumps(notebook, indent=1, ensure_ascii=False)


def stored(chapter: Chapter, profile: str) -> tuple[Path, Path]:
    """Where the executed notebook and the record of its run are kept: ``(notebook, record)``."""
    stem = f"{chapter.name}-{profile}"
    return EXECUTED / f"{stem}.ipynb", EXECUTED / f"{stem}.json"


def is_current(chapter: Chapter, profile: str) -> bool:
    """True where the kept notebook was executed in exactly the present state."""
    notebook, record = stored(chapter, profile)
    return notebook.exists() and record.exists() and json.loads(record.read_text())["key"] == key(chapter, profile)


def execute(chapters: list[Chapter], tree: Path, profile: str, *, jobs: int = 2, tests: bool = False) -> int:
    """Execute the chapters that are not current, and the unit tests with them if asked; keep what succeeded.

    Parameters
    ----------
    chapters : list of Chapter
    tree : Path
        Copy of the repository's sources, in which the notebooks are overwritten.
    profile : {"ci", "cpu", "gpu"}
    jobs : int
        Notebooks at a time.
    tests : bool
        Run ``tests/`` in the same session.

    Returns
    -------
    int
        Exit status of pytest; 0 if there was nothing to run.
    """
    stale = [chapter for chapter in chapters if not is_current(chapter, profile)]
    for chapter in stale:
        for path in stored(chapter, profile):
            path.unlink(missing_ok=True)
    if not stale and not tests:
        return 0
    busy = jobs if tests else max(1, min(jobs, len(stale)))
    threads = max(1, (os.cpu_count() or 1) // busy)
    environment = {
        **os.environ,
        "SP4D_PROFILE": profile,
        "SP4D_BOOK": "1",                   # figures as HTML that works in a page with no server
        "SP4D_RUNS": str(EXECUTED),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }
    EXECUTED.mkdir(parents=True, exist_ok=True)
    notebooks = [str(tree / f"{chapter.page}.ipynb") for chapter in stale]
    command = [sys.executable, "-m", "pytest", "-p", "tools.chapter_meter", "-n", str(jobs), "--dist", "worksteal",
               "--nbmake", "--overwrite", f"--nbmake-timeout={CELL_LIMIT[profile]}"]
    status = subprocess.run(command + notebooks + (["tests"] if tests else []), cwd=ROOT, env=environment).returncode
    for chapter in stale:
        _keep(chapter, profile, tree)
    return status


def _keep(chapter: Chapter, profile: str, tree: Path) -> None:
    """Keep an executed notebook and complete its record with the key, if the run passed."""
    notebook, record = stored(chapter, profile)
    meter = EXECUTED / f"{chapter.name}.run.json"
    if not meter.exists():
        return
    run = json.loads(meter.read_text(encoding="utf-8"))
    meter.unlink()
    if run["result"] != "passed":
        return
    shutil.copyfile(tree / f"{chapter.page}.ipynb", notebook)
    run |= {"key": key(chapter, profile), "page": chapter.page, "title": chapter.title, "profile": profile}
    record.write_text(json.dumps(run, indent=1))


def record_of(chapter: Chapter, profile: str) -> dict:
    """The record of a current chapter: result, seconds, peak_mib, executed, page, title."""
    return json.loads(stored(chapter, profile)[1].read_text())
