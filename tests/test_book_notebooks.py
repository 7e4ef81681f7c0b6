"""Each chapter keeps the house rules of CONTRIBUTING.md, whatever it is about."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
import yaml

from tools.chapters import MEASURED, Chapter, listed
from tools.measure import CARD_LINE, card_line
from tools.workshop import END, START, without_solutions

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
REPOSITORY = CONFIG["repository"]["url"]
BRANCH = CONFIG["repository"]["branch"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEMPLATE = "_template"
CHAPTERS = [path for path in NOTEBOOKS if path.stem != TEMPLATE]
COLUMNS, LINES = 79, 25
EXERCISE = re.compile(r"^(?:`{3,}|:{3,})\{exercise\}.*?^:label: (\S+)", re.M | re.S)

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def text(cell: dict) -> str:
    return "".join(cell["source"])


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == kind]


def prose(path: Path) -> str:
    return "\n\n".join(text(cell) for cell in cells(path, "markdown"))


def test_chapters_and_table_of_contents_agree():
    assert {chapter.source for chapter in listed()} == set(CHAPTERS)
    assert [path.stem for path in CHAPTERS if not re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)] == []


@every_notebook
def test_is_valid_and_holds_no_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs] == []
    assert [cell.id for cell in code if cell.execution_count is not None] == []
    assert "widgets" not in notebook.metadata
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@every_notebook
def test_code_fits_the_column_and_the_eye(path):
    wide = [(cell["id"], line) for cell in cells(path, "code") for line in text(cell).splitlines()
            if len(line) > COLUMNS]
    assert wide == []
    long = [cell["id"] for cell in cells(path, "code") if len(text(cell).splitlines()) > LINES]
    assert long == []


@every_notebook
def test_opens_with_a_title_and_a_card(path):
    first = text(read(path)["cells"][0])
    assert first.startswith("# ") and len(re.findall(r"^# ", prose(path), re.M)) == 1
    assert "chapter-card" in first and CARD_LINE.search(first)


@every_chapter
def test_card_tells_the_measured_minutes_and_memory(path):
    measured = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    assert path.stem in measured, "run `make measure` and commit data/results/chapters.json"
    (line,) = CARD_LINE.findall(text(read(path)["cells"][0]))
    assert line == card_line(measured[path.stem])


@every_notebook
def test_opens_in_colab(path):
    link = f"https://colab.research.google.com/github/{REPOSITORY.removeprefix('https://github.com/')}/blob/{BRANCH}/"
    assert f"({link}notebooks/{path.name})" in prose(path)
    installs = [cell for cell in cells(path, "code") if "%pip install" in text(cell)]
    assert len(installs) == 1
    assert 'if "google.colab" in sys.modules:' in text(installs[0])
    assert f"git+{REPOSITORY}" in text(installs[0])
    assert "remove-cell" in tags(installs[0])
    if any("../data" in text(cell) for cell in cells(path, "code")):
        assert "git clone" in text(installs[0]) and "%cd" in text(installs[0]), "stored results lie in the repository"


@every_notebook
def test_picture_comes_before_theory(path):
    """The first output that a reader sees is a figure, and it stands above the second heading."""
    for cell in read(path)["cells"]:
        if cell["cell_type"] == "code" and "figure" in cell["metadata"].get("mystnb", {}):
            return
        if cell["cell_type"] == "markdown":
            if re.search(r"^```\{figure\}|^!\[", text(cell), re.M):
                return
            assert not re.search(r"^## ", text(cell), re.M), "a section begins before the first figure"
    pytest.fail("no figure at all")


@every_notebook
@pytest.mark.parametrize("heading", ["What you will do", "Before you start", "Exercises", "Summary"])
def test_has_the_sections_of_every_chapter(path, heading):
    assert re.search(rf"^## {heading}\s*$", prose(path), re.M)


@every_notebook
def test_every_figure_has_name_caption_and_alt_text(path):
    names = []
    for cell in cells(path, "code"):
        options = cell["metadata"].get("mystnb", {})
        if not options:
            continue
        figure = options.get("figure", {})
        assert re.fullmatch(r"fig-[a-z0-9-]+", figure.get("name", "")), cell["id"]
        assert len(figure.get("caption", "")) >= 20, f"{cell['id']}: a caption is a sentence"
        alt = options.get("image", {}).get("alt", "")
        assert len(alt) >= 20, f"{cell['id']}: alt text says what is to be seen"
        names.append(figure["name"])
    assert names and len(set(names)) == len(names)


@every_notebook
def test_cells_that_draw_are_figures(path):
    """What a cell shows with sp4dlib.show or matplotlib gets a caption, unless the cell is hidden or a solution."""
    draws = re.compile(r"\bshow\.(?:grid|clip_grid|video|flipbook|mesh_player|weights_viewer)\(|\bplt\.show\(")
    bare, inside = [], False
    for cell in read(path)["cells"]:
        if cell["cell_type"] == "markdown":
            inside = (inside or bool(START.search(text(cell)))) and not END.search(text(cell))
        elif draws.search(text(cell)) and not inside and "remove-cell" not in tags(cell):
            if "figure" not in cell["metadata"].get("mystnb", {}):
                bare.append(cell["id"])
    assert bare == []


def test_names_of_figures_and_exercises_are_unique_in_the_book():
    names = [cell["metadata"]["mystnb"]["figure"]["name"] for path in NOTEBOOKS for cell in cells(path, "code")
             if "figure" in cell["metadata"].get("mystnb", {})]
    names += [label for path in NOTEBOOKS for label in EXERCISE.findall(prose(path))]
    assert sorted(set(names)) == sorted(names)


@every_notebook
def test_exercises_have_folded_solutions(path):
    labels = EXERCISE.findall(prose(path))
    if path.stem != TEMPLATE:
        assert 3 <= len(labels) <= 5
    started = re.findall(r"\{solution-start\} (\S+)\n(?::\w+:.*\n)*?:class: dropdown", prose(path))
    assert started == labels
    assert len(END.findall(prose(path))) == len(labels)
    for cell in cells(path, "markdown"):        # a gate must stand alone, or the code between is not run in its place
        assert len(START.findall(text(cell))) + len(END.findall(text(cell))) <= 1


@every_chapter
def test_solutions_run_code(path):
    inside, runs = False, []
    for cell in read(path)["cells"]:
        if cell["cell_type"] == "markdown" and START.search(text(cell)):
            inside, ran = True, False
        elif cell["cell_type"] == "markdown" and END.search(text(cell)):
            inside = False
            runs.append(ran)
        elif inside and cell["cell_type"] == "code":
            ran = True
    assert any(runs)


@every_notebook
def test_reads_sizes_from_the_profile(path):
    code = "\n".join(text(cell) for cell in cells(path, "code"))
    assert "profile.current()" in code
    assert "cuda.is_available" not in code and "torch.manual_seed" not in code and "np.random.seed" not in code


@every_notebook
def test_links_to_files_exist(path):
    missing = [target for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)\s#]+)", prose(path))
               if not (path.parent / target).exists()]
    assert missing == []


@every_notebook
def test_workshop_edition_has_no_solution(path):
    holes = without_solutions(read(path))
    left = "\n".join(text(cell) for cell in holes["cells"])
    assert "{solution" not in left
    assert EXERCISE.findall(left) == EXERCISE.findall(prose(path))
    solutions = len(START.findall(prose(path)))
    assert sum(text(cell).startswith("# Your answer") for cell in holes["cells"]) == solutions
    holes["metadata"].pop("widgets", None)
    nbformat.validate(nbformat.from_dict(holes))


def test_title_of_a_chapter_is_its_first_heading():
    assert Chapter(f"notebooks/{TEMPLATE}").title == "Title of the chapter"
