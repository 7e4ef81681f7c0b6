"""Following a recipe: clips, autoencoder, colour branch, both branches, pipeline; resumable at every step."""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from sp4dlib import profile
from sp4dlib.clips import Clip
from sp4dlib.clips.augment import mirror, recolor
from sp4dlib.clips.build import build_set
from sp4dlib.clips.dataset import KinematicParts
from sp4dlib.coding import SPATIAL, ColorCode
from sp4dlib.diffusion.autoencoder import load_vae, make_vae, train_vae
from sp4dlib.diffusion.pipeline import SP4DPipeline
from sp4dlib.diffusion.recipe import STAGES, DataConfig, ModelConfig, Recipe
from sp4dlib.diffusion.samplers import euler_scheduler
from sp4dlib.diffusion.shipped import INDEX
from sp4dlib.diffusion.training import CHECKPOINT, Heldout, TrainResult, make_heldout, train

__all__ = ["Outcome", "Windows", "export_run", "follow", "training_windows"]

log = logging.getLogger(__name__)

RECIPE, MODEL, SAMPLES, DATA = "recipe.json", "model", "samples", "data"
FIXED = ("size", "model", "data")       # what a run cannot change; checkpoints look after stages and VAE


class Windows:
    """Windows of a training set with a share that stand still, as `train` draws them.

    Parameters
    ----------
    data : KinematicParts
    still : float
        Share of windows that repeat one frame.
    code : ColorCode
        How parts become colours.
    mirrored, recolored : float
        Shares of windows that are seen in a mirror, and in other colours.
    """

    def __init__(self, data: KinematicParts, still: float = 0.0, code: ColorCode = SPATIAL, mirrored: float = 0.0,
                 recolored: float = 0.0) -> None:
        self.data, self.still, self.code, self.mirrored, self.recolored = data, still, code, mirrored, recolored

    def draw(self, generator: torch.Generator) -> Clip:
        """A random window of a random clip."""
        clip = self.data.draw(generator, self.still)
        if self.mirrored and torch.rand((), generator=generator).item() < self.mirrored:
            clip = mirror(clip)
        if self.recolored and torch.rand((), generator=generator).item() < self.recolored:
            clip = recolor(clip, generator)
        return replace(clip, code=self.code)


@dataclass(frozen=True)
class Outcome:
    """What `follow` returns.

    Attributes
    ----------
    finished : bool
        False if Ctrl-C or the time limit ended it early; ``resume=True`` goes on.
    stages : dict of TrainResult
        Of the stages that were begun.
    pipeline : SP4DPipeline or None
        The model, if it is finished. It lies in the folder ``model``.
    """

    finished: bool
    stages: dict[str, TrainResult]
    pipeline: SP4DPipeline | None


def follow(recipe: Recipe, out: str | os.PathLike, *, data: str | os.PathLike | None = None, resume: bool = False,
           minutes: float | None = None, device: str | None = None, workers: int = 0,
           progress: bool | None = None, callback: Callable[[str, dict], None] | None = None) -> Outcome:
    """Make the model of a recipe.

    Parameters
    ----------
    recipe : Recipe
    out : path
        Folder for ``recipe.json``, the set (``data``) if it is built here, a folder with checkpoint and metrics for
        each of ``vae``, ``rgb``, ``coarse`` and ``dual``, ``samples``, and in the end ``model``.
    data : path, optional
        A set that ``sp4d data build`` wrote; by default the recipe's own is built.
    resume : bool
        Go on with what is in ``out``.
    minutes : float, optional
        Stop, with a checkpoint, when so much time has passed.
    device : str, optional
        By default that of the current profile.
    workers : int
        Processes that build the set; 0 is this one.
    progress : bool, optional
        Show bars; by default not in the ``ci`` profile.
    callback : callable, optional
        Called with ("vae", "rgb", "coarse" or "dual", record) after each logged step, on the first device.

    Returns
    -------
    Outcome

    Raises
    ------
    ValueError
        If ``out`` holds another recipe's run, or one and ``resume`` is false; or if the set does not fit.
    """
    began, out = time.perf_counter(), Path(out)
    from accelerate.state import PartialState

    device = device or profile.current().device
    state = PartialState(cpu=torch.device(device).type == "cpu")

    def left() -> float | None:
        return None if minutes is None else max(0.0, minutes - (time.perf_counter() - began) / 60)

    if state.is_main_process:
        _claim(recipe, out, resume)
        if data is None:
            _build(recipe, out, workers, progress)
    state.wait_for_everyone()
    folder = Path(data) if data is not None else out / DATA
    windows = training_windows(folder, recipe)
    vae = _vae(recipe, windows, out, left, device, progress, state, _told(callback, "vae"))
    if recipe.vae is not None and vae is None:
        return Outcome(False, {}, None)
    model, stages = recipe.network(), {}
    shown = _shown(folder, recipe)
    for name in (name for name in STAGES if name in recipe.stages):
        config, network = recipe.stages[name], model.rgb if name == "rgb" else model
        held = _heldout(shown, recipe, config, vae)
        drawn = training_windows(folder, recipe, config.frames)
        result = train(network, drawn, config, out / name, resume=resume, heldout=held, device=device, vae=vae,
                       minutes=left(), progress=progress, callback=_told(callback, name),
                       sampler=_sampler(recipe, vae, shown, out / SAMPLES / name))
        stages[name] = result
        if not result.finished:
            return Outcome(False, stages, None)
        if name == "rgb":
            model.rgb.load_state_dict(result.ema.state_dict())
            model.copy_rgb_to_part()
        elif name == "coarse":
            model.load_state_dict(result.ema.state_dict())
    pipeline = make_pipeline(recipe, stages["dual"].ema, vae)
    if state.is_main_process:
        save_pipeline(pipeline, out / MODEL, recipe.sampling.dtype)
    state.wait_for_everyone()
    return Outcome(True, stages, pipeline)


