"""Properties that hold however a mesh is cut up, doubled, buried or turned."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from lifting_meshes import ball, joined

from sp4dlib.lifting.band import band, extent
from sp4dlib.lifting.buried import fitted
from sp4dlib.lifting.surface import part_borders, weld
from sp4dlib.rigs import Mesh


def test_extent_is_the_root_of_a_convex_area_and_what_is_within_adds_nothing():
    sphere, box = ball(), trimesh.creation.box((1, 2, 0.5)).subdivide().subdivide()
    assert extent(weld(sphere)) == pytest.approx(np.sqrt(4 * np.pi), rel=0.05)
    assert extent(weld(box)) == pytest.approx(np.sqrt(7.0), rel=0.08)
    nested = joined(sphere, ball(radius=0.9), ball(radius=0.5))
    assert weld(nested).face_areas.sum() > 2 * weld(sphere).face_areas.sum()
    assert extent(weld(nested)) == pytest.approx(extent(weld(sphere)), rel=0.05)


def test_the_band_fits_on_the_buried_end_of_a_shell():
    arm = trimesh.creation.capsule(2.0, 0.5, count=[24, 24])
    arm = trimesh.Trimesh(*trimesh.remesh.subdivide_to_size(arm.vertices, arm.faces, 0.2))
    arm.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [0, 1, 0]))
    arm.apply_translation([1 - arm.bounds[:, 0].mean(), 0, 0])          # from x = 0 to 2, its caps beyond
    other = arm.copy()
    other.apply_transform(np.diag([1, 1.2, 1.2, 1]))                    # stouter, so that nothing coincides
    other.apply_translation([2.0, 0, 0])
    mesh = joined(Mesh(arm.vertices, arm.faces), Mesh(other.vertices, other.faces))
    labels = (mesh.vertices[:, 0] > 2).astype(int)
    surface = weld(mesh)
    welded = surface.gather(labels)
    borders = part_borders(surface, welded)
    around = band(surface, welded, borders, np.full(len(borders), 0.5), 1.6)
    fit = fitted(surface, welded, around, 1.6)
    first = np.zeros(len(welded), bool)
    first[surface.index[:len(arm.vertices)]] = True
    buried = first & (welded == 1)
    assert around.relative[buried].max() < 1.6
    assert fit.relative[buried].max() == pytest.approx(1.6)
    np.testing.assert_allclose(fit.relative[buried] * fit.half[buried], around.relative[buried] * around.half[buried])
    np.testing.assert_array_equal(fit.relative[first & (welded == 0)], around.relative[first & (welded == 0)])
    alone = weld(Mesh(arm.vertices, arm.faces))                         # the same end in sight
    welded = alone.gather(labels[:len(arm.vertices)])
    borders = part_borders(alone, welded)
    around = band(alone, welded, borders, np.full(len(borders), 0.5), 1.6)
    assert fitted(alone, welded, around, 1.6) is around


def test_welding_keeps_what_is_near_apart_from_what_is_one():
    generator = np.random.default_rng(0)
    points = generator.random((2000, 3))
    copies = generator.integers(0, 2000, 500)
    vertices = np.concatenate([points, points[copies] + generator.uniform(-2e-7, 2e-7, (500, 3))])
    faces = generator.integers(0, 2500, (3000, 3))
    surface = weld(Mesh(vertices, faces))
    assert len(surface.vertices) == 2000
    np.testing.assert_array_equal(surface.index[2000:], surface.index[copies])
    np.testing.assert_allclose(surface.vertices[surface.index], vertices, atol=1e-6)
    assert np.all(np.diff(surface.vertices[:, 0]) >= 0)
