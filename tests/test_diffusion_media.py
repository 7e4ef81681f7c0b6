"""Files that users have, backgrounds, and the crop."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sp4dlib.diffusion import images
from sp4dlib.diffusion.media import load_frames
from sp4dlib.show.images import write_video


def movie(count=4, size=(32, 48), colour=(200, 30, 30)):
    """A square that crosses the picture on transparent ground; (T, H, W, 4)."""
    frames = np.zeros((count, *size, 4), np.uint8)
    for t in range(count):
        frames[t, 10:18, 4 + 8 * t:12 + 8 * t] = (*colour, 255)
    return frames


def test_a_png_keeps_its_alpha(tmp_path):
    frame = movie(1)[0]
    Image.fromarray(frame).save(tmp_path / "a.png")
    assert np.array_equal(load_frames(tmp_path / "a.png"), frame[None])
    assert np.array_equal(images.as_frames(str(tmp_path / "a.png")), frame[None])


def test_a_gif_is_all_its_frames(tmp_path):
    """Frames as the viewer composes them, with transparency."""
    frames = movie()
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest, disposal=2, duration=40)
    loaded = load_frames(tmp_path / "a.gif")
    assert loaded.shape == frames.shape and np.array_equal(loaded[..., 3], frames[..., 3])
    opaque = frames[..., 3] > 0
    assert np.abs(loaded[opaque].astype(int) - frames[opaque]).max() <= 8            # a palette


def test_an_mp4_is_all_its_frames(tmp_path):
    frames = images.on_white(movie(5))
    write_video(frames, tmp_path / "a.mp4", fps=7)
    loaded = load_frames(tmp_path / "a.mp4")
    assert loaded.shape == (5, 32, 48, 4) and (loaded[..., 3] == 255).all()
    for t in range(5):
        columns = np.flatnonzero((loaded[t, ..., 1] < 128).any(0))
        assert abs(columns.mean() - (7.5 + 8 * t)) < 1, "in order, none twice, none lost"


def test_a_folder_is_sorted_by_numbers(tmp_path):
    frames = movie(3)
    for name, frame in zip(("f2.png", "f10.png", "f1.png"), frames):
        Image.fromarray(frame).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._f3.png").write_text("what macOS leaves behind")
    assert np.array_equal(load_frames(tmp_path), frames[[2, 0, 1]])


def test_a_list_of_paths_and_pictures(tmp_path):
    frames = movie(2)
    Image.fromarray(frames[0]).save(tmp_path / "a.png")
    assert np.array_equal(images.as_frames([tmp_path / "a.png", Image.fromarray(frames[1])]), frames)


def test_photographs_are_upright(tmp_path):
    picture = Image.fromarray(images.on_white(movie(1)[0]))
    exif = Image.Exif()
    exif[0x0112] = 6                                                                 # turn by 90 degrees to see it
    picture.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(load_frames(tmp_path / "a.png")[0, ..., :3], np.rot90(np.asarray(picture), -1))


def broken(tmp_path, kind):
    path = tmp_path / {"cut": "cut.mp4", "text": "text.mp4", "none": "none.mp4", "png": "a.png"}.get(kind, f"{kind}.x")
    if kind == "cut":
        write_video(images.on_white(movie()), path)
        path.write_bytes(path.read_bytes()[:200])
    elif kind in ("text", "png"):
        path.write_text("hello")
    elif kind == "folder":
        path.mkdir()
    elif kind == "sizes":
        path.mkdir()
        for size in (3, 4):
            Image.new("RGB", (size, size)).save(path / f"{size}.png")
    elif kind == "truncated":
        path = path.with_suffix(".png")
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:4000])
    elif kind == "deep":
        path = path.with_suffix(".tif")
        Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(path)
    elif kind != "missing":
        path.write_bytes(b"")
    return path


@pytest.mark.parametrize("kind, match", [
    ("none", "is empty"), ("empty", "is empty"), ("cut", "no video that can be read"), ("text", "no video that can"),
    ("png", "no picture that can be read"), ("truncated", "is broken"), ("folder", "holds no pictures"),
    ("sizes", "one size"), ("missing", "no such file"), ("deep", "8 bits")])
def test_bad_files_are_named(tmp_path, kind, match):
    path = broken(tmp_path, kind)
    with pytest.raises((ValueError, FileNotFoundError), match=match) as error:
        images.as_frames(path)
    assert str(path) in str(error.value)


def test_a_transparent_file_is_named(tmp_path):
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png holds only background"):
        images.prepare(tmp_path / "a.png", {}, 8, 0.9)


def extent(frame):
    rows, columns = np.nonzero(frame[..., 1] < 142)                                # half of 30 to 255
    return columns.min(), columns.max() + 1, rows.min(), rows.max() + 1


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 1), st.floats(0.1, 1),
       st.floats(0.4, 1))
def test_the_crop_of_any_picture(height, width, x, y, across, down, fill):
    """Whatever the picture's shape and the object's place: centred, square, its longest side fills the share."""
    across, down = max(4, int(across * width)), max(4, int(down * height))
    left, top = int(x * (width - across)), int(y * (height - down))
    picture = np.zeros((height, width, 4), np.uint8)
    picture[top:top + down, left:left + across] = (30, 30, 30, 255)
    size = 96
    frame = images.crop_to_object(picture, size, fill)[0]
    found = extent(frame)
    scale = fill * size / max(across, down)
    wanted = (size - across * scale) / 2, (size + across * scale) / 2, (size - down * scale) / 2, \
        (size + down * scale) / 2
    np.testing.assert_allclose(found, wanted, atol=1.01)


def test_the_crop_follows_an_object_that_crosses_the_picture():
    frames = images.crop_to_object(movie(), 40, fill=0.5, follow=True)
    for frame in frames:
        np.testing.assert_allclose(extent(frame), (10, 30, 10, 30), atol=1)
    still = images.crop_to_object(movie(), 40, fill=0.5)
    assert extent(still[0])[0] < extent(still[3])[0] - 10, "without it the object moves"
    assert np.ptp(extent(still[0])[:2]) < 8, "and is small"


def test_following_keeps_one_scale():
    """A creature that curls up gets smaller, and is not blown up again."""
    frames = np.zeros((2, 60, 60, 4), np.uint8)
    frames[0, 10:50, 10:50] = frames[1, 30:40, 45:55] = (30, 30, 30, 255)
    first, second = (extent(frame) for frame in images.crop_to_object(frames, 80, 0.5, follow=True))
    assert first[1] - first[0] == pytest.approx(40, abs=1) and second[1] - second[0] == pytest.approx(10, abs=1)


def test_frames_without_the_object_take_the_nearest_box():
    frames = np.concatenate([np.zeros((2, 32, 48, 4), np.uint8), movie(2), np.zeros((1, 32, 48, 4), np.uint8)])
    boxes = images.object_boxes(frames)
    assert boxes[0].tolist() == boxes[1].tolist() == boxes[2].tolist() == [4, 10, 12, 18]
    assert boxes[4].tolist() == boxes[3].tolist() == [12, 10, 20, 18]


def test_known_pictures_are_cut_like_the_input():
    """One square for all: it holds the object of the input and of the known pictures."""
    frames, known = movie(2), np.zeros((32, 48, 4), np.uint8)
    known[2:30, 20:24] = (0, 30, 255, 255)
    shown, pictures = images.prepare(frames, {(1, 2): known}, 56, 1.0)
    assert set(pictures) == {(1, 2)}
    np.testing.assert_allclose(extent(pictures[1, 2])[2:], (0, 56), atol=1)          # 28 rows fill the picture
    assert np.ptp(extent(shown[0])[:2]) == pytest.approx(16, abs=1)                  # 8 pixels at that scale
    left = extent(pictures[1, 2])[0] - extent(shown[0])[0]
    assert left == pytest.approx(2 * (20 - 4), abs=1)


def test_white_and_alpha_tell_the_same_object():
    frames = movie(1)
    white = images.remove_background(images.as_frames(images.on_white(frames)))
    assert np.array_equal(white[..., 3] > 0, frames[..., 3] > 0)
    assert images.remove_background(frames) is frames
    with pytest.raises(ValueError, match="no transparent pixels"):
        images.remove_background(images.as_frames(images.on_white(frames)), "alpha")
    with pytest.raises(ValueError, match="one of auto"):
        images.remove_background(frames, "green")


def test_a_picture_on_a_coloured_ground_is_warned_of(caplog):
    images.remove_background(images.as_frames(np.full((8, 8, 3), 100, np.uint8)))
    assert "rembg" in caplog.text


def test_rembg_cuts_out_every_frame(monkeypatch):
    calls = []

    def remove(frame, session):
        calls.append(session)
        return np.concatenate([frame, np.where(frame[..., 0] > 150, 255, 0)[..., None]], -1).astype(np.uint8)

    monkeypatch.setitem(sys.modules, "rembg", SimpleNamespace(new_session=lambda: "session", remove=remove))
    images._cut_out.cache_clear()
    frames = movie()
    frames[..., 3] = 255
    try:
        cut = images.remove_background(frames, "rembg")
    finally:
        images._cut_out.cache_clear()
    assert np.array_equal(cut[..., 3], movie()[..., 3]) and calls == ["session"] * 4


def test_rembg_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rembg", None)
    images._cut_out.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'sp4dlib\[rembg\]'"):
        images.remove_background(movie(), "rembg")
