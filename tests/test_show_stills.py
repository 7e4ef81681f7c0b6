"""Still pictures: what is drawn where, and Polyscope behind its guard."""

import numpy as np
import pytest

from sp4dlib import show
from sp4dlib.rigs import Mesh, Skeleton

QUAD = Mesh(np.array([[-1.0, -1, 0], [0, -1, 0], [1, -1, 0], [-1, 1, 0], [0, 1, 0], [1, 1, 0]]),
            np.array([[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4]]))
SIDES = np.array([0, 0, 1, 0, 0, 1])
FRONT = dict(azimuth=0, elevation=0, size=64)


def bone(*places):
    bind = np.tile(np.eye(4), (len(places), 1, 1))
    bind[:, :3, 3] = places
    return Skeleton(np.arange(-1, len(places) - 1), tuple(f"j{i}" for i in range(len(places))), bind)


def hue(color):
    return np.asarray(color, float) / np.asarray(color, float).max()


def test_parts_have_the_hues_of_the_palette_and_the_rest_is_white():
    image = show.still(QUAD, SIDES, **FRONT)
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    assert (image[0] == 255).all()
    for column, part in ((14, 0), (56, 1)):
        np.testing.assert_allclose(hue(image[32, column]), hue(show.id_colors(2)[part]), atol=0.02)


def test_values_go_from_the_dark_end_of_the_map_to_the_bright_one():
    image = show.still(QUAD, values=[0, 0, 1, 0, 0, 1], **FRONT)
    blue, yellow = image[32, 10].astype(int), image[32, 58].astype(int)
    assert blue[2] > blue[0] and yellow[0] > yellow[2]


def test_a_skeleton_pales_the_mesh_and_marked_bones_are_red():
    plain = show.still(QUAD, SIDES, **FRONT)
    skeleton = bone((-0.8, 0, 0), (0, 0, 0), (0.8, 0, 0))
    image = show.still(QUAD, SIDES, skeleton=skeleton, marked=[2], **FRONT)
    assert image[12, 14].sum() > plain[12, 14].sum()
    assert image[32, 22].max() < 60
    red = image[32, 44].astype(int)
    assert red[0] > 150 and red[1:].max() < 60


def test_a_still_of_labels_and_values_is_refused():
    with pytest.raises(ValueError, match="not both"):
        show.still(QUAD, SIDES, values=np.zeros(6))


@pytest.mark.skipif("not __import__('sp4dlib').show.polyscope_works()")
def test_polyscope_draws_parts_weights_and_a_skeleton():
    skeleton = bone((-0.8, 0, 0), (0.8, 0, 0))
    parts = show.polyscope_shot(QUAD.vertices, QUAD.faces, SIDES, size=(120, 80))
    weights = show.polyscope_shot(QUAD.vertices, QUAD.faces, values=SIDES * 1.0, size=(120, 80))
    inside = show.polyscope_shot(QUAD.vertices, QUAD.faces, SIDES, skeleton=skeleton, size=(120, 80))
    assert parts.shape == (80, 120, 3) and parts.dtype == np.uint8
    for first, second in ((parts, weights), (parts, inside)):
        assert (first != second).any()