def export_run(recipe: Recipe, run: str | os.PathLike, folder: str | os.PathLike) -> tuple[str, int]:
    """Write the pipeline of a run as far as it has come, without disturbing it: also of one that still goes on.

    Parameters
    ----------
    recipe : Recipe
        That of the run. What it says of sampling counts; it may be other than when the run was begun.
    run : path
        Folder that `follow` writes.
    folder : path
        What `SP4DPipeline.from_pretrained` will load: the running mean of the weights, in ``recipe.sampling.dtype``. A
        model that is there is replaced.

    Returns
    -------
    stage : str
        "dual", or "coarse" if the run has come no further.
    steps : int
        Its steps that the weights have seen.

    Raises
    ------
    ValueError
        If ``run`` is another recipe's, or has not come to stage 2; or if ``folder`` holds anything but a model.
    """
    run, folder = Path(run), Path(folder).absolute()
    _check_run(recipe, run)
    if folder.exists() and not (folder / INDEX).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there and holds no model; choose another folder")
    stage = next((name for name in ("dual", "coarse") if (run / name / CHECKPOINT).is_file()), None)
    if stage is None:
        raise ValueError(f"{run} has not come to the first checkpoint of stage 2 yet (dual/{CHECKPOINT}); wait for it")
    state = torch.load(run / stage / CHECKPOINT, map_location="cpu", weights_only=True, mmap=True)
    network = replace(recipe, model=replace(recipe.model, start="", carry=False)).network()
    prefix = "model."                                        # the objective holds the network, and perhaps a head
    network.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in state["mean"].items()
                             if name.startswith(prefix)})
    folder.parent.mkdir(parents=True, exist_ok=True)
    save_pipeline(make_pipeline(recipe, network.eval(), _kept_vae(recipe, run)), folder, recipe.sampling.dtype)
    return stage, state["step"]


def _kept_vae(recipe: Recipe, run: Path) -> nn.Module | None:
    """The autoencoder of a run that has come to stage 2."""
    if recipe.vae is None:
        return None
    if recipe.vae.pretrained:
        return load_vae(recipe.vae.pretrained)
    vae = make_vae(recipe.vae)
    vae.load_state_dict(torch.load(run / "vae" / CHECKPOINT, map_location="cpu", weights_only=True)["weights"])
    return vae.eval()


def make_pipeline(recipe: Recipe, network: nn.Module, vae: nn.Module | None) -> SP4DPipeline:
    """The pipeline of a recipe round a network of its sizes."""
    sampling, data = recipe.sampling, recipe.data
    return SP4DPipeline(
        network, euler_scheduler(sampling.sigma_max, sampling.sigma_min), vae, image_size=recipe.size,
        num_frames=data.frames, fill=sampling.fill, azimuths=[360 * view / data.views for view in range(data.views)],
        guidance_scale=list(sampling.guidance), num_inference_steps=sampling.steps,
        known_input="clean" if recipe.stages["dual"].known else "noised")


