"""The smallest recipe learns what it is shown."""

import pytest
import torch

from sp4dlib.clips import make_clip
from sp4dlib.diffusion import nano
from sp4dlib.diffusion.data import ClipTensors
from sp4dlib.diffusion.training import heldout_loss, make_heldout, train
from sp4dlib.rigs.procedural import quadruped


@torch.no_grad()
def test_the_untrained_network_answers_its_noisy_input():
    model = nano.nano_model()
    noisy = torch.randn(2, 1, 2, 3, nano.LATENTS, 8, 8, generator=torch.Generator().manual_seed(0))
    out = model(noisy[0], noisy[1], condition=noisy[0, :, :, 0], timestep=torch.zeros(1), cameras=torch.zeros(1, 3, 2))
    for answer, given in zip((out.rgb, out.part), noisy):
        gain = ((answer * given).sum() / given.square().sum()).item()
        assert gain == pytest.approx(0.7, abs=0.02)
        assert (answer - gain * given).std() < 0.1 * answer.std()          # what group normalisation adds and takes
    assert torch.equal(model.rgb.conv_in.weight[:24], model.part.conv_in.weight[:24])


def test_same_seed_same_network():
    before = torch.random.get_rng_state()
    first, again, other = nano.nano_model(1), nano.nano_model(1), nano.nano_model(2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters()))


def test_narrow_networks_cannot_pass_noise_through(monkeypatch):
    monkeypatch.setitem(nano.NANO_MODEL, "model_channels", 16)
    with pytest.raises(ValueError, match="width of at least 24"):
        nano.nano_model()


def test_a_few_steps_learn():
    """A quarter of the ``ci`` recipe, on half its batch: the held-out loss falls below 0.7 of its start."""
    rig = quadruped()
    clip = make_clip(rig, 0, [0.0, 0.25, 0.5, 0.75], [0, 90, 180, 270], 10, size=nano.SIZE)
    data, config = ClipTensors([clip], nano.FRAMES, nano.VIEWS), nano.nano_config("ci")
    held, model = make_heldout(data, 1, 4, p_mean=config.p_mean, p_std=config.p_std), nano.nano_model()
    start = heldout_loss(model, held)
    short = nano.nano_config("ci", steps=config.steps // 4, batch_size=config.batch_size // 2)
    result = train(model, data, short, progress=False)
    assert heldout_loss(result.ema, held) < 0.7 * start
