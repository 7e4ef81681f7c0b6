"""Pictures: exact ids, colour, holes, and two engines that agree."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from clips_rigs import arm, box
from hypothesis import given, settings
from hypothesis import strategies as st

from sp4dlib.clips import (Cameras, Light, NoOpenGL, Shading, fit_cameras, kinematic_parts, make_clip, render,
                          render_surface)
from sp4dlib.clips.scene import closed, smoothing
from sp4dlib.rigs import Appearance, Material, quadruped

ENGINES = ["gl", "embree"]
EVEN = Shading((), 1.0)          # base colour, unlit
engines = pytest.mark.parametrize("engine", ENGINES)


def front(size=64, distance=4.0) -> Cameras:
    return Cameras([0], [0], 33.8, distance, 0.9, np.eye(4), size)


def agreement(one, two) -> float:
    seen = (one >= 0) | (two >= 0)
    return float((one == two)[seen].mean())


def barycentric(triangle, cameras) -> np.ndarray:
    """Perspective-correct coordinates (H, W, 3) of what each pixel centre sees of a triangle's plane."""
    place = (np.arange(cameras.size) + 0.5 - cameras.size / 2) / cameras.focal
    x, y = np.meshgrid(place, -place)
    rays = np.stack([x, y, -np.ones_like(x)], axis=-1)
    corners = triangle - [0, 0, cameras.distance]            # relative to the camera: ray * depth = corners.T @ share
    share = rays @ np.linalg.inv(corners)
    return share / share.sum(-1, keepdims=True)


@engines
@pytest.mark.parametrize("labels", [(0, 0, 0), (0, 0, 1), (3, 5, 3), (7, 2, 2), (0, 1, 2), (9, 4, 6)])
def test_ids_are_the_largest_share(engine, labels):
    triangle = np.array([[-0.9, -0.8, 0.8], [1.0, -0.5, -1.5], [-0.1, 1.0, 0.3]])
    cameras = front(128)
    _, ids = render(triangle[None], np.array([[0, 1, 2]]), np.array(labels), cameras, engine=engine)
    share = barycentric(triangle, cameras)
    kinds = np.unique(labels)
    score = np.stack([share[..., np.array(labels) == kind].sum(-1) for kind in kinds], axis=-1)
    expected = np.where((share > 0).all(-1), kinds[score.argmax(-1)], -1)
    ordered = np.sort(score, axis=-1)
    clear = (np.abs(share).min(-1) > 0.01) & ((len(kinds) == 1) | (ordered[..., -1] - ordered[..., -2:][..., 0] > 0.01))
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(ids[0, 0][clear], expected[clear])
    assert set(np.unique(ids)) == {-1, *labels}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_engines_agree_on_any_triangles(seed):
    generator = np.random.default_rng(seed)
    vertices = generator.uniform(-0.5, 0.5, (1, 18, 3))
    faces, labels = generator.permutation(18).reshape(6, 3), generator.integers(0, 4, 18)
    cameras = fit_cameras(vertices, generator.uniform(0, 360, 2), generator.uniform(-60, 60, 2), 96)
    (rgb, ids), (rays, other) = (render(vertices, faces, labels, cameras, engine=engine) for engine in ENGINES)
    assert agreement(ids, other) > 0.99
    assert np.abs(rgb.astype(int) - rays)[(ids >= 0) | (other >= 0)].mean() < 2


@engines
def test_base_colour_is_factor_times_texture_times_vertex_colour(engine):
    vertices = np.array([[[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]], float)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], float)           # v = 0 is row 0, at the top
    texture = np.full((8, 8, 4), 255, np.uint8)
    texture[:4, :4, :3], texture[4:, 4:, :3] = (200, 100, 50), (0, 0, 0)
    tint = np.tile([1, 0.5, 1, 1.0], (4, 1))
    look = Appearance((Material("a", (0.5, 0.5, 1, 1), texture),), np.zeros(2, int), uv, tint)
    rgb, _ = render(vertices, faces, np.zeros(4, int), front(128, 2.5), look, shading=EVEN, engine=engine)

    def seen(texel):
        linear = np.array([((c / 255 + 0.055) / 1.055) ** 2.4 if c > 10 else 0 for c in texel]) * [0.5, 0.25, 1]
        return 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)

    low, high = (int(64 + side * 0.5 * front(128).focal / 2.5) for side in (-1, 1))      # middles of the quarters
    for row, column, texel in ((low, low, (200, 100, 50)), (high, high, (0, 0, 0)), (low, high, (255, 255, 255))):
        np.testing.assert_allclose(rgb[0, 0, row, column], seen(texel), atol=1)


