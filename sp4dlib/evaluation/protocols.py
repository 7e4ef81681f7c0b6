"""The evaluation: subjects, protocols, settings and methods to one file of results.

Rows are written as they come, so that an evaluation that was stopped, in whatever way, goes on where it was. A row
depends on model, configuration and subject alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from sp4dlib import provenance
from sp4dlib.clips import DrawRule, Parts, SetConfig, Skip, kinematic_parts
from sp4dlib.clips.sources import Entry, load_entry
from sp4dlib.evaluation.examples import keep_example
from sp4dlib.evaluation.methods import SETTINGS, predictions
from sp4dlib.evaluation.rare import joint_limits
from sp4dlib.evaluation.results import in_order, read_results, summarize, write_results
from sp4dlib.evaluation.subjects import PROTOCOLS, draw_scene, list_subjects, spread
from sp4dlib.rigs import Rig, RigError

log = logging.getLogger(__name__)

FAILURES = (RigError, ValueError, KeyError, OSError, ImportError, FloatingPointError, MemoryError)


@dataclass(frozen=True)
class EvaluationConfig:
    """Everything besides the model that decides a row.

    Attributes
    ----------
    split : {"val", "test"}
    size, frames, views : int
        Of the clips; those of the model.
    seed : int
        Of clips and sampler.
    steps : int or None
        Of the sampler; None is the model's own number.
    guidance : tuple of float or None
        First and last weight; None are the model's own.
    """

    split: str = "test"
    size: int = 64
    frames: int = 4
    views: int = 4
    seed: int = 0
    steps: int | None = None
    guidance: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.split not in ("val", "test"):
            raise ValueError(f"models are measured on val or test; got {self.split!r}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1; got {self.steps}")

    @property
    def rule(self) -> DrawRule:
        """How clips are drawn."""
        return DrawRule(frames=self.frames, views=self.views, size=self.size)


def model_config(pipeline, split: str = "test", seed: int = 0, steps: int | None = None,
                 guidance: Sequence[float] | None = None) -> EvaluationConfig:
    """The configuration that fits a pipeline: pictures, frames and views as it was trained on.

    Raises
    ------
    ValueError
        If the pipeline makes no parts, or does not generate the input view.
    """
    from sp4dlib.diffusion.guidance import is_dual

    config = pipeline.config
    if not is_dual(pipeline.unet):
        raise ValueError("this model makes colours alone; parts can be measured of one with both branches")
    if not config.shows_input:
        raise ValueError("this model does not generate the input view, on which parts are measured; evaluate one that "
                         "was trained here")
    views = config.num_views or len(config.azimuths or range(4))
    return EvaluationConfig(split, config.image_size, config.num_frames, views, seed, steps,
                            None if guidance is None else tuple(guidance))


def evaluate(config: EvaluationConfig, data: SetConfig, out: str | Path | None = None, pipeline=None, *,
             model: dict | None = None, protocols: Sequence[str] = PROTOCOLS, settings: Sequence[str] = SETTINGS,
             groups: Sequence[str] | None = None, subjects: int | None = None, per_family: int = 4, humans: int = 4,
             resume: bool = False, pictures: str | Path | None = None, command: str = "",
             progress: bool = True) -> dict:
    """Measure a model, the baselines, and what could be reached.

    Parameters
    ----------
    config : EvaluationConfig
    data : SetConfig
        Of the training set, whose splits are kept.
    out : path, optional
        File of the results, written after every subject, protocol and setting.
    pipeline : SP4DPipeline, optional
        Without one only the setting ``baseline`` is there.
    model : dict, optional
        What identifies the model, such as ``path`` and digest; kept with the results. The path may change.
    protocols, settings : sequence of str
        Of `PROTOCOLS` and `SETTINGS`.
    groups : sequence of str, optional
        Names of sources; all by default.
    subjects : int, optional
        So many, evenly spaced, of each group.
    per_family, humans : int
        See :func:`~sp4dlib.evaluation.subjects.list_subjects`.
    resume : bool
        Keep the rows in ``out``, which must be of this model and configuration.
    pictures : path, optional
        Folder for the arrays that :func:`~sp4dlib.evaluation.examples.examples` reads.
    command : str
        Kept with the results.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    dict
        ``config``, ``model``, ``summary``, ``skipped`` and ``rows``, after device, commit, date, seed, command and
        wall time.

    Raises
    ------
    ValueError
        If ``out`` is there and not to be resumed, or is of another model or configuration.
    """
    settings = [name for name in settings if pipeline is not None or name == "baseline"]
    if not settings:
        raise ValueError("without a model only baselines can be measured")
    device = provenance.processor() if pipeline is None or pipeline.device.type == "cpu" else str(pipeline.device)
    state = _begin(config, model, out, resume)
    entries, missing = list_subjects(data, config.split, per_family=per_family, humans=humans)
    chosen = [entry for group in dict.fromkeys(entry.source for entry in entries) if not groups or group in groups
              for entry in spread([entry for entry in entries if entry.source == group], subjects)]
    state["skipped"] += [item for item in missing if (not groups or item["group"] in groups)
                         and item not in state["skipped"]]
    began, before = time.perf_counter(), state.get("wall_seconds", 0.0)
    limits = cache(lambda: training_limits(data, config.split))

    def save() -> dict:
        seconds = before + time.perf_counter() - began
        for name in ("rows", "skipped"):
            state[name] = in_order(state[name], [entry.key for entry in entries])
        about = provenance.about(device=device, seed=config.seed, command=command, wall_seconds=seconds)
        results = about | {"config": state["config"], "model": model, "summary": summarize(state["rows"]),
                           "skipped": state["skipped"], "rows": state["rows"]}
        if out is not None:
            write_results(out, results)
        return results

    from tqdm import tqdm

    with tqdm(total=len(chosen) * len(protocols), unit="clip", smoothing=0, disable=None if progress else True) as bar:
        for entry in chosen:
            _subject(entry, config, state, protocols, settings, pipeline, limits, pictures, save, bar)
    return save()


def _begin(config: EvaluationConfig, model: dict | None, out: str | Path | None, resume: bool) -> dict:
    """Rows to go on from."""
    told = asdict(config) | {"guidance": None if config.guidance is None else list(config.guidance)}
    if out is None or not Path(out).exists():
        return {"config": told, "rows": [], "skipped": []}
    if not resume:
        raise ValueError(f"{out} is there; go on with it (--resume), or choose another file")
    found = read_results(out)
    changed = [name for name in told if found["config"].get(name) != told[name]]
    changed += ["model"] * (model is not None and found["model"] is not None
                            and {**found["model"], "path": ""} != {**model, "path": ""})
    if changed:
        raise ValueError(f"{out} is of another evaluation: {', '.join(changed)} differ; choose another file")
    return {"config": told, **{name: found[name] for name in ("rows", "skipped", "wall_seconds")}}


def _subject(entry: Entry, config: EvaluationConfig, state: dict, protocols: Sequence[str], settings: Sequence[str],
             pipeline, limits: Callable[[], dict], pictures, save: Callable[[], dict], bar) -> None:
    """All rows of a subject that are not there yet; what goes wrong is noted and the rest goes on."""
    done = {(row["protocol"], row["setting"]) for row in state["rows"] if row["subject"] == entry.key}
    loaded = cache(lambda: _load(entry))
    for protocol in protocols:
        bar.set_postfix_str(f"{entry.key} {protocol}", refresh=False)
        left = [setting for setting in settings if (protocol, setting) not in done]
        where = {"subject": entry.key, "group": entry.source, "protocol": protocol}
        state["skipped"] = [item for item in state["skipped"]           # what failed is tried once more
                            if not left or any(item.get(name) != value for name, value in where.items())]
        try:
            scene = draw_scene(entry, *loaded(), protocol, config.rule, config.seed,
                               limits() if protocol == "rare-poses" else None) if left else None
        except FAILURES as error:
            scene = Skip("failed", f"{type(error).__name__}: {error}")
        if isinstance(scene, Skip):
            state["skipped"].append(where | {"reason": f"{scene.reason}: {scene.detail}"})
            left = []
        for setting in left:
            try:
                made = list(predictions(scene, setting, pipeline, steps=config.steps, guidance=config.guidance,
                                        seed=config.seed))
            except FAILURES as error:
                log.warning("%s, %s, %s: %s", entry.key, protocol, setting, error)
                state["skipped"].append(where | {"setting": setting, "reason": f"{type(error).__name__}: {error}"})
                continue
            state["rows"] += [where | {"setting": setting} | prediction.row(scene) for prediction in made]
            if pictures is not None:
                keep_example(Path(pictures), scene, setting, made)
            save()
        bar.update()


def _load(entry: Entry) -> tuple[Rig, Parts]:
    rig = load_entry(entry)[0]
    return rig, kinematic_parts(rig)


def training_limits(data: SetConfig, split: str) -> dict[str, float]:
    """How far the joints of all training rigs turn, by name: of the assets, whose names the split's rigs share."""
    from sp4dlib.clips import list_entries

    sources = [source for source in data.sources if source.kind == "assets"]
    if not sources:
        return {}
    entries = [entry for entry in list_entries(sources, data.val, data.test, data.seed)[0] if entry.split == "train"]
    return joint_limits(load_entry(entry)[0] for entry in entries)
