"""Stored results of an evaluation: rows as they come, and what they mean together."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sp4dlib.evaluation.methods import SETTINGS
from sp4dlib.evaluation.subjects import PROTOCOLS

SCORES = ("miou", "ari", "f1", "macc", "psnr", "ssim", "psnr_further", "ssim_further", "inside", "silhouette_iou",
          "clip_parts", "num_parts", "num_predicted")
ROW = ("subject", "group", "protocol", "setting", "method")


def summarize(rows: Iterable[dict]) -> list[dict]:
    """Means and spreads of rows by group, protocol, setting and method, in the order in which rows name these.

    Returns
    -------
    list of dict
        ``group``, ``protocol``, ``setting``, ``method``, ``subjects`` (their number), and for each score of `SCORES`
        that all its rows have the mean; ``<score>_std`` for mIoU and ARI is the standard deviation over subjects
        (divisor n - 1; 0 for one).
    """
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in ROW[1:]), []).append(row)
    out = []
    for key, members in groups.items():
        mean = {name: round(float(np.mean([row[name] for row in members])), 6)
                for name in SCORES if all(name in row for row in members)}
        std = {f"{name}_std": round(float(np.std([row[name] for row in members], ddof=1)), 6) if len(members) > 1
               else 0.0 for name in ("miou", "ari")}
        out.append(dict(zip(ROW[1:], key)) | {"subjects": len(members)} | mean | std)
    return out


def in_order(rows: list[dict], subjects: Sequence[str]) -> list[dict]:
    """Rows, or what was skipped, in an order that does not depend on when; methods of a setting keep theirs."""
    place = {subject: number for number, subject in enumerate(subjects)}

    def key(row: dict) -> tuple:
        return (place.get(row["subject"], len(place)), row["subject"],
                PROTOCOLS.index(row["protocol"]) if "protocol" in row else -1,
                SETTINGS.index(row["setting"]) if "setting" in row else -1)

    return sorted(rows, key=key)


def write_results(path: str | Path, results: dict) -> None:
    """Write results to a JSON file that is complete or not there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_results(path: str | Path) -> dict:
    """Read what `write_results` wrote.

    Raises
    ------
    ValueError
        If the file holds no results of an evaluation.
    """
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        if not {"config", "rows", "skipped"} <= set(results):
            raise ValueError("it has no rows")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no results of an evaluation ({error}); give another file") from error
    return results


def table(results: dict, scores: Sequence[str] = ("miou", "ari", "f1", "macc")) -> list[str]:
    """The summary as lines of text, a block for each group and protocol."""
    lines: list[str] = []
    block = None
    for row in results["summary"]:
        if (row["group"], row["protocol"]) != block:
            block = row["group"], row["protocol"]
            lines += ["", f"{block[0]}, {block[1]}: {row['subjects']} subjects, {row['clip_parts']:.1f} parts, "
                      f"{row['num_parts']:.1f} of them in image 0",
                      f"  {'setting':10s} {'method':22s}" + "".join(f"{name:>8s}" for name in scores) + "   found"]
        lines.append(f"  {row['setting']:10s} {row['method']:22s}" + "".join(f"{row[name]:8.3f}" for name in scores)
                     + f"{row['num_predicted']:8.1f}")
    return lines[1:]


def subject_lines(results: dict) -> list[str]:
    """A line for each subject and protocol: K, and the mIoU of the first method of each setting."""
    found: dict[tuple, dict] = {}
    for row in results["rows"]:
        line = found.setdefault((row["subject"], row["protocol"]), {"K": str(row["clip_parts"])})
        line.setdefault(row["setting"], f"{row['method']} {row['miou']:.3f}")
    return [f"{subject}, {protocol}: " + ", ".join(f"{name} {value}" for name, value in line.items())
            for (subject, protocol), line in found.items()]
