"""Part maps to vertex labels: accuracy on known rigs, unseen surface, noise, bad input."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifting_meshes import animal, joined, thirds, tube, unwelded

from sp4dlib.clips import fit_cameras, kinematic_parts, make_clip, render
from sp4dlib import coding
from sp4dlib.lifting import label_report, vertex_labels
from sp4dlib.lifting.surface import weld
from sp4dlib.lifting.votes import pixel_votes, split_parts, spread
from sp4dlib.rigs import Mesh
from sp4dlib.rigs import assets as registry


def ring_of(count):
    """Azimuths and elevations of views all round."""
    return np.arange(count) * 360 / count, np.resize([0.0, 30.0, -20.0], count)


def maps(mesh, labels, views, size=256):
    cameras = fit_cameras(mesh.vertices, *ring_of(views), size)
    return render(mesh.vertices[None], mesh.faces, labels, cameras)[1], cameras


@pytest.fixture(scope="module")
def creature():
    rig = animal()
    return rig, kinematic_parts(rig)


@pytest.mark.parametrize("views, seen_right, right", [(12, 0.995, 0.995), (4, 0.99, 0.98)])     # measured .9996, .998
def test_labels_of_an_animal(creature, views, seen_right, right):
    rig, parts = creature
    clip = make_clip(rig, None, [0], *ring_of(views), 256, parts=parts)
    labels, votes = vertex_labels(rig.strip(), clip.parts, clip.cameras, return_votes=True)
    seen = votes.any(1)
    assert votes.shape == (len(rig.vertices), len(parts)) and seen.mean() > 0.95
    assert np.mean(labels[seen] == parts.labels[seen]) > seen_right
    assert np.mean(labels == parts.labels) > right


@pytest.mark.parametrize("views, right, least_iou", [(12, 0.985, 0.95), (4, 0.985, 0.9)])       # measured .995, .995
def test_labels_of_a_real_wolf(assets, views, right, least_iou):
    rig = registry.load("Wolf")
    parts = kinematic_parts(rig)
    clip = make_clip(rig, None, [0], *ring_of(views), 256, parts=parts)
    labels = vertex_labels(rig.strip(), clip.parts, clip.cameras)
    assert np.mean(labels == parts.labels) > right
    iou = [np.sum((labels == k) & (parts.labels == k)) / np.sum((labels == k) | (parts.labels == k))
           for k in range(len(parts))]
    assert np.mean(iou) > least_iou


def test_moving_frames_see_more_than_one(creature):
    rig, parts = creature
    times = [0.0, 0.3, 0.6]
    clip = make_clip(rig, "walk", times, [0, 90], 10.0, 128, parts=parts)
    posed = rig.pose("walk", times)
    labels, votes = vertex_labels(rig, clip.parts, clip.cameras, posed, return_votes=True)
    _, still = vertex_labels(rig, clip.parts[:1], clip.cameras, posed[:1], return_votes=True)
    assert votes.any(1).sum() > still.any(1).sum()
    assert np.mean(labels == parts.labels) > 0.93
    wrong = vertex_labels(rig, clip.parts, clip.cameras)             # the bind pose is not what the frames show
    assert np.mean(wrong == parts.labels) < np.mean(labels == parts.labels)


def test_ids_are_kept_and_size_is_free():
    mesh = tube(bend=1.5)
    truth = np.array([7, 0, 300])[thirds(mesh)]
    for size in (32, 200):
        parts, cameras = maps(mesh, truth, 6, size)
        labels = vertex_labels(mesh, parts, cameras.resized(999))
        assert set(labels) <= {7, 0, 300} and np.mean(labels == truth) > 0.97


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_new_ids_give_new_labels(seed):
    mesh = tube(30, 10, bend=1.0)
    parts, cameras = maps(mesh, thirds(mesh, 30, 10), 3, 64)
    names = np.random.default_rng(seed).permutation(5)
    renamed = np.where(parts < 0, -1, names[parts])
    np.testing.assert_array_equal(vertex_labels(mesh, renamed, cameras), names[vertex_labels(mesh, parts, cameras)])


def test_votes_are_for_what_is_in_front():
    wall = tube(8, 24, length=0.2, radius=1.5)
    hidden = tube(20, 8, length=0.5, radius=0.1)
    mesh = joined(Mesh(wall.vertices[:, [1, 2, 0]], wall.faces), Mesh(hidden.vertices + [-0.25, 0, -1], hidden.faces))
    cameras = fit_cameras(mesh.vertices, [0], [0], 64)
    parts = np.full((1, 1, 64, 64), 4)
    votes = pixel_votes(mesh.faces, [mesh.vertices], parts, cameras)
    assert votes[:len(wall.vertices), 4].sum() > 0 and votes[len(wall.vertices):].sum() == 0
    assert votes[:, :4].sum() == 0


def test_a_pixel_votes_for_the_corners_by_barycentric_coordinates_and_angle():
    mesh = Mesh(np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0, 0.5, 0.0]]), np.array([[0, 1, 2]]))
    cameras = fit_cameras(mesh.vertices, [0], [0], 129)
    parts = np.full((1, 1, 129, 129), -1)
    parts[0, 0, 64, 64] = 0                                         # the ray through the middle, (0, 0, 0)
    votes = pixel_votes(mesh.faces, [mesh.vertices], parts, cameras)
    np.testing.assert_allclose(votes[:, 0], 0.25 * np.array([0.25, 0.25, 0.5]) ** 2, rtol=1e-4)
    turned = fit_cameras(mesh.vertices, [0, 60], [0, 0], 129)
    lone = np.repeat(parts, 2, axis=1)
    lone[0, 0] = -1
    cosine = pixel_votes(mesh.faces, [mesh.vertices], lone, turned)[:, 0].sum() / votes.sum()
    assert cosine == pytest.approx(0.5, rel=1e-3)


def test_unseen_shells_and_sides_are_filled():
    seen, inner, far = tube(30, 12), tube(10, 6, length=0.4, radius=0.05), tube(10, 6, length=0.4, radius=0.05)
    mesh = joined(seen, Mesh(inner.vertices + [2.4, 0, 0], inner.faces), Mesh(far.vertices + [0.2, 0, 0], far.faces))
    truth = np.r_[thirds(seen, 30, 12), np.full(len(inner.vertices), 2), np.zeros(len(far.vertices), int)]
    cameras = fit_cameras(mesh.vertices, [0, 20], [0, 0], 128)       # both from the front
    parts = render(mesh.vertices[None], mesh.faces, truth, cameras)[1]
    labels, votes = vertex_labels(mesh, parts, cameras, return_votes=True)
    assert 0.2 < np.mean(votes.any(1)) < 0.8
    np.testing.assert_array_equal(labels[len(seen.vertices):], truth[len(seen.vertices):])
    assert np.mean(labels == truth) > 0.97


def test_seam_vertices_share_label_and_votes():
    mesh = tube(30, 12)
    parts, cameras = maps(mesh, thirds(mesh, 30, 12), 4, 96)
    torn, source = unwelded(mesh)
    whole, votes = vertex_labels(mesh, parts, cameras, return_votes=True)
    labels, torn_votes = vertex_labels(torn, parts, cameras, return_votes=True)
    np.testing.assert_array_equal(labels, whole[source])
    np.testing.assert_allclose(torn_votes, votes[source], rtol=1e-4, atol=1e-3)


def test_noise_is_outvoted_and_specks_are_absorbed(creature):
    rig, parts = creature
    clip = make_clip(rig, None, [0], *ring_of(12), 256, parts=parts)
    rng = np.random.default_rng(0)
    noisy = clip.parts.copy()
    hit = (noisy >= 0) & (rng.random(noisy.shape) < 0.2)
    noisy[hit] = rng.integers(0, len(parts), hit.sum())
    raw = vertex_labels(rig, noisy, clip.cameras, smoothing=0, speck=0)
    mended = vertex_labels(rig, noisy, clip.cameras)
    assert np.mean(mended == parts.labels) > 0.97
    assert np.mean(mended == parts.labels) > np.mean(raw == parts.labels)

    stained = clip.parts.copy()
    rows, columns = np.nonzero(stained[0, 3] >= 0)
    row, column = rows[len(rows) // 2], columns[len(rows) // 2]
    spot = np.s_[0, 3, row - 4:row + 4, column - 4:column + 4]
    stained[spot] = np.where(stained[spot] >= 0, 0, -1)
    assert np.mean(vertex_labels(rig, stained, clip.cameras) == parts.labels) > 0.99


def test_spread_keeps_votes_and_interpolates_between_them():
    mesh = tube(31, 12)
    surface = weld(mesh)
    votes = np.zeros((len(surface.vertices), 2))
    left, right = surface.vertices[:, 0] < 1e-9, surface.vertices[:, 0] > 3 - 1e-9
    votes[left, 0] = votes[right, 1] = 5
    shares = spread(surface, votes, smoothing=0)
    np.testing.assert_allclose(shares.sum(1), 1)
    np.testing.assert_allclose(shares[:, 1], surface.vertices[:, 0] / 3, atol=0.01)     # harmonic: straight


BAD = {
    "three dimensions": (lambda p, c: dict(parts=p[0]), "shape .T, V, H, W."),
    "colours": (lambda p, c: dict(parts=p.astype(np.float32)), "integer ids"),
    "oblong": (lambda p, c: dict(parts=p[..., :-1]), "square"),
    "too few cameras": (lambda p, c: dict(parts=np.concatenate([p, p], axis=1)), "8 views, but there are 4"),
    "all background": (lambda p, c: dict(parts=np.full_like(p, -1)), "no part pixel meets the mesh"),
    "other space": (lambda p, c: dict(mesh=Mesh(tube().vertices + 50, tube().faces)), "no part pixel meets the mesh"),
    "other frames": (lambda p, c: dict(vertices=np.zeros((2, 962, 3))), "each of the 1 frames"),
    "other vertices": (lambda p, c: dict(vertices=np.zeros((1, 9, 3))), "each of the 1 frames"),
    "NaN pose": (lambda p, c: dict(vertices=np.full((1, 962, 3), np.nan)), "posed vertices hold NaN"),
    "no faces": (lambda p, c: dict(mesh=SimpleNamespace(vertices=tube().vertices, faces=np.zeros((0, 3), int))),
                 "no triangles"),
}


@pytest.mark.parametrize("change, message", BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_error(change, message):
    mesh = tube()
    parts, cameras = maps(mesh, thirds(mesh), 4, 32)
    with pytest.raises(ValueError, match=message):
        vertex_labels(**(dict(mesh=mesh, parts=parts, cameras=cameras) | change(parts, cameras)))


@pytest.mark.parametrize("clustering", ["decode", "hdbscan"])
def test_colours_are_clustered_over_all_views(clustering):
    mesh = tube(bend=1.5)
    truth = thirds(mesh)
    parts, cameras = maps(mesh, truth, 4, 96)
    colours = np.array([[0.9, 0.2, 0.1], [0.1, 0.7, 0.3], [0.2, 0.3, 0.9]])
    labels = vertex_labels(mesh, coding.encode(parts, colours), cameras, clustering=clustering)
    pairs = {(a, b) for a, b in zip(labels, truth) if np.mean(labels[truth == b] == a) > 0.5}
    assert len(pairs) == 3 == len({a for a, _ in pairs})
    assert np.mean([(a, b) in pairs for a, b in zip(labels, truth)]) > 0.97
    with pytest.raises(ValueError, match="clustering must be"):
        vertex_labels(mesh, coding.encode(parts, colours), cameras, clustering="guess")


def test_report_says_what_was_seen():
    mesh = tube(30, 12)
    parts, cameras = maps(mesh, thirds(mesh, 30, 12), 1, 96)
    report = label_report(mesh, parts, cameras)
    assert 0.3 < report.seen.mean() < 0.8
    np.testing.assert_array_equal(report.seen, report.votes.any(1))
    np.testing.assert_array_equal(report.labels, vertex_labels(mesh, parts, cameras))


def test_far_places_of_one_id_are_split_and_near_ones_kept():
    mesh = tube(60, 12)
    surface = weld(mesh)
    labels = thirds(mesh, 60, 12)[np.unique(surface.index, return_index=True)[1]]
    ends = np.where(labels == 2, 0, labels)                          # one id at both ends, 1 apart
    split = split_parts(surface, ends)
    assert set(split) == {0, 1, 2}
    np.testing.assert_array_equal(split == 1, ends == 1)
    assert len(set(split[surface.vertices[:, 0] < 0.9])) == 1
    np.testing.assert_array_equal(split_parts(surface, ends, gap=0.5), ends)
