"""Training sets as PyTorch reads them: from shards, or drawn while training.

Both kinds give windows of clips (:class:`~sp4dlib.clips.clip.Clip`), which ``diffusion.clips_views`` makes into
tensors. What is drawn at random follows from the seed, the epoch and the index alone: any number of DataLoader workers
gives the same windows.

>>> data = KinematicParts("KinematicParts-Open", "train", frames=4, views=4)
>>> loader = DataLoader(data, batch_size=8, shuffle=True, num_workers=4, collate_fn=diffusion.clips_views)
>>> for epoch in range(100):
...     data.set_epoch(epoch)
...     for batch in loader:
...         ...
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from sp4dlib.clips.build import reports_of
from sp4dlib.clips.clip import Clip, Parts
from sp4dlib.clips.draw import DRAWS, DrawRule, Skip, draw_clip
from sp4dlib.clips.merging import RULE, MergeRule
from sp4dlib.clips.parts import kinematic_parts
from sp4dlib.clips.shards import Index, index_path, read_about, read_clip, read_manifest
from sp4dlib.clips.sources import SPLITS, Entry, load_entry
from sp4dlib.clips.windows import draw, draw_window
from sp4dlib.rigs import Rig

log = logging.getLogger(__name__)


class _Epochs(Dataset):
    """What both kinds share: a seed, and an epoch that workers see when it changes."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()        # also of workers that live on

    @property
    def epoch(self) -> int:
        """The epoch that is drawn now."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw other windows; call it before the DataLoader starts over."""
        self._epoch.fill_(epoch)

    def _seed(self, number: int) -> int:
        """A random number in [0, 2^63) of this seed, epoch and index."""
        text = f"{self.seed}/{self.epoch}/{number}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class KinematicParts(_Epochs):
    """Windows of the clips in a folder that ``sp4d data build`` wrote.

    Parameters
    ----------
    root : str or Path
    split : {"train", "val", "test"}
    frames, views : int, optional
        T and V of a window; all that are stored by default. With fewer, frames have a random start and stride, view 0
        is a random one, and only the pictures of the window are read.
    seed : int

    Raises
    ------
    FileNotFoundError
        If there is no set.
    ValueError
        If the set has no clips in this split, or windows are larger than clips.
    """

    def __init__(self, root: str | Path, split: str = "train", frames: int | None = None, views: int | None = None,
                 seed: int = 0) -> None:
        super().__init__(seed)
        self.root, self.split = Path(root), split
        self.manifest = read_manifest(self.root)
        if split not in SPLITS:
            raise ValueError(f"split is one of {', '.join(SPLITS)}; got {split!r}")
        shards = [shard for shard in self.manifest["shards"] if shard["split"] == split]
        if not shards:
            raise ValueError(f"{self.root} has no clips in split {split}")
        self._paths = [self.root / shard["file"] for shard in shards]
        self._ends = np.cumsum([shard["clips"] for shard in shards])
        self._indices: dict[int, Index] = {}
        stored = self.manifest["config"]["clips"]
        self.frames, self.views = frames or stored["frames"], views or stored["views"]
        if not (1 <= self.frames <= stored["frames"] and 1 <= self.views <= stored["views"]):
            raise ValueError(f"{self.root} holds clips of {stored['frames']} frames and {stored['views']} views; "
                             f"windows of {self.frames} and {self.views} do not fit")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> Clip:
        """A window of a clip: the same for the same seed, epoch and number."""
        shard, row = self._find(number)
        path, index = self._paths[shard], self._index(shard)
        if (self.frames, self.views) == (index.frames, index.views):
            return read_clip(path, index, row)
        generator = torch.Generator().manual_seed(self._seed(number % len(self)))

        def choose(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
            return draw_window(len(clip.times), clip.cameras.azimuths, self.frames, self.views, generator)

        return read_clip(path, index, row, choose)

    def draw(self, generator: torch.Generator, still: float = 0.0) -> Clip:
        """A random window of a random clip; the same generator state gives the same bytes.

        Parameters
        ----------
        generator : torch.Generator
        still : float
            Share of windows that repeat one frame.
        """
        shard, row = self._find(draw(len(self), generator))

        def choose(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
            return draw_window(len(clip.times), clip.cameras.azimuths, self.frames, self.views, generator, still)

        return read_clip(self._paths[shard], self._index(shard), row, choose)

    def clip(self, number: int) -> Clip:
        """A whole clip, as it was stored."""
        shard, row = self._find(number)
        return read_clip(self._paths[shard], self._index(shard), row)

    def about(self, number: int) -> dict:
        """Source, licence, animation and more of a clip."""
        shard, row = self._find(number)
        return read_about(self._paths[shard], self._index(shard), row)

    def key(self, number: int) -> str:
        """Name of a clip in its set."""
        shard, row = self._find(number)
        return str(self._index(shard).keys[row])

    def _find(self, number: int) -> tuple[int, int]:
        if not -len(self) <= number < len(self):
            raise IndexError(f"{self.root} has {len(self)} clips in split {self.split}; there is no number {number}")
        number = number % len(self)
        shard = int(np.searchsorted(self._ends, number, side="right"))
        return shard, number - (int(self._ends[shard - 1]) if shard else 0)

    def _index(self, shard: int) -> Index:
        if shard not in self._indices:
            self._indices[shard] = Index.load(index_path(self._paths[shard]))
        return self._indices[shard]


class LiveKinematicParts(_Epochs):
    """Clips that are drawn when they are asked for, with new cameras, lights and moments each epoch.

    Each DataLoader worker has an OpenGL context of its own, so workers must be started, not forked, once this process
    has drawn a picture: ``DataLoader(..., multiprocessing_context="spawn")``.

    Parameters
    ----------
    entries : sequence of Entry
        As :func:`~sp4dlib.clips.sources.list_entries` lists them; choose a split yourself. One that yields no clip
        (it cannot be read, or does not move) is left for the next one, with a warning.
    rule : DrawRule
        Also says how many frames and views are drawn.
    parts : MergeRule
    seed : int
    length : int, optional
        Clips an epoch; one for each entry by default.
    keep : int
        Rigs that each worker keeps in memory.
    """

    def __init__(self, entries: Sequence[Entry], rule: DrawRule = DRAWS, parts: MergeRule = RULE, seed: int = 0,
                 length: int | None = None, keep: int = 64) -> None:
        super().__init__(seed)
        if not entries:
            raise ValueError("there are no entries to draw from")
        self.entries, self.rule, self.parts, self.keep = tuple(entries), rule, parts, keep
        self.length = length or len(self.entries)
        self._rigs: OrderedDict[str, tuple[Rig, Parts]] = OrderedDict()

    def __len__(self) -> int:
        return self.length

    def __getstate__(self) -> dict:
        return {**vars(self), "_rigs": OrderedDict()}       # a worker that is started anew loads its own

    def __getitem__(self, number: int) -> Clip:
        """A clip: the same for the same seed, epoch and number."""
        if not -self.length <= number < self.length:
            raise IndexError(f"an epoch has {self.length} clips; there is no number {number}")
        number = number % self.length
        generator = np.random.default_rng(self._seed(number))
        for step in range(len(self.entries)):
            entry = self.entries[(number + step) % len(self.entries)]
            try:
                rig, parts = self._rig(entry)
                clip = draw_clip(rig, generator, self.rule, parts=parts)
            except ValueError as error:
                clip = Skip("unreadable", str(error))
            if not isinstance(clip, Skip):
                return clip
            log.warning("%s gives no clip: %s", entry.key, clip.detail)
        raise ValueError(f"none of {len(self.entries)} entries gives a clip; the last: {clip.detail}")

    def _rig(self, entry: Entry) -> tuple[Rig, Parts]:
        if entry.key in self._rigs:
            self._rigs.move_to_end(entry.key)
            return self._rigs[entry.key]
        rig = load_entry(entry)[0]
        self._rigs[entry.key] = rig, kinematic_parts(rig, self.parts)
        if len(self._rigs) > self.keep:
            self._rigs.popitem(last=False)
        return self._rigs[entry.key]


def kept_entries(root: str | Path, entries: Sequence[Entry]) -> list[Entry]:
    """Those of some entries that a build of them has kept, with the splits it gave them: for drawing while training."""
    kept = {each["key"]: each["split"] for each in reports_of(root) if each["status"] == "kept"}
    return [replace(entry, split=kept[entry.key]) for entry in entries if entry.key in kept]
