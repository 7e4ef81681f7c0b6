"""Properties that hold however a mesh is cut up, doubled, buried or turned."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from lifting_meshes import joined, tube

from sp4dlib.lifting import bone_weights
from sp4dlib.lifting.band import band, extent
from sp4dlib.lifting.buried import fitted
from sp4dlib.lifting.heat import _outward, _visible, bone_heat
from sp4dlib.lifting.surface import part_borders, weld
from sp4dlib.lifting.winding import turned_alike
from sp4dlib.rigs import Mesh, Skeleton


def ball(center=(0, 0, 0), radius=1.0, subdivisions=3) -> Mesh:
    made = trimesh.creation.icosphere(subdivisions, radius)
    return Mesh(made.vertices + np.asarray(center), made.faces)


def chain(points) -> Skeleton:
    bind = np.tile(np.eye(4), (len(points), 1, 1))
    bind[:, :3, 3] = points
    names = tuple(f"joint{i}" for i in range(len(points) - 1)) + ("tip_end",)
    return Skeleton(np.arange(len(points)) - 1, names, bind)


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


def test_faces_are_turned_alike_patch_by_patch():
    mesh = joined(ball(), ball((5, 0, 0)))
    generator = np.random.default_rng(3)
    turned = generator.random(len(mesh.faces)) < 0.4
    broken = Mesh(mesh.vertices, np.where(turned[:, None], mesh.faces[:, ::-1], mesh.faces))
    surface = weld(broken)
    faces = turned_alike(surface)
    np.testing.assert_array_equal(np.sort(faces, axis=1), np.sort(surface.faces, axis=1))
    a, b, c = np.moveaxis(surface.vertices[faces], 1, 0)
    middle = (a + b + c) / 3
    outward = np.sum(np.cross(b - a, c - a) * (middle - np.where(middle[:, :1] > 2.5, [5, 0, 0], 0)), axis=1) > 0
    for patch in (middle[:, 0] < 2.5, middle[:, 0] > 2.5):
        assert outward[patch].all() or not outward[patch].any()
    whole = weld(mesh)
    assert turned_alike(whole) is whole.faces


def test_turned_faces_change_no_weights():
    mesh = ball()
    skeleton = chain([[-0.9, 0, 0], [0, 0, 0], [0.9, 0, 0]])
    turned = np.random.default_rng(1).random(len(mesh.faces)) < 0.3
    broken = Mesh(mesh.vertices, np.where(turned[:, None], mesh.faces[:, ::-1], mesh.faces))
    np.testing.assert_allclose(bone_weights(broken, skeleton), bone_weights(mesh, skeleton), atol=0.03)


def test_bones_that_are_equally_near_share_the_skin():
    # All of the upper half is nearest to the joint in the middle, where both bones end.
    skeleton = chain([[-0.5, 0, -1], [0, 0, 0], [0.5, 0, -1]])
    mesh = ball((0, 0, 0.2), 0.1)
    heat = bone_heat(weld(mesh), skeleton)
    np.testing.assert_allclose(heat[:, :2], 0.5, atol=1e-6)


def test_a_stout_body_keeps_its_skin_from_a_thin_limb_beside_it():
    # The limb's bone is 0.115 from the skin that faces it, the body's own 0.3.
    body, limb = tube(60, 24), tube(60, 24, radius=0.05)
    mesh = joined(body, Mesh(limb.vertices + [0, 0.415, 0], limb.faces))
    bind = np.tile(np.eye(4), (4, 1, 1))
    bind[:, :3, 3] = [[0, 0, 0], [3, 0, 0], [0, 0.415, 0], [3, 0.415, 0]]
    skeleton = Skeleton([-1, 0, 0, 2], ("body", "body_end", "limb", "limb_end"), bind)
    surface = weld(mesh)
    heat = bone_heat(surface, skeleton)[surface.index]
    of_body = np.arange(len(mesh.vertices)) < len(body.vertices)
    np.testing.assert_allclose(heat[of_body, 2], 0, atol=1e-9)
    middle = np.abs(mesh.vertices[:, 0] - 1.5) < 1.2                    # the bone that joins the two is at one end
    assert heat[~of_body & middle, 2].min() > 0.5


def test_only_skin_that_the_way_enters_hides_a_bone():
    def sees(mesh, point):
        surface = weld(mesh)
        foot = np.tile(np.float64(point), (len(surface.vertices), 1))
        faces = _outward(surface, foot[:, None], np.zeros(len(foot), int))
        return surface.vertices, _visible(surface, faces, foot)

    head, eye = ball(), ball((1.1, 0, 0), 0.3)                          # a third of the eye is sunk into the head
    turned = [Mesh(m.vertices, m.faces[:, ::-1]) for m in (head, eye)]
    for mesh in (joined(head, eye), joined(turned[0], eye), joined(head, turned[1])):
        points, seen = sees(mesh, [0, 0, 0])
        away = np.linalg.norm(points, axis=1)
        of_eye = np.linalg.norm(points - [1.1, 0, 0], axis=1) < 0.301
        assert (of_eye & (away < 0.97)).sum() > 50
        assert seen[~of_eye | (away < 0.97)].all()                      # the eye's own near side hides nothing
        assert not seen[of_eye & (away > 1.15)].any()                   # the head's skin does
    points, seen = sees(joined(head, ball((3, 0, 0))), [3, 0, 0])
    assert not seen[points[:, 0] < 1.5].any() and seen[points[:, 0] > 1.5].all()


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
