"""What a training step minimises."""

import pytest
import torch
from diffusion_toys import PlainModel, tiny_model, toy_clip

from sp4dlib.diffusion import edm
from sp4dlib.diffusion.data import Batch, clips_views, latents
from sp4dlib.diffusion.edm import Pair
from sp4dlib.diffusion.objective import Draws, Objective, draw_known, make_draws


@pytest.fixture(scope="module")
def batch():
    return latents(clips_views([toy_clip(2, 3, 8), toy_clip(2, 3, 8, seed=1)]))


def generators(count=2, first=0):
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


def draws_of(batch, known=0.0, dropout=0.0):
    return make_draws(batch, generators(len(batch.rgb)), 0.0, 1.0, dropout, known)


def with_known(draws, rgb=(), part=()):
    masks = [torch.zeros_like(draws.known.rgb) for _ in range(2)]
    for mask, places in zip(masks, (rgb, part)):
        for place in places:
            mask[place] = True
    return draws._replace(known=Pair(*masks))


def inputs_of(model, objective, batch, draws):
    """What the network was given, and the losses."""
    seen = {}
    hook = model.register_forward_pre_hook(lambda _, args, told: seen.update(told, args=args), with_kwargs=True)
    loss = objective(batch, draws)
    hook.remove()
    return seen, loss


def test_without_known_images_it_is_the_denoising_loss(batch):
    model, draws = tiny_model(), draws_of(batch)
    loss = Objective(model)(batch, draws)
    plain = edm.denoising_loss(model, Pair(batch.rgb, batch.part), draws.noise, draws.sigma, batch.condition,
                               batch.cameras)
    torch.testing.assert_close(loss.total, plain.total.mean())
    torch.testing.assert_close(loss.rgb, plain.rgb.mean())
    assert loss.contrastive == 0


def test_known_images_go_in_clean_and_the_rest_noised(batch):
    model = PlainModel()
    draws = with_known(draws_of(batch), rgb=[(0, 1, 2)], part=[(1, 0, 0)])
    seen, _ = inputs_of(model, Objective(model), batch, draws)
    sigma = draws.sigma.reshape(2, 1, 1, 1, 1, 1)
    for given, clean, noise, known in zip(seen["args"], (batch.rgb, batch.part), draws.noise, draws.known):
        noisy = (clean + sigma * noise) / (1 + sigma**2).sqrt()
        torch.testing.assert_close(given[known], clean[known], rtol=0, atol=0)
        torch.testing.assert_close(given[~known], noisy[~known])


def test_what_is_said_of_known_images_does_not_count(batch):
    model, draws = PlainModel(), with_known(draws_of(batch), rgb=[(0, 1, 2), (1, 0, 1)])
    answer = []
    hook = model.register_forward_hook(lambda _, args, out: answer.append(out.rgb) or out.rgb.retain_grad())
    model.outer.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    loss = Objective(model)(batch, draws)
    loss.total.backward()
    hook.remove()
    gradient = answer[0].grad.flatten(3).abs().sum(-1)
    assert (gradient[draws.known.rgb] == 0).all() and (gradient[~draws.known.rgb] > 0).all()
    everything = draws._replace(known=Pair(*(torch.ones_like(k) for k in draws.known)))
    assert Objective(model)(batch, everything).total == 0


def test_pieces_of_a_batch_have_its_mean(batch):
    model, draws = tiny_model(), draws_of(batch, known=1.0)
    whole = Objective(model)(batch, draws).total
    parts = [Objective(model)(Batch(*(t[i:i + 1] for t in batch)), Draws(
        draws.sigma[i:i + 1], Pair(*(n[i:i + 1] for n in draws.noise)), draws.conditioned[i:i + 1],
        Pair(*(k[i:i + 1] for k in draws.known)))).total for i in range(2)]
    torch.testing.assert_close(sum(parts) / 2, whole)


def test_a_hidden_input_is_hidden(batch):
    objective, draws = Objective(tiny_model()), draws_of(batch, dropout=1.0)
    assert not draws.conditioned.any()
    other = batch._replace(condition=batch.condition + 1)
    assert objective(batch, draws).total == objective(other, draws).total
    shown = draws._replace(conditioned=torch.ones(2, dtype=torch.bool))
    assert objective(batch, shown).total != objective(other, shown).total


def test_stage_1_is_the_colour_branch_alone(batch):
    branch, draws = tiny_model().rgb, draws_of(batch)
    loss = Objective(branch)(batch, draws)
    assert loss.total == loss.rgb and loss.part == 0
    assert loss.total == Objective(branch)(batch._replace(part=batch.part + 1), draws).total
    seen, _ = inputs_of(branch, Objective(branch), batch, draws._replace(conditioned=torch.tensor([True, False])))
    shown = seen["args"][0][:, :, :, 12:]
    assert torch.equal(shown[0], batch.condition[0][:, None].expand_as(shown[0])) and (shown[1] == 0).all()
    with pytest.raises(ValueError, match="contrastive_weight"):
        Objective(branch, contrastive_weight=1.0)


def test_part_consistency_trains_head_and_part_branch(batch):
    model, draws = tiny_model(), draws_of(batch)
    objective = Objective(model, contrastive_weight=0.5, seed=3)
    loss = objective(batch, draws)
    torch.testing.assert_close(loss.total, (loss.rgb + loss.part) / 2 + 0.5 * loss.contrastive)
    loss.contrastive.backward()
    assert all(p.grad.abs().sum() > 0 for p in objective.head.parameters() if p.ndim > 1)
    assert model.part.conv_in.weight.grad.abs().sum() > 0 and model.part.conv_out.weight.grad is None
    again = Objective(model, contrastive_weight=0.5, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(objective.head.parameters(), again.head.parameters()))


def test_draws_belong_to_samples_not_to_batches(batch):
    both = draws_of(batch, 0.5, 0.5)
    second = make_draws(Batch(*(t[1:] for t in batch)), generators(1, 1), 0.0, 1.0, 0.5, 0.5)
    assert torch.equal(both.sigma[1:], second.sigma) and torch.equal(both.noise.part[1:], second.noise.part)
    assert torch.equal(both.known.rgb[1:], second.known.rgb) and torch.equal(both.conditioned[1:], second.conditioned)


def test_kinds_of_knowledge_have_their_shares():
    draws = torch.Generator().manual_seed(0)
    masks = [draw_known((3, 4), draws, 0.8) for _ in range(2000)]
    nothing = sum(not rgb.any() and not part.any() for rgb, part in masks) / 2000
    everything = sum(bool(rgb.all()) for rgb, _ in masks) / 2000
    frame = sum(bool(part.any()) for _, part in masks) / 2000
    assert nothing == pytest.approx(0.2 + 0.2 / 16, abs=0.04)          # a random subset may be empty
    assert everything == pytest.approx(0.4 + 0.2 / 16, abs=0.04) and frame == pytest.approx(0.2, abs=0.04)
    assert all((rgb[0].all() and part[0].all() and not part[1:].any()) for rgb, part in masks if part.any())
    assert not any(rgb.any() for rgb, _ in (draw_known((3, 4), draws, 0.0) for _ in range(50)))


def test_a_single_frame_is_never_all_there_is_to_know():
    """Frame 0 in both branches would leave nothing to learn."""
    draws = torch.Generator().manual_seed(0)
    masks = [draw_known((1, 4), draws, 0.8) for _ in range(1000)]
    assert not any(part.any() for _, part in masks)
    assert sum(bool(rgb.all()) for rgb, _ in masks) / 1000 == pytest.approx(0.6 + 0.2 / 16, abs=0.05)
