"""Building a training set: many objects in any order to files that depend on none of it.

Work goes on in ``DIR.part``. Each object that is made is written there at once, so that a build which was killed goes
on where it was. When all are made, near-duplicates are found, clips are dealt to shards, and the whole is renamed to
``DIR``: it is complete or it is not there. Nothing that is written depends on who made which object, or when.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

import sp4dlib
from sp4dlib.clips import farm
from sp4dlib.clips.card import write_card
from sp4dlib.clips.config import SetConfig
from sp4dlib.clips.curate import Signature, twins
from sp4dlib.clips.objects import DROPPED, KEPT, Job, Made, dropped, make_object, new_report
from sp4dlib.clips.shards import ENDING, Packed, file_hash, index_path, read_manifest, write_shard, write_whole
from sp4dlib.clips.sources import SPLITS, Entry, list_entries, load_entry

FORMAT = 1              # of the set's layout
TIME_LIMIT = 900.0      # seconds for one object

log = logging.getLogger(__name__)


def build_set(config: SetConfig, out: str | Path, *, workers: int = 0, ray: str | None = None,
          limit: float | None = TIME_LIMIT, progress: bool = True) -> dict:
    """Build a training set, or go on building it.

    Parameters
    ----------
    config : SetConfig
    out : str or Path
        Folder of the set. If it is there, and complete, and of this very configuration, nothing is done.
    workers : int
        Processes; 0 works in this one.
    ray : str, optional
        Address of a Ray cluster instead (see :func:`sp4dlib.clips.farm.run`).
    limit : float, optional
        Seconds for one object.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    ValueError
        If ``out`` holds something else, or its unfinished work has another configuration; or if nothing was kept.
    BlockingIOError
        If another process builds there now.
    """
    out = Path(out).absolute()
    entries, passed_over = list_entries(config.sources, config.val, config.test, config.seed)
    plan = _plan(config, entries)
    if out.exists():
        return _finished(out, plan)
    work = out.with_name(out.name + ".part")
    with _claimed(work):
        _check_plan(work, plan | {"places": digest("\n".join(entry.locator for entry in entries))})
        jobs = [Job(entry, config.clips, config.parts, config.per_object, config.seed, config.invented)
                for entry in entries]
        _make_all(work, jobs, workers, ray, limit, progress)
        target = work / "set"
        target.mkdir(exist_ok=True)
        reports = _curated(work, entries, [source.name for source in config.sources])
        shards = _write_shards(work, target, reports, config)
        manifest = _write_rest(target, plan, reports, shards, passed_over)
        target.rename(out)
    shutil.rmtree(work)
    return manifest


def _plan(config: SetConfig, entries: list[Entry]) -> dict:
    """What decides the bytes of a set, and nothing about the machine that builds it: of paths the names alone."""
    settings = config.to_dict()
    for source in settings["sources"]:
        source |= {name: Path(source[name]).name for name in ("path", "files")}
    listed = [asdict(entry) | {"locator": Path(entry.locator).name} for entry in entries]
    return {"format": FORMAT, "sp4dlib": sp4dlib.__version__, "config": settings,
            "entries": digest(json.dumps(listed))}


def digest(text: str) -> str:
    """sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _finished(out: Path, plan: dict) -> dict:
    """The manifest of a set that is there, if it is the one that is asked for."""
    if not (out / "manifest.json").is_file():
        raise ValueError(f"{out} is there and is no training set; choose another folder")
    manifest = read_manifest(out)
    if {name: manifest.get(name) for name in plan} != plan:
        raise ValueError(f"{out} holds a set of another configuration or version; choose another folder, or delete it")
    shutil.rmtree(out.with_name(out.name + ".part"), ignore_errors=True)
    return manifest


