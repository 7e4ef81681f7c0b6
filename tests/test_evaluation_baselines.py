"""Baselines on pictures whose parts they must find, and their tuning."""

from dataclasses import replace

import numpy as np
import pytest
from diffusion_toys import toy_clip

from sp4dlib.evaluation import component_parts, flow_parts, kmeans_parts, segmentation_scores, tune
from sp4dlib.evaluation.baselines import BASELINES
from sp4dlib.evaluation.subjects import Scene
from sp4dlib.evaluation.tuning import GRIDS, TUNED, tuned


def squares(places, colors, size=48, side=12):
    """Images (S, H, W, 3) with squares at ``places`` (S, K, 2: row, column), and their ids."""
    parts = np.full((len(places), size, size), -1)
    rgb = np.full((*parts.shape, 3), 255, np.uint8)
    for image, row in enumerate(places):
        for part, (y, x) in enumerate(row):
            parts[image, y:y + side, x:x + side] = part
            rgb[image, y:y + side, x:x + side] = colors[part]
    return rgb, parts


def miou(found, parts):
    assert found.dtype == np.int16 and np.array_equal(found >= 0, parts >= 0)
    return segmentation_scores(found, parts)["miou"]


@pytest.mark.parametrize("space", ["rgb", "lab"])
def test_kmeans_finds_parts_of_different_colours_wherever_they_are(space):
    rgb, parts = squares([[(2, 2), (20, 2), (2, 30)], [(30, 30), (2, 2), (20, 10)]],
                         [(200, 30, 30), (30, 160, 30), (30, 30, 220)])
    assert miou(kmeans_parts(rgb, parts >= 0, 3, space=space, position=0.1), parts) == 1


def test_kmeans_finds_parts_of_one_colour_by_their_places():
    rgb, parts = squares([[(2, 2), (30, 30)], [(4, 3), (29, 31)]], [(90, 90, 90)] * 2)
    assert miou(kmeans_parts(rgb, parts >= 0, 2, position=1.0), parts) == 1


def test_components_keep_regions_whole():
    """Two squares of one colour are two regions; the third has another colour."""
    rgb, parts = squares([[(2, 2), (2, 34), (30, 18)]], [(200, 30, 30), (200, 30, 30), (30, 30, 220)])
    assert miou(component_parts(rgb, parts >= 0, 3, levels=2, position=1.0), parts) == 1
    merged = component_parts(rgb, parts >= 0, 2, levels=2, position=0.01)
    assert merged[0, 5, 5] == merged[0, 5, 40] != merged[0, 35, 20], "colour decides what is merged"


@pytest.mark.parametrize("method", ["tvl1", "ilk"])
def test_flow_tells_squares_apart_that_move_apart(method):
    """Two touching textured squares of one palette: only their motion differs."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(20, 235, (4, 8)), np.ones((4, 4))).astype(np.uint8)
    rgb, parts = np.full((4, 64, 64, 3), 255, np.uint8), np.full((4, 64, 64), -1)
    for t in range(4):
        for part, column in enumerate((16 - 2 * t, 32 + 2 * t)):
            rgb[t, 24:40, column:column + 16] = texture[:, 16 * part:16 * part + 16, None]
            parts[t, 24:40, column:column + 16] = part
    still = np.concatenate([rgb[:1]] * 4)
    by_motion = miou(flow_parts(rgb, parts >= 0, 2, method=method, motion=16.0, color=0.0), parts)
    assert by_motion > 0.85
    quarters = np.where(parts >= 0, 0, -1)
    quarters[:, 24:32][parts[:, 24:32] >= 0] = 1                # rows, which no motion tells apart
    assert segmentation_scores(flow_parts(rgb, parts >= 0, 2, method=method, motion=16.0), quarters)["miou"] < 0.5
    assert flow_parts(still, parts[[0] * 4] >= 0, 2, method=method).max() == 1, "without motion, position is left"


@pytest.mark.parametrize("name", list(BASELINES))
def test_baselines_repeat_themselves_and_take_any_count(name):
    scene = Scene("toy", "toys", "multi-frame", toy_clip(frames=3, views=1, size=32))
    function, inside, constants = BASELINES[name], scene.parts >= 0, tuned("multi-frame")[name]
    assert np.array_equal(*(function(scene.rgb, inside, 3, **constants) for _ in range(2)))
    assert function(scene.rgb, inside, 1, **constants).max() == 0
    assert function(scene.rgb, np.zeros_like(inside), 3, **constants).max() == -1
    few = inside & (np.cumsum(inside.ravel()).reshape(inside.shape) <= 2)
    assert function(scene.rgb, few, 5, **constants).max() <= 1, "no more parts than pixels"
    with pytest.raises(ValueError, match="at least 1"):
        function(scene.rgb, inside, 0)


def test_bad_constants_are_refused():
    rgb, parts = squares([[(2, 2)]], [(0, 0, 0)])
    for options, message in (({"space": "hsv"}, "space is one of"),):
        with pytest.raises(ValueError, match=message):
            kmeans_parts(rgb, parts >= 0, 1, **options)
    with pytest.raises(ValueError, match="two frames"):
        flow_parts(rgb, parts >= 0, 1)
    with pytest.raises(ValueError, match="method is one of"):
        flow_parts(np.concatenate([rgb, rgb]), np.concatenate([parts, parts]) >= 0, 1, method="raft")


def test_tuning_takes_the_best_of_the_grid():
    """Colours are the parts, and change places: places mislead."""
    colors = [(200, 30, 30), (30, 160, 30), (30, 30, 220)]
    rgb, parts = squares(np.array([(2, 2), (20, 2), (2, 20)])[[[0, 1, 2], [1, 2, 0], [2, 0, 1]]], colors, 32, 10)
    clip = replace(toy_clip(frames=3, views=1, size=32), rgb=rgb[:, None], parts=parts[:, None].astype(np.int16))
    scenes = [Scene("toy", "toys", "multi-frame", clip)] * 2
    best, tried = tune(scenes, "kmeans", {"space": ("rgb",), "position": (50.0, 0.0)})
    assert best == {"space": "rgb", "position": 0.0} and len(tried) == 2
    assert tried[1]["miou"] == tried[1]["ari"] == 1 > tried[0]["miou"]
    with pytest.raises(ValueError, match="no scene"):
        tune([], "flow")


@pytest.mark.parametrize("protocol", list(TUNED))
def test_the_constants_in_use_were_tried(protocol):
    """And are the best that the stored search has found."""
    import json
    from pathlib import Path

    stored = json.loads((Path(__file__).parent.parent / "data/results/baselines.json").read_text())["results"]
    for name, constants in tuned(protocol).items():
        assert all(value in GRIDS[name][key] for key, value in constants.items())
        assert stored["protocols"][protocol]["methods"][name]["best"] == constants
    assert tuned("rare-poses") == tuned("multi-view")
