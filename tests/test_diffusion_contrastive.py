"""The contrastive part-consistency loss, against what it is by definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from sp4dlib.diffusion.contrastive import ProjectionHead, contrastive_loss, info_nce, pool_regions


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_definition(embedded, part, temperature):
    """Equation 2, term by term."""
    unit = [row / row.norm() for row in embedded.double()]
    means = []
    for i in range(len(unit)):
        others = [k for k in range(len(unit)) if k != i]
        total = sum(math.exp(float(unit[i] @ unit[k]) / temperature) for k in others)
        terms = [-math.log(math.exp(float(unit[i] @ unit[j]) / temperature) / total)
                 for j in others if part[j] == part[i]]
        if terms:
            means.append(sum(terms) / len(terms))
    return sum(means) / len(means) if means else 0.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=9), st.integers(0, 99), st.sampled_from([0.07, 0.5, 2.0]))
def test_it_is_the_equation(parts, seed, temperature):
    embedded = random(len(parts), 5, seed=seed)
    loss = info_nce(embedded, torch.tensor(parts), temperature)
    assert loss.item() == pytest.approx(by_definition(embedded, parts, temperature), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("positives", [1, 2, 5])
def test_its_least_value_is_the_log_of_the_number_of_positives(positives):
    part = torch.arange(4).repeat_interleave(positives + 1)
    apart = functional.one_hot(part, 4).float() * 7            # of any length
    assert info_nce(apart, part).item() == pytest.approx(math.log(positives), abs=1e-4)
    assert info_nce(random(len(part), 4), part) > math.log(positives) + 0.1


def test_descent_pulls_a_part_together_and_parts_apart():
    part = torch.tensor([0, 0, 0, 1, 1, 1])
    embedded = random(6, 4).requires_grad_()

    def within_and_between():
        unit = functional.normalize(embedded.detach(), dim=1)
        cosine, same = unit @ unit.T, part[:, None] == part
        return cosine[same & ~torch.eye(6, dtype=torch.bool)].mean(), cosine[~same].mean()

    before = within_and_between()
    optimizer = torch.optim.SGD([embedded], 1.0)
    for _ in range(200):
        optimizer.zero_grad()
        info_nce(embedded, part, 0.5).backward()
        optimizer.step()
    after = within_and_between()
    assert after[0] > max(0.95, before[0]) and after[1] < min(-0.3, before[1])


def test_a_part_seen_once_is_only_a_negative():
    embedded = random(3, 4).requires_grad_()
    loss = info_nce(embedded, torch.tensor([0, 0, 7]))
    assert loss.item() == pytest.approx(by_definition(embedded.detach(), [0, 0, 7], 0.07), rel=1e-5)
    alone = info_nce(embedded, torch.tensor([0, 1, 2]))
    alone.backward()
    assert alone == 0 and (embedded.grad == 0).all()


def test_a_temperature_is_positive():
    with pytest.raises(ValueError, match="temperature"):
        info_nce(random(2, 2), torch.tensor([0, 0]), 0.0)


def test_pooling_is_the_mean_under_the_mask():
    features = random(2, 2, 2, 3, 4, 4)
    ids = torch.randint(-1, 3, (2, 2, 2, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.int16)
    regions = pool_regions(features, ids)
    row = 0
    for b, t, v in [(b, t, v) for b in range(2) for t in range(2) for v in range(2)]:
        for part in range(3):
            mask = ids[b, t, v] == part
            if mask.any():
                torch.testing.assert_close(regions.features[row], features[b, t, v][:, mask].mean(1))
                assert regions.clip[row] == b and regions.part[row] == 3 * b + part
                row += 1
    assert row == len(regions.part)


def test_a_cell_counts_by_its_share():
    features = torch.zeros(1, 1, 1, 1, 1, 2)
    features[..., 0], features[..., 1] = 1.0, 5.0
    ids = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 1]], dtype=torch.int16)[None, None, None]     # 4/4 and 1/4 of part 0
    regions = pool_regions(features, ids, least=0.5)
    assert regions.features[:, 0].tolist() == pytest.approx([(1 + 5 / 4) / 1.25, 5.0])
    assert pool_regions(features, ids).part.tolist() == [0], "three quarters of a feature pixel are too little"


def test_parts_of_different_clips_are_different():
    features, ids = random(2, 2, 1, 4, 2, 2), torch.zeros(2, 2, 1, 2, 2, dtype=torch.int16)
    regions = pool_regions(features, ids)
    assert regions.part.tolist() == [0, 0, 1, 1] and regions.clip.tolist() == [0, 0, 1, 1]


def test_nothing_to_see_costs_nothing():
    features = random(1, 2, 2, 8, 4, 4).requires_grad_()
    head = ProjectionHead(8)
    loss = contrastive_loss(features, torch.full((1, 2, 2, 8, 8), -1, dtype=torch.int16), head)
    loss.backward()
    assert loss == 0 and (features.grad == 0).all()
    assert all(p.grad is not None and (p.grad == 0).all() for p in head.parameters()), "all devices have all gradients"


def test_bfloat16_does_not_blur_it():
    features, ids = random(1, 2, 3, 8, 8, 8), torch.zeros(1, 2, 3, 16, 16, dtype=torch.int16)
    ids[..., 8:] = 1
    head = ProjectionHead(8)
    exact = contrastive_loss(features, ids, head)
    with torch.autocast("cpu", torch.bfloat16):
        rough = contrastive_loss(features.bfloat16(), ids, head)
        long = info_nce(1e6 * random(4, 3), torch.tensor([0, 0, 1, 1]))
    assert rough.dtype == torch.float32 and rough.item() == pytest.approx(exact.item(), rel=0.05)
    assert torch.isfinite(long)


def test_masks_must_lie_on_features():
    with pytest.raises(ValueError, match="multiples"):
        pool_regions(random(1, 1, 1, 2, 4, 4), torch.zeros(1, 1, 1, 6, 6, dtype=torch.int16))
