"""Training sets as a DataLoader reads them: the same windows for any number of workers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from clips_folders import SMALL, folder_config, write_rigs
from torch.utils.data import DataLoader

from sp4dlib import diffusion
from sp4dlib.clips import Clip, KinematicParts, LiveKinematicParts, build_set, list_entries
from sp4dlib.clips.dataset import kept_entries
from sp4dlib.diffusion.data import ClipTensors

RULE = replace(SMALL, frames=5, views=4, layout="scatter")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rigs")
    write_rigs(folder, 6)
    return folder_config(folder, clips=RULE)


@pytest.fixture(scope="module")
def root(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / "set"
    build_set(replace(config, sources=(replace(config.sources[0], splits={"pack2": "test"}),)), out, progress=False)
    return out


def epoch(data, workers: int, number: int = 0) -> list[diffusion.Batch]:
    loader = DataLoader(data, 2, num_workers=workers, collate_fn=diffusion.clips_views)
    data.set_epoch(number)
    return list(loader)


def equal(one, other) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for x, y in zip(one, other) for a, b in zip(x, y))


def test_windows_are_clips(root):
    data = KinematicParts(root, "train", frames=2, views=3)
    assert len(data) == 4 and {data.key(n).split("/")[1] for n in range(4)} == {"pack0", "pack1"}
    clip = data[1]
    assert isinstance(clip, Clip) and clip.rgb.shape == (2, 3, 32, 32, 3) and clip.cameras.azimuths[0] == 0
    assert (np.diff(clip.cameras.azimuths) > 0).all(), "views follow an orbit"
    assert data.about(1)["licence"] == "CC0-1.0" and np.array_equal(data[-3].rgb, clip.rgb)
    assert not np.array_equal(data[0].rgb, clip.rgb)


def test_a_window_is_a_part_of_its_clip(root):
    data = KinematicParts(root, "train", frames=2, views=2)
    whole, window = data.clip(2), data[2]
    frames = [int(np.flatnonzero(whole.times == time)[0]) for time in window.times]
    drawn = [view for view in range(4) if np.array_equal(whole.rgb[frames[0], view], window.rgb[0, 0])]
    assert frames[1] > frames[0] and drawn
    expected = whole.select(frames, [drawn[0], *(v for v in range(4) if v != drawn[0])])
    assert np.allclose(expected.centers, window.centers) and np.allclose(expected.boxes[:, 0], window.boxes[:, 0])


def test_whole_clips_are_the_default(root):
    data = KinematicParts(root, "test")
    assert np.array_equal(data[0].parts, data.clip(0).parts) and data[0].rgb.shape[:2] == (5, 4)


def test_workers_do_not_change_what_is_drawn(root):
    data = KinematicParts(root, "train", 2, 2, seed=3)
    alone, together = epoch(data, 0), epoch(data, 2)
    assert equal(alone, together)
    assert alone[0].rgb.shape == (2, 2, 2, 32, 32, 3)
    assert not equal(alone, epoch(KinematicParts(root, "train", 2, 2, seed=4), 0))


def test_workers_that_live_on_see_the_next_epoch(root):
    data = KinematicParts(root, "train", 2, 2)
    loader = DataLoader(data, 2, num_workers=1, persistent_workers=True, collate_fn=diffusion.clips_views)
    for number in (0, 1, 0):
        data.set_epoch(number)
        assert equal(list(loader), epoch(KinematicParts(root, "train", 2, 2), 0, number))
    assert not equal(epoch(data, 0, 0), epoch(data, 0, 1))


def test_the_trainer_reads_whole_clips(root):
    data = KinematicParts(root, "train")
    tensors = ClipTensors([data[number] for number in range(len(data))], frames=3, views=2)
    assert tensors.batch(2, torch.Generator().manual_seed(0)).rgb.shape == (2, 3, 2, 12, 16, 16)


def test_drawn_while_training(config):
    entries, _ = list_entries(config.sources, 0, 0)
    data = LiveKinematicParts([e for e in entries if e.split == "train"], replace(RULE, frames=2, views=2), length=4)
    alone = [data[number] for number in range(4)]
    loader = DataLoader(data, 2, num_workers=2, collate_fn=list, multiprocessing_context="spawn")
    together = [clip for clips in loader for clip in clips]
    assert all(np.array_equal(a.rgb, b.rgb) and np.array_equal(a.centers, b.centers) for a, b in zip(alone, together))
    assert not np.array_equal(alone[0].rgb, alone[2].rgb), "the same object, other cameras"
    data.set_epoch(1)
    assert not np.array_equal(alone[0].rgb, data[0].rgb) and alone[0].parts.max() >= 1


def test_what_gives_no_clip_is_left_for_the_next(config, root, tmp_path, caplog):
    entries, _ = list_entries(config.sources, 0, 0)
    missing = replace(entries[0], key="folder/missing", locator=str(tmp_path / "missing.glb"))
    data = LiveKinematicParts([missing, entries[0]], RULE)
    assert data[0].source.startswith(entries[0].key) and "missing.glb" in caplog.text
    with pytest.raises(ValueError, match="none of 1 entries"):
        LiveKinematicParts([missing], RULE)[0]
    assert [e.key for e in kept_entries(root, [missing, *entries])] == [e.key for e in entries]


def test_what_cannot_be_read(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no training set"):
        KinematicParts(tmp_path)
    (tmp_path / "set.part").mkdir()
    with pytest.raises(FileNotFoundError, match="unfinished"):
        KinematicParts(tmp_path / "set")
    with pytest.raises(ValueError, match="no clips in split val"):
        KinematicParts(root, "val")
    with pytest.raises(ValueError, match="split is one of"):
        KinematicParts(root, "training")
    with pytest.raises(ValueError, match="do not fit"):
        KinematicParts(root, "train", frames=6)
    with pytest.raises(IndexError, match="no number 4"):
        KinematicParts(root, "train")[4]
