"""Is a training set whole, and what it says it is?"""

from __future__ import annotations

import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sp4dlib.clips.build import FORMAT
from sp4dlib.clips.shards import (
    Index,
    file_hash,
    index_path,
    member_names,
    member_offsets,
    read_about,
    read_clip,
    read_manifest,
)
from sp4dlib.clips.sources import SPLITS


def check_set(root: str | Path, pictures: bool = True, workers: int = 1) -> list[str]:
    """Everything that is wrong with a set; empty if nothing is.

    Looked at are: the hash of every file; that every clip of the report lies in one shard, of the split of its object;
    that no family, file or clip is in two splits; that indices point where the files are; and that every picture can
    be decoded, with ids of parts that the clip has.

    Parameters
    ----------
    root : str or Path
    pictures : bool
        Decode all pictures; without them it is a matter of reading the files once.
    workers : int
        Threads, one shard each at a time.

    Raises
    ------
    FileNotFoundError
        If there is no set.
    """
    root = Path(root)
    manifest = read_manifest(root)
    if manifest.get("format") != FORMAT:
        return [f"manifest.json: format {manifest.get('format')}; {FORMAT} is read here"]
    problems = list(_check_files(root, manifest))
    report = root / "report.json"
    objects = json.loads(report.read_text(encoding="utf-8"))["objects"] if report.is_file() else []
    problems += _check_splits(objects)
    expected = {clip["key"]: each for each in objects for clip in each["clips"]
                if each["status"] == clip["status"] == "kept"}
    seen: dict[str, str] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        present = [shard for shard in manifest["shards"] if (root / shard["file"]).is_file()
                   and index_path(root / shard["file"]).is_file()]
        for found, keys in pool.map(lambda shard: _check_shard(root, shard, expected, pictures), present):
            problems += found
            for key, file in keys:
                if key in seen:
                    problems.append(f"{file}: {key} is also in {seen[key]}")
                seen[key] = file
    problems += [f"report.json: {key} was kept, but is in no shard" for key in sorted(expected.keys() - seen.keys())]
    counted = manifest["summary"]["clips_kept"]
    if len(expected) != counted:
        problems.append(f"manifest.json: it counts {counted} clips, the report {len(expected)}")
    return problems


def _check_files(root: Path, manifest: dict) -> Iterator[str]:
    """Files that are missing, changed, or too many."""
    hashes = dict(manifest["files"])
    for shard in manifest["shards"]:
        hashes[shard["file"]] = shard["sha256"]
        hashes[index_path(root / shard["file"]).name] = shard["index_sha256"]
    for name, expected in sorted(hashes.items()):
        path = root / name
        if not path.is_file():
            yield f"{name}: missing"
        elif file_hash(path) != expected:
            yield f"{name}: its content is not what was written (sha256 differs)"
    for name in sorted({path.name for path in root.iterdir()} - hashes.keys() - {"manifest.json"}):
        yield f"{name}: is no part of the set"


def _check_splits(objects: list[dict]) -> Iterator[str]:
    """What lies in two splits."""
    for field, what in (("family", "family"), ("sha256", "file with sha256")):
        splits = defaultdict(dict)
        for each in objects:
            if each["status"] == "kept" and each[field]:
                splits[each[field]].setdefault(each["split"], each["key"])
        for value, where in sorted(splits.items()):
            if len(where) > 1:
                yield f"{what} {value} is in {len(where)} splits: " + ", ".join(f"{k} in {s}" for s, k in where.items())
    for each in objects:
        if each["split"] not in SPLITS:
            yield f"report.json: {each['key']} is in split {each['split']!r}"


def _check_shard(root: Path, shard: dict, expected: dict[str, dict],
                 pictures: bool) -> tuple[list[str], list[tuple[str, str]]]:
    """Problems of a shard, and the keys in it with its name."""
    path, problems = root / shard["file"], []
    try:
        index = Index.load(index_path(path))
        problems += _check_index(path, index)
    except (ValueError, OSError, EOFError, tarfile.TarError) as error:
        return [f"{path.name}: it or its index cannot be read ({error})"], []
    if len(index) != shard["clips"]:
        problems.append(f"{path.name}: holds {len(index)} clips, the manifest says {shard['clips']}")
    for row, key in enumerate(map(str, index.keys)):
        if key not in expected:
            problems.append(f"{path.name}: {key} is not in the report")
        elif expected[key]["split"] != shard["split"]:
            problems.append(f"{path.name}: {key} belongs to {expected[key]['split']}")
        try:
            problems += [f"{path.name}: {key}: {what}" for what in _check_clip(path, index, row, shard, pictures)]
        except (ValueError, KeyError) as error:
            problems.append(f"{path.name}: {key}: {error}")
    return problems, [(str(key), path.name) for key in index.keys]


def _check_index(path: Path, index: Index) -> Iterator[str]:
    """Whether plain tar finds the files where the index says."""
    with tarfile.open(path) as tar:
        members = [(member.name, member.offset_data, member.size) for member in tar]
    stated = []
    for key, start, sizes in zip(index.keys, index.starts, index.sizes):
        offsets = (member_offsets(sizes)[:-1] + start).tolist()
        stated += zip(member_names(str(key), index.frames, index.views), offsets, sizes.tolist())
    if members != stated:
        wrong = next((a[0] for a, b in zip(members, stated) if a != b), "its end")
        yield f"{path.name}: the index does not fit the files, from {wrong} on"


def _check_clip(path: Path, index: Index, row: int, shard: dict, pictures: bool) -> Iterator[str]:
    about = read_about(path, index, row)
    if about["split"] != shard["split"]:
        yield f"says that it belongs to {about['split']}"
    if not pictures:
        return
    clip = read_clip(path, index, row)
    parts = len(clip.names)
    if clip.parts.max() >= parts:
        yield f"has {parts} parts, and shows id {clip.parts.max()}"
    if not np.isfinite(clip.centers).all() or not np.isfinite(clip.boxes).all():
        yield "has centres or boxes that are not finite"
    if not (clip.parts >= 0).any():
        yield "shows nothing"
