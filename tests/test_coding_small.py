"""Small pictures: parts two or three pixels wide, after an autoencoder of patches, blur and noise."""

import numpy as np
import pytest
from scipy import ndimage

from coding_creatures import creature
from sp4dlib import coding
from sp4dlib.coding import explain, soft
from sp4dlib.evaluation import segmentation_scores


def small(count=10, seed=3):
    """Parts (3, 3, 64, 64) with those under 1 % folded, and their pictures."""
    parts, colors, parents = creature(count, seed=seed, size=64, frames=3, views=3)
    parts, kept = coding.fold_small_parts(parts, parents, 0.01)
    return parts, coding.encode(parts, colors[kept]), len(kept)


def blurred(images, sigma, noise):
    stack = ndimage.gaussian_filter(images.astype(np.float64), (0, 0, sigma, sigma, 0))
    return np.clip(np.round(stack + np.random.default_rng(0).normal(0, noise, stack.shape)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("damage", [lambda x: coding.code_patches(x, 2, 8), lambda x: blurred(x, 0.5, 5)],
                         ids=["coded", "blurred"])
def test_thin_parts_survive(damage):
    parts, images, count = small()
    images = damage(images)
    assert segmentation_scores(coding.decode(images, count), parts)["miou"] > 0.85
    estimated = coding.decode(images)
    assert segmentation_scores(estimated, parts)["miou"] > 0.8
    assert abs(estimated.max() + 1 - count) <= count
    assert coding.decode(images, 3).max() == 2


def test_what_patches_lack_is_seen_without_labels():
    _, images, _ = small()
    lossy = coding.code_patches(images, 2, 6)
    lacks = {}
    for name, stack in (("clean", images), ("lossy", lossy)):
        picture = stack.reshape(-1, 64, 64, 3).astype(np.float32)
        lacks[name] = np.trace(soft.missing(picture, (picture < 240).any(-1)))
    assert lacks["lossy"] > 1.5 * lacks["clean"]


def test_gradient_and_curvature_are_those_of_the_likelihood():
    random = np.random.default_rng(0)
    factor = random.normal(size=(12, 12))
    precision = (factor @ factor.T / 100).astype(np.float32)
    taps, residual = explain.gaussian_taps(0.7), random.normal(0, 9, (1, 12, 12, 3)).astype(np.float32)
    step = np.zeros_like(residual)
    step[0, 5, 4] = 3, -2, 1                                       # row odd, column even

    def nats(r):
        patches = soft.fold(r).reshape(-1, 12).astype(np.float64)
        return 0.5 * np.einsum("mi,ij,mj->", patches, precision, patches)

    change = nats(residual) - nats(residual - explain.blur(step, taps))
    gradient = soft.weigh(residual, precision, taps)[0, 5, 4]
    block = soft.curvature(precision, taps)[1, 0]
    move = step[0, 5, 4]
    assert change == pytest.approx(gradient @ move - 0.5 * move @ block @ move, rel=1e-3)


@pytest.mark.parametrize("size", [(15, 17), (9, 30)])
def test_odd_sizes_and_parts_at_the_rim(size):
    parts = np.full((2, *size), -1, np.int16)
    parts[:, :, :4], parts[:, 4:, 4:9] = 0, 1
    images = blurred(coding.encode(parts, np.array([[0.1, 0.5, 0.9], [0.9, 0.2, 0.1]]))[None], 0.4, 4)[0]
    decoded = coding.decode(images, 2)
    assert decoded.shape == parts.shape
    assert segmentation_scores(decoded, parts)["miou"] > 0.95


def test_known_colours_keep_their_ids_and_calls_agree():
    parts, colors, _ = creature(6, seed=1, size=64, frames=2, views=2)
    images = blurred(coding.encode(parts, colors), 0.5, 6)
    decoded = coding.decode(images, colors=colors)
    assert np.mean(decoded[parts >= 0] == parts[parts >= 0]) > 0.95
    np.testing.assert_array_equal(decoded, coding.decode(images, colors=colors))


def test_all_numbers_of_a_patch_lose_nothing():
    _, images, _ = small()
    np.testing.assert_array_equal(coding.code_patches(images, 2, 12), images)
    with pytest.raises(ValueError, match="side must divide"):
        coding.code_patches(images, 3, 8)