@contextmanager
def _claimed(work: Path) -> Iterator[None]:
    """Hold the work folder; the system lets go of it when this process ends, however it ends."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as file:
        try:
            import fcntl
        except ImportError:                 # Windows: no claim, and one builder at a time is up to the user
            fcntl = None
        if fcntl:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(f"another process builds in {work}; wait for it, or choose another folder") \
                    from None
        yield


def _check_plan(work: Path, plan: dict) -> None:
    path = work / "plan.json"
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != plan:
            raise ValueError(f"{work} holds unfinished work of another configuration, version or list of objects; "
                             "delete it, or choose another folder")
        return
    write_whole(path, json.dumps(plan))


def _place(work: Path, key: str) -> Path:
    """Where an object's work lies, without suffix; folders stay small."""
    name = digest(key)[:32]
    return work / "objects" / name[:2] / name


def _make_all(work: Path, jobs: list[Job], workers: int, ray: str | None, limit: float | None, progress: bool) -> None:
    from tqdm import tqdm

    missing = [job for job in jobs if not _place(work, job.entry.key).with_suffix(".json").exists()]
    if len(missing) < len(jobs):
        log.info("%d of %d objects were made before", len(jobs) - len(missing), len(jobs))
    if (workers > 1 or ray) and any(job.entry.kind == "human" for job in missing):
        load_entry(next(job.entry for job in missing if job.entry.kind == "human"))     # anny fills its cache once
    counts: Counter = Counter()
    with tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="object", smoothing=0.05,
              disable=None if progress else True) as bar:
        for number, made in farm.run(make_object, missing, workers=workers, ray=ray, limit=limit):
            if isinstance(made, farm.Failure):
                made = dropped(new_report(missing[number].entry), made.reason, made.detail)
            _store(work, made)
            counts[made.report["status"]] += 1
            bar.update()
            bar.set_postfix(counts, refresh=False)


def _store(work: Path, made: Made) -> None:
    """Write an object's work; the report comes last, and where it is, all is."""
    place = _place(work, made.report["key"])
    place.parent.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(made.clips):
        write_whole(place.with_name(f"{place.name}-{number:02d}.piece"), clip.data)
    if made.clips:
        partial = place.with_suffix(".part.npz")
        np.savez(partial, sizes=np.stack([clip.sizes for clip in made.clips]),
                 places=np.stack([each.places for each in made.signatures]),
                 colors=np.stack([each.colors for each in made.signatures]))
        os.replace(partial, place.with_suffix(".npz"))
    write_whole(place.with_suffix(".json"), json.dumps(made.report))


def _curated(work: Path, entries: list[Entry], sources: list[str]) -> list[dict]:
    """Reports of all objects, in the order of keys, without twins.

    Of twins, the one in the test split stays, or else that in the val split: what a model is measured on is not taken
    away, and is not trained on. Then the source that is named first counts, and then the key.
    """
    reports = {entry.key: json.loads(_place(work, entry.key).with_suffix(".json").read_text(encoding="utf-8"))
               for entry in entries}
    files: dict[str, str] = {}
    clips, signatures = [], []
    for entry in sorted(entries, key=lambda e: (-SPLITS.index(e.split), sources.index(e.source), e.key)):
        report = reports[entry.key]
        if report["status"] != KEPT:
            continue
        twin = files.setdefault(report["sha256"], entry.key) if report["sha256"] else entry.key
        if twin != entry.key:
            reports[entry.key] = dropped(report, "same file", f"it is the file of {twin}").report | {"clips": []}
            continue
        clips += [clip for clip in report["clips"] if clip["status"] == KEPT]
        with np.load(_place(work, entry.key).with_suffix(".npz")) as arrays:
            signatures += [Signature(*pair) for pair in zip(arrays["places"], arrays["colors"])]
    for clip, twin in zip(clips, twins(signatures)):
        if twin >= 0:
            clip |= {"status": DROPPED, "reason": "near-duplicate",
                     "detail": f"nearly the same as {clips[twin]['key']}"}
    for entry in entries:
        report = reports[entry.key]
        if report["status"] == KEPT and all(clip["status"] == DROPPED for clip in report["clips"]):
            why = next(clip["detail"] for clip in report["clips"] if clip["reason"] == "near-duplicate")
            reports[entry.key] = dropped(report, "near-duplicate", why).report
    return [reports[entry.key] for entry in entries]


