"""The default training set, made small: what is kept of every source, what is not, and why.

All rigs of the asset list, some creatures of every family and some people go through the build with few small pictures;
three damaged files are mixed in. The set is checked, and its counts and reasons are stored.

    python -m benchmarks.dataset [--workers 1] [--keep DIR]
"""

from __future__ import annotations

import argparse
import logging
import re
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import record
from sp4dlib.clips import Source, build_set, check_set, read_config
from sp4dlib.clips.build import reports_of
from sp4dlib.rigs import assets

CONFIG = record.ROOT / "data" / "kinematic_parts_open.toml"
COUNTS = {"procedural": 6, "humans": 8}
DAMAGED = "animals_pack/Wolf"

log = logging.getLogger("benchmarks.dataset")


def main() -> None:
    """Build, check and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", metavar="DIR", help="leave the set here")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as scratch:
        damaged = damage(Path(scratch) / "damaged")
        config = reduced(damaged)
        out = Path(options.keep or Path(scratch) / "set")
        began = time.perf_counter()
        manifest = build_set(config, out, workers=options.workers)
        seconds = time.perf_counter() - began
        problems = check_set(out)
        results = {"config": CONFIG.name, "clips": {name: getattr(config.clips, name) for name in
                                                    ("size", "frames", "views")}, "per_object": config.per_object,
                   "workers": options.workers, "build_seconds": round(seconds, 1), "check_problems": problems,
                   "megabytes": round(sum(shard["bytes"] for shard in manifest["shards"]) / 1e6, 1),
                   "summary": manifest["summary"], **told(reports_of(out))}
    path = record.write("dataset", results, device=record.processor(), seed=config.seed, module="benchmarks.dataset")
    log.info("wrote %s", path)


def reduced(damaged: Path):
    """The default configuration with few, small clips, and the damaged files as one source more."""
    config = read_config(CONFIG)
    sources = tuple(replace(source, count=COUNTS.get(source.name, source.count)) for source in config.sources)
    clips = replace(config.clips, size=128, frames=6, views=4)
    return replace(config, name=f"{config.name}, reduced", clips=clips, per_object=2,
                   sources=(*sources, Source("folder", "damaged", str(damaged))))


def damage(folder: Path) -> Path:
    """A file that ends early, one whose description is garbled, one that claims to hold more than there is."""
    folder.mkdir(parents=True)
    whole = assets.path(DAMAGED).read_bytes()
    (folder / "cut.glb").write_bytes(whole[:len(whole) // 3])
    (folder / "garbled.glb").write_bytes(whole[:20] + bytes(b ^ 0x55 for b in whole[20:400]) + whole[400:])
    claims = re.sub(rb'("count"\s*:\s*)(\d+)', lambda m: m[1] + b"9" * len(m[2]), whole)
    (folder / "claims.glb").write_bytes(claims)
    return folder


def told(reports: list[dict]) -> dict:
    """What the reports say, by source and, for what is left out, by object."""
    sources = {}
    for name in sorted({each["source"] for each in reports}):
        kept = [each for each in reports if each["source"] == name and each["status"] == "kept"]
        motions = [clip["motion"] for each in kept for clip in each["clips"] if clip["status"] == "kept"]
        sources[name] = {"parts": spread([each["parts"] for each in kept]), "motion": spread(motions)}
    left_out = {each["key"]: f"{each['reason']}: {each['detail']}" for each in reports if each["status"] != "kept"}
    return {"spread": sources, "left_out": left_out}


def spread(values: list) -> dict:
    """Least, median and greatest."""
    return {"least": min(values), "median": round(statistics.median(values), 4), "greatest": max(values)} if values \
        else {}


if __name__ == "__main__":
    main()
