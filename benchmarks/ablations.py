"""What each idea of SP4D is worth: a recipe with and without it, in paired seeds, scored on clips nobody trained on.

All variants of a seed see the same clips, noise and first weights, and, where it is the same, share stage 1 (the colour
branch alone). Every trained model is scored on the same clips with the same noise:

* ``seen``: new creatures of the families that were trained on; ``unseen``: the split ``val``, other families;
* in both protocols, ``multi-view`` (frame 0 in all views) and ``multi-frame`` (view 0 in all frames);
* with all colours ``given``, and the silhouettes that they show, or only the input view seen and the rest
  ``generated``. The number of parts is told.

Beside the scores stand losses on the split ``val``: those of parts are of one variant's own colours, so they compare
variants only where the colours are the same.

    python -m benchmarks.ablations --recipe nano --seeds 3 --work runs/ablations
    python -m benchmarks.ablations --recipe benchmarks/longer.toml --seeds 3 --work runs/ablations

A finished run is written to ``data/results/ablations.json`` at once and never trained again; one that was stopped goes
on from its last checkpoint. ``--rescore`` scores all finished ones anew. ``--only`` restricts the variants. A recipe
with an autoencoder needs ``--vae``, the folder of a trained one, which all variants share.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks import record
from sp4dlib import coding
from sp4dlib.clips import Clip, KinematicParts, Skip, build_set, draw_clip, kinematic_parts
from sp4dlib.clips.sources import list_entries, load_entry
from sp4dlib.diffusion.autoencoder import load_vae
from sp4dlib.diffusion.edm import Pair
from sp4dlib.diffusion.objective import Draws, Objective
from sp4dlib.diffusion.pipeline import SP4DPipeline
from sp4dlib.diffusion.recipe import Recipe, read_recipe
from sp4dlib.diffusion.run_recipe import Windows, follow, make_pipeline, save_pipeline, training_windows
from sp4dlib.diffusion.training import make_heldout, train
from sp4dlib.evaluation import Scene, segmentation_scores

FRESH = 10_000          # first seed of new creatures; training sets count from 0
SCORES = ("miou", "ari", "f1", "macc")
PROTOCOLS = ("multi-view", "multi-frame")
SETTINGS = ("given", "generated")
STEPS = 10              # of the sampler, without guidance
HELDOUT = 12            # windows of the held-out losses

log = logging.getLogger("benchmarks.ablations")


def full(recipe: Recipe) -> Recipe:
    """The recipe as it is."""
    return recipe


def no_bidifuse(recipe: Recipe) -> Recipe:
    """Fusion by-passed in stage 2: parts see the condition, the cameras and their own noisy selves, but no colours."""
    return with_sizes(recipe, fusion="none")


def no_contrastive(recipe: Recipe) -> Recipe:
    """Stage 2 without the part-consistency loss."""
    return with_dual(recipe, contrastive_weight=0.0)


def random_palette(recipe: Recipe) -> Recipe:
    """Random colours, far apart, the same in all views and frames of a clip."""
    return with_code(recipe, palette="random")


def one_unet(recipe: Recipe) -> Recipe:
    """One U-Net with concatenated latents, √2 times as wide, trained from the start for the same operations."""
    sizes, dual = recipe.model.sizes, recipe.stages["dual"]
    extra = recipe.stages["rgb"].steps // 2 if "rgb" in recipe.stages else 0        # half a network's steps
    wide = with_sizes(recipe, model_channels=concat_width(sizes))
    return replace(wide, model=replace(wide.model, kind="concat"),
                   stages={"dual": replace(dual, steps=dual.steps + extra)})


def object_frame(recipe: Recipe) -> Recipe:
    """Colours from the object's own axes instead of those of view 0."""
    return with_code(recipe, frame="object")


def isotropic(recipe: Recipe) -> Recipe:
    """One scale for all axes of the colour code."""
    return with_code(recipe, normalize="isotropic")


VARIANTS: dict[str, Callable[[Recipe], Recipe]] = {
    "full": full, "no_bidifuse": no_bidifuse, "no_contrastive": no_contrastive, "random_palette": random_palette,
    "one_unet": one_unet, "object_frame": object_frame, "isotropic": isotropic}


def with_sizes(recipe: Recipe, **changes) -> Recipe:
    """Other sizes of the network."""
    return replace(recipe, model=replace(recipe.model, sizes=recipe.model.sizes | changes))


