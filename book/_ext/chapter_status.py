"""The directive ``chapter-status``: what ran for this build, for how long, on what, and with which versions.

MyST-NB's own table is empty here, because the chapters are executed before Sphinx starts; this one reads ``runs.json``,
which tools/book.py writes beside ``_config.yml`` of the tree it builds.
"""

from __future__ import annotations

import json
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _markdown(runs: dict) -> list[str]:
    machine = runs["machine"]
    lines = [
        f"Profile `{runs['profile']}`, commit `{runs['commit']}`, built on {runs['built']} with {machine['cpus']} CPU "
        f"cores ({machine['processor']}), {machine['memory_gib']:.0f} GiB of memory and {machine['gpu'] or 'no GPU'}.",
        "",
        "| chapter | result | time | peak memory | executed |",
        "|---|---|---|---|---|",
    ]
    for run in runs["chapters"]:
        lines.append(
            f"| [{run['title']}](/{run['page']}) | {run['result']} | {_minutes(run['seconds'])} "
            f"| {run['peak_mib'] / 1024:.1f} GiB | {run['executed']} |"
        )
    if not runs["chapters"]:
        lines.append("| no chapter in this build | | | | |")
    lines += ["", "| package | version |", "|---|---|"]
    lines += [f"| {name} | {version} |" for name, version in runs["versions"].items()]
    return lines


class ChapterStatus(Directive):
    """Table of the chapters executed for this build."""

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        source = Path(env.srcdir, "runs.json")
        env.note_dependency(str(source))
        if source.exists():
            lines = _markdown(json.loads(source.read_text(encoding="utf-8")))
        else:
            lines = ["This build executed no chapter; `make book` does."]
        container = nodes.container()
        self.state.nested_parse(StringList(lines, source=str(source)), self.content_offset, container)
        return container.children


def setup(app: Sphinx) -> dict:
    app.add_directive("chapter-status", ChapterStatus)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
