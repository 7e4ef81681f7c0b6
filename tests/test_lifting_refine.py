"""Weights refined by poses: what is recovered, what is left alone, and bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifting_meshes import thirds, tube, unwelded

from sp4dlib.evaluation.rigging import random_poses
from sp4dlib.lifting import harmonic_weights, refine_weights
from sp4dlib.lifting.refine import _to_simplex
from sp4dlib.rigs import Mesh

RINGS, SIDES = 40, 10
JOINTS, PARENTS = np.array([[0.2, 0, 0], [1.0, 0, 0], [2.0, 0, 0]]), np.array([-1, 0, 1])
SIZE = 3.0


@pytest.fixture(scope="module")
def body():
    return tube(RINGS, SIDES)


@pytest.fixture(scope="module")
def start(body):
    return harmonic_weights(body, thirds(body, RINGS, SIDES))


@pytest.fixture(scope="module")
def truth(body):
    """A blend that is wider than the one to start from, and not centred on the borders."""
    x = body.vertices[:, 0]
    second, third = np.clip((x - 0.55) / 0.7, 0, 1), np.clip((x - 1.9) / 0.5, 0, 1)
    return np.stack([1 - second, second - third, third], 1)


def motions(frames, seed=3):
    return random_poses(JOINTS, PARENTS, seed=seed, poses=frames, degrees=40)


def posed(mesh, weights, transforms):
    blended = np.einsum("nk,fkab->fnab", weights, transforms)
    return np.einsum("fnab,nb->fna", blended[..., :3], mesh.vertices) + blended[..., 3]


def error(weights, truth):
    return np.abs(weights - truth).sum(1).mean()


def assert_weights(weights):
    assert np.isfinite(weights).all() and weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-9)


def test_known_motions_give_the_weights_back(body, start, truth):
    transforms = motions(4)
    made = refine_weights(body, start, posed(body, truth, transforms), transforms, reach=0.2)
    assert_weights(made.weights)
    assert error(made.weights, truth) < 0.1 * error(start, truth)
    assert made.rms_after < 0.05 * made.rms_before
    np.testing.assert_array_equal(made.transforms, transforms)
    four = np.concatenate([transforms, np.tile([[[[0, 0, 0, 1.0]]]], (4, 3, 1, 1))], axis=2)
    again = refine_weights(body, start, posed(body, truth, transforms), four, reach=0.2)
    np.testing.assert_array_equal(again.weights, made.weights)


def test_motions_are_found_too(body, start, truth):
    transforms = motions(4)
    poses = posed(body, truth, transforms)
    made = refine_weights(body, start, poses, reach=0.2)
    assert_weights(made.weights)
    assert error(made.weights, truth) < 0.4 * error(start, truth)
    assert made.rms_after < 0.1 * made.rms_before
    found = posed(body, made.weights, made.transforms)
    assert np.sqrt(np.mean(np.sum((found - poses) ** 2, -1))) == pytest.approx(made.rms_after, rel=1e-6)
    turn = made.transforms[..., :3]
    np.testing.assert_allclose(turn @ turn.swapaxes(-1, -2), np.broadcast_to(np.eye(3), turn.shape), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(turn), 1)
    unseen = motions(6, seed=8)
    gap = [np.linalg.norm(posed(body, w - truth, unseen), axis=-1).mean() for w in (made.weights, start)]
    assert gap[0] < 0.4 * gap[1], "poses that were not shown come out better as well"


def test_weights_that_explain_the_poses_stay(body, start):
    made = refine_weights(body, start, posed(body, start, motions(3)))
    np.testing.assert_allclose(made.weights, start, atol=0.02)
    assert made.rms_before < 1e-3 * SIZE


def test_poses_that_do_not_move_say_nothing(body, start):
    made = refine_weights(body, start, np.repeat(body.vertices[None], 2, 0))
    np.testing.assert_allclose(made.weights, start, atol=1e-6)
    assert made.rms_after < 1e-9 and made.noise < 1e-9
    np.testing.assert_allclose(made.transforms, np.tile(np.eye(4)[:3], (2, 3, 1, 1)), atol=1e-9)


@pytest.mark.parametrize("frames", [1, 4])
def test_noise_is_measured_and_does_no_harm(body, start, truth, frames):
    """Noise of half a percent on one pose: the weights keep to their start; more poses let them go."""
    generator = np.random.default_rng(1)
    poses = posed(body, truth, motions(frames)) + 0.005 * SIZE * generator.normal(size=(frames, len(start), 3))
    made = refine_weights(body, start, poses)
    assert made.noise == pytest.approx(0.005 * SIZE, rel=0.35)
    assert error(made.weights, truth) < (1.05 if frames == 1 else 0.85) * error(start, truth)
    stubborn = refine_weights(body, start, poses, doubt=1e-3)
    np.testing.assert_allclose(stubborn.weights, start, atol=0.01)


def test_place_size_and_turn_do_not_matter(body, start, truth):
    transforms = motions(2)
    poses = posed(body, truth, transforms)
    made = refine_weights(body, start, poses)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))

    def moved(points):
        return 7 * points @ turn.T + [30.0, -4, 9]

    again = refine_weights(Mesh(moved(body.vertices), body.faces), start, moved(poses))
    # A solver stops by thresholds, and the longest side of the box is not that of the turned one.
    assert np.abs(again.weights - made.weights).mean() < 0.01
    assert again.rms_before == pytest.approx(7 * made.rms_before, rel=1e-3)


def test_copies_of_a_vertex_get_one_row(body, start, truth):
    torn, source = unwelded(body)
    poses = posed(body, truth, motions(3))
    made = refine_weights(torn, start[source], poses[:, source]).weights
    for vertex in (5, 200):
        assert np.ptp(made[source == vertex], axis=0).max() == 0
    np.testing.assert_allclose(made, refine_weights(body, start, poses).weights[source], atol=0.02)


@pytest.mark.parametrize("count", [1, 2])
def test_influences_are_limited(body, start, truth, count):
    made = refine_weights(body, start, posed(body, truth, motions(2)), max_influences=count)
    assert_weights(made.weights)
    assert (made.weights > 0).sum(1).max() <= count


def test_reach_bounds_the_change(body, start, truth):
    """Far from any other joint's skin a vertex stays with its own; without reach no joint gains a vertex."""
    poses = posed(body, truth, motions(3))
    still = refine_weights(body, start, poses, reach=0.0).weights
    assert np.all(still[start == 0] == 0)
    near = refine_weights(body, start, poses, reach=0.05).weights
    x = body.vertices[:, 0]
    held = x[start[:, 2] > 0].min() - 0.05 * SIZE
    assert np.all(near[x < held - 0.08, 2] == 0)