def with_dual(recipe: Recipe, **changes) -> Recipe:
    """Another stage 2."""
    return replace(recipe, stages=recipe.stages | {"dual": replace(recipe.stages["dual"], **changes)})


def with_code(recipe: Recipe, **changes) -> Recipe:
    """Other colours for the parts."""
    return replace(recipe, data=replace(recipe.data, code=replace(recipe.data.code, **changes)))


def concat_width(sizes: dict) -> int:
    """The width nearest to √2 times that of a branch that groups and heads divide."""
    step = math.lcm(sizes.get("norm_groups", 32), sizes.get("head_dim", 64))
    return max(1, round(math.sqrt(2) * sizes["model_channels"] / step)) * step


def seeded(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with other first weights, clips and noise; quiet on the way."""
    stages = {name: replace(config, seed=seed, sample_every=0) for name, config in recipe.stages.items()}
    return replace(recipe, model=replace(recipe.model, seed=seed), stages=stages)


def main(words: Sequence[str] | None = None) -> None:
    """Train what is not trained yet, score it, and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--recipe", default="nano", help="name or .toml file")
    parser.add_argument("--seeds", type=int, default=3, help="pairs")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="variants")
    parser.add_argument("--clips", type=int, default=6, help="clips of each group that models are scored on")
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"), help="folder for clips and models")
    parser.add_argument("--vae", help="folder of a trained autoencoder, for recipes with one")
    parser.add_argument("--data", type=Path, help="training set (default: the recipe's own is built)")
    parser.add_argument("--rescore", action="store_true", help="score finished models anew, and train none")
    parser.add_argument("--device", help="default: cuda if there is one")
    parser.add_argument("--name", default="ablations", help="of the file in data/results")
    arguments = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = read_recipe(arguments.recipe)
    if recipe.vae is not None:
        if not arguments.vae:
            parser.error("this recipe has an autoencoder: give --vae, the folder of a trained one")
        recipe = replace(recipe, vae=replace(recipe.vae, pretrained=str(Path(arguments.vae).absolute())))
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        torch.set_num_threads(1)
    run_all(recipe, arguments.work / recipe.name, arguments.name, range(arguments.seeds), arguments.only,
            arguments.clips, arguments.data, device, arguments.rescore)


def run_all(recipe: Recipe, work: Path, name: str, seeds: Sequence[int], variants: Sequence[str], clips: int,
            data: Path | None, device: str, rescore: bool = False) -> dict:
    """All runs that ``data/results/<name>.json`` does not hold, seed by seed; returns what it holds in the end."""
    def store() -> None:
        state["summary"] = summarize(state["rows"])
        record.write(name, stored(name) | {recipe.name: state}, seed=None, module="benchmarks.ablations",
                     device=record.processor() if device == "cpu" else torch.cuda.get_device_name())

    if data is None:
        data = work / "data"
        if not data.exists():
            build_set(recipe.data.set, data, progress=False)
    scenes = held_out_scenes(recipe, data, clips)
    told = {"recipe": recipe.to_dict(), "steps": STEPS, "heldout": HELDOUT,
            "clips": {group: [scene.key for scene in found] for group, found in scenes.items()}}
    state = begun(name, recipe.name, told)
    if rescore:
        for row in state["rows"]:
            row["scores"] = score(kept_pipeline(work, row, device), scenes)
            row["scored"] = record.commit()
            store()
            log.info("%s, seed %d", row["variant"], row["seed"])
        return state
    for seed, variant in ((seed, variant) for seed in seeds for variant in variants):
        if any((row["variant"], row["seed"]) == (variant, seed) for row in state["rows"]):
            continue
        log.info("%s, seed %d", variant, seed)
        state["rows"].append(run_one(recipe, variant, seed, work, data, scenes, device))
        store()
        log.info("%s", json.dumps(state["summary"][variant], default=str)[:400])
    return state


def kept_pipeline(work: Path, row: dict, device: str) -> SP4DPipeline:
    """The finished model of a row."""
    folder = work / f"seed{row['seed']}" / row["variant"] / "model"
    if not folder.is_dir():
        raise SystemExit(f"{folder} is not there: models are scored anew only where they were trained")
    pipeline = SP4DPipeline.from_pretrained(folder).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stored(name: str) -> dict:
    """Results that the file of that name holds, none without one."""
    path = record.RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else {}


