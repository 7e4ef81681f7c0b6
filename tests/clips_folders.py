"""Small folders of rigs, for the tests of training sets."""

from __future__ import annotations

from pathlib import Path

from clips_rigs import arm

from sp4dlib import rigs
from sp4dlib.clips import DrawRule, SetConfig, Source

SMALL = DrawRule(frames=3, views=2, size=32, min_cover=0.0)
SHAPES = ((1.0, 1.0, 1.0), (1.0, 0.5, 1.2), (0.6, 1.4), (1.0, 1.6, 0.7, 1.0), (1.5, 0.8), (0.7, 0.9, 1.5))


def write_rigs(folder: Path, count: int = 6) -> list[Path]:
    """Rigs that differ, in folders of two: ``pack0/arm0.glb``, ``pack0/arm1.glb``, ..."""
    paths = []
    for number in range(count):
        path = folder / f"pack{number // 2}" / f"arm{number}.glb"
        path.parent.mkdir(parents=True, exist_ok=True)
        sizes = SHAPES[number % len(SHAPES)] + (0.4,) * (number // len(SHAPES))
        rigs.save(arm(sizes, seed=number), path)
        paths.append(path)
    return paths


def folder_config(folder: Path, **changes) -> SetConfig:
    """A configuration that builds from a folder in a moment."""
    sources = (Source("folder", "folder", str(folder), licence="CC0-1.0", splits={"pack1": "val", "pack2": "test"}),)
    return SetConfig(**{"sources": sources, "clips": SMALL, "val": 0.0, "test": 0.0, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file()}
