"""pytest plugin: measure the time and the peak memory of each notebook that nbmake executes.

Loaded by tools/chapters.py, which reads the files written here. A notebook's kernel is a child of the pytest process
that runs it, so the memory of all children is the memory of the chapter.
"""

from __future__ import annotations

import datetime
import json
import os
import threading
import time
from pathlib import Path

import psutil
import pytest
from nbmake.pytest_items import NotebookFile

PERIOD = 0.2    # seconds between two looks at the memory


def resident_of_children() -> int:
    """Resident bytes of all descendants of this process."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.Error:        # ended between the two calls
            continue
    return total


class PeakMemory(threading.Thread):
    """Looks at the memory of the children until stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(PERIOD):
            self.peak = max(self.peak, resident_of_children())

    def stop(self) -> int:
        """End the thread and return the peak in bytes."""
        self._ended.set()
        self.join()
        return self.peak


def pytest_collect_file(file_path, parent):
    """Collect notebooks below ``_build`` too, which nbmake by itself passes over: there lies the copy it overwrites."""
    if file_path.suffix == ".ipynb" and "_build" in file_path.parts:
        return NotebookFile.from_parent(parent, path=file_path)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    if not getattr(item, "nbmake", False):
        return (yield)
    watch, start, result = PeakMemory(), time.monotonic(), "failed"
    watch.start()
    try:
        value = yield
        result = "passed"
        return value
    finally:
        run = {
            "result": result,
            "seconds": round(time.monotonic() - start, 1),
            "peak_mib": round(watch.stop() / 2**20),
            "executed": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        }
        target = Path(os.environ["SP4D_RUNS"], f"{Path(item.filename).stem}.run.json")
        partial = target.with_suffix(".part")
        partial.write_text(json.dumps(run))
        partial.replace(target)
