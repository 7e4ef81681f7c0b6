"""Weights from labels and from bones: known answers on tubes, invariances, broken meshes, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifting_meshes import animal, joined, thirds, tube, unwelded

from sp4dlib.lifting import bone_weights, extract_skeleton, harmonic_weights, literal_harmonic_weights
from sp4dlib.lifting.delaunay import delaunay_laplacian
from sp4dlib.lifting.harmonic import limit_influences
from sp4dlib.lifting.linear import _factorize_superlu, cotangent_laplacian, laplacian, lifted, solve
from sp4dlib.lifting.surface import part_borders, weld
from sp4dlib.rigs import Mesh


def assert_weights(weights, shape):
    assert weights.shape == shape and np.isfinite(weights).all()
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-9)


def ring_means(values, rings, sides):
    return values[:rings * sides].reshape(rings, sides).mean(1)


def test_border_of_a_tube_is_a_circle():
    mesh = tube(sides=64)
    surface = weld(mesh)
    borders = part_borders(surface, surface.gather(thirds(mesh, sides=64)))
    assert len(borders) == 2
    assert sorted(map(tuple, borders.pairs)) == [(0, 1), (1, 2)]
    order = np.argsort(borders.centers[:, 0])
    np.testing.assert_allclose(borders.centers[order], [[1, 0, 0], [2, 0, 0]], atol=0.03)
    np.testing.assert_allclose(borders.radii, 0.3, rtol=0.01)
    np.testing.assert_allclose(borders.lengths, 2 * np.pi * 0.3, rtol=0.05)     # it zigzags across the quads' diagonals


def test_three_labels_in_a_triangle_meet_in_its_centre():
    surface = weld(Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]])))
    labels = surface.gather(np.arange(3))
    borders = part_borders(surface, labels)
    assert len(borders) == 3
    np.testing.assert_allclose(borders.segments[:, 1], np.full((3, 3), [1 / 3, 1 / 3, 0]))
    assert {tuple(p) for p in borders.pairs} == {(0, 1), (0, 2), (1, 2)}


def test_weights_are_half_at_the_border_and_fall_steadily():
    rings, sides = 120, 16
    mesh = tube(rings, sides)
    weights = harmonic_weights(mesh, thirds(mesh, rings, sides), width=0.5, method="harmonic")
    assert_weights(weights, (len(mesh.vertices), 3))
    profile = ring_means(weights[:, 0], rings, sides)
    x = np.linspace(0, 3, rings)
    assert np.all(np.diff(profile) <= 1e-9)
    border = (x[rings // 3 - 1] + x[rings // 3]) / 2
    assert np.interp(border, x, profile) == pytest.approx(0.5, abs=0.01)
    assert np.all(profile[x < border - 0.15] == 1) and np.all(profile[x > border + 0.15 + x[1]] == 0)
    # Straight between the band's ends: harmonic on a cylinder is linear along it.
    inside = np.abs(x - border) < 0.14
    np.testing.assert_allclose(profile[inside], 0.5 - (x[inside] - border) / (2 * 0.16), atol=0.06)


@pytest.mark.parametrize("rings", [61, 121, 241])
def test_band_does_not_depend_on_resolution(rings):
    mesh = tube(rings, 24)
    x = np.linspace(0, 3, rings)
    labels = np.r_[np.repeat((x > 1.51).astype(int), 24), 0, 1]
    profile = ring_means(harmonic_weights(mesh, labels, width=0.5, method="harmonic")[:, 1], rings, 24)
    border = (x[x <= 1.51].max() + x[x > 1.51].min()) / 2
    middle = (profile > 0) & (profile < 1)
    slope = np.polyfit(x[middle] - border, profile[middle], 1)[0]
    assert slope == pytest.approx(1 / (2 * 0.15), rel=0.2)


def test_heat_falls_off_as_the_flow_does():
    rings, sides = 400, 16
    mesh = tube(rings, sides)
    weights = harmonic_weights(mesh, thirds(mesh, rings, sides, 2), width=1.0)
    profile = ring_means(weights[:, 1], rings, sides)
    x = np.linspace(0, 3, rings) - 1.5
    # Two implicit steps of variance l^2 / 2 each: the profile of the sum of two Laplace variables.
    scaled = np.sqrt(2) * np.abs(x) / (0.3 / 2)
    tail = np.exp(-scaled) * (2 + scaled) / 4
    tail = np.where(tail < 0.05, np.maximum(2 * tail - 0.05, 0), tail)
    np.testing.assert_allclose(np.minimum(profile, 1 - profile), tail, atol=0.02)


def test_estimated_width_does_not_depend_on_resolution_once_it_is_fine():
    profiles = []
    x = np.linspace(0, 3, 61)
    for rings, sides in ((181, 48), (301, 80)):
        mesh = tube(rings, sides)
        along = np.linspace(0, 3, rings)
        labels = np.r_[np.repeat((along > 1.5 + 1e-9).astype(int), sides), 0, 1]
        profiles.append(np.interp(x, along, ring_means(harmonic_weights(mesh, labels)[:, 1], rings, sides)))
    assert np.abs(profiles[0] - profiles[1]).max() < 0.06
    assert np.abs(profiles[0] - (x > 1.5)).sum() * 0.05 > 0.03       # it does blend


@pytest.mark.parametrize("method", ["harmonic", "biharmonic"])
def test_pinned_methods_keep_the_cores(method):
    rig = animal(1500)
    labels = rig.weights.argmax(1)
    weights = harmonic_weights(rig, labels, method=method, parts=rig.weights.shape[1])
    assert_weights(weights, rig.weights.shape)
    assert np.mean(weights[np.arange(len(labels)), labels] == 1) > 0.3
    assert np.abs(weights - rig.weights).sum(1).mean() < 0.18


def test_literal_formula_is_degenerate():
    mesh = animal(1500)
    labels = mesh.weights.argmax(1)
    parts = mesh.weights.shape[1]
    literal = literal_harmonic_weights(mesh, labels, parts=parts)
    np.testing.assert_allclose(literal, np.eye(parts)[labels], atol=1e-9)
    assert np.abs(harmonic_weights(mesh, labels, parts=parts) - literal).max() > 0.3


def test_harmonic_weights_beat_rigid_labels_on_an_animal():
    rig = animal()
    labels = rig.weights.argmax(1)
    parts = rig.weights.shape[1]

    def error(weights):
        return np.abs(weights - rig.weights).sum(1).mean()

    banded = error(harmonic_weights(rig, labels, parts=parts))
    assert banded < 0.15                                            # measured 0.134
    assert banded < 0.7 * error(np.eye(parts)[labels])              # measured 0.231


@settings(max_examples=20, deadline=None)
@given(parts=st.integers(1, 7), width=st.floats(0, 4), seed=st.integers(0, 2**16),
       limit=st.sampled_from([None, 1, 2, 4]))
def test_rows_are_weights_and_parts_can_be_renamed(parts, width, seed, limit):
    mesh = tube(28, 8, bend=2.0)
    labels = thirds(mesh, 28, 8, parts)
    weights = harmonic_weights(mesh, labels, width, max_influences=limit)
    assert_weights(weights, (len(mesh.vertices), parts))
    if limit:
        assert (weights > 0).sum(1).max() <= limit
    assert np.all(weights.max(0) > 0)                               # no part disappears, however wide the band
    if limit is None:                                               # ties are cut by column, so limits break renaming
        names = np.random.default_rng(seed).permutation(parts)
        renamed = harmonic_weights(mesh, names[labels], width, max_influences=limit)
        np.testing.assert_allclose(renamed[:, names], weights, atol=1e-8)


def test_vertex_order_and_placement_do_not_matter():
    mesh = tube(40, 12, bend=1.0)
    labels = thirds(mesh, 40, 12)
    weights = harmonic_weights(mesh, labels)
    order = np.random.default_rng(0).permutation(len(mesh.vertices))
    shuffled = Mesh(mesh.vertices[order], np.argsort(order)[mesh.faces])
    np.testing.assert_allclose(harmonic_weights(shuffled, labels[order]), weights[order], atol=1e-8)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    moved = Mesh(0.01 * mesh.vertices @ turn.T + 0.5, mesh.faces)
    np.testing.assert_allclose(harmonic_weights(moved, labels, 0.5), harmonic_weights(mesh, labels, 0.5), atol=1e-6)
    # An estimated width rests on outlines, which are counted in cells.
    np.testing.assert_allclose(harmonic_weights(moved, labels), weights, atol=1e-3)


def test_seam_vertices_get_equal_weights():
    mesh = tube(40, 12)
    labels = thirds(mesh, 40, 12)
    whole = harmonic_weights(mesh, labels)
    torn, source = unwelded(mesh)
    weights = harmonic_weights(torn, labels[source])
    np.testing.assert_allclose(weights, whole[source], atol=1e-8)
    jitter = np.random.default_rng(0).uniform(-3e-7, 3e-7, torn.vertices.shape)      # below the weld's tolerance
    weights = harmonic_weights(Mesh(torn.vertices + jitter, torn.faces), labels[source])
    for vertex in np.unique(source)[::37]:
        assert np.ptp(weights[source == vertex], axis=0).max() == 0


def broken(name):
    """A tube with a defect; labels of three parts."""
    mesh = tube(40, 12)
    labels, faces = thirds(mesh, 40, 12), mesh.faces
    if name == "zero areas":
        faces = np.concatenate([faces, np.repeat(faces[:40, :1], 3, axis=1), faces[:40, [0, 1, 1]],
                                np.stack([np.arange(0, 36), np.arange(12, 48), np.arange(24, 60)], axis=1)])
    elif name == "flipped":
        faces = np.where((np.arange(len(faces)) % 3 == 0)[:, None], faces[:, ::-1], faces)
    elif name == "doubled":
        faces = np.concatenate([faces, faces[::5]])
    elif name == "fin":                                             # many triangles on one edge
        mesh = Mesh(np.concatenate([mesh.vertices, [[1.5, 2, 0], [1.5, -2, 0.1]]]), faces)
        labels = np.r_[labels, 1, 1]
        first = len(mesh.vertices) - 2
        faces = np.concatenate([faces, [[240, 241, first], [240, 241, first + 1]]])
    elif name == "holes":
        faces = faces[np.random.default_rng(0).random(len(faces)) > 0.1]
    elif name == "lone points":
        mesh = Mesh(np.concatenate([mesh.vertices, [[9.0, 9, 9], [1, 0, 0]]]), faces)
        labels = np.r_[labels, 2, 0]
    elif name == "specks":
        speck = Mesh(np.array([[1.0, 1, 1], [1.01, 1, 1], [1, 1.01, 1]]), np.array([[0, 1, 2]]))
        mesh = joined(mesh, speck)
        labels, faces = np.r_[labels, 0, 1, 1], mesh.faces
    return Mesh(mesh.vertices, faces), labels


@pytest.mark.parametrize("name", ["zero areas", "flipped", "doubled", "fin", "holes", "lone points", "specks"])
def test_broken_meshes_get_weights(name):
    clean = harmonic_weights(*broken("clean"))
    mesh, labels = broken(name)
    weights = harmonic_weights(mesh, labels)
    assert_weights(weights, (len(labels), 3))
    assert np.abs(weights[:len(clean)] - clean).sum(1).mean() < 0.05
    assert_weights(literal_harmonic_weights(mesh, labels), (len(labels), 3))
    skeleton = extract_skeleton(mesh, labels)
    assert_weights(bone_weights(mesh, skeleton), (len(labels), len(skeleton)))


def test_shell_without_border_keeps_its_label():
    first, second = tube(20, 8), tube(20, 8)
    mesh = joined(first, Mesh(second.vertices + [0, 2, 0], second.faces))
    labels = np.r_[thirds(first, 20, 8), np.full(len(second.vertices), 3)]
    weights = harmonic_weights(mesh, labels)
    assert np.all(weights[len(first.vertices):, 3] == 1) and np.all(weights[:len(first.vertices), 3] == 0)


def test_empty_parts_zero_width_and_own_widths():
    mesh = tube(60, 12)
    labels = thirds(mesh, 60, 12)
    assert np.all(harmonic_weights(mesh, labels + 2, parts=9)[:, [0, 1, 5, 6, 7, 8]] == 0)
    np.testing.assert_array_equal(harmonic_weights(mesh, labels, width=0), np.eye(3)[labels])
    mixed = harmonic_weights(mesh, labels, width=[0, 0, 1])
    touched = ((mixed > 0).sum(1) > 1) @ np.eye(len(labels))
    x = mesh.vertices[touched.astype(bool), 0]
    assert x.min() > 1.5                                            # only the border with the third part is soft


def test_limit_influences_keeps_the_largest():
    weights = np.array([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4], [1, 0, 0]])
    np.testing.assert_allclose(limit_influences(weights, 2), [[0.625, 0.375, 0], [0, 0.5, 0.5], [1, 0, 0]])
    np.testing.assert_array_equal(limit_influences(weights, 1), np.eye(3)[[0, 1, 0]])
    with pytest.raises(ValueError, match="at least 1"):
        limit_influences(weights, 0)


@pytest.mark.parametrize("operator", [laplacian, cotangent_laplacian])
def test_laplacian_has_constants_in_its_kernel_and_the_surface_as_its_mass(operator):
    surface = weld(tube(30, 10))
    stiffness, mass = operator(surface.vertices, surface.faces)
    np.testing.assert_allclose(stiffness @ np.ones(len(mass)), 0, atol=1e-9)
    assert mass.sum() == pytest.approx(surface.face_areas.sum(), rel=1e-3)
    off = stiffness - np.diag(stiffness.diagonal())
    assert off.max() <= 1e-9


def squeezed(mesh):
    """Long thin triangles, most of whose edges must be flipped, many of them more than once."""
    return weld(Mesh(mesh.vertices * [1, 0.3, 3], mesh.faces))


def test_delaunay_laplacian_is_the_tufted_one_on_closed_surfaces():
    import robust_laplacian

    for surface in (weld(animal(1500)), squeezed(animal(1500))):    # corners on one circle leave the flips a choice
        plain, _ = cotangent_laplacian(surface.vertices, surface.faces)
        stiffness, mass = delaunay_laplacian(surface.vertices, surface.faces)
        tufted, tufted_mass = robust_laplacian.mesh_laplacian(surface.vertices, surface.faces)
        assert abs(stiffness - tufted).max() < 1e-6 * abs(tufted).max()
        np.testing.assert_allclose(mass, tufted_mass.diagonal(), rtol=1e-6)
        assert ((stiffness - plain) != 0).nnz > 0                   # there was something to flip
        assert (stiffness - np.diag(stiffness.diagonal())).max() <= 1e-9


def test_delaunay_laplacian_leaves_what_it_is_not_made_for():
    surface = weld(tube(30, 10))
    vertices, faces = surface.vertices, surface.faces
    assert delaunay_laplacian(vertices, np.concatenate([faces, faces[:1, [1, 0, 2]]])) is None      # three at an edge
    assert delaunay_laplacian(vertices, np.concatenate([faces[:1, ::-1], faces[1:]])) is None       # turned
    flat = vertices.copy()
    flat[faces[0, 0]] = flat[faces[0, 1]]
    assert delaunay_laplacian(flat, faces) is None                                                  # without area
    opened, _ = delaunay_laplacian(*(lambda s: (s.vertices, s.faces[40:]))(squeezed(tube(30, 10, bend=1.0))))
    np.testing.assert_allclose(opened @ np.ones(opened.shape[0]), 0, atol=1e-9)
    assert (opened - np.diag(opened.diagonal())).max() <= 1e-9


def test_both_solvers_agree():
    surface = weld(animal(1500))
    stiffness, mass = laplacian(surface.vertices, surface.faces)
    matrix = lifted(stiffness, 1e-3)
    right = np.random.default_rng(0).normal(size=(len(mass), 5))
    np.testing.assert_allclose(solve(matrix, right), _factorize_superlu(matrix.tocsc())(right), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(matrix @ solve(matrix, right), right, atol=1e-8)


BAD_WEIGHTS = {
    "labels that do not fit": (lambda m, k: (m, k[:-1]), "one integer part id"),
    "labels that are floats": (lambda m, k: (m, k.astype(float)), "one integer part id"),
    "negative labels": (lambda m, k: (m, k - 1), "negative label"),
    "no faces": (lambda m, k: (Mesh(m.vertices, np.zeros((0, 3), int)), k), "no triangles"),
    "quads": (lambda m, k: (Mesh(m.vertices, np.zeros((5, 4), int)), k), "no triangles"),
    "flat faces only": (lambda m, k: (Mesh(m.vertices, np.array([[0, 1, 1]])), k), "point or a line"),
    "faces out of range": (lambda m, k: (Mesh(m.vertices, m.faces + 1), k), "names vertex"),
    "2D vertices": (lambda m, k: (Mesh(m.vertices[:, :2], m.faces), k), r"\(N, 3\)"),
    "NaN": (lambda m, k: (Mesh(np.where(m.vertices == m.vertices[5], np.nan, m.vertices), m.faces), k), "NaN"),
}


@pytest.mark.parametrize("change, message", BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
@pytest.mark.parametrize("function", [harmonic_weights, literal_harmonic_weights, extract_skeleton])
def test_bad_input_is_one_clear_error(function, change, message):
    mesh = tube(10, 6)
    with pytest.raises(ValueError, match=message):
        function(*change(mesh, thirds(mesh, 10, 6)))


def test_bad_width_and_part_count():
    mesh = tube(10, 6)
    labels = thirds(mesh, 10, 6)
    with pytest.raises(ValueError, match="0 .rigid. or more"):
        harmonic_weights(mesh, labels, width=-0.1)
    with pytest.raises(ValueError, match="0 .rigid. or more"):
        harmonic_weights(mesh, labels, width=np.nan)
    with pytest.raises(ValueError, match="each of 3 parts"):
        harmonic_weights(mesh, labels, width=[0.1, 0.2])
    with pytest.raises(ValueError, match="heat, harmonic, biharmonic"):
        harmonic_weights(mesh, labels, method="cold")
    with pytest.raises(ValueError, match="only 2 parts"):
        harmonic_weights(mesh, labels, parts=2)
