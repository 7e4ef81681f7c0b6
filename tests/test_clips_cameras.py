"""Cameras: known answers, and that what is projected is what is drawn."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from sp4dlib.clips import Cameras, fit_cameras, orbit_rotation, render

angle = st.floats(-360, 360, allow_nan=False)
tilt = st.floats(-80, 80, allow_nan=False)


def cameras(azimuths, elevations, size=64, distance=4.0):
    return Cameras(azimuths, elevations, 33.8, distance, 0.9, np.eye(4), size)


def test_azimuth_moves_the_camera_counter_clockwise_and_elevation_lifts_it():
    rig = cameras([0, 90, 180, 0], [0, 0, 0, 30])
    expected = [[0, 0, 4], [4, 0, 0], [0, 0, -4], [0, 2, 2 * np.sqrt(3)]]
    np.testing.assert_allclose([rig.position(v) for v in range(4)], expected, atol=1e-12)


def test_projection_of_known_points():
    rig = cameras([0, 90], [0, 0], size=100)
    pixels, depth = rig.project(np.array([[0.0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]]), 0)
    step = rig.focal * 0.5 / 4
    np.testing.assert_allclose(pixels, [[50, 50], [50 + step, 50], [50, 50 - step], [50, 50]])
    np.testing.assert_allclose(depth, [4, 4, 4, 3])
    np.testing.assert_allclose(rig.project(np.array([0, 0, -0.5]), 1)[0], [50 + step, 50])    # from +x, -z is right


@settings(deadline=None)
@given(angle, tilt)
def test_rotation_takes_the_camera_to_its_own_axis(azimuth, elevation):
    rotation = orbit_rotation(azimuth, elevation)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    a, e = np.radians([azimuth, elevation])
    np.testing.assert_allclose(rotation @ [np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)], [0, 0, 1],
                               atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.tuples(angle, tilt), min_size=1, max_size=5),
       st.floats(0.2, 1.0), st.floats(20, 60))
def test_fitted_cameras_touch_the_border_and_stay_inside(seed, poses, fill, fov):
    points = np.random.default_rng(seed).normal(size=(2, 20, 3)) * [1, 3, 0.5] + [5, -7, 2]
    azimuths, elevations = np.array(poses).T
    fitted = fit_cameras(points, azimuths, elevations, 128, fill, fov)
    reach = [np.abs(fitted.project(points, view)[0] / 64 - 1).max() for view in range(len(fitted))]
    assert max(reach) == pytest.approx(fill, rel=1e-9)
    assert fitted.azimuths[0] == 0
    unit = points @ fitted.normalize[:3, :3].T + fitted.normalize[:3, 3]
    in_rig_axes = unit @ orbit_rotation(azimuths[0], 0)
    assert np.ptp(in_rig_axes.reshape(-1, 3), axis=0).max() == pytest.approx(1)        # the unit cube holds the union
    assert np.abs(in_rig_axes).max() <= 0.5 + 1e-9


@settings(deadline=None)
@given(angle, st.floats(-300, 300))
def test_view_zero_defines_the_frame(azimuth, offset):
    points = np.random.default_rng(0).normal(size=(30, 3))
    fitted = fit_cameras(points, [azimuth, azimuth + offset], [0, 20], 64)
    middle = (points.min(0) + points.max(0)) / 2
    for view, turn in ((0, azimuth), (1, azimuth + offset)):
        outward = fitted.position(view) - middle
        assert abs((np.degrees(np.arctan2(outward[0], outward[2])) - turn + 180) % 360 - 180) < 1e-6
    ahead = fitted.normalize[:3, :3] @ [np.sin(np.radians(azimuth)), 0, np.cos(np.radians(azimuth))]
    np.testing.assert_allclose(ahead / np.linalg.norm(ahead), [0, 0, 1], atol=1e-9)


@pytest.mark.parametrize(("change", "message"), [
    ({"points": np.zeros((0, 3))}, "no points"), ({"points": np.full((3, 3), np.nan)}, "not finite"),
    ({"points": np.ones((3, 3))}, "coincide"), ({"fill": 0.0}, "fill"), ({"fill": 1.1}, "fill")])
def test_bad_cameras_are_refused(change, message):
    arguments = {"points": np.eye(3), "azimuths": [0], "elevations": [0], "size": 8} | change
    with pytest.raises(ValueError, match=message):
        fit_cameras(**arguments)


@pytest.mark.parametrize("engine", ["gl", "embree"])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_small_ball_lands_on_its_projected_pixel(engine, seed):
    generator = np.random.default_rng(seed)
    fitted = cameras(generator.uniform(0, 360, 3), generator.uniform(-60, 60, 3), size=128)
    point = generator.uniform(-0.5, 0.5, 3)
    ball = trimesh.creation.icosphere(2, 0.1)
    _, ids = render(point + ball.vertices[None], ball.faces, np.zeros(len(ball.vertices), int), fitted, engine=engine)
    for view in range(3):
        rows, columns = np.nonzero(ids[0, view] == 0)
        pixel, depth = fitted.project(point, view)
        assert np.abs([columns.mean() + 0.5, rows.mean() + 0.5] - pixel).max() < 0.3
        assert len(rows) == pytest.approx(np.pi * (0.1 * fitted.focal / depth) ** 2, rel=0.15)