@engines
def test_texels_under_the_cutoff_are_holes(engine):
    square = [[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]
    vertices = np.array([square + [[-1, -1, -1], [1, -1, -1], [1, 1, -1]]], float)
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6]])              # a square with a hole before a triangle
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0], [0, 0], [0, 0], [0, 0]], float)
    texture = np.full((8, 8, 4), 255, np.uint8)
    texture[2:6, 2:6, 3] = 0
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    for mode, expected in (("OPAQUE", 0), ("MASK", 1), ("BLEND", 1)):
        materials = (Material("a", (1, 1, 1, 1), texture, mode), Material("b", (1, 0, 0, 1)))
        look = Appearance(materials, np.array([0, 0, 1]), uv)
        rgb, ids = render(vertices, faces, labels, front(64, 4), look, shading=EVEN, engine=engine)
        assert (ids[0, 0, 36:40, 30:40] == expected).all() and ids[0, 0, 32, 12] == 0
        assert (rgb[0, 0, 36:40, 30:40] == ((255, 0, 0) if expected else 255)).all()
        assert ids[0, 0, 24, 24] == (-1 if expected else 0)          # through the hole and past the triangle


@engines
def test_edges_are_blended_and_ids_are_not(engine):
    points, faces = box([-0.5] * 3, [0.5] * 3)
    labels = np.repeat([2, 4], 4)                                    # left and right half
    cameras = fit_cameras(points, [33], [27], 96)
    dark = Appearance((Material("black", (0, 0, 0, 1)),), np.zeros(12, int))
    rgb, ids = render(points[None], faces, labels, cameras, dark, engine=engine)
    levels = np.unique(rgb)
    assert set(np.round(levels / 63.75).astype(int)) == {0, 1, 2, 3, 4} and len(levels) == 5
    assert set(np.unique(ids)) == {-1, 2, 4}
    assert (ids[rgb[..., 0] == 0] >= 0).all() and (ids[rgb[..., 0] == 255] == -1).all()


@engines
def test_light_reaches_every_side_and_backs_of_sheets(engine):
    points, faces = box([-0.5] * 3, [0.5] * 3)
    cameras = fit_cameras(points, np.arange(8) * 45, [-80, -40, 0, 40, 80, 10, -10, 30], 48)
    rgb, ids = render(points[None], faces, np.zeros(8, int), cameras, engine=engine)
    assert rgb[ids >= 0].min() > 60
    single = Appearance((Material(double_sided=False),), np.zeros(2, int))
    _, sheet = render(points[None], faces[:2], np.zeros(8, int), cameras, single, engine=engine)
    assert ((sheet >= 0).sum((0, 2, 3)) > 0).all()


def test_a_light_shines_from_its_direction():
    points, faces = box([-0.5] * 3, [0.5] * 3)
    cameras = fit_cameras(points, [0, 90, 180, 270], [0] * 4, 32)
    rgb, _ = render(np.repeat(points[faces].reshape(1, -1, 3), 1, 0), np.arange(36).reshape(12, 3), np.zeros(36, int),
                    cameras, shading=Shading((Light((1, 0, 0), 1.0),), 0.0))
    middle = rgb[0, :, 16, 16, 0].astype(int)
    assert middle[1] > middle[0] + 50 > middle[3] + 100 and abs(middle[0] - middle[2]) <= 1


def test_closed_pieces_are_told_from_sheets():
    one, faces = box([0] * 3, [1] * 3)
    two = np.vstack([one, one + 3])
    both = np.vstack([faces, faces[:-1] + 8])                        # the second lacks a triangle
    np.testing.assert_array_equal(closed(two, both), np.repeat([True, False], [12, 11]))
    split = two[both].reshape(-1, 3)                                 # every face with vertices of its own
    np.testing.assert_array_equal(closed(split, np.arange(69).reshape(-1, 3)), np.repeat([True, False], [12, 11]))


