"""The card of a training set: what it holds, in words and tables that its files bear out."""

from __future__ import annotations

import statistics

READING = """## Reading it

Shards are WebDataset tar files, which any tar tool reads. A clip's files share a name up
to the first dot:

| file | content |
|---|---|
| `KEY.json` | part names, cameras, source, licence, split, what was drawn at random |
| `KEY.npz` | `centers` (T, K, 3), `boxes` (T, V, 2, 3), `part_parents`, `times`, and the cameras' angles and frame |
| `KEY.t00v00.rgb.png` | colour, 8 bits, white background |
| `KEY.t00v00.parts.png` | part id + 1, 8 bits, one channel; 0 is background |

Spatial part colours and latents are not stored: they follow from ids, centres and boxes once the input view and frame
are chosen, which training does at random. `*.index.npz` holds the place of every file for random access.

```python
from sp4dlib.clips import KinematicParts
data = KinematicParts("{folder}", "train", frames=4, views=4)
```

`sp4d data check DIR` verifies every hash and picture, `sp4d data show DIR` draws a contact sheet."""


def write_card(config: dict, summary: dict, reports: list[dict], shards: list[dict]) -> str:
    """The text of a set's README.md.

    Parameters
    ----------
    config : dict
        Of :class:`~sp4dlib.clips.config.SetConfig`, as plain data.
    summary : dict
        As :func:`sp4dlib.clips.build.summarize` makes it.
    reports : list of dict
        Of all objects.
    shards : list of dict
        As the manifest lists them.
    """
    clips, kept = config["clips"], [report for report in reports if report["status"] == "kept"]
    size = sum(shard["bytes"] for shard in shards)
    families = {split: len({r["family"] for r in kept if r["split"] == split}) for split in summary["splits"]}
    lines = [f"# {config['name']}", "", *([config["about"], ""] if config["about"] else []),
             f"{summary['clips_kept']} clips of {summary['objects_kept']} rigged objects: {clips['frames']} frames x "
             f"{clips['views']} views of {clips['size']} x {clips['size']} pixels, in colour and in exact kinematic "
             f"parts; {size / 1e6:,.1f} MB in {len(shards)} shards. Format, parts and cameras follow SP4D "
             "(arXiv 2509.10687), whose own set was not released.", ""]
    lines += ["## What is in it", "", *_table(
        ("source", "objects kept", "of", "clips", "parts (median, range)", "motion (median, range)", "licences"),
        [_source_row(name, entry, [r for r in kept if r["source"] == name])
         for name, entry in summary["sources"].items()]), "",
        "Parts are counted for each object. Motion is how far the part that moves most strays from its usual place, "
        "in object sizes, for each clip. Drawn by "
        + ", ".join(f"{name} ({count} objects)" for name, count in summary["renderers"].items())
        + ". `manifest.json` holds the configuration that rebuilds the set.", "", "## Splits", "",
        *_table(("split", "objects", "clips", "families"),
                [(name, entry["objects_kept"], entry["clips_kept"], families[name])
                 for name, entry in summary["splits"].items()]),
        "", *_split_note(config), ""]
    lines += ["## What was left out", "", *_dropped(summary), "",
              "`report.json` names every object and clip with its reason.", "",
              READING.format(folder=config["name"]), ""]
    return "\n".join(lines)


def _source_row(name: str, entry: dict, kept: list[dict]) -> tuple:
    motions = [clip["motion"] for report in kept for clip in report["clips"] if clip["status"] == "kept"]
    licences = ", ".join(f"{licence} ({count})" for licence, count in entry["licences"].items())
    return (name, entry["objects_kept"], entry["objects"], entry["clips_kept"],
            _spread([report["parts"] for report in kept], ".0f"), _spread(motions, ".2f"), licences or "-")


def _spread(values: list, form: str) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):{form}}, {min(values):{form}} to {max(values):{form}}"


def _split_note(config: dict) -> list[str]:
    notes = []
    if any(source["kind"] == "assets" for source in config["sources"]):
        notes.append("The Quaternius rigs keep the split of their list: species or outfits are held out, while packs, "
                     "and with them an artist's style and some skeletons, are shared between splits.")
    if any(source["kind"] != "assets" for source in config["sources"]):
        notes.append("Objects of all other sources are split by family (a folder, a repository, a procedural family): "
                     "no family is in two splits.")
    return [" ".join(notes + ["Of twins in two splits, the one that is trained on was left out."])]


def _dropped(summary: dict) -> list[str]:
    rows = [("object", reason, count) for reason, count in summary["objects_dropped"].items()]
    rows += [("clip", reason, count) for reason, count in summary["clips_dropped"].items()]
    rows += [(f"row of {name}", reason, count) for name, counts in summary["passed_over"].items()
             for reason, count in counts.items()]
    return _table(("what", "reason", "count"), rows) if rows else ["Nothing."]


def _table(head: tuple, rows: list[tuple]) -> list[str]:
    return ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)]
