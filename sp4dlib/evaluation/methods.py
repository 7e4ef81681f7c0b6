"""Predicted parts of a scene, by every method, with their scores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sp4dlib import coding
from sp4dlib.evaluation.baselines import BASELINES
from sp4dlib.evaluation.metrics import segmentation_scores
from sp4dlib.evaluation.pictures import agreement, color_scores
from sp4dlib.evaluation.subjects import Scene
from sp4dlib.evaluation.tuning import tuned

SETTINGS = ("baseline", "ceiling", "generated", "given")
# Weight of place where one camera took all pictures; like the constants of the baselines, found on the val rigs.
PLACE = {"multi-frame": 1.0}


@dataclass(frozen=True)
class Prediction:
    """What a method says of a scene.

    Attributes
    ----------
    method : str
    parts : ndarray of int, shape (S, H, W)
    extra : dict
        Further scores.
    rgb : ndarray of uint8, shape (S, H, W, 3), or None
        Generated colours.
    """

    method: str
    parts: np.ndarray
    extra: dict
    rgb: np.ndarray | None = None

    def row(self, scene: Scene) -> dict:
        """Scores as plain data.

        ``clip_parts`` is K, the number of true parts in the clip; ``num_parts`` leaves out those that image 0 does not
        show, which no score counts.
        """
        scores = segmentation_scores(self.parts, scene.parts)
        named = {name: scores[name] for name in ("miou", "ari", "f1", "macc", "num_parts", "num_predicted")}
        rounded = {name: round(value, 6) if isinstance(value, float) else value
                   for name, value in {**named, **self.extra}.items()}
        return {"method": self.method, "clip_parts": scene.num_parts, **rounded}


def predictions(scene: Scene, setting: str, pipeline=None, *, steps: int | None = None,
                guidance: float | Sequence[float] | None = None, seed: int = 0) -> Iterator[Prediction]:
    """All predictions of a setting.

    Parameters
    ----------
    scene : Scene
    setting : {"baseline", "ceiling", "generated", "given"}
        ``baseline``: see :mod:`~sp4dlib.evaluation.baselines`. ``ceiling``: the true part images, encoded and decoded
        by the pipeline's VAE; ``all_parts`` in all colours that the network is trained to paint, ``scored_parts`` in
        those of the scored parts alone. ``generated``: the pipeline sees view 0. ``given``: it is told the true colours
        of all images that are scored.
    pipeline : SP4DPipeline
        For all but ``baseline``.
    steps, guidance
        As for the pipeline.
    seed : int

    Yields
    ------
    Prediction
        Names of methods that end in ``_count`` were told the true number of parts, those in ``_mask`` the true
        silhouettes (``inside`` of :func:`sp4dlib.coding.decode`); baselines are told both.
    """
    if setting == "baseline":
        inside = scene.parts >= 0
        for name, constants in tuned(scene.protocol).items():
            yield Prediction(name, BASELINES[name](scene.rgb, inside, scene.num_parts, **constants), {})
    elif setting == "ceiling":
        yield from _ceiling(scene, pipeline)
    elif setting in ("generated", "given"):
        yield from _model(scene, setting, pipeline, steps, guidance, seed)
    else:
        raise ValueError(f"setting is one of {', '.join(SETTINGS)}; got {setting!r}")


def _ceiling(scene: Scene, pipeline) -> Iterator[Prediction]:
    import torch

    from sp4dlib.diffusion import codec

    for name, parts in (("all_parts", scene.scored(scene.clip.parts)), ("scored_parts", scene.parts)):
        images = coding.encode(parts, scene.clip.colors)
        with torch.no_grad():
            images = codec.decode(codec.encode(images, pipeline.vae), pipeline.vae)
        yield Prediction(name, coding.decode(images), {})
        yield Prediction(f"{name}_count", coding.decode(images, scene.num_parts), {})


def _model(scene: Scene, setting: str, pipeline, steps, guidance, seed) -> Iterator[Prediction]:
    import torch

    clip = scene.clip
    known = {place: clip.rgb[place] for place in scene.places} if setting == "given" else None
    made = pipeline(clip.rgb[:, 0], clip.cameras.azimuths, clip.cameras.elevations, crop=False, known=known,
                    num_inference_steps=steps, guidance_scale=guidance, decode_parts=False,
                    generator=torch.Generator().manual_seed(seed_of(seed, scene)))
    rgb, images = scene.scored(made.rgb), scene.scored(made.part_images)
    extra = {} if setting == "given" else color_scores(rgb, scene.rgb)
    if setting == "generated" and len(clip.cameras) > 1:
        further = np.concatenate(made.rgb[:, 1:]), np.concatenate(clip.rgb[:, 1:])
        extra |= {f"{name}_further": value for name, value in color_scores(*further).items()}
    for suffix, count in (("", None), ("_count", scene.num_parts)):
        parts = coding.decode(images, count)
        if setting == "generated":
            yield Prediction(f"model{suffix}", parts, extra | agreement(parts, rgb), rgb)
        else:
            yield Prediction(f"model{suffix}", parts, {})
            parts = coding.decode(images, count, inside=scene.parts >= 0, place=PLACE.get(scene.protocol, 0.0))
            yield Prediction(f"model{suffix}_mask", parts, {})


def seed_of(seed: int, scene: Scene) -> int:
    """Of the sampler: the same in all settings, another for each scene."""
    text = f"{seed}/{scene.key}/{scene.protocol}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