def test_seams_are_smooth_and_edges_are_not():
    flat = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0.05],
                     [1, 1, 0], [1, 0, 0], [1, 0, -1]])
    shared = smoothing(flat, np.arange(9).reshape(3, 3)).toarray()
    assert shared[0].tolist() == shared[3].tolist() == [1, 1, 0]     # 3 degrees: a seam
    assert shared[6].tolist() == [0, 0, 1] and shared[2].tolist() == [1, 1, 0]      # 90 degrees: an edge


@engines
def test_the_same_call_gives_the_same_bytes(engine):
    rig = quadruped(1, vertices=1000)
    first, again = (make_clip(rig, "walk", [0, 0.3], [0, 100], 20, 64, engine=engine) for _ in range(2))
    assert first.rgb.tobytes() == again.rgb.tobytes() and first.parts.tobytes() == again.parts.tobytes()


def test_long_clips_and_large_images_are_drawn_in_pieces(monkeypatch):
    rig = arm()
    whole = make_clip(rig, "wave", np.linspace(0, 1, 5), [0, 50, 100], 10, 48)
    monkeypatch.setattr("sp4dlib.clips.engines.CHUNK", 2)
    monkeypatch.setattr("sp4dlib.clips.gl.BATCH_PIXELS", 2 * 48**2)
    pieces = make_clip(rig, "wave", np.linspace(0, 1, 5), [0, 50, 100], 10, 48)
    assert np.abs(whole.rgb.astype(int) - pieces.rgb).max() <= 1     # where in a target a picture lies rounds a shade
    np.testing.assert_array_equal(whole.parts, pieces.parts)