def begun(name: str, recipe: str, told: dict) -> dict:
    """Rows to go on from; they must be of this recipe and these clips."""
    told = json.loads(json.dumps(told))
    found = stored(name).get(recipe)
    if found is None:
        return told | {"rows": [], "summary": {}}
    changed = [key for key in told if found.get(key) != told[key]]
    if changed:
        raise SystemExit(f"data/results/{name}.json holds runs of {recipe} with other {', '.join(changed)}; move it "
                         "away, or choose another --name")
    return found


def run_one(recipe: Recipe, variant: str, seed: int, work: Path, data: Path, scenes: dict[str, list[Scene]],
            device: str) -> dict:
    """Train and score one model: a row of the results."""
    began = time.process_time()
    chosen = VARIANTS[variant](seeded(recipe, seed))
    if "rgb" in chosen.stages:
        start = colour_branch(chosen, work / f"seed{seed}", data, device)
        chosen = replace(chosen, model=replace(chosen.model, start=str(start), carry=False),
                         stages={"dual": chosen.stages["dual"]})
    shared = time.process_time() - began
    out = work / f"seed{seed}" / variant
    outcome = follow(chosen, out, data=data, resume=(out / "recipe.json").exists(), device=device, progress=False)
    if not outcome.finished:
        raise KeyboardInterrupt
    trained = time.process_time() - began
    pipeline = outcome.pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    scores = score(pipeline, scenes)
    losses = heldout_losses(pipeline, chosen, data)
    for kept in out.rglob("checkpoint.pt"):
        kept.unlink()                                               # as large as ten models; the model stays
    network = outcome.pipeline.unet
    return {"variant": variant, "seed": seed, "scores": scores, "losses": losses,
            "curve": outcome.stages["dual"].heldout, "parameters": sum(p.numel() for p in network.parameters()),
            "stage_1_cpu_seconds": round(shared, 1), "train_cpu_seconds": round(trained - shared, 1),
            "score_cpu_seconds": round(time.process_time() - began - trained, 1), "commit": record.commit(),
            "date": datetime.date.today().isoformat()}


def colour_branch(recipe: Recipe, out: Path, data: Path, device: str) -> Path:
    """Stage 1, trained once for each seed; the folder of its pipeline."""
    folder = out / "rgb_model"
    if folder.is_dir():
        return folder.absolute()
    vae = None if recipe.vae is None else load_vae(recipe.vae.pretrained).to(device).requires_grad_(False).eval()
    result = train(recipe.network().rgb, training_windows(data, recipe), recipe.stages["rgb"], out / "rgb",
                   device=device, vae=vae, progress=False)
    if not result.finished:
        raise KeyboardInterrupt
    save_pipeline(make_pipeline(recipe, result.ema, vae), folder)
    shutil.rmtree(out / "rgb")
    return folder.absolute()


