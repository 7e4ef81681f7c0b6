"""One object to its share of a training set: loaded, cut into parts, judged, drawn and packed."""

from __future__ import annotations

import hashlib
import logging
import os
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sp4dlib.clips.curate import Signature, signature
from sp4dlib.clips.draw import ClipDraw, DrawRule, Skip, plan_clip, render_draw
from sp4dlib.clips.engines import NoOpenGL
from sp4dlib.clips.merging import MergeRule
from sp4dlib.clips.motions import invent_motion
from sp4dlib.clips.parts import TooManyParts, kinematic_parts
from sp4dlib.clips.shards import Packed, pack_clip
from sp4dlib.clips.sources import Entry, load_entry
from sp4dlib.rigs import Rig, RigError

KEPT, DROPPED = "kept", "dropped"
MOST_NOTES = 20
INVENTED = 10_000       # numbers of the random generators of invented motions count from here
OF_THE_OBJECT = ("one part", "unanimated")      # reasons that no other animation can change


@dataclass(frozen=True)
class Job:
    """An entry and how to draw it.

    Attributes
    ----------
    entry : Entry
    clips : DrawRule
    parts : MergeRule
    per_object : int
        Clips at the most.
    seed : int
        Of the set; with the entry's key it is the seed of the object.
    invented : int
        Motions that are invented beside the object's own.
    """

    entry: Entry
    clips: DrawRule
    parts: MergeRule
    per_object: int
    seed: int
    invented: int = 0


@dataclass(frozen=True)
class Made:
    """What became of an object.

    Attributes
    ----------
    report : dict
        Plain data: ``key``, ``status`` (kept or dropped), ``reason`` and ``detail`` where it is dropped, counts, and
        for each clip that was tried the same.
    clips : tuple of Packed
        Those kept.
    signatures : tuple of Signature
        Of each clip kept, for finding near-duplicates.
    """

    report: dict
    clips: tuple[Packed, ...] = ()
    signatures: tuple[Signature, ...] = ()


def make_object(job: Job) -> Made:
    """Load, cut, judge, draw and pack an object.

    What comes out depends on the job and the object's file alone, not on when, where or after what it is made. What is
    wrong with an object is said in the report and never raised.
    """
    report = new_report(job.entry)
    with collected_warnings(report["notes"]):
        try:
            rig, report["sha256"] = load_entry(job.entry)
            report["notes"] += [note for note in rig.notes if not any(old.endswith(note) for old in report["notes"])]
            return _make(job, rig, report)
        except RigError as error:
            return dropped(report, "unreadable", str(error).replace(f"{Path(job.entry.locator).parent}/", ""))
        except TooManyParts as error:
            return dropped(report, "too many parts", str(error))
        except MemoryError:
            return dropped(report, "unreadable", "it needs more memory than there is")
        except Exception as error:          # one object of many must not end the work; its report says where it failed
            where = traceback.extract_tb(error.__traceback__)[-1]
            return dropped(report, "failed", f"{type(error).__name__}: {error} ({where.name}, line {where.lineno} of "
                                             f"{where.filename.rsplit('/', 1)[-1]})")


def new_report(entry: Entry) -> dict:
    """The report of an object of which nothing is known yet."""
    return {"key": entry.key, "source": entry.source, "family": entry.family, "split": entry.split,
            "licence": entry.licence, "origin": entry.origin, "sha256": "", "status": KEPT, "reason": "", "detail": "",
            "notes": [], "clips": []}


def dropped(report: dict, reason: str, detail: str) -> Made:
    """An object that is left out."""
    return Made(report | {"status": DROPPED, "reason": reason, "detail": detail})


def generator_of(seed: int, key: str, number: int = 0) -> np.random.Generator:
    """The random numbers of a clip, from the set's seed, the object's key and the clip's number alone."""
    digest = hashlib.sha256(key.encode()).digest()[:16]
    return np.random.default_rng([seed, int.from_bytes(digest, "big"), number])


def _make(job: Job, rig: Rig, report: dict) -> Made:
    parts = kinematic_parts(rig, job.parts)
    report |= {"vertices": len(rig.vertices), "triangles": len(rig.faces), "joints": len(rig.skeleton),
               "parts": len(parts), "animations": len(rig.animations), "renderer": renderer()}
    key = job.entry.key
    if len(parts) > 1:
        made = (invent_motion(rig, parts, generator_of(job.seed, key, INVENTED + number), f"invented {number}")
                for number in range(job.invented))
        rig = rig.replace(animations=(*rig.animations, *made))
    order = generator_of(job.seed, key).permutation(len(rig.animations))
    clips, signatures, first = [], [], None
    for index in order if len(order) else [None]:
        if len(clips) == job.per_object:
            break
        generator = generator_of(job.seed, key, 1 + (0 if index is None else int(index)))
        animation = None if index is None else int(index)
        draw = plan_clip(rig, generator, job.clips, parts=parts, animation=animation)
        clip = draw if isinstance(draw, Skip) else render_draw(rig, draw, job.clips, parts=parts)
        if isinstance(clip, Skip):
            first = first or clip
            if clip.reason in OF_THE_OBJECT:
                break
            report["clips"].append({"animation": rig.animations[animation].name, "status": DROPPED,
                                    "reason": clip.reason, "detail": clip.detail})
            continue
        packed = pack_clip(clip, f"{key}/{len(clips):02d}", _about(job.entry, rig, draw))
        report["clips"].append({"animation": rig.animations[draw.animation].name, "status": KEPT, "reason": "",
                                "detail": "", "key": packed.key, "bytes": len(packed.data),
                                "motion": round(draw.motion, 5)})
        clips.append(packed)
        signatures.append(signature(rig, draw.animation))
    if not clips:
        return dropped(report, first.reason, first.detail)
    return Made(report, tuple(clips), tuple(signatures))


def _about(entry: Entry, rig: Rig, draw: ClipDraw) -> dict:
    """What the JSON file of a clip says besides the clip itself."""
    return {"object": entry.key, "family": entry.family, "split": entry.split, "licence": entry.licence,
            "origin": entry.origin, "animation": rig.animations[draw.animation].name, "draw": draw.record()}


def renderer() -> str:
    """What draws here: the name of the OpenGL renderer, or embree. Pictures by two of them differ in a few pixels."""
    if os.environ.get("SP4D_RENDERER") != "embree":
        from sp4dlib.clips import gl

        try:
            return gl.device().context.info["GL_RENDERER"]
        except NoOpenGL:
            pass
    return "embree"


@contextmanager
def collected_warnings(notes: list[str]):
    """Warnings that the library logs go into a report, not between the lines of a progress bar."""
    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if text not in notes and len(notes) < MOST_NOTES:
                notes.append(text)

    logger = logging.getLogger("sp4dlib")
    handler, before = Collect(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
