"""Visual hull and painting: known bodies come back."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from sp4dlib import rigs
from sp4dlib.clips import fit_cameras, render
from sp4dlib.lifting import mesh_from_image, paint, visual_hull
from sp4dlib.rigs import Appearance, Material, Mesh

AZIMUTHS = np.arange(12) * 30.0
ELEVATIONS = np.tile([0.0, 35.0, -35.0], 4)


def views(mesh, size=96, azimuths=AZIMUTHS, elevations=ELEVATIONS, appearance=None):
    cameras = fit_cameras(mesh.vertices, azimuths, elevations, size)
    none = np.zeros(len(mesh.vertices), int)
    rgb, ids = render(np.asarray(mesh.vertices)[None], np.asarray(mesh.faces), none, cameras, appearance)
    return rgb[0], ids[0] >= 0, cameras


def lookup(mask, pixels):
    from scipy.ndimage import binary_dilation

    column, row = np.clip(np.floor(pixels).astype(int), 0, len(mask) - 1).T
    return binary_dilation(mask)[row, column]


@pytest.fixture(scope="module")
def ball():
    return trimesh.creation.icosphere(3, 0.7).apply_translation([3.0, 1.0, -2.0])


def test_ball(ball):
    _, masks, cameras = views(ball)
    hull = visual_hull(masks, cameras, resolution=40)
    radii = np.linalg.norm(hull.vertices - [3.0, 1.0, -2.0], axis=1)
    assert abs(radii.mean() - 0.7) < 0.02 and radii.min() > 0.65 and radii.max() < 0.8
    solid = trimesh.Trimesh(hull.vertices, hull.faces)
    assert solid.is_watertight and solid.volume > 0


def test_a_hull_holds_the_body():
    """The hull lies close to the body (but for hollows), within its silhouettes, and has its outlines."""
    rig = rigs.quadruped()
    _, masks, cameras = views(rig.strip(), 128)
    hull = visual_hull(masks, cameras, resolution=64, faces=None)
    to_hull = cKDTree(hull.vertices).query(rig.vertices)[0]
    inside = [lookup(masks[v], cameras.project(hull.vertices, v)[0]).mean() for v in range(12)]
    assert to_hull.max() < 0.1 * rig.size and np.median(to_hull) < 1.5 * rig.size / 64
    assert min(inside) > 0.97, "every silhouette covers the hull but for a pixel at its edge"
    _, ids = render(hull.vertices[None], hull.faces, np.zeros(len(hull.vertices), int), cameras)
    both, either = (ids[0] >= 0) & masks, (ids[0] >= 0) | masks
    assert (both.sum((1, 2)) / either.sum((1, 2))).min() > 0.85


@given(st.integers(0, 11), st.integers(0, 2**31))
@settings(max_examples=5, deadline=None)
def test_tolerance_survives_a_bad_view(view, seed):
    """One view that shows next to nothing destroys the hull; with tolerance 1 it does no harm."""
    ball = trimesh.creation.icosphere(2, 0.5)
    _, masks, cameras = views(ball, 48)
    row, column = np.random.default_rng(seed).integers(20, 28, 2)
    masks[view] = False
    masks[view, row, column] = True
    kept = visual_hull(masks, cameras, resolution=32, tolerance=1)
    assert abs(np.ptp(kept.vertices, axis=0) - 1.0).max() < 0.15
    try:
        cut = np.ptp(visual_hull(masks, cameras, resolution=32).vertices, axis=0)
    except ValueError as error:
        assert "tolerance" in str(error)
    else:
        assert cut.min() < 0.3


def test_paint_puts_colours_where_they_are_seen(ball):
    """A ball red on the left and blue on the right, from all round; what no view sees takes the nearest colour."""
    colors = np.where((ball.vertices[:, :1] > 3.0), [[0.0, 0.0, 1.0, 1.0]], [[1.0, 0.0, 0.0, 1.0]])
    appearance = Appearance((Material("m", (1.0,) * 4),), np.zeros(len(ball.faces), int), None, colors)
    rgb, _, cameras = views(ball, appearance=appearance)
    found = paint(Mesh(ball.vertices, ball.faces), rgb, cameras).appearance.vertex_colors
    clear = np.abs(ball.vertices[:, 0] - 3.0) > 0.15
    assert ((found[:, 2] > found[:, 0]) == (colors[:, 2] > 0))[clear].all()
    front = paint(Mesh(ball.vertices, ball.faces), rgb[:1], fit_cameras(ball.vertices, [0.0], [0.0], 96))
    found = front.appearance.vertex_colors
    assert ((found[:, 2] > found[:, 0]) == (colors[:, 2] > 0))[clear].mean() > 0.97


def test_errors(ball):
    _, masks, cameras = views(ball, 32)
    for bad, options, words in ((masks[:3], {}, "12 views"), (masks[..., :-1], {}, "square"),
                                (masks & (np.arange(12) != 4)[:, None, None], {}, "view 4"),
                                (masks, {"resolution": 2}, "resolution"), (masks, {"tolerance": 12}, "tolerance")):
        with pytest.raises(ValueError, match=words):
            visual_hull(bad, cameras, **options)
    with pytest.raises(ValueError, match="uint8"):
        paint(ball, np.zeros((12, 32, 32, 3)), cameras)
    with pytest.raises(ValueError, match="no picture sees"):
        paint(ball, np.full((12, 32, 32, 3), 255, np.uint8), cameras)


def test_a_generator_of_ones_own(ball):
    made = mesh_from_image("picture", lambda image: ball if image == "picture" else None)
    assert np.array_equal(made.faces, ball.faces)
    with pytest.raises(ImportError, match="visual_hull"):
        mesh_from_image("picture")
    with pytest.raises(ValueError, match="no mesh"):
        mesh_from_image("picture", lambda image: Mesh(np.zeros((0, 3)), np.zeros((0, 3), int)))
