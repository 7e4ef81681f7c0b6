"""The training loop: it learns, it repeats, and stopping does not change what it does."""

import json
import math
import signal
from dataclasses import replace

import pytest
import torch
from diffusion_toys import PlainModel, toy_clip

from sp4dlib.diffusion import training as loop
from sp4dlib.diffusion.data import ClipTensors
from sp4dlib.diffusion.training import TrainConfig, heldout_loss, make_heldout, train

CONFIG = TrainConfig(steps=12, batch_size=2, learning_rate=3e-3, warmup=3, log_every=4, checkpoint_every=5)


@pytest.fixture(scope="module")
def data():
    return ClipTensors([toy_clip(frames=4, views=3, size=8)], frames=2, views=2)


@pytest.fixture(scope="module")
def whole(data):
    """One run that nothing disturbs."""
    return train(PlainModel(), data, CONFIG, heldout=make_heldout(data, 2, 2), progress=False)


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns(data):
    config = TrainConfig(steps=30, learning_rate=1e-2, warmup=5, ema=0.8, p_mean=0.5, evaluate_every=10)
    held = make_heldout(data, 2, p_mean=0.5)
    result = train(PlainModel(), data, config, heldout=held, progress=False)
    steps, losses = zip(*result.heldout)
    assert steps == (0, 10, 20, 30) and result.steps == 30 and result.finished
    assert losses[-1] < 0.7 * losses[0]
    assert losses[-1] == heldout_loss(result.ema, held)


def test_the_same_seed_gives_the_same_bytes(data, whole):
    again = train(PlainModel(), data, CONFIG, heldout=make_heldout(data, 2, 2), progress=False)
    assert again.history == whole.history and same_weights(again.model, whole.model)
    assert same_weights(again.ema, whole.ema)
    other = train(PlainModel(), data, replace(CONFIG, seed=1), progress=False)
    assert other.history[-1]["loss"] != whole.history[-1]["loss"]


