"""Pictures: the arrays and the documents behind them; how they look in a page is the browser test's business."""

import base64
import re

import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp4dlib import rigs, show
from sp4dlib.show.images import to_uint8, write_video


@given(st.integers(1, 36))
def test_ids_get_distinct_colors_that_are_not_white(count):
    colors = show.id_colors(count)
    assert len(np.unique(colors, axis=0)) == count
    assert (colors.min(axis=1) < 255).all()


def test_id_image_shows_background_white_and_parts_in_palette_order():
    image = show.id_image(np.array([[-1, 0], [1, 1]]))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[0, 1].tolist() == [0xCC, 0x66, 0x77]
    assert (image[1, 0] == image[1, 1]).all()


def test_strip_places_every_image_where_its_row_and_column_say():
    images = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3, 1, 1, 1) * np.ones((1, 1, 4, 5, 3), np.uint8)
    out = show.strip(images, gap=1)
    assert out.shape == (9, 17, 3)
    assert out[0, 0, 0] == 0 and out[5, 12, 0] == 5 and out[4, 0, 0] == 255


def test_integer_images_that_are_not_uint8_are_refused():
    with pytest.raises(TypeError, match="id_image"):
        to_uint8(np.zeros((4, 4, 3), np.int64))


def test_video_keeps_frame_count_size_and_colors(tmp_path):
    frames = np.zeros((7, 33, 20, 3), np.uint8)         # an odd side, which H.264 does not take
    frames[..., 0] = np.linspace(0, 250, 7, dtype=np.uint8)[:, None, None]
    path = write_video(frames, tmp_path / "a.mp4", fps=5)
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    decoded = [np.frombuffer(frame, np.uint8).reshape(34, 20, 3) for frame in reader]
    assert meta["size"] == (20, 34) and len(decoded) == 7
    assert abs(int(decoded[-1][10, 10, 0]) - 250) < 12 and list(tmp_path.iterdir()) == [path]


def test_video_tag_holds_an_mp4_and_its_text():
    tag = show.video(np.zeros((2, 8, 8, 3), np.uint8), alt="two <black> frames").data
    assert "two &lt;black&gt; frames" in tag
    data = base64.b64decode(re.search(r"base64,([^\"]+)", tag).group(1))
    assert data[4:8] == b"ftyp"


def test_flipbook_links_slider_to_stack_in_the_browser():
    box = show.flipbook([np.zeros((4, 4, 3), np.uint8)] * 3, ["a", "b", "c"], alt="dark")
    slider, stack = box.children
    assert slider.max == 2 and len(stack.children) == 3
    assert 'alt="dark b"' in stack.children[1].value
    with pytest.raises(ValueError, match="one label for each image"):
        show.flipbook([np.zeros((4, 4, 3), np.uint8)], [])


def test_mesh_player_moves_vertices_and_colors_faces_by_majority():
    faces = np.array([[0, 1, 2], [1, 3, 2]])
    poses = np.random.default_rng(0).normal(size=(3, 4, 3))
    fig = show.mesh_player(poses, faces, labels=np.array([0, 1, 1, 0]), title="t", alt="a mesh")
    assert fig.layout.meta["alt"] == "a mesh" and len(fig.frames) == 3
    assert fig.data[0].facecolor[0] == show.PALETTE[1].lower()
    assert sorted(fig.frames[2].data[0].x) == sorted(poses[2, :, 0].astype(np.float32))
    corner = np.stack([fig.frames[1].data[0].x, fig.frames[1].data[0].y, fig.frames[1].data[0].z], 1)[fig.data[0].j]
    np.testing.assert_array_equal(corner, poses[1, faces[:, 1]].astype(np.float32))


def test_vertices_that_move_as_one_are_sent_once():
    poses = np.zeros((2, 4, 3))
    poses[:, 1:3, 0], poses[1, 2, 1], poses[:, 3, 2] = 1, 5, 1
    fig = show.mesh_player(poses[:, [0, 1, 1, 2, 3]], [[0, 1, 4], [0, 2, 3]], labels=[0] * 5)
    assert len(fig.data[0].x) == 4


def test_only_shown_bones_are_drawn():
    skeleton = rigs.Skeleton([-1, 0, 1, 0], "abcd", np.eye(4)[None].repeat(4, axis=0))
    shape = np.random.default_rng(0).normal(size=(3, 3)), [[0, 1, 2]]
    whole = show.mesh_player(*shape, skeleton=skeleton)
    some = show.mesh_player(*shape, skeleton=skeleton, shown=[True, True, False, False])
    assert (len(whole.data[1].x), len(some.data[1].x)) == (9, 3)


def test_weights_viewer_offers_every_bone():
    weights = np.eye(4)[:, :3]
    fig = show.weights_viewer(np.random.default_rng(0).normal(size=(4, 3)), [[0, 1, 2]], weights, ["a", "b", "c"])
    buttons = fig.layout.updatemenus[0].buttons
    assert [b.label for b in buttons] == ["a", "b", "c"]
    np.testing.assert_array_equal(np.sort(buttons[2].args[0]["intensity"][0]), np.sort(weights[:, 2]))


def test_book_renderer_emits_html_without_scripts_of_its_own(monkeypatch):
    import plotly.graph_objects as go
    import plotly.io as pio

    monkeypatch.setenv("SP4D_BOOK", "1")
    before = pio.renderers.default
    try:
        show.setup()
        fig = go.Figure(layout=dict(meta={"alt": 'says "hello"'}))
        bundle = pio.renderers["sp4d_book"].to_mimebundle(fig.to_dict())
    finally:
        pio.renderers.default = before
    assert 'aria-label="says &quot;hello&quot;"' in bundle["text/html"]
    assert "src=" not in bundle["text/html"]
