"""Build, test, measure and pack the book. `make help` lists the commands that call this file.

    python -m tools.book build              execute what changed, render, print the page's path and the minutes
    python -m tools.book test               unit tests, chapters, strict build, offline check, browser test
    python -m tools.book measure [NAMES]    execute every chapter, or some, alone; write minutes and memory down
    python -m tools.book workshop           zip the offline book and the chapters without solutions
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tools import chapters, measure, workshop
from tools.chapters import BUILD, ROOT, Chapter

SOURCES = ("book", "notebooks", "data", "_config.yml", "_toc.yml")
HOME = "index.html"
STARTED = time.time()


def write_if_changed(target: Path, content: bytes) -> None:
    """Write a file unless it holds this already; Sphinx rebuilds the pages whose files are newer."""
    if not target.exists() or target.read_bytes() != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def make_tree(tree: Path, pages: list[Chapter], profile: str) -> None:
    """Copy what the book is made of, so that execution never touches the repository's own notebooks.

    Chapters that are current get the outputs of their last execution.
    """
    executed = {chapter.source: chapters.with_outputs(chapter, profile).encode() for chapter in pages
                if chapters.is_current(chapter, profile)}
    for name in SOURCES:
        root = ROOT / name
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file() and "node_modules" not in path.parts and ".ipynb_checkpoints" not in path.parts:
                write_if_changed(tree / path.relative_to(ROOT), executed.get(path) or path.read_bytes())


def machine() -> dict:
    """The hardware this process runs on."""
    import psutil
    import torch

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return {
        "cpus": os.cpu_count(),
        "processor": processor,
        "memory_gib": psutil.virtual_memory().total / 2**30,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str:
    """Short name of the commit that is checked out, with a plus sign where files differ from it."""
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if git("status", "--porcelain") else "")


def write_runs(tree: Path, pages: list[Chapter], profile: str) -> None:
    """Write what the status page shows; untouched where only the moment of building differs."""
    runs = {
        "profile": profile,
        "commit": commit(),
        "machine": machine(),
        "chapters": [chapters.record_of(chapter, profile) for chapter in pages],
        "versions": chapters.versions(),
    }
    target = tree / "runs.json"
    before = json.loads(target.read_text()) if target.exists() else {}
    if {k: v for k, v in before.items() if k != "built"} != runs:
        runs["built"] = datetime.date.today().isoformat()
        target.write_text(json.dumps(runs, indent=1))


def render(tree: Path, html: Path, pages: list[Chapter], *, strict: bool) -> int:
    """Run Sphinx on the tree and put the finished pages in `html`; returns the exit status."""
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*jupyter_book, "build", str(tree), "-q", "--keep-going", *(["-W"] if strict else [])]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)      # stderr has the warnings
    if run.returncode:
        print(run.stdout)
        return run.returncode
    fresh = html.with_name(html.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(tree / "_build" / "html", fresh)
    for chapter in pages:       # the download button gives the notebook as it is in the repository: small, no outputs
        shutil.copyfile(chapter.source, fresh / "_sources" / f"{chapter.page}.ipynb")
    shutil.rmtree(html, ignore_errors=True)
    fresh.rename(html)
    return 0


def build(profile: str, folder: Path, *, strict: bool = False, tests: bool = False) -> int:
    """Execute what changed, then render; returns the first exit status that is not 0."""
    tree, pages = folder / "tree", chapters.listed()
    make_tree(tree, pages, profile)
    status = chapters.execute(pages, tree, profile, tests=tests)
    failed = [chapter.name for chapter in pages if not chapters.is_current(chapter, profile)]
    if failed or status:
        print(f"failed: {', '.join(failed) or 'unit tests'} (exit status {status})")
        return status or 1
    make_tree(tree, pages, profile)
    write_runs(tree, pages, profile)
    status = render(tree, folder / "html", pages, strict=strict)
    if status == 0:
        print(f"\nThe book: {folder / 'html' / HOME}\nProfile {profile}, {minutes():.1f} minutes")
    return status


def minutes() -> float:
    """Minutes since make was called, set-up included; it says when in SP4D_STARTED."""
    return (time.time() - float(os.environ.get("SP4D_STARTED") or STARTED)) / 60


def default_profile() -> str:
    """The profile of SP4D_PROFILE, or the one that fits this machine."""
    from sp4dlib.profile import current

    return current().name


def has_own_scripts(html: Path) -> bool:
    """True where the built book serves MathJax and the widget scripts itself."""
    return (html / "_static" / "vendor" / "mathjax").exists()


def check(html: Path) -> int:
    """The offline check and the browser test on a built book."""
    if has_own_scripts(html) or os.environ.get("CI") == "true":
        status = subprocess.run([sys.executable, str(ROOT / "book" / "check_offline.py"), str(html)]).returncode
        if status:
            return status
    else:
        print("SKIPPED offline check: without Node the book loads MathJax and the widget scripts from a CDN")
    command = [sys.executable, "-m", "pytest", "-n", "2", "tests/browser", "--book", str(html)]
    return subprocess.run(command, cwd=ROOT).returncode


def test() -> int:
    """Everything that must hold before a change is merged."""
    folder = BUILD / "ci"
    status = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT).returncode
    status = status or build("ci", folder, strict=True, tests=True) or check(folder / "html")
    print(f"make test: {'FAILED' if status else 'passed'} after {minutes():.1f} minutes")
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["build", "test", "measure", "workshop"])
    parser.add_argument("names", nargs="*", help="chapters to measure, such as 04_training (default: all)")
    arguments = parser.parse_args()
    command = arguments.command
    if arguments.names and command != "measure":
        parser.error("chapters can be named for measure alone")
    if command == "test":
        return test()
    profile = default_profile()
    if command == "build":
        return build(profile, BUILD)
    if command == "measure":
        return measure.measure(profile, BUILD / "measure" / "tree", make_tree, machine(), commit(), arguments.names)
    return build(profile, BUILD) or workshop.pack(BUILD / "html", BUILD / "workshop")


if __name__ == "__main__":
    sys.exit(main())
