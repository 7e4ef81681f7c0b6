"""Weights from bones alone: heat, what it sees, and where it departs from Blender's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from lifting_meshes import animal, ball, chain, joined, tube

from sp4dlib.lifting import bone_weights
from sp4dlib.lifting.attached import cloth, moved_along
from sp4dlib.lifting.harmonic import fade
from sp4dlib.lifting.heat import bone_heat, bones
from sp4dlib.lifting.linear import cotangent_laplacian
from sp4dlib.lifting.sight import goes_round, holds, sees
from sp4dlib.lifting.surface import weld
from sp4dlib.lifting.winding import turned_alike, turned_outward
from sp4dlib.rigs import Mesh, Skeleton

DATA = Path(__file__).parent / "data"
ARM = ([0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0])


def tree(parents, points, names) -> Skeleton:
    bind = np.tile(np.eye(4), (len(points), 1, 1))
    bind[:, :3, 3] = points
    return Skeleton(parents, names, bind)


def turned(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces[:, ::-1])


def moved(mesh: Mesh, by) -> Mesh:
    return Mesh(mesh.vertices + np.asarray(by), mesh.faces)


def assert_weights(weights, shape):
    assert weights.shape == shape and np.isfinite(weights).all() and weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-9)


def test_weights_follow_the_nearest_bone():
    rings, sides = 90, 16
    mesh = tube(rings, sides)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).volume > 0
    skeleton = chain(ARM, ("a", "b", "c", "c_end"))
    weights = bone_weights(mesh, skeleton)
    assert_weights(weights, (len(mesh.vertices), 4))
    assert np.all(weights[:, 3] == 0)                               # end joints have no bone
    x = mesh.vertices[:, 0]
    away = np.abs(x[:, None] - [1, 2]).min(1) > 0.05
    np.testing.assert_array_equal(weights.argmax(1)[away], np.floor(np.clip(x, 0, 2.99))[away])
    np.testing.assert_allclose(bone_weights(turned(mesh), skeleton), weights, atol=1e-9)
    profile = weights[:rings * sides, 1].reshape(rings, sides).mean(1)
    middle = np.searchsorted(np.linspace(0, 3, rings), 1.5)
    assert np.all(np.diff(profile[:middle]) >= -1e-6) and np.all(np.diff(profile[middle:]) <= 1e-6)
    with pytest.raises(ValueError, match="strength"):
        bone_weights(mesh, skeleton, strength=0)


def test_heat_is_as_blenders_on_a_closed_body():
    # What bpy 4.2.0's ARMATURE_AUTO gave for the library's quadruped, by benchmarks/rigging_anchor_child.py.
    with np.load(DATA / "blender_heat.npz") as kept:
        surface = weld(Mesh(kept["vertices"].astype(float), kept["faces"].astype(int)))
        skeleton = tree(kept["parents"].astype(int), kept["joints"], tuple(map(str, kept["names"])))
        blender = kept["weights"].astype(float)
    difference = np.abs(fade(bone_heat(surface, skeleton))[surface.index] - blender).sum(1)
    assert difference.mean() < 0.03 and np.quantile(difference, 0.9) < 0.05


def test_weights_of_an_animal():
    rig = animal()
    error = np.abs(bone_weights(rig, rig.skeleton) - rig.weights).sum(1).mean()
    assert error < 0.32


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.integers(0, 2**31))
def test_size_and_place_change_no_weights(scale, seed):
    turn = trimesh.transformations.random_rotation_matrix(np.random.default_rng(seed).random(3))[:3, :3] * scale
    mesh, points = joined(tube(20, 8), moved(tube(6, 5, 0.2, 0.05), [1.2, 0.5, 0])), np.array(ARM)
    there = bone_weights(Mesh(mesh.vertices @ turn.T + 3 * scale, mesh.faces), chain(points @ turn.T + 3 * scale))
    np.testing.assert_allclose(there, bone_weights(mesh, chain(points)), atol=1e-3)


def test_a_leaf_without_end_joint_and_one_joint():
    mesh = tube(30, 8)
    leaf = bone_weights(mesh, chain([[0, 0, 0], [2, 0, 0]], ("a", "b")))
    assert leaf[mesh.vertices[:, 0] > 2.3, 1].min() > 0.9
    np.testing.assert_array_equal(bone_weights(mesh, chain([[1.0, 0, 0]], ("only",))), np.ones((len(mesh.vertices), 1)))


def test_a_joint_on_its_only_child_has_no_bone():
    mesh = tube(30, 8)
    skeleton = chain([[0, 0, 0], [1, 0, 0], [1, 0, 0], [3, 0, 0]], ("a", "helper", "b", "b_end"))
    weights = bone_weights(mesh, skeleton)
    assert np.all(weights[:, [1, 3]] == 0)
    straight = bone_weights(mesh, chain([[0, 0, 0], [1, 0, 0], [3, 0, 0]], ("a", "b", "b_end")))
    np.testing.assert_allclose(weights[:, [0, 2]], straight[:, :2], atol=1e-9)
    at_one_place = bone_weights(mesh, chain(np.ones((3, 3)), ("a", "b", "c")))
    np.testing.assert_array_equal(at_one_place, np.eye(3)[np.zeros(len(mesh.vertices), int)])


def test_the_socket_of_a_lever_is_the_roots():
    socket, lever = ball((0, 0, 0), 1.0), moved(tube(20, 8, 2.0, 0.1), [1.1, 0, 0])
    skeleton = chain([[0, 0, 0], [0, 0, 0], [0.1, 0, 0]], ("base", "lever", "lever_end"))
    weights = bone_weights(joined(socket, lever), skeleton)
    np.testing.assert_array_equal(weights[:, 0], np.arange(len(weights)) < len(socket.vertices))
    assert np.all(bone_weights(socket, skeleton)[:, 1] == 1)        # no lever beside it: the only bone
    owners, starts, stops = bones(skeleton)
    assert owners.tolist() == [0, 1] and np.all(starts[0] == stops[0])


def test_every_shell_gets_weights():
    body, inner = tube(40, 12), tube(10, 6, length=0.2, radius=0.05)
    mesh = joined(body, moved(inner, [1.2, 3, 0]))                  # an island that holds no bone
    weights = bone_weights(mesh, chain(ARM))
    assert_weights(weights, (len(mesh.vertices), 4))
    assert np.all(weights[len(body.vertices):].argmax(1) == 1)


def test_a_coat_that_the_body_hides_from_the_bones_is_no_less_sure():
    body, coat = tube(40, 12), moved(tube(40, 12, 2.8, 0.5), [0.1, 0, 0])
    weights = bone_weights(joined(body, coat), chain(ARM))
    np.testing.assert_allclose(weights[len(body.vertices):], bone_weights(coat, chain(ARM)), atol=0.05)


def sleeve(inside=0.3, outside=0.33, rings=60, sides=16) -> Mesh:
    """A tube of thick cloth, open at its ends."""
    count = rings * sides
    wall = np.concatenate([tube(rings, sides, radius=radius).vertices[:count] for radius in (outside, inside)])
    faces = tube(rings, sides).faces
    faces = faces[(faces < count).all(1)]
    a, b = np.arange(sides), (np.arange(sides) + 1) % sides
    last = count - sides
    rims = np.concatenate([np.stack([a, count + a, b], 1), np.stack([b, count + a, count + b], 1),
                           np.stack([last + a, last + b, count + last + a], 1),
                           np.stack([last + b, count + last + b, count + last + a], 1)])
    return Mesh(wall, np.concatenate([faces, faces[:, ::-1] + count, rims]))


def test_both_sides_of_a_sleeve_follow_one_bone():
    mesh = sleeve()
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).is_watertight
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).volume > 0
    skeleton = tree([-1, 0, 1, 2, 0, 4], [*ARM, [0, 1.2, 0], [3, 1.2, 0]],       # and another arm beside it
                    ("a", "b", "c", "c_end", "beside", "beside_end"))
    weights = bone_weights(mesh, skeleton)
    outer, inner = np.split(weights, 2)
    middle = np.abs(mesh.vertices[:len(outer), 0] - 1.6) < 1.2      # the bone that joins the two is at one end
    assert np.abs(outer - inner)[middle].max() < 0.05
    assert inner[middle, 4].max() < 0.01


def test_an_eye_is_no_cloth():
    def woven(mesh, skeleton):
        surface = weld(mesh)
        _, starts, stops = bones(skeleton)
        foot = np.repeat((starts + stops) / 2, len(surface.vertices), axis=0)
        way = surface.vertices - foot
        distance = np.linalg.norm(way, axis=1, keepdims=True)
        normals = trimesh.Trimesh(surface.vertices, surface.faces, process=False).vertex_normals
        return surface, *cloth(surface, distance, foot, np.sum(way / distance * normals, axis=1, keepdims=True))

    surface, is_cloth, inner = woven(joined(ball(), ball((1.1, 0, 0), 0.3)), chain([[0, 0, 0], [0, 0, 0.2]]))
    assert not is_cloth.any() and not inner.any()                   # what looks at the bone does so from one side
    surface, is_cloth, inner = woven(sleeve(), chain([[0, 0, 0], [3, 0, 0]]))
    assert is_cloth.all() and 0.4 < inner.mean() < 0.6


def test_a_shell_that_sees_no_bone_is_not_the_bodys():
    # The barrel is nearer to the hand's bone than to the pistol's in the grip, and the skin of both hides these.
    hand = tube(40, 12)
    grip = moved(Mesh(*_box([0.3, 0.3, 0.3])), [1.5, 0.6, 0])
    barrel = moved(Mesh(*_box([0.6, 0.1, 0.1])), [1.0, 0.6, 0])
    skeleton = tree([-1, 0, 0, 0, 3, 2], [[1.5, 0, 0], [0, 0, 0], [2, 0, 0], [1.5, 0.5, 0], [1.5, 0.7, 0], [3, 0, 0]],
                    ("hand", "hand_end", "finger", "pistol", "pistol_end", "finger_end"))
    weights = bone_weights(joined(hand, grip, barrel), skeleton)
    assert weights[-len(barrel.vertices):, 3].min() > 0.99
    assert weights[:len(hand.vertices), 3].max() < 0.1


def test_a_loose_piece_moves_as_one_with_what_is_near():
    # Two limbs that no shell joins, and a plate beside the second that is nearer to the bone of the first.
    first, second = tube(30, 12), moved(tube(30, 12, 3.0, 0.25), [0, 1.6, 0])
    plate = moved(Mesh(*_box([1.0, 0.05, 0.5])), [1.5, 1.3, 0])
    skeleton = tree([-1, 0, 0, 2], [[0, 0, 0], [3, 0, 0], [0, 1.9, 0], [3, 1.9, 0]],
                    ("first", "first_end", "second", "second_end"))
    weights = bone_weights(joined(first, second, plate), skeleton)[-len(plate.vertices):]
    assert np.ptp(weights, axis=0).max() == 0 and weights.max() == 1
    surface = weld(joined(ball(), ball((3, 0, 0)), ball((1.4, 0, 0), 0.2)))
    of_first = surface.vertices[:, 0] < 1.1
    labels = np.eye(3)[np.where(of_first, 0, 1)]
    adrift = (surface.vertices[:, 0] > 1.1) & (surface.vertices[:, 0] < 1.7)
    out = moved_along(surface, labels, adrift)
    assert np.all(out[adrift, 0] == 1)
    np.testing.assert_array_equal(out[~adrift], labels[~adrift])


def _box(sides):
    made = trimesh.creation.box(sides).subdivide().subdivide()
    return made.vertices, made.faces


def test_pieces_that_overlap_see_the_bones_that_they_hold():
    # Seven closed tubes of one limb each, none a body: their ends lie in each other.
    points = np.array([[x, 0, 0] for x in range(8)], float)
    pieces = [moved(tube(30, 12, 1.6), [x - 0.3, 0, 0]) for x in range(7)]
    mesh = joined(*pieces)
    weights = bone_weights(mesh, chain(points))
    nearest = np.clip(np.floor(mesh.vertices[:, 0]), 0, 6).astype(int)
    away = np.abs(mesh.vertices[:, 0] - np.round(mesh.vertices[:, 0])) > 0.15
    np.testing.assert_array_equal(weights.argmax(1)[away], nearest[away])


def test_a_stout_body_keeps_its_skin_from_a_thin_limb_beside_it():
    # The limb's bone is 0.115 from the skin that faces it, the body's own 0.3.
    body, limb = tube(60, 24), tube(60, 24, radius=0.05)
    mesh = joined(body, moved(limb, [0, 0.415, 0]))
    skeleton = tree([-1, 0, 0, 2], [[0, 0, 0], [3, 0, 0], [0, 0.415, 0], [3, 0.415, 0]],
                    ("body", "body_end", "limb", "limb_end"))
    surface = weld(mesh)
    heat = bone_heat(surface, skeleton)[surface.index]
    of_body = np.arange(len(mesh.vertices)) < len(body.vertices)
    np.testing.assert_allclose(heat[of_body, 2], 0, atol=1e-9)
    middle = np.abs(mesh.vertices[:, 0] - 1.5) < 1.2                    # the bone that joins the two is at one end
    assert heat[~of_body & middle, 2].min() > 0.5


def test_bones_that_are_equally_near_share_the_skin():
    # All of the upper half is nearest to the joint in the middle, where both bones end.
    skeleton = chain([[-0.5, 0, -1], [0, 0, 0], [0.5, 0, -1]])
    heat = bone_heat(weld(ball((0, 0, 0.2), 0.1)), skeleton)
    np.testing.assert_allclose(heat[:, :2], 0.5, atol=1e-6)


def test_faces_are_turned_alike_patch_by_patch():
    mesh = joined(ball(), ball((5, 0, 0)))
    generator = np.random.default_rng(3)
    against = generator.random(len(mesh.faces)) < 0.4
    broken = Mesh(mesh.vertices, np.where(against[:, None], mesh.faces[:, ::-1], mesh.faces))
    surface = weld(broken)

    def outward(faces):
        a, b, c = np.moveaxis(surface.vertices[faces], 1, 0)
        middle = (a + b + c) / 3
        way = middle - np.where(middle[:, :1] > 2.5, [5, 0, 0], 0)
        return middle[:, 0] < 2.5, np.sum(np.cross(b - a, c - a) * way, axis=1) > 0

    faces = turned_alike(surface)
    np.testing.assert_array_equal(np.sort(faces, axis=1), np.sort(surface.faces, axis=1))
    left, out = outward(faces)
    for patch in (left, ~left):
        assert out[patch].all() or not out[patch].any()
    assert outward(turned_outward(surface))[1].all()
    whole = weld(mesh)
    assert turned_alike(whole) is whole.faces and turned_outward(whole) is whole.faces
    outlined = weld(joined(ball(), turned(ball(radius=1.02))))          # a toon outline is meant so
    assert turned_outward(outlined) is outlined.faces
    mistaken = weld(joined(ball((5, 0, 0), 0.3), turned(ball())))
    np.testing.assert_array_equal((turned_outward(mistaken) != mistaken.faces).any(1),
                                  mistaken.vertices[mistaken.faces[:, 0], 0] < 2)
    sheet = weld(Mesh(*_grid()))
    assert turned_outward(sheet) is sheet.faces


def _grid():
    made = trimesh.creation.box([1, 1, 1]).subdivide().subdivide()
    top = made.faces[(made.vertices[made.faces][:, :, 2] > 0.49).all(1)][:, ::-1]
    return made.vertices, top


def test_turned_faces_change_no_weights():
    mesh = ball()
    skeleton = chain([[-0.9, 0, 0], [0, 0, 0], [0.9, 0, 0]])
    against = np.random.default_rng(1).random(len(mesh.faces)) < 0.3
    broken = Mesh(mesh.vertices, np.where(against[:, None], mesh.faces[:, ::-1], mesh.faces))
    np.testing.assert_allclose(bone_weights(broken, skeleton), bone_weights(mesh, skeleton), atol=0.03)


def test_only_skin_that_the_way_enters_hides_a_bone():
    def seen_from(mesh, point):
        surface = weld(mesh)
        everything = np.arange(len(surface.vertices))
        foot = np.tile(np.float64(point), (len(everything), 1))
        return surface, sees(surface, turned_outward(surface), everything, foot), foot

    head, eye = ball(), ball((1.1, 0, 0), 0.3)                          # a third of the eye is sunk into the head
    for mesh in (joined(head, eye), joined(turned(head), eye), joined(turned(head), turned(eye))):
        surface, seen, foot = seen_from(mesh, [0, 0, 0])
        points = surface.vertices
        away = np.linalg.norm(points, axis=1)
        of_eye = np.linalg.norm(points - [1.1, 0, 0], axis=1) < 0.301
        assert (of_eye & (away < 0.97)).sum() > 50
        assert seen[~of_eye | (away < 0.97)].all()                      # the eye's own near side hides nothing
        assert not seen[of_eye & (away > 1.15)].any()                   # the head's skin does
        held = holds(surface, np.arange(len(points)), foot)
        around = goes_round(surface, np.arange(len(points)), foot)
        assert held[~of_eye].all() and not held[of_eye & (away > 1.15)].any()
        assert around[~of_eye].all() and not around[of_eye & (abs(away - 1) > 1e-3)].any()
    surface, seen, _ = seen_from(joined(head, ball((3, 0, 0))), [3, 0, 0])
    assert not seen[surface.vertices[:, 0] < 1.5].any() and seen[surface.vertices[:, 0] > 1.5].all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 1e-9, 1e-3, 1.0]))
def test_the_plain_laplacian_is_positive_whatever_the_triangles(seed, thin):
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(12, 3)) * [1, 1, thin]
    if thin == 0:
        points[:, 1] = 0
    faces = np.array([generator.choice(12, 3, replace=False) for _ in range(30)])
    stiffness, mass = cotangent_laplacian(points, faces)
    values = np.linalg.eigvalsh(stiffness.toarray())
    assert np.isfinite(values).all() and values.min() > -1e-9 * max(values.max(), 1)
    np.testing.assert_allclose(stiffness @ np.ones(12), 0, atol=1e-9 * max(values.max(), 1))
    areas = trimesh.triangles.area(points[faces])
    assert mass.sum() == pytest.approx(areas.sum(), abs=1e-9)


def test_the_plain_laplacian_of_a_right_angled_triangle():
    stiffness, mass = cotangent_laplacian(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
    np.testing.assert_allclose(stiffness.toarray(), [[1, -0.5, -0.5], [-0.5, 0.5, 0], [-0.5, 0, 0.5]], atol=1e-12)
    np.testing.assert_allclose(mass, 1 / 6)