def test_visible_points_project_to_pixels_of_their_part():
    rig = quadruped(2, vertices=1500)
    clip = make_clip(rig, "walk", [0.2], [30, 250], 15, 256, engine="gl")
    parts, posed = kinematic_parts(rig), rig.pose("walk", [0.2])[0]
    generator = np.random.default_rng(0)
    face = generator.integers(0, len(rig.faces), 20000)
    share = generator.dirichlet(np.ones(3), len(face))
    points = np.einsum("pk,pkc->pc", share, posed[rig.faces[face]])
    score = np.zeros((len(face), len(parts)))
    np.add.at(score, (np.arange(len(face))[:, None], parts.labels[rig.faces[face]]), share)
    tracer = trimesh.Trimesh(posed, rig.faces, process=False).ray
    for view in range(2):
        eye = clip.cameras.position(view)
        visible = tracer.intersects_first(np.tile(eye, (len(points), 1)), points - eye) == face
        column, row = np.floor(clip.cameras.project(points, view)[0]).astype(int).T
        ids = clip.parts[0, view]
        inner = np.all([np.roll(ids, (i, j), (0, 1)) == ids for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
        assert (ids[row, column] >= 0)[visible].mean() > 0.9         # the rest lies on the outline
        chosen = visible & inner[row, column]
        assert chosen.sum() > 3000
        assert (ids[row, column] == score.argmax(1))[chosen].mean() >= 0.995


@pytest.mark.parametrize(("change", "message"), [
    ({"vertices": np.full((1, 3, 3), np.nan)}, "NaN"), ({"vertices": np.zeros((3, 3))}, r"\(T, N, 3\)"),
    ({"faces": np.array([[0, 1, 3]])}, "outside"), ({"faces": np.zeros((0, 3), int)}, "no faces"),
    ({"faces": np.array([[0.0, 1, 2]])}, "integers"), ({"labels": np.array([0, 1])}, "one integer"),
    ({"labels": np.array([0, 1, 40000])}, "32766"), ({"labels": np.array([0, -1, 0])}, "32766"),
    ({"engine": "cycles"}, "engine"), ({"cameras": front(0)}, "1 to"), ({"cameras": front(10**5)}, "1 to"),
    ({"appearance": Appearance((Material(),), np.array([1]))}, "face_material"),
    ({"appearance": Appearance((Material(),), np.array([0]), uv=np.zeros((2, 2)))}, "uv")])
def test_bad_input_is_refused(change, message):
    arguments = {"vertices": np.eye(3)[None], "faces": np.array([[0, 1, 2]]), "labels": np.zeros(3, int),
                 "cameras": front(8)} | change
    with pytest.raises(ValueError, match=message):
        render(**arguments)


def test_the_environment_chooses_the_engine(monkeypatch):
    monkeypatch.setenv("SP4D_RENDERER", "vulkan")
    with pytest.raises(ValueError, match="SP4D_RENDERER"):
        make_clip(arm(), "wave", [0], [0], size=16)
    monkeypatch.setenv("SP4D_RENDERER", "embree")
    clip = make_clip(arm(), "wave", [0], [0], size=16)
    np.testing.assert_array_equal(clip.rgb, make_clip(arm(), "wave", [0], [0], size=16, engine="embree").rgb)


def test_without_opengl_embree_draws_and_says_so_once():
    script = ("import logging, sys; logging.basicConfig(); sys.path.insert(0, sys.argv[1])\n"
              "from clips_rigs import arm; from sp4dlib.clips import make_clip\n"
              "for _ in range(2): print((make_clip(arm(), 'wave', [0], [0], size=16).parts >= 0).sum())\n"
              "make_clip(arm(), 'wave', [0], [0], size=16, engine='gl')")
    here = Path(__file__).parent
    environment = os.environ | {"GLCONTEXT_LINUX_LIBEGL": "libabsent.so", "PYTHONPATH": str(here.parent)}
    environment.pop("SP4D_RENDERER", None)
    done = subprocess.run([sys.executable, "-c", script, str(here)], env=environment, capture_output=True, text=True,
                          timeout=100)
    drawn = done.stdout.split()
    assert len(drawn) == 2 and drawn[0] == drawn[1] != "0"
    assert done.stderr.count("drawing with embree") == 1
    assert "NoOpenGL: cannot make an OpenGL context" in done.stderr and "libegl1" in done.stderr


def test_a_forked_process_does_not_wait_for_a_context_it_cannot_have(monkeypatch):
    from sp4dlib.clips import gl

    make_clip(arm(), "wave", [0], [0], size=16, engine="gl")
    monkeypatch.setattr(gl, "_owner", 1)                             # as a child sees it: another process made one
    with pytest.raises(NoOpenGL, match="spawn"):
        make_clip(arm(), "wave", [0], [0], size=16, engine="gl")
    assert (make_clip(arm(), "wave", [0], [0], size=16).parts >= 0).any()


def test_threads_draw_with_contexts_of_their_own():
    expected = make_clip(arm(), "wave", [0], [0, 60], size=32, engine="gl")
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(make_clip, arm(), "wave", [0], [0, 60], size=32, engine="gl") for _ in range(6)]
        for job in jobs:
            np.testing.assert_array_equal(job.result().rgb, expected.rgb)
            np.testing.assert_array_equal(job.result().parts, expected.parts)


def test_part_borders_leave_no_trace_in_colour():
    rig = quadruped(0, vertices=1000)
    posed, cameras = rig.pose("walk", [0.1]), fit_cameras(rig.vertices, [40], [10], 96)
    labels = np.random.default_rng(0).integers(0, 50, len(rig.vertices))
    one, _ = render(posed, rig.faces, labels, cameras, rig.appearance)
    two, _ = render(posed, rig.faces, np.zeros_like(labels), cameras, rig.appearance)
    np.testing.assert_array_equal(one, two)


def test_vertices_may_have_several_materials():
    points, faces = box([-0.5] * 3, [0.5] * 3)
    colors = [(1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 1)]
    look = Appearance(tuple(Material(str(k), c) for k, c in enumerate(colors)), np.repeat([0, 1, 2], 4))
    cameras = fit_cameras(points, [45], [30], 64)
    (rgb, _), (rays, _) = (render(points[None], faces, np.zeros(8, int), cameras, look, shading=EVEN, engine=engine)
                           for engine in ENGINES)
    pure = {tuple(pixel) for pixel in rgb[0, 0].reshape(-1, 3)}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255)} & pure and np.abs(rgb.astype(int) - rays).mean() < 0.5
    shifted = replace(look, materials=look.materials[::-1])
    other, _ = render(points[None], faces, np.zeros(8, int), cameras, shifted, shading=EVEN)
    np.testing.assert_array_equal(other, rgb[..., ::-1])


