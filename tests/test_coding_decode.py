"""Colours to parts: exact on clean pictures, close on damaged ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coding_creatures import creature
from sp4dlib import coding
from sp4dlib.clips import make_clip
from sp4dlib.coding import explain
from sp4dlib.evaluation import interior, segmentation_scores
from sp4dlib.rigs import assets as registry


def renamed(decoded, true):
    """Whether two id maps are equal up to a one-to-one renaming that keeps -1."""
    pairs = np.unique(np.stack([decoded.ravel(), true.ravel()]), axis=1).T
    return (len(pairs) == len(set(pairs[:, 0])) == len(set(pairs[:, 1]))
            and all((a == -1) == (b == -1) for a, b in pairs.tolist()))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(0, 1000), st.booleans(), st.booleans())
def test_clean_pictures_decode_exactly_down_to_single_pixels(count, seed, told, background):
    random = np.random.default_rng(seed)
    parts = random.integers(-1 if background else 0, count, (2, 3, 12, 14)).astype(np.int16)
    colors = coding.part_colors(random.random((count, 3)), [[0] * 3, [1] * 3], np.eye(3))
    decoded = coding.decode(coding.encode(parts, colors), count if told else None)
    assert decoded.dtype == np.int16 and decoded.shape == parts.shape
    assert renamed(decoded, parts)


@pytest.mark.parametrize("count", [1, 2, 5, 17, 40, 60])
def test_clean_creatures_decode_exactly_with_any_distinct_colours(count):
    parts, colors, _ = creature(count, seed=count)
    assert renamed(coding.decode(coding.encode(parts, colors)), parts)
    close = np.stack([np.arange(count) * 3 + 20, np.full(count, 99), np.arange(count)], -1) / 255
    assert renamed(coding.decode(coding.encode(parts, close), count), parts)


def test_ids_follow_size_then_colour_and_known_colours_keep_their_ids():
    parts = np.full((1, 6, 6), -1, np.int16)
    parts[0, 0], parts[0, 1, :3], parts[0, 1, 3:] = 2, 0, 1
    colors = np.array([[0.9, 0, 0], [0.1, 0, 0], [0.5, 0.5, 0]])
    decoded = coding.decode(coding.encode(parts, colors))
    assert decoded[0, 0, 0] == 0 and decoded[0, 1, 5] == 1 and decoded[0, 1, 0] == 2
    np.testing.assert_array_equal(coding.decode(coding.encode(parts, colors), colors=colors), parts)


def damaged(parts, colors, noise_last=False):
    return coding.corrupt(coding.encode(parts, colors), 12 / 255, 2, np.random.default_rng(0), noise_last=noise_last)


def quality(decoded, parts):
    """Interior mIoU, plain mIoU, ceiling."""
    inside = interior(parts, 5)
    return (segmentation_scores(decoded[inside], parts[inside])["miou"], segmentation_scores(decoded, parts)["miou"],
            segmentation_scores(coding.resampled_parts(parts, 2), parts)["miou"])


@pytest.mark.parametrize("noise_last", [False, True])
@pytest.mark.parametrize("count", [2, 12, 30])
def test_damaged_creatures(count, noise_last):
    parts, colors, parents = creature(count, seed=count, size=160)
    parts, kept = coding.fold_small_parts(parts, parents, 0.01)
    decoded = coding.decode(damaged(parts, colors[kept], noise_last), len(kept))
    inside, plain, ceiling = quality(decoded, parts)
    assert inside >= 0.95
    assert plain >= 0.85 * ceiling
    assert decoded.max() < len(kept)


def test_known_colours_survive_damage_with_their_ids():
    parts, colors, _ = creature(8, seed=1, size=128)
    decoded = coding.decode(damaged(parts, colors), colors=colors)
    inside = interior(parts, 5)
    assert np.mean(decoded[inside] == parts[inside]) > 0.995


@pytest.mark.parametrize("shift", [0, 1])
def test_a_border_is_not_a_third_part(shift):
    """Grey is what black and white make where they meet, and a part elsewhere."""
    parts = np.full((1, 96, 96), -1, np.int16)
    parts[0, 10 + shift:86, 10 + shift:50], parts[0, 30:60, 70:90] = 0, 1
    images = damaged(parts, np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]))
    decoded = coding.decode(images, 2)
    assert segmentation_scores(decoded, parts)["miou"] > 0.95
    grey = decoded[0, 45, 80]
    assert not np.any(decoded[0, :, :60] == grey)


def test_number_of_parts_is_estimated_and_never_exceeded():
    parts, colors, parents = creature(9, seed=2, size=128)
    parts, kept = coding.fold_small_parts(parts, parents, 0.01)
    images = damaged(parts, colors[kept])
    assert abs(coding.decode(images).max() + 1 - len(kept)) <= 1
    assert coding.decode(images, 3).max() == 2
    np.testing.assert_array_equal(coding.decode(images), coding.decode(images))


def test_empty_pictures_have_no_parts():
    white = np.full((2, 16, 16, 3), 255, np.uint8)
    assert np.all(coding.decode(white) == -1)
    noisy = coding.corrupt(white, 6 / 255, 1, np.random.default_rng(0))
    assert np.all(coding.decode(noisy) == -1)


@pytest.mark.parametrize("images, change, message", [
    (np.zeros((4, 4, 3)), {}, "uint8"),
    (np.zeros((4, 4), np.uint8), {}, r"\(\.\.\., H, W, 3\)"),
    (np.zeros((4, 4, 3), np.uint8), {"num_parts": -1}, "whole number"),
    (np.zeros((4, 4, 3), np.uint8), {"colors": [[0, 0, 9.0]]}, r"in \[0, 1\]"),
])
def test_bad_input_is_named(images, change, message):
    with pytest.raises(ValueError, match=message):
        coding.decode(images, **change)


def test_incremental_gradient_equals_a_new_rendering(monkeypatch):
    monkeypatch.setattr(explain, "FAINT", 0)
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, (1, 24, 24)).astype(np.int32)
    palette = random.uniform(0, 255, (4, 3)).astype(np.float32)
    picture = random.uniform(0, 255, (1, 24, 24, 3)).astype(np.float32)
    taps = np.array([0.4, 0.24, 0.06], np.float32)

    def gradient_and_error(labels):
        residual = picture - explain.blur(palette[labels], taps)
        return explain.blur(residual, taps), float((residual.astype(np.float64) ** 2).sum())

    gradient, before = gradient_and_error(labels)
    at = np.array([12 * 24 + 7])
    now, then = labels.ravel()[at], np.array([[3 - labels.ravel()[at[0]]]])
    promised = explain._change(palette, gradient, at, now, then, taps)[0, 0]
    explain._spread(gradient, at, palette[then[:, 0]] - palette[now], taps)
    labels.ravel()[at] = then[:, 0]
    expected, after = gradient_and_error(labels)
    np.testing.assert_allclose(gradient, expected, atol=1e-2)
    assert promised == pytest.approx(after - before, rel=1e-3)


@pytest.mark.parametrize("name", ["animals_pack/Alpaca", "fish_pack/Shark"])
def test_damaged_clips_of_unseen_rigs(assets, name):
    rig = registry.load(name)
    clip = make_clip(rig, 0, [0, rig.animations[0].duration / 3], [20, 110], 10.0, 256)
    parts, kept = coding.fold_small_parts(clip.parts, clip.part_parents, 0.01)
    colors = coding.part_colors(clip.centers[0, kept], clip.boxes[0, 0], clip.cameras.rotation(0))
    assert renamed(coding.decode(coding.encode(parts, colors)), parts)
    inside, plain, ceiling = quality(coding.decode(damaged(parts, colors), len(kept)), parts)
    assert inside >= 0.95
    assert plain >= 0.75 * ceiling