def test_history_and_metrics_file_agree(data, tmp_path):
    seen = []
    result = train(PlainModel(), data, CONFIG, tmp_path, heldout=make_heldout(data, 2, 2), progress=False,
                   callback=lambda step, record: seen.append(record))
    lines = [json.loads(line) for line in (tmp_path / loop.METRICS).read_text().splitlines()]
    assert lines == result.history == seen
    assert [record["step"] for record in lines] == [0, 4, 8, 12]
    assert "loss" not in lines[0] and {"loss", "rgb", "part", "learning_rate", "grad_norm"} <= set(lines[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [loop.CHECKPOINT, loop.METRICS]


def test_a_killed_run_resumes_as_if_nothing_had_happened(data, whole, tmp_path):
    def die(step, record):
        if step == 8:
            raise RuntimeError("killed")

    held = make_heldout(data, 2, 2)
    with pytest.raises(RuntimeError, match="killed"):
        train(PlainModel(), data, CONFIG, tmp_path, heldout=held, callback=die, progress=False)
    assert torch.load(tmp_path / loop.CHECKPOINT, weights_only=True)["step"] == 5
    result = train(PlainModel(seed=9), data, CONFIG, tmp_path, heldout=held, progress=False)
    assert result.history == whole.history
    assert same_weights(result.model, whole.model) and same_weights(result.ema, whole.ema)
    assert len((tmp_path / loop.METRICS).read_text().splitlines()) == len(whole.history)


def test_ctrl_c_ends_after_a_whole_step_and_can_be_resumed(data, whole, tmp_path):
    held, before = make_heldout(data, 2, 2), signal.getsignal(signal.SIGINT)
    stopped = train(PlainModel(), data, CONFIG, tmp_path, heldout=held, progress=False,
                    callback=lambda step, _: signal.raise_signal(signal.SIGINT) if step == 8 else None)
    assert (stopped.steps, stopped.finished) == (8, False) and signal.getsignal(signal.SIGINT) is before
    result = train(PlainModel(seed=9), data, CONFIG, tmp_path, heldout=held, progress=False)
    assert result.finished and result.history == whole.history and same_weights(result.ema, whole.ema)
    done = train(PlainModel(), data, CONFIG, tmp_path, heldout=held, progress=False)     # nothing left to do
    assert done.history == whole.history and same_weights(done.model, whole.model)


def test_a_second_ctrl_c_breaks_off(data):
    def impatient(step, _):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)       # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            train(PlainModel(), data, CONFIG, callback=impatient, progress=False)
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_settings_do_not_resume(data, tmp_path):
    train(PlainModel(), data, replace(CONFIG, steps=2), tmp_path, progress=False)
    with pytest.raises(ValueError, match="batch_size"):
        train(PlainModel(), data, replace(CONFIG, steps=2, batch_size=1), tmp_path, progress=False)
    with pytest.raises(ValueError, match="steps"):                       # a cosine ends where it was to end
        train(PlainModel(), data, replace(CONFIG, steps=3), tmp_path, progress=False)
    fresh = train(PlainModel(), data, replace(CONFIG, steps=2, batch_size=1), tmp_path, resume=False, progress=False)
    assert fresh.steps == 2


def test_a_constant_rate_can_be_prolonged(data, tmp_path):
    config = replace(CONFIG, schedule="constant", log_every=1)
    short = train(PlainModel(), data, replace(config, steps=3), tmp_path, progress=False)
    longer = train(PlainModel(), data, replace(config, steps=6), tmp_path, progress=False)
    straight = train(PlainModel(), data, replace(config, steps=6), progress=False)
    assert short.steps == 3 and longer.history == straight.history


def test_a_broken_write_leaves_the_old_checkpoint(data, tmp_path, monkeypatch):
    train(PlainModel(), data, replace(CONFIG, steps=2), tmp_path, progress=False)
    before = (tmp_path / loop.CHECKPOINT).read_bytes()

    def half_written(state, path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half_written)
    with pytest.raises(OSError, match="disk full"):
        train(PlainModel(), data, replace(CONFIG, steps=2), tmp_path, resume=False, progress=False)
    assert (tmp_path / loop.CHECKPOINT).read_bytes() == before


def test_nan_is_named(data):
    model = PlainModel()
    with torch.no_grad():
        model.outer.bias.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="loss is nan at step 0.*learning_rate"):
        train(model, data, CONFIG, progress=False)


def test_heldout_loss_repeats_whatever_its_batches(data):
    model, held = PlainModel(), make_heldout(data, windows=3, levels=5, seed=4)
    assert len(held.sigma) == 15 and held.sigma[:5].diff().gt(0).all() and torch.equal(held.sigma[:5], held.sigma[5:10])
    assert held.sigma[:5].log().mean() == pytest.approx(-1.2, abs=1e-4)
    reference = heldout_loss(model.train(), held)
    assert model.training and heldout_loss(model, held) == reference
    assert heldout_loss(model, held, batch_size=4) == pytest.approx(reference, rel=1e-5)


def test_condition_dropout_hides_the_input(data):
    seen = []
    model = PlainModel()
    model.register_forward_pre_hook(lambda _, args, inputs: seen.append(inputs["conditioned"]), with_kwargs=True)
    train(model, data, replace(CONFIG, steps=4, batch_size=40, condition_dropout=0.3), progress=False)
    hidden = 1 - torch.cat(seen).float().mean()
    assert 0.18 < hidden < 0.42


def test_rate_rises_then_falls():
    config = TrainConfig(steps=100, learning_rate=1.0, warmup=10)
    rates = [config.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0) and rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5) and rates[99] < 0.001
    assert replace(config, schedule="constant").rate(99) == 1.0


@pytest.mark.parametrize("bad", [{"schedule": "linear"}, {"steps": 0}, {"batch_size": 0}, {"ema": 1.0},
                                 {"condition_dropout": 1.5}])
def test_bad_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        TrainConfig(**bad)