def _write_shards(work: Path, target: Path, reports: list[dict], config: SetConfig) -> list[dict]:
    """Deal the clips of each split to shards, and write those that are not there yet."""
    shards = []
    for split in SPLITS:
        chosen = [(clip, _place(work, report["key"])) for report in reports if report["split"] == split
                  for clip in report["clips"] if report["status"] == clip["status"] == KEPT]
        chosen.sort(key=lambda pair: digest(pair[0]["key"]))            # mixed, for those who read in sequence
        for number, group in enumerate(_dealt(chosen, config.shard_mb * 10**6)):
            path = target / f"{split}-{number:06d}.tar"
            if not path.exists():
                write_shard(path, _pieces(group), config.clips.views)
            for clip, place in group:
                _piece(clip, place).unlink(missing_ok=True)             # a set needs its room once
            shards.append({"file": path.name, "split": split, "clips": len(group), "bytes": path.stat().st_size,
                           "sha256": file_hash(path), "index_sha256": file_hash(index_path(path))})
    if not shards:
        reasons = Counter(report["reason"] for report in reports)
        raise ValueError("nothing is left to build a set from: "
                         + ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common()))
    return shards


def _dealt(chosen: list[tuple[dict, Path]], most: int) -> Iterator[list[tuple[dict, Path]]]:
    """Consecutive groups of at most so many bytes, or of one clip."""
    group, size = [], ENDING
    for clip, place in chosen:
        if group and size + clip["bytes"] > most:
            yield group
            group, size = [], ENDING
        group.append((clip, place))
        size += clip["bytes"]
    if group:
        yield group


def _piece(clip: dict, place: Path) -> Path:
    return place.with_name(f"{place.name}-{clip['key'][-2:]}.piece")


def _pieces(group: Iterable[tuple[dict, Path]]) -> Iterator[Packed]:
    for clip, place in group:
        with np.load(place.with_suffix(".npz")) as arrays:
            sizes = arrays["sizes"][int(clip["key"][-2:])]
        yield Packed(clip["key"], _piece(clip, place).read_bytes(), sizes)


def _write_rest(target: Path, plan: dict, reports: list[dict], shards: list[dict],
                passed_over: dict[str, Counter]) -> dict:
    """Report, card and, last, the manifest."""
    summary = summarize(reports, passed_over)
    write_whole(target / "report.json", json.dumps({"summary": summary, "objects": reports}, indent=1) + "\n")
    write_whole(target / "README.md", write_card(plan["config"], summary, reports, shards))
    manifest = {**plan, "summary": summary, "shards": shards,
                "files": {name: file_hash(target / name) for name in ("README.md", "report.json")}}
    write_whole(target / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    return manifest


def reports_of(root: str | Path) -> list[dict]:
    """What a build says of each object of a set, kept or not, in the order of keys."""
    return json.loads((Path(root) / "report.json").read_text(encoding="utf-8"))["objects"]


def summarize(reports: list[dict], passed_over: dict[str, Counter]) -> dict:
    """Counts of objects and clips, kept and dropped, by split, source and reason."""
    kept = [report for report in reports if report["status"] == KEPT]
    clips = [clip for report in reports for clip in report["clips"]]
    out = {"objects": len(reports), "objects_kept": len(kept),
           "clips_kept": sum(clip["status"] == KEPT for report in kept for clip in report["clips"]),
           "objects_dropped": _counted(report["reason"] for report in reports if report["status"] == DROPPED),
           "clips_dropped": _counted(clip["reason"] for clip in clips if clip["status"] == DROPPED),
           "renderers": _counted(report["renderer"] for report in kept),
           "passed_over": {name: dict(sorted(counts.items())) for name, counts in passed_over.items() if counts},
           "splits": {}, "sources": {}}
    for table, field in (("splits", "split"), ("sources", "source")):
        for name in SPLITS if field == "split" else sorted({report["source"] for report in reports}):
            mine = [report for report in kept if report[field] == name]
            out[table][name] = {
                "objects": sum(report[field] == name for report in reports), "objects_kept": len(mine),
                "clips_kept": sum(clip["status"] == KEPT for report in mine for clip in report["clips"]),
                "licences": _counted(report["licence"] for report in mine)}
    return out


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))
