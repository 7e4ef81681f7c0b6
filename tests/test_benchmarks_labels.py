"""The pieces of the label benchmark: its Potts model against an exhaustive search, and its matched score."""

from types import SimpleNamespace

import numpy as np
import pytest
from lifting_meshes import thirds, tube

from benchmarks import labels
from sp4dlib.lifting.surface import weld


@pytest.mark.parametrize("seed", range(6))
def test_an_expansion_is_the_best_there_is(seed):
    generator = np.random.default_rng(seed)
    count, parts = 8, 3
    cost = generator.uniform(0, 3, (count, parts))
    pairs = np.array([(a, b) for a in range(count) for b in range(a + 1, count) if generator.random() < 0.5])
    first, second = pairs.T
    weight, start = generator.uniform(0, 2, len(pairs)), generator.integers(0, parts, count)

    def energy(chosen):
        return labels.potts_energy(cost, first, second, weight, np.where(chosen, 1, start))

    best = min(energy((np.arange(2**count)[k] >> np.arange(count)) & 1 > 0) for k in range(2**count))
    assert energy(labels.expansion(cost, first, second, weight, start, 1)) == pytest.approx(best, abs=1e-6)


def test_potts_takes_specks_away_and_leaves_parts():
    mesh = tube(30, 12)
    surface = weld(mesh)
    truth = surface.gather(thirds(mesh, 30, 12))
    votes = 10.0 * np.eye(3)[truth]
    odd = np.random.default_rng(0).choice(len(votes), 12, replace=False)
    votes[odd] = 10.0 * np.eye(3)[(truth[odd] + 1) % 3]
    found = labels.potts(surface, votes, 1.0)
    assert (votes.argmax(1) != truth).sum() == 12 and (found != truth).sum() <= 3
    np.testing.assert_array_equal(labels.potts(surface, votes, 1e-6), votes.argmax(1))


def test_names_of_parts_do_not_matter():
    mesh = tube(30, 12)
    truth = thirds(mesh, 30, 12)
    subject = SimpleNamespace(vertices=mesh.vertices, faces=mesh.faces, labels=truth, joints=np.zeros((3, 3)))
    assert labels.matched_miou(subject, (truth + 1) % 3) == 1
    assert labels.matched_miou(subject, np.where(truth == 2, 5, 1)) == pytest.approx((1 + 0.5) / 3, abs=0.02)