def test_columns_without_weight(body, start, truth):
    """End joints: nothing is given to them, and they stand still."""
    wide = np.concatenate([start, np.zeros((len(start), 1))], 1)
    poses = posed(body, truth, motions(2))
    made = refine_weights(body, wide, poses)
    assert np.all(made.weights[:, 3] == 0)
    np.testing.assert_array_equal(made.transforms[:, 3], np.tile(np.eye(4)[:3], (2, 1, 1)))
    one = refine_weights(body, np.ones((len(start), 1)), poses)
    np.testing.assert_array_equal(one.weights, 1)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=6), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_simplex_projection_is_the_nearest_point(values, missing):
    values = np.array([values])
    real = np.ones(values.shape, bool)
    real[0, missing % values.shape[1]] = False
    made = _to_simplex(values, real)
    assert made.min() >= 0 and made.sum() == pytest.approx(1) and made[~real].max(initial=0) == 0
    # Optimality: no vertex of the simplex lies ahead of the residual.
    residual = (values - made)[real]
    assert np.all(residual <= residual @ made[real] + 1e-9)


BAD = {
    "rows": (lambda w, p, t: (w[:-1], p, t), "a row for each"),
    "sums": (lambda w, p, t: (2 * w, p, t), "must sum to 1"),
    "negative": (lambda w, p, t: (w - 0.1, p, t), "0 or more"),
    "vertices": (lambda w, p, t: (w, p[:, 1:], t), "in one or more poses"),
    "one pose": (lambda w, p, t: (w, p[0], t), "in one or more poses"),
    "no pose": (lambda w, p, t: (w, p[:0], None), "in one or more poses"),
    "NaN": (lambda w, p, t: (w, np.where(p == p[0, 3], np.nan, p), t), "leave such poses out"),
    "matrices": (lambda w, p, t: (w, p, t[:, :2]), "transforms must be"),
    "infinite matrices": (lambda w, p, t: (w, p, t / 0), "transforms hold"),
}


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize("change, message", BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_error(body, start, change, message):
    transforms = motions(2)
    with pytest.raises(ValueError, match=message):
        refine_weights(body, *change(start, posed(body, start, transforms), transforms))


@pytest.mark.parametrize("options", [{"doubt": 0}, {"smoothing": -1}, {"reach": -0.1}, {"rounds": 0},
                                     {"doubt": np.nan}])
def test_bad_options(body, start, options):
    with pytest.raises(ValueError, match="doubt must be positive"):
        refine_weights(body, start, posed(body, start, motions(1)), **options)
