"""What models are measured on: rigs of a split that no model was trained on, as still poses and as motion."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sp4dlib.clips import Clip, DrawRule, Parts, SetConfig, Skip, Source, list_entries, make_clip, plan_clip
from sp4dlib.clips.draw import draw_cameras, draw_shading
from sp4dlib.clips.motions import REST
from sp4dlib.clips.objects import generator_of
from sp4dlib.clips.sources import Entry
from sp4dlib.evaluation.folding import fold_small_parts
from sp4dlib.evaluation.rare import rare_pose
from sp4dlib.rigs import Animation, Rig

PROTOCOLS = ("multi-view", "multi-frame", "rare-poses")
HUMANS = "humans"


@dataclass(frozen=True)
class Scene:
    """One subject in one protocol.

    Attributes
    ----------
    key : str
        Of the subject.
    group : str
        Name of its source: ``quaternius``, ``procedural``, ``humans``.
    protocol : {"multi-view", "multi-frame", "rare-poses"}
    clip : Clip
        One frame in all views; of ``multi-frame``, all frames in all views.
    """

    key: str
    group: str
    protocol: str
    clip: Clip

    @property
    def places(self) -> list[tuple[int, int]]:
        """Frame and view of the images that are scored: all views of the one frame, or all frames of view 0."""
        frames, views = self.clip.rgb.shape[:2]
        return [(t, 0) for t in range(frames)] if self.protocol == "multi-frame" else [(0, v) for v in range(views)]

    def scored(self, images: np.ndarray) -> np.ndarray:
        """Of images (T, V, ...) those that are scored, (S, ...)."""
        return images[tuple(np.transpose(self.places))]

    @property
    def rgb(self) -> np.ndarray:
        """True colours of the scored images, uint8 (S, H, W, 3)."""
        return self.scored(self.clip.rgb)

    @cached_property
    def parts(self) -> np.ndarray:
        """True parts of the scored images, small ones folded into their parents, int16 (S, H, W)."""
        return fold_small_parts(self.scored(self.clip.parts), self.clip.part_parents)

    @property
    def num_parts(self) -> int:
        """K: parts that are left."""
        return int((np.unique(self.parts) >= 0).sum())


def list_subjects(config: SetConfig, split: str, *, per_family: int = 4, humans: int = 4,
                  ) -> tuple[list[Entry], list[dict]]:
    """The subjects of a split, by the rule that built a model's training set.

    Parameters
    ----------
    config : SetConfig
        Of the training set: its sources say which rigs and families lie in which split.
    split : {"val", "test"}
    per_family : int
        Creatures of each procedural family of the split.
    humans : int
        People in the split ``test``, where the sources have none; 0 leaves them out.

    Returns
    -------
    entries : list of Entry
        In the order of the sources, and in that of their keys.
    skipped : list of dict
        ``subject`` and ``reason`` of what cannot be had.
    """
    sources = [replace(source, count=min(source.count, per_family)) for source in config.sources]
    skipped = []
    if split == "test" and humans and not any(source.kind == "humans" for source in sources):
        reason = _no_humans()
        if reason:
            skipped.append({"subject": HUMANS, "group": HUMANS, "reason": reason})
        else:
            sources.append(Source("humans", HUMANS, count=humans, splits={"human": "test"}))
    order = [source.name for source in sources]
    entries = [entry for entry in list_entries(sources, config.val, config.test, config.seed)[0]
               if entry.split == split]
    return sorted(entries, key=lambda entry: (order.index(entry.source), entry.key)), skipped


def _no_humans() -> str:
    """Why there are no humans, or nothing."""
    if importlib.util.find_spec("anny") is None:
        return "the body model anny is not installed (pip install 'sp4dlib[humans]')"
    from sp4dlib.rigs.humans import prepared

    return "" if prepared() else "anny's body data is not prepared; sp4dlib.rigs.human(0) does that once, in minutes"


def draw_scene(entry: Entry, rig: Rig, parts: Parts, protocol: str, rule: DrawRule, seed: int = 0,
               limits: Mapping[str, float] | None = None) -> Scene | Skip:
    """The clip on which a subject is measured; the same for the same seed and key.

    Cameras, lights and motion are drawn as for training (:func:`~sp4dlib.clips.plan_clip`), view 0 anywhere on the
    ring.

    Parameters
    ----------
    entry : Entry
    rig : Rig
    parts : Parts
    protocol : {"multi-view", "multi-frame", "rare-poses"}
        ``multi-view``: the middle frame of a motion; a rig that has none that serves stands in its rest pose.
        ``multi-frame``: a motion. ``rare-poses``: a pose beyond those of ``limits``.
    rule : DrawRule
        Also says how many frames, views and pixels.
    seed : int
    limits : mapping of str to float
        Of ``rare-poses``: see :func:`~sp4dlib.evaluation.rare.joint_limits`.

    Returns
    -------
    Scene, or Skip
        The reason why there is none.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is one of {', '.join(PROTOCOLS)}; got {protocol!r}")
    if len(parts) < 2:
        return Skip("one part", f"{rig.name} is one kinematic part")
    generator = generator_of(seed, entry.key, PROTOCOLS.index(protocol))
    if protocol == "rare-poses":
        plan = rare_pose(rig, parts, limits or {}, generator)
        if isinstance(plan, Skip):
            return plan
        clip = _still(rig, plan, 0.0, parts, generator, rule)
    else:
        plan = plan_clip(rig, generator, rule, parts=parts)
        if isinstance(plan, Skip):
            if protocol == "multi-frame":
                return plan
            clip = _still(rig, rest_pose(rig), 0.0, parts, generator, rule)
        else:
            times = plan.times if protocol == "multi-frame" else plan.times[len(plan.times) // 2:][:1]
            clip = make_clip(rig, plan.animation, times, plan.azimuths, plan.elevations, plan.size, parts=parts,
                             fill=plan.fill, shading=plan.shading)
    scene = Scene(entry.key, entry.source, protocol, clip)
    if not (scene.parts[0] >= 0).any() or scene.num_parts < 2:
        return Skip("hidden", f"{rig.name} shows {scene.num_parts} part(s) that are large enough")
    return scene


def rest_pose(rig: Rig) -> Animation | None:
    """The default pose of the file where it differs from the bind pose, else None, which is the bind pose."""
    return next((animation for animation in rig.animations if animation.name == REST), None)


def _still(rig: Rig, animation: Animation | None, time: float, parts: Parts, generator: np.random.Generator,
           rule: DrawRule) -> Clip:
    azimuths, elevations = draw_cameras(generator, rule)
    fill = float(generator.uniform(*rule.fill))
    return make_clip(rig, animation, [time], azimuths, elevations, rule.size, parts=parts, fill=fill,
                     shading=draw_shading(generator, rule))


def spread(entries: Sequence[Entry], count: int | None) -> list[Entry]:
    """``count`` of the entries, evenly spaced; all if None."""
    if count is None or count >= len(entries):
        return list(entries)
    if count < 1:
        raise ValueError(f"at least one subject is needed; got {count}")
    return [entries[i] for i in np.linspace(0, len(entries) - 1, count).round().astype(int)]