def held_out_scenes(recipe: Recipe, data: Path, count: int) -> dict[str, list[Scene]]:
    """Clips to score on: new creatures of the families of the training set, and windows of its split ``val``."""
    config, frames, views = recipe.data.set, recipe.data.frames, recipe.data.views
    rule = replace(config.clips, frames=frames, views=views)
    entries, _ = list_entries(config.sources, config.val, config.test, config.seed)
    families = sorted({entry.locator for entry in entries if entry.kind == "creature" and entry.split == "train"})
    first = {entry.locator: entry for entry in reversed(entries) if entry.kind == "creature"}
    seen: list[tuple[str, Clip]] = []
    for number in range(20 * count):
        if len(seen) == count:
            break
        entry = replace(first[families[number % len(families)]], seed=FRESH + number)
        rig = load_entry(entry)[0]
        clip = draw_clip(rig, np.random.default_rng(FRESH + number), rule, parts=kinematic_parts(rig, config.parts))
        if not isinstance(clip, Skip):
            seen.append((f"{entry.locator}/{entry.seed}", clip))
    held = KinematicParts(data, "val", frames, views)
    steps = [number * len(held) // min(count, len(held)) for number in range(min(count, len(held)))]
    unseen = [(held.key(number), held[number]) for number in steps]
    return {group: [Scene(key, group, PROTOCOLS[0], clip) for key, clip in found]
            for group, found in (("seen", seen), ("unseen", unseen))}


def score(pipeline: SP4DPipeline, scenes: dict[str, list[Scene]]) -> dict:
    """Means over the clips of each group: ``setting -> protocol -> group -> score``."""
    result: dict = {}
    for setting in SETTINGS:
        found: dict[str, dict[str, list[dict]]] = {protocol: {} for protocol in PROTOCOLS}
        for group, members in scenes.items():
            for number, scene in enumerate(members):
                images = painted(pipeline, scene.clip, setting, number)
                for protocol in PROTOCOLS:
                    seen = replace(scene, protocol=protocol)
                    inside = seen.parts >= 0 if setting == "given" else None
                    parts = coding.decode(seen.scored(images), seen.num_parts, inside=inside)
                    found[protocol].setdefault(group, []).append(segmentation_scores(parts, seen.parts))
        result[setting] = {protocol: {group: {name: round(statistics.fmean(row[name] for row in rows), 5)
                                              for name in (*SCORES, "num_parts")}
                                      for group, rows in groups.items()} for protocol, groups in found.items()}
    return result


def painted(pipeline: SP4DPipeline, clip: Clip, setting: str, seed: int) -> np.ndarray:
    """Part images of a clip as the model paints them."""
    known = {place: clip.rgb[place] for place in np.ndindex(clip.rgb.shape[:2])} if setting == "given" else None
    return pipeline(list(clip.rgb[:, 0]), clip.cameras.azimuths, clip.cameras.elevations, crop=False, known=known,
                    num_inference_steps=STEPS, guidance_scale=1.0, decode_parts=False,
                    generator=torch.Generator().manual_seed(seed)).part_images


@torch.no_grad()
def heldout_losses(pipeline: SP4DPipeline, recipe: Recipe, data: Path) -> dict:
    """Losses of both kinds of pictures on fixed clips, noise levels and noise: colours given, and generated."""
    config, device = recipe.stages["dual"], pipeline.device
    held = KinematicParts(data, "val", recipe.data.frames, recipe.data.views)
    fixed = make_heldout(Windows(held, recipe.data.still, recipe.data.code), HELDOUT, p_mean=config.p_mean,
                         p_std=config.p_std, vae=pipeline.vae)
    objective = Objective(pipeline.unet.eval())
    result = {}
    for setting in SETTINGS:
        sums = np.zeros(2)
        for rows in pieces(len(fixed.sigma), 8):
            batch = type(fixed.batch)(*(tensor[rows] for tensor in fixed.batch)).to(device)
            known = torch.full(batch.rgb.shape[:3], setting == "given")
            draws = Draws(fixed.sigma[rows], Pair(*(noise[rows] for noise in fixed.noise)),
                          torch.ones(len(batch.rgb), dtype=torch.bool), Pair(known, torch.zeros_like(known)))
            loss = objective(batch, draws.to(device))
            sums += np.array([loss.rgb.item(), loss.part.item()]) * len(batch.rgb)
        rgb, part = (sums / len(fixed.sigma)).round(5).tolist()
        result[setting] = {"part": part} | ({} if setting == "given" else {"rgb": rgb})
    return result


def pieces(count: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size``."""
    return (slice(start, start + size) for start in range(0, count, size))


def summarize(rows: list[dict]) -> dict:
    """Of each variant and number: mean and spread over the seeds, and the paired difference to ``full``.

    ``difference`` is the mean over the seeds that both have, ``error`` its standard error (where there are two or
    more).
    """
    numbers: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        numbers.setdefault(row["variant"], {})[row["seed"]] = dict(flat(row))
    result = {}
    for variant, seeds in numbers.items():
        result[variant] = {"seeds": sorted(seeds)}
        for name in next(iter(seeds.values())):
            values = [found[name] for found in seeds.values()]
            entry = {"mean": statistics.fmean(values), "spread": statistics.stdev(values) if len(values) > 1 else None}
            pairs = [found[name] - numbers["full"][seed][name] for seed, found in seeds.items()
                     if seed in numbers.get("full", {})]
            if variant != "full" and pairs:
                entry["difference"] = statistics.fmean(pairs)
                entry["error"] = statistics.stdev(pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else None
            result[variant][name] = {key: None if value is None else round(value, 5) for key, value in entry.items()}
    return result


def flat(row: dict) -> Iterator[tuple[str, float]]:
    """The numbers of a row by name, such as ``given/multi-view/seen/miou``; ``both`` is the mean of the two groups."""
    for setting, protocols in row["scores"].items():
        for protocol, groups in protocols.items():
            for name in SCORES:
                for group, values in groups.items():
                    yield f"{setting}/{protocol}/{group}/{name}", values[name]
                yield f"{setting}/{protocol}/both/{name}", statistics.fmean(each[name] for each in groups.values())
    for setting, losses in row["losses"].items():
        for name, value in losses.items():
            yield f"loss/{setting}/{name}", value


if __name__ == "__main__":
    main()