def save_pipeline(pipeline: SP4DPipeline, folder: Path, dtype: str = "float32") -> None:
    """Write a pipeline into a folder that appears whole or not at all; weights in ``dtype``."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    whole = {name: module for name, module in pipeline.components.items() if isinstance(module, nn.Module)}
    try:
        for name, module in whole.items():
            setattr(pipeline, name, nn.Module.to(copy.deepcopy(module), getattr(torch, dtype)))
        pipeline.save_pretrained(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        for name, module in whole.items():
            setattr(pipeline, name, module)
        shutil.rmtree(partial, ignore_errors=True)


def _claim(recipe: Recipe, out: Path, resume: bool) -> None:
    """Take the folder for this recipe."""
    if out.exists() and any(out.iterdir()):
        if not resume:
            raise ValueError(f"{out} is there and not empty; go on with it (resume), or choose another folder")
        _check_run(recipe, out)
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f".{RECIPE}.{os.getpid()}"
    temporary.write_text(json.dumps(recipe.to_dict(), indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, out / RECIPE)


def _check_run(recipe: Recipe, run: Path) -> None:
    """Is this the folder of a run of this recipe?"""
    kept = run / RECIPE
    if not kept.is_file():
        raise ValueError(f"{run} holds no {RECIPE}, so it is no training run; choose another folder")
    before, now = json.loads(kept.read_text(encoding="utf-8")), recipe.to_dict()
    missing = {"model": asdict(ModelConfig()), "data": asdict(DataConfig(0, 0))}        # fields newer than the run
    before |= {name: values | before.get(name, {}) for name, values in missing.items()}
    changed = [name for name in FIXED if before.get(name) != now[name]]
    if changed:
        raise ValueError(f"{run} was begun with another recipe: {', '.join(changed)} differ; choose another folder")


def _build(recipe: Recipe, out: Path, workers: int, progress: bool | None) -> None:
    if recipe.data.set is None:
        raise ValueError(f"the recipe {recipe.name} has no set of its own: give one that `sp4d data build` wrote")
    build_set(recipe.data.set, out / DATA, workers=workers, progress=progress is not False)


def _open(folder: Path, split: str, recipe: Recipe, frames: int = 0) -> KinematicParts:
    data = KinematicParts(folder, split, frames or recipe.data.frames, recipe.data.views)
    size = data.manifest["config"]["clips"]["size"]
    if size != recipe.size:
        raise ValueError(f"{folder} holds pictures of {size} pixels, the recipe wants {recipe.size}; build the set "
                         f"with --size {recipe.size}")
    return data


def training_windows(folder: Path, recipe: Recipe, frames: int = 0) -> Windows:
    """What is trained on."""
    data = recipe.data
    return Windows(_open(folder, "train", recipe, frames), data.still, data.code, data.mirror, data.recolor)


def _vae(recipe: Recipe, windows: Windows, out: Path, left: Callable[[], float | None], device: str,
         progress: bool | None, state, callback: Callable[[int, dict], None] | None) -> nn.Module | None:
    """The trained autoencoder; None if there is none, or it is not finished. One device trains it, all load it."""
    config = recipe.vae
    if config is None:
        return None
    if config.pretrained:
        return load_vae(config.pretrained).to(device)
    vae = make_vae(config)
    if state.is_main_process:
        train_vae(vae, windows, config, out / "vae", device=device, minutes=left(), progress=progress,
                  callback=callback)
    state.wait_for_everyone()
    kept = torch.load(out / "vae" / CHECKPOINT, map_location="cpu", weights_only=True)
    if kept["step"] < config.steps:
        return None
    vae.load_state_dict(kept["weights"])
    return vae.to(device).requires_grad_(False).eval()


def _told(callback: Callable[[str, dict], None] | None, stage: str) -> Callable[[int, dict], None] | None:
    """What a stage calls, so that ``callback`` hears the stage's name as well."""
    return None if callback is None else lambda step, record: callback(stage, record)


def _shown(folder: Path, recipe: Recipe) -> Windows | None:
    """Clips that are not trained on, for held-out losses and samples."""
    try:
        return Windows(_open(folder, "val", recipe), recipe.data.still, recipe.data.code)
    except ValueError as error:
        log.warning("there is neither a held-out loss nor a sample on the way: %s", error)
        return None


def _heldout(shown: Windows | None, recipe: Recipe, config, vae: nn.Module | None) -> Heldout | None:
    if shown is None or not recipe.data.heldout:
        return None
    return make_heldout(shown, recipe.data.heldout, p_mean=config.p_mean, p_std=config.p_std, vae=vae,
                        smaller=config.shrink)


def _sampler(recipe: Recipe, vae: nn.Module | None, shown: Windows | None,
             folder: Path) -> Callable[[int, nn.Module], None] | None:
    """Writes a picture of one held-out clip: its views in the first frame, true and generated, colour then parts."""
    if shown is None:
        return None
    clip = shown.draw(torch.Generator().manual_seed(1))

    def sample(step: int, network: nn.Module) -> None:
        pipe = make_pipeline(recipe, network, vae)
        pipe.set_progress_bar_config(disable=True)
        made = pipe(list(clip.rgb[:, 0]), clip.cameras.azimuths, clip.cameras.elevations, crop=False,
                    generator=torch.Generator().manual_seed(0), decode_parts=False)
        rows = [clip.rgb[0], made.rgb[0], clip.part_images[0]]
        rows += [] if made.part_images is None else [made.part_images[0]]
        folder.mkdir(parents=True, exist_ok=True)
        picture = np.concatenate([np.concatenate(list(row), 1) for row in rows])
        temporary = folder / f".{step}.{os.getpid()}.png"
        Image.fromarray(picture).save(temporary)
        os.replace(temporary, folder / f"{step:07d}.png")

    return sample
