"""Condense a run of ``sp4d train`` into what the book shows: ``python -m benchmarks.mini RUN_DIR``.

A run folder holds gigabytes of checkpoints and clips; the book needs its curves, its minutes and a few of its pictures.
They go to ``data/results/mini.json`` and ``data/results/mini/``. A run that is still going, or was stopped, is stored
as what it is: every stage says how many of its steps are done.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from pathlib import Path

import torch
from PIL import Image

from benchmarks import record

STAGES = ("vae", "rgb", "coarse", "dual")
NAME = "mini"
SCALE = ("loss", "pixels", "kl", "rgb", "part", "contrastive", "heldout", "learning_rate", "grad_norm")


def condense(run: Path, points: int) -> dict:
    """What is stored of a run.

    Parameters
    ----------
    run : Path
        Folder that ``sp4d train`` wrote.
    points : int
        Records kept of a stage at the most; those between are averaged, held-out losses are all kept.

    Returns
    -------
    dict
        ``recipe`` (its name, sizes and sentence), ``finished``, ``model_bytes``, ``stages``.

    Raises
    ------
    ValueError
        If the folder holds no run.
    """
    path = run / "recipe.json"
    if not path.is_file():
        raise ValueError(f"{run} holds no recipe.json: give the folder of a run of `sp4d train`")
    recipe = json.loads(path.read_text(encoding="utf-8"))
    weights = sorted((run / "model").rglob("*.safetensors"))
    return {"recipe": {name: recipe[name] for name in ("name", "about", "size", "model", "data", "sampling")},
            "trained_by": f"sp4d train {recipe['name']} -o {run.name}",
            "finished": (run / "model" / "model_index.json").is_file(),
            "model_bytes": sum(file.stat().st_size for file in weights),
            "stages": {name: stage(run / name, settings, points) for name, settings in settings_of(recipe).items()
                       if (run / name / "checkpoint.pt").is_file()}}


def settings_of(recipe: dict) -> dict[str, dict]:
    """Settings of the stages that are trained, in their order."""
    vae = recipe.get("vae")
    found = ({} if not vae or vae["pretrained"] else {"vae": vae}) | recipe["stages"]
    return {name: found[name] for name in STAGES if name in found}


def stage(folder: Path, settings: dict, points: int) -> dict:
    """Settings, steps done, seconds, day and thinned history of a stage."""
    checkpoint = folder / "checkpoint.pt"
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    day = datetime.datetime.fromtimestamp(checkpoint.stat().st_mtime, datetime.UTC).date()
    seconds = state.get("seconds")
    return {"settings": settings, "steps": state["step"], "seconds": None if seconds is None else round(seconds, 1),
            "parameters": sum(tensor.numel() for name, tensor in state["weights"].items()
                              if not name.startswith("head.")),
            "last_day": day.isoformat(), "history": thin(state["history"], points)}


def thin(history: list[dict], points: int) -> list[dict]:
    """At most ``points`` means of neighbouring records, and between them every record that has a held-out loss."""
    every = -(-len(history) // points) if history else 1
    kept, pending = [], []
    for number, item in enumerate(history, 1):
        pending.append(item)
        if number % every and "heldout" not in item and number < len(history):
            continue
        names = [name for name in SCALE if name in item]
        kept.append({"step": item["step"]} | {name: float(f"{mean(pending, name):.5g}") for name in names})
        pending = []
    return kept


def mean(records: list[dict], name: str) -> float:
    """Mean of a field over the records that have it."""
    values = [item[name] for item in records if name in item]
    return sum(values) / len(values)


def copy_samples(run: Path, target: Path, count: int) -> dict[str, list[dict]]:
    """Store ``count`` pictures of each stage, spread evenly on the logarithm of the steps; returns what they are."""
    target.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict]] = {}
    wanted = set()
    for name in STAGES:
        pictures = sorted((run / "samples" / name).glob("*.png"))
        for picture in spread(pictures, count):
            file = target / f"{name}_{picture.stem}.png"
            partial = file.with_suffix(f".{os.getpid()}.part")
            Image.open(picture).save(partial, "png", optimize=True)
            partial.replace(file)
            wanted.add(file.name)
            found.setdefault(name, []).append({"step": int(picture.stem), "file": f"{target.name}/{file.name}"})
    for file in target.glob("*.png"):
        if file.name not in wanted:
            file.unlink()
    return found


def spread(items: list, count: int) -> list:
    """``count`` of the items, the first and the last among them, denser at the beginning."""
    if len(items) <= count:
        return items
    at = {round(len(items) ** (k / (count - 1))) - 1 for k in range(count)}
    rest = iter(sorted(set(range(len(items))) - at))
    while len(at) < count:
        at.add(next(rest))
    return [items[k] for k in sorted(at)]


def main() -> None:
    """``python -m benchmarks.mini``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="what `sp4d train ... -o` was given")
    parser.add_argument("--device", help="what trained it (default: this machine's processor)")
    parser.add_argument("--points", type=int, default=120, help="of a curve (default: 120)")
    parser.add_argument("--note", default="", help="what the recipe does not say of how this run was made")
    parser.add_argument("--samples", type=int, default=6, help="pictures of a stage (default: 6)")
    args = parser.parse_args()
    results = condense(args.run, args.points) | {"note": args.note}
    if not any(args.run.glob("samples/*/*.png")):
        raise SystemExit(f"{args.run} has made no pictures yet, and the book shows some: let it train on")
    results["samples"] = copy_samples(args.run, record.RESULTS / NAME, args.samples)
    seed = results["stages"]["dual"]["settings"]["seed"] if "dual" in results["stages"] else None
    print(record.write(NAME, results, device=args.device or record.processor(), seed=seed, module="benchmarks.mini"))


if __name__ == "__main__":
    main()