@engines
def test_depth_and_normals_are_those_of_the_surface(engine):
    points, faces = box([-0.5] * 3, [0.5] * 3)
    points, faces = points[faces].reshape(-1, 3), np.arange(36).reshape(12, 3)          # flat sides
    cameras = fit_cameras(points, [0, 200], [25, -40], 64)
    depth, normals = render_surface(points[None], faces, cameras, engine=engine)
    _, ids = render(points[None], faces, np.zeros(36, int), cameras, engine=engine)
    np.testing.assert_array_equal(np.isfinite(depth), ids >= 0)
    for view in range(2):
        row, column = np.nonzero(ids[0, view] >= 0)
        far = depth[0, view, row, column]
        x, y = (column + 0.5 - 32) / cameras.focal * far, (32 - row - 0.5) / cameras.focal * far
        camera = np.stack([x, y, cameras.distance - far], axis=1)
        clip = camera @ cameras.rotation(view)                                          # back in the unit cube
        np.testing.assert_allclose(np.abs(clip).max(1), 0.5, atol=1e-3)                 # on a side of the box
        own = normals[0, view, row, column] @ cameras.rotation(view)
        np.testing.assert_allclose((own * clip).sum(1), 0.5, atol=2e-3)                 # and looking out of it
        assert (normals[0, view][ids[0, view] < 0] == 0).all()


@engines
def test_flat_shading_gives_a_triangle_one_shade(engine):
    rig = quadruped(0, vertices=1000)
    posed, cameras = rig.pose("walk", [0.1]), fit_cameras(rig.vertices, [40], [10], 512)
    plain = Appearance((Material(double_sided=False),), np.zeros(len(rig.faces), int))
    labels = np.arange(len(rig.faces))
    smooth, flat = (render(posed, rig.faces, np.zeros(len(rig.vertices), int), cameras, plain, engine=engine,
                           shading=Shading(flat=flat))[0] for flat in (False, True))
    own = posed[:, rig.faces.ravel()]
    _, face = render(own, np.arange(own.shape[1]).reshape(-1, 3), np.repeat(labels, 3), cameras, engine=engine)
    around = [np.roll(face, (i, j), (2, 3)) == face for i in (-1, 0, 1) for j in (-1, 0, 1)]
    inner = np.all(around, axis=0) & (face >= 0)
    assert inner.sum() > 2000
    spread = [max(np.ptp(image[inner & (face == k)], axis=0).max() for k in np.unique(face[inner]))
              for image in (flat, smooth)]
    assert spread[0] <= 1 < spread[1]


@engines
@pytest.mark.parametrize(("way", "expected"), [("REPEAT", "red"), ("CLAMP", "blue"), ("MIRROR", "blue")])
def test_textures_go_on_as_their_wrap_says(engine, way, expected):
    vertices = np.array([[[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]], float)
    uv = np.array([[0, 0.5], [2, 0.5], [2, 0.5], [0, 0.5]])                     # the right half lies beyond u = 1
    texture = np.zeros((4, 8, 4), np.uint8)
    texture[:, :4, 0], texture[:, 4:, 2], texture[..., 3] = 255, 255, 255       # red, then blue
    look = Appearance((Material("a", (1, 1, 1, 1), texture, wrap=(way, "CLAMP")),), np.zeros(2, int), uv)
    rgb, _ = render(vertices, np.array([[0, 1, 2], [0, 2, 3]]), np.zeros(4, int), front(64, 4), look, shading=EVEN,
                    engine=engine)
    just_beyond = rgb[0, 0, 32, 32 + 5]                                         # u is about 1.2
    assert just_beyond.argmax() == {"red": 0, "blue": 2}[expected] and just_beyond.max() > 250
    assert rgb[0, 0, 32, 50].argmax() == {"REPEAT": 2, "CLAMP": 2, "MIRROR": 0}[way]    # u is about 1.8
