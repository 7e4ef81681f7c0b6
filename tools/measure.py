"""Measure the chapters: minutes and memory of each, run alone, into ``data/results/chapters.json`` and their cards."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tools import chapters

CARD_LINE = re.compile(r"^\*\*Runs in\*\* .*$", re.M)
COMMAND = "make measure"


def in_words(seconds: float) -> str:
    """Seconds for a reader: to 5 s below a minute and a half, to half a minute above."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"{round(seconds / 30) / 2:g} min"


def card_line(results: dict) -> str:
    """The line of a chapter's card that its measured runs give.

    Parameters
    ----------
    results : dict
        ``{"cpu": run, "gpu": run}``, at least the first; a run has ``seconds``, ``peak_mib``, ``cpus`` and ``device``.
    """
    cpu = results["cpu"]
    line = (f"**Runs in** {in_words(cpu['seconds'])} on a CPU ({cpu['cpus']} cores), "
            f"{max(cpu['peak_mib'], 103) / 1024:.1f} GiB of memory")
    if "gpu" in results:
        line += f"; {in_words(results['gpu']['seconds'])} on a GPU ({results['gpu']['device']})"
    return line


def write_card(chapter: chapters.Chapter, line: str) -> None:
    """Put the measured line into the chapter's card."""
    notebook = chapters.read(chapter.source)
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and "chapter-card" in text and CARD_LINE.search(text):
            cell["source"] = CARD_LINE.sub(lambda _: line, text).splitlines(keepends=True)
            partial = chapter.source.with_suffix(".part")
            partial.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            partial.replace(chapter.source)
            return
    raise ValueError(f"{chapter.page} has no chapter-card with a line `**Runs in** ...`; see notebooks/_template.ipynb")


def measure(profile: str, tree: Path, make_tree: Callable, machine: dict, commit: str,
            names: Sequence[str] = ()) -> int:
    """Execute every listed chapter, or those of ``names``, one at a time and whether or not it is current, and write
    the results down."""
    pages = [chapter for chapter in chapters.listed() if not names or chapter.name in names]
    missing = set(names) - {chapter.name for chapter in pages}
    if missing:
        raise SystemExit(f"no chapter of _toc.yml is called {', '.join(sorted(missing))}")
    stored = json.loads(chapters.MEASURED.read_text()) if chapters.MEASURED.exists() else {}
    for chapter in pages:
        for path in chapters.stored(chapter, profile):
            path.unlink(missing_ok=True)
    make_tree(tree, pages, profile)
    for chapter in pages:
        status = chapters.execute([chapter], tree, profile, jobs=1)
        if status:
            return status
        run = chapters.record_of(chapter, profile)
        stored.setdefault(chapter.name, {})[profile] = {
            "seconds": run["seconds"],
            "peak_mib": run["peak_mib"],
            "cpus": machine["cpus"],
            "device": machine["gpu"] if profile == "gpu" else machine["processor"],
            "commit": commit,
            "date": datetime.date.today().isoformat(),
            "command": f"SP4D_PROFILE={profile} {COMMAND}",
        }
        if "cpu" in stored[chapter.name]:
            write_card(chapter, card_line(stored[chapter.name]))
        print(f"{chapter.name}: {run['seconds']:.0f} s, {run['peak_mib']} MiB ({profile})")
    chapters.MEASURED.parent.mkdir(parents=True, exist_ok=True)
    partial = chapters.MEASURED.with_suffix(".part")
    partial.write_text(json.dumps(dict(sorted(stored.items())), indent=1) + "\n", encoding="utf-8")
    partial.replace(chapters.MEASURED)
    return 0
