"""The tools around the book: what makes a chapter run again, what the offline check sees, what a card says."""

from __future__ import annotations

import importlib.util
import json

import pytest

from tools import book, chapters, measure, workshop
from tools.chapters import ROOT, Chapter

spec = importlib.util.spec_from_file_location("check_offline", ROOT / "book" / "check_offline.py")
check_offline = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_offline)


def notebook(*cells) -> dict:
    out = []
    for k, (kind, source) in enumerate(cells):
        cell = {"cell_type": kind, "id": f"c{k}", "metadata": {}, "source": source.splitlines(keepends=True)}
        out.append(cell | ({"outputs": [], "execution_count": None} if kind == "code" else {}))
    return {"cells": out, "metadata": {"kernelspec": {"name": "python3"}}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A small repository with one chapter, in the place of this one."""
    for name, text in {
        "_toc.yml": "format: jb-book\nroot: book/intro\nchapters:\n  - file: notebooks/01_one\n  - file: book/status\n",
        "sp4dlib/room.py": "x = 1\n",
        "data/small.json": "{}",
        "requirements/lock.txt": "numpy==2.0\n",
        "book/intro.md": "# Hello\n",
        "_config.yml": "title: x\n",
        "notebooks/01_one.ipynb": json.dumps(notebook(("markdown", "# One"), ("code", "1 + 1"))),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for module in (chapters, book):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(chapters, "EXECUTED", tmp_path / "_build" / "executed")
    monkeypatch.setattr(chapters, "MEASURED", tmp_path / "data" / "results" / "chapters.json")
    chapters._surroundings.cache_clear()
    yield tmp_path
    chapters._surroundings.cache_clear()


def current_key(profile: str = "ci") -> str:
    chapters._surroundings.cache_clear()
    (chapter,) = chapters.listed()
    return chapters.key(chapter, profile)


def test_only_notebooks_of_the_table_of_contents_are_chapters(repository):
    (repository / "notebooks" / "02_not_listed.ipynb").write_text(json.dumps(notebook(("code", "2"))))
    assert [chapter.name for chapter in chapters.listed()] == ["01_one"]


@pytest.mark.parametrize("path, text", [
    ("sp4dlib/room.py", "x = 2\n"),
    ("data/small.json", "[]"),
    ("requirements/lock.txt", "numpy==2.1\n"),
    ("notebooks/01_one.ipynb", json.dumps(notebook(("markdown", "# One"), ("code", "1 + 2")))),
])
def test_a_change_that_outputs_depend_on_runs_the_chapter_again(repository, path, text):
    before = current_key()
    assert current_key() == before and current_key("cpu") != before
    (repository / path).write_text(text)
    assert current_key() != before


def test_assets_at_hand_run_the_chapter_again(repository, monkeypatch):
    monkeypatch.delenv("SP4D_ASSETS", raising=False)
    before = current_key()
    monkeypatch.setenv("SP4D_ASSETS", str(repository / "data"))
    assert current_key() != before


@pytest.mark.parametrize("path, text", [
    ("book/intro.md", "# Changed\n"),
    ("data/results/chapters.json", "{}"),
    ("notebooks/01_one.ipynb", json.dumps(notebook(("markdown", "# One, better said"), ("code", "1 + 1")))),
])
def test_prose_does_not_run_the_chapter_again(repository, path, text):
    before = current_key()
    (repository / path).parent.mkdir(exist_ok=True)
    (repository / path).write_text(text)
    assert current_key() == before


def keep_run(repository) -> Chapter:
    """Pretend that the chapter ran."""
    (chapter,) = chapters.listed()
    done = chapters.read(chapter.source)
    done["cells"][1] |= {"execution_count": 1, "outputs": [{"output_type": "stream", "name": "stdout", "text": ["2"]}]}
    done["metadata"]["widgets"] = {"state": "kept"}
    kept, record = chapters.stored(chapter, "ci")
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps(done))
    record.write_text(json.dumps({"key": current_key()}))
    return chapter


def test_kept_outputs_are_put_into_the_prose_of_today(repository):
    chapter = keep_run(repository)
    chapter.source.write_text(json.dumps(notebook(("markdown", "# One, better said"), ("code", "1 + 1"))))
    assert chapters.is_current(chapter, "ci") and not chapters.is_current(chapter, "cpu")
    book.make_tree(repository / "tree", [chapter], "ci")
    shown = chapters.read(repository / "tree" / "notebooks" / "01_one.ipynb")
    assert shown["cells"][0]["source"] == ["# One, better said"]
    assert shown["cells"][1]["outputs"][0]["text"] == ["2"]
    assert shown["metadata"]["widgets"] == {"state": "kept"}
    assert chapters.read(chapter.source)["cells"][1]["outputs"] == []


def test_copying_an_unchanged_tree_leaves_time_stamps_alone(repository):
    chapter = keep_run(repository)
    tree = repository / "tree"
    book.make_tree(tree, [chapter], "ci")
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    book.make_tree(tree, [chapter], "ci")
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before


@pytest.mark.parametrize("html, expected", [
    ('<script src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
    ("<img alt='a' src='//cdn.example/x.png'>", ["//cdn.example/x.png"]),
    ('<link rel="stylesheet" href="https://cdn.example/x.css">', ["https://cdn.example/x.css"]),
    ('<link href="https://cdn.example/x.css" rel="stylesheet">', ["https://cdn.example/x.css"]),
    ("@import url(https://cdn.example/x.css);", ["https://cdn.example/x.css"]),
    ("a { background: url('https://cdn.example/x.png') }", ["https://cdn.example/x.png"]),
    ('<script src="_static/x.js"></script><a href="https://example.org">a link is no load</a>', []),
    ('<link rel="canonical" href="https://example.org/page">', []),
])
def test_offline_check_sees_loads_and_leaves_links(html, expected):
    assert check_offline.loads(html) == expected


def test_offline_check_fails_on_an_empty_folder(tmp_path):
    assert check_offline.main(str(tmp_path)) == 1
    (tmp_path / "page.html").write_text("<p>quiet</p>")
    assert check_offline.main(str(tmp_path)) == 0


def test_card_says_what_was_measured():
    cpu = {"seconds": 171.0, "peak_mib": 1290, "cpus": 2}
    assert measure.card_line({"cpu": cpu}) == "**Runs in** 3 min on a CPU (2 cores), 1.3 GiB of memory"
    both = {"cpu": cpu, "gpu": {"seconds": 22.0, "peak_mib": 4000, "device": "NVIDIA T4"}}
    assert measure.card_line(both).endswith("; 20 s on a GPU (NVIDIA T4)")


@pytest.mark.parametrize("seconds, words", [(1, "5 s"), (62, "60 s"), (100, "1.5 min"), (605, "10 min")])
def test_times_are_rounded_for_readers(seconds, words):
    assert measure.in_words(seconds) == words


def test_card_of_a_chapter_is_rewritten_in_place(repository):
    (chapter,) = chapters.listed()
    card = "# One\n\n:::{div} chapter-card\n**Room** x\n\n**Runs in** 1 s\n:::"
    chapter.source.write_text(json.dumps(notebook(("markdown", card), ("code", "1 + 1"))))
    measure.write_card(chapter, "**Runs in** 7 min")
    assert "".join(chapters.read(chapter.source)["cells"][0]["source"]) == card.replace("1 s", "7 min")
    chapter.source.write_text(json.dumps(notebook(("markdown", "# One"))))
    with pytest.raises(ValueError, match="chapter-card"):
        measure.write_card(chapter, "**Runs in** 7 min")


def test_workshop_leaves_out_gated_tagged_and_inline_solutions():
    chapter = notebook(
        ("markdown", "```{exercise}\n:label: a\nQ\n```"),
        ("markdown", "```{solution-start} a\n:class: dropdown\n```"), ("code", "secret = 1"),
        ("markdown", "```{solution-end}\n```"),
        ("markdown", "before\n\n```{solution} a\nsecret\n```\nafter"),
        ("code", "secret = 2"), ("code", "shown = 3"),
    )
    chapter["cells"][5]["metadata"]["tags"] = ["solution"]
    sources = ["".join(cell["source"]) for cell in workshop.without_solutions(chapter)["cells"]]
    assert sources == ["```{exercise}\n:label: a\nQ\n```", "# Your answer\n", "before\n\n\nafter", "shown = 3"]


def test_workshop_refuses_a_solution_that_never_ends():
    with pytest.raises(ValueError, match="solution-end"):
        workshop.without_solutions(notebook(("markdown", "```{solution-start} a\n```"), ("code", "1")))
