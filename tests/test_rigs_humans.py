"""People from anny, where the package is installed and has prepared its data; what is said where it is not."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sp4dlib import clips, rigs
from sp4dlib.rigs import humans
from sp4dlib.rigs.paint import linear


@pytest.fixture(scope="module")
def person():
    pytest.importorskip("anny")
    from anny.paths import get_anny_cache_path

    if not any(get_anny_cache_path().glob("*/*.safetensors")):
        pytest.skip("anny prepares its data for minutes: call sp4dlib.rigs.human() once before the tests")
    return rigs.human(0, shirt="#ff0000", trousers="#0000ff", sleeves="short", legs="long")


def moved_by(rig, start):
    return rig.weights[:, [name.startswith(start) for name in rig.skeleton.names]].sum(1) > 0.9


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    humans._model.cache_clear()
    monkeypatch.setitem(sys.modules, "anny", None)
    with pytest.raises(ImportError, match=r"pip install 'sp4dlib\[humans\]'"):
        rigs.human(0)


@pytest.mark.parametrize(("options", "words"), [({"age": 2}, "age of a human must be a number in"),
                                               ({"hair": "blue"}, "hair of a human must be one of short"),
                                               ({"wings": 2}, "no wings; choose from gender"),
                                               ({"tempo": 1.0}, "no tempo")])
def test_wrong_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        rigs.human(0, **options)


def test_stands_upright_and_faces_forward(person):
    at = dict(zip(person.skeleton.names, person.skeleton.joints))
    assert 1.2 < person.size < 2.3 and abs(person.vertices[:, 1].min()) < 1e-9
    assert at["head"][1] > at["root"][1] > at["foot.L"][1] > 0
    assert at["wrist.L"][0] > 0 > at["wrist.R"][0] and at["toe1-1.L"][2] > at["foot.L"][2]


def test_weights_and_parts(person):
    np.testing.assert_allclose(person.weights.sum(1), 1, atol=1e-12)
    assert (person.weights > 0).sum(1).max() <= 4 and (person.weights >= 0).all()
    parts = clips.kinematic_parts(person)
    assert 10 <= len(parts) <= 40
    assert any("upperleg" in name for name in parts.names) and any("head" in name for name in parts.names)


def test_motions_loop_and_stand(person):
    assert [animation.name for animation in person.animations] == ["walk", "wave", "squat", "sway"]
    for animation in person.animations:
        posed = person.pose(animation, np.linspace(0, animation.duration, 9))
        np.testing.assert_allclose(posed[0], posed[-1], atol=1e-9)
        assert np.ptp(posed, axis=0).max() > 0.1 * person.size
        assert np.abs(posed[..., 1].min(1)).max() < 0.03 * person.size, f"{animation.name}: feet float or sink"
    squat = person.animation("squat")
    low = person.pose(squat, [squat.duration / 2])[0]
    assert low[:, 1].max() < 0.85 * person.vertices[:, 1].max()


def test_bones_keep_their_length(person):
    parents = person.skeleton.parents
    joints = person.joint_transforms("sway", np.linspace(0, 3, 5))[..., :3, 3]
    length = np.linalg.norm(joints[:, 1:] - joints[:, parents[1:]], axis=2)
    np.testing.assert_allclose(length, length[:1].repeat(5, 0), atol=1e-9)


def test_clothes_are_where_they_belong(person):
    colors = person.appearance.vertex_colors[:, :3]
    for start, color in (("spine01", "#ff0000"), ("lowerleg", "#0000ff")):
        worn = colors[moved_by(person, start)]
        assert len(worn) > 30 and np.abs(worn - linear(color)).max() < 1e-6
    hands = colors[moved_by(person, "finger")]
    assert (hands == hands[0]).all() and not np.allclose(hands[0], linear("#ff0000"))


def test_shape_follows_age_and_height_and_seeds_repeat(person):
    child, tall = (rigs.human(0, **options) for options in ({"age": 0.33, "height": 0.5}, {"age": 0.7, "height": 1.0}))
    assert child.size < 0.8 * tall.size
    again = rigs.human(0, shirt="#ff0000", trousers="#0000ff", sleeves="short", legs="long")
    assert again.vertices.tobytes() == person.vertices.tobytes() and again.weights.tobytes() == person.weights.tobytes()
    assert again.pose("sway", [1.0]).tobytes() == person.pose("sway", [1.0]).tobytes()
    other = rigs.human(1)
    assert not np.allclose(other.vertices, person.vertices) and other.name == "human_1"
