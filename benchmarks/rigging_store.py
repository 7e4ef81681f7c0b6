"""data/results/rigging.json: sections that are measured one by one, and rig by rig, in one file.

Keys of ``results[section]``:

* ``settings``: what the section was run with.
* ``rigs[name]``: one entry for each rig (or mesh size, or broken twin), with ``commit``, ``date`` and ``cpu_seconds``
  of its own, because rigs may have been measured in several runs, and ``set``: five, train, val, test or other.
  Sections that compare methods have ``methods[name]`` with the scores of
  :func:`sp4dlib.evaluation.rigging.skinning_scores`, or ``error``.
* ``sets[set]``: mean of each score over the rigs of the set (but ``other``), ``count`` how many had it,
  ``blender_made`` the rigs on which Blender's own L1 is below 0.1, and ``others``, the means without these.

Beyond ``methods``, a rig's entry holds in ``labels`` and ``bones`` the sizes and ``of_blender``, the library's score
over Blender's; in ``lifted`` ``views[count]``, the scores of labels; in ``skeleton`` ``perfect``, ``views_12`` and
``views_4``, the scores of joints and trees; in ``speed`` ``times[method]`` and ``of_blender``; in ``twins``
``methods[name].of_clean``, L1 over that of the clean twin, ``auto_rig``, or ``outcome`` and ``cost`` of a degenerate
input.
"""

from __future__ import annotations

import datetime
import json
import logging

import numpy as np

from benchmarks import record
from benchmarks.rigging_subjects import FIVE
from sp4dlib.evaluation import rigging as scores
from sp4dlib.rigs import assets

MADE_BY_BLENDER = 0.1

log = logging.getLogger(__name__)


def stored() -> dict:
    """``results`` of the file as it is, or nothing."""
    path = record.RESULTS / "rigging.json"
    return json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else {}


def entry(name: str, values: dict, cpu_seconds: float) -> dict:
    """A rig's entry with where it comes from."""
    return {"set": set_of(name), "commit": record.commit(), "date": datetime.date.today().isoformat(),
            "cpu_seconds": round(cpu_seconds, 1)} | rounded(values)


def set_of(name: str) -> str:
    """five, a split of the archive, or other."""
    return "five" if name in FIVE else assets.registry()[name].split if name in assets.registry() else "other"


def merge(results: dict, section: str, name: str, made: dict, settings: dict) -> dict:
    """``results`` with one more entry, and the section's means over sets anew."""
    before = results.get(section, {"rigs": {}})
    rigs = before["rigs"] | {name: made}
    known = {key: one for key, one in rigs.items() if one["set"] != "other"}
    return results | {section: {"settings": settings, "sets": sets(known), "rigs": rigs}}


def write(results: dict) -> None:
    """Store ``results``; complete or not at all."""
    record.write("rigging", results, device=record.processor(), seed=scores.SEED, module="benchmarks.rigging")


def sets(rigs: dict) -> dict:
    """Means over the rigs of each set."""
    out = {}
    for group in sorted({made["set"] for made in rigs.values()}):
        members = {name: made for name, made in rigs.items() if made["set"] == group}
        own = {name for name, made in members.items()
               if made.get("methods", {}).get("blender", {}).get("l1", 9) < MADE_BY_BLENDER}
        out[group] = {"rigs": len(members)} | means(list(members.values()))
        if own:
            rest = [made for name, made in members.items() if name not in own]
            out[group] |= {"blender_made": sorted(own), "others": means(rest)}
    return out


def means(entries: list[dict]) -> dict:
    """Mean of each number over entries of one shape, nested as they are; how many entries of ``methods`` have one."""
    out = {}
    for key in dict.fromkeys(key for made in entries for key in made if key not in ("set", "commit", "date", "note")):
        values = [made[key] for made in entries if key in made]
        if isinstance(values[0], dict):
            out[key] = means(values)
        elif all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            out[key] = rounded(float(np.mean(values)))
    if any("l1" in made for made in entries):
        out["count"] = sum("l1" in made for made in entries)
    return out


def rounded(value):
    """Numbers to four decimals, below dicts and lists too."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return round(float(value), 4) if isinstance(value, (float, np.floating)) else value


COLUMNS = (*(f"views.{views}.{key}" for views in (12, 4) for key in ("miou", "miou_seen")),
           *(f"of_blender.{key}" for key in ("l1", "deformation", "seconds", "cpu_seconds")),
           *(f"{case}.{key}" for case in ("perfect", "views_12") for key in ("j2j", "b2b", "edge_recall")),
           *(f"times.{method}.{key}" for method in ("ours", "band", "blender")
             for key in ("seconds", "cpu_seconds", "peak_mb")))


def table(section: dict) -> str:
    """Every rig and the means over sets: L1 and deformation in permille of each method, and the numbers of COLUMNS."""
    lines = [(name, made) for name, made in section["rigs"].items()]
    lines += [(f"mean of {group} ({made['rigs']})", made) for group, made in section["sets"].items()]
    lines += [(f"  without {len(made['blender_made'])} of Blender's", made["others"])
              for made in section["sets"].values() if "others" in made]
    methods = list(dict.fromkeys(m for _, made in lines for m in made.get("methods", {})))
    columns = [column for column in COLUMNS if any(number(made, column) is not None for _, made in lines)]
    rows = [["", *columns, *methods]]
    for name, made in lines:
        cells = [made.get("methods", {}).get(method, {}) for method in methods]
        rows.append([name, *("-" if number(made, column) is None else f"{number(made, column):.3f}"
                             for column in columns),
                     *(f"{c['l1']:.3f} {c['deformation']:5.2f}" if "l1" in c else "-" for c in cells)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(row, widths))) for row in rows)


def number(made: dict, path: str) -> float | None:
    """The number at a dotted path, None where there is none."""
    for key in path.split("."):
        made = made.get(key) if isinstance(made, dict) else None
    return made
