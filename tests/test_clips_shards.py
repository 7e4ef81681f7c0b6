"""Clips in tar files: nothing is lost, any tool reads them, and damage is named."""

import io
import tarfile
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sp4dlib.clips import Cameras, Clip
from sp4dlib.clips.shards import (
    Index,
    index_path,
    member_names,
    member_offsets,
    pack_clip,
    read_about,
    read_clip,
    write_shard,
)


def noise_clip(seed: int, frames: int = 3, views: int = 2, size: int = 5, parts: int = 4) -> Clip:
    """A clip of random numbers."""
    draw = np.random.default_rng(seed)
    azimuths = np.r_[0, np.sort(draw.uniform(1, 359, views - 1))]
    cameras = Cameras(azimuths, draw.uniform(-10, 30, views), 33.8, 2.5, 0.8, draw.normal(size=(4, 4)), size)
    return Clip(draw.integers(0, 256, (frames, views, size, size, 3), np.uint8),
                draw.integers(-1, parts, (frames, views, size, size)).astype(np.int16),
                draw.normal(size=(frames, parts, 3)), draw.normal(size=(frames, views, 2, 3)), cameras,
                tuple(f"part {k}" for k in range(parts)), np.arange(parts) - 1, np.sort(draw.uniform(size=frames)),
                "noise/å")


def assert_equal(one: Clip, other: Clip) -> None:
    for item in fields(Clip):
        a, b = getattr(one, item.name), getattr(other, item.name)
        if isinstance(a, Cameras):
            for inner in fields(Cameras):
                assert np.array_equal(getattr(a, inner.name), getattr(b, inner.name)), inner.name
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and np.array_equal(a, b), item.name
        else:
            assert a == b, item.name


def store(tmp_path, *clips: Clip):
    path = tmp_path / "train-000000.tar"
    packed = [pack_clip(clip, f"source/clip-{n}", {"licence": "CC0-1.0"}) for n, clip in enumerate(clips)]
    return path, write_shard(path, packed, clips[0].parts.shape[1])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), frames=st.integers(1, 3), views=st.integers(1, 3), size=st.integers(1, 9),
       parts=st.sampled_from([1, 2, 100, 255]))
def test_what_is_stored_comes_back(tmp_path_factory, seed, frames, views, size, parts):
    clips = [noise_clip(seed + n, frames, views, size, parts) for n in range(2)]
    clips[0].parts.flat[0], clips[0].parts.flat[-1] = -1, parts - 1
    path, _ = store(tmp_path_factory.mktemp("shard"), *clips)
    index = Index.load(index_path(path))
    assert (len(index), index.frames, index.views) == (2, frames, views)
    for row, clip in enumerate(clips):
        assert_equal(read_clip(path, index, row), clip)
        assert read_about(path, index, row)["licence"] == "CC0-1.0"


def test_some_frames_and_views_are_what_select_gives(tmp_path):
    clip = noise_clip(0, frames=5, views=4)
    path, index = store(tmp_path, noise_clip(1, 5, 4), clip)
    frames, views = np.array([1, 4]), np.array([2, 0, 3])
    assert_equal(read_clip(path, index, 1, lambda found: (frames, views)), clip.select(frames, views))


def test_equal_clips_are_equal_bytes(tmp_path):
    one, two = (pack_clip(noise_clip(3), "a/b", {"n": 1}) for _ in range(2))
    assert one.data == two.data and np.array_equal(one.sizes, two.sizes)


def test_plain_tar_reads_it(tmp_path):
    clip = noise_clip(2)
    path, index = store(tmp_path, clip)
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == member_names("source/clip-0", 3, 2)
        assert [m.offset_data for m in members] == member_offsets(index.sizes[0])[:-1].tolist()
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.isfile()) for m in members} \
            == {(0, 0, 0, "", "", 0o644, True)}
        picture = Image.open(io.BytesIO(tar.extractfile("source/clip-0.t01v00.parts.png").read()))
        assert picture.mode == "L" and np.array_equal(np.asarray(picture).astype(int) - 1, clip.parts[1, 0])
    assert path.stat().st_size % 512 == 0 and path.read_bytes()[257:262] == b"ustar"


def test_webdataset_reads_it(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    clips = [noise_clip(n) for n in range(3)]
    path, _ = store(tmp_path, *clips)
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == [f"source/clip-{n}" for n in range(3)]
    for sample, clip in zip(samples, clips):
        assert np.array_equal(sample["t02v01.rgb.png"], clip.rgb[2, 1])
        assert sample["json"]["names"] == list(clip.names)
        assert np.array_equal(sample["npz"]["centers"], clip.centers)


def test_more_parts_than_8_bits_number_are_refused():
    with pytest.raises(ValueError, match="256 parts.*8 bits"):
        pack_clip(noise_clip(0, parts=256), "a", {})
    with pytest.raises(ValueError, match="dot"):
        pack_clip(noise_clip(0), "a.b", {})


@pytest.mark.parametrize("member", [0, 1, 5])
def test_damage_is_named(tmp_path, member):
    path, index = store(tmp_path, noise_clip(0), noise_clip(1))
    data = bytearray(path.read_bytes())
    at = int(index.starts[1] + member_offsets(index.sizes[1])[member])
    data[at:at + 40] = bytes(40)
    path.write_bytes(data)
    assert_equal(read_clip(path, index, 0), noise_clip(0))
    with pytest.raises(ValueError, match="damaged at source/clip-1"):
        read_clip(path, index, 1)


def test_a_cut_shard_is_named(tmp_path):
    path, index = store(tmp_path, noise_clip(0))
    path.write_bytes(path.read_bytes()[:-1600])
    with pytest.raises(ValueError, match="damaged at source/clip-0"):
        read_clip(path, index, 0)


def test_another_version_is_refused(tmp_path, monkeypatch):
    path, index = store(tmp_path, noise_clip(0))
    monkeypatch.setattr("sp4dlib.clips.shards.VERSION", 99)
    with pytest.raises(ValueError, match="version is 1 and 99"):
        read_clip(path, index, 0)


def test_a_shard_is_whole_or_not_there(tmp_path):
    def clips():
        yield pack_clip(noise_clip(0), "a", {})
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "train-000000.tar", clips(), 2)
    assert not list(tmp_path.glob("*.tar")) and not list(tmp_path.glob("*.npz"))
