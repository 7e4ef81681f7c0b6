"""The training loop in pieces, on several processes, in other precisions."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusion_toys import PlainModel, tiny_model, toy_clip

from sp4dlib.diffusion.data import ClipTensors
from sp4dlib.diffusion.training import CHECKPOINT, TrainConfig, make_heldout, train

TESTS = Path(__file__).parent
CONFIG = TrainConfig(steps=3, batch_size=4, learning_rate=3e-3, warmup=1, log_every=1, checkpoint_every=2, known=0.5,
                     condition_dropout=0.3)
SCRIPT = """
import json, sys
from diffusion_toys import PlainModel, toy_clip
from sp4dlib.diffusion.data import ClipTensors
from sp4dlib.diffusion.training import TrainConfig, train
for minutes in (0, None):
    train(PlainModel(), ClipTensors([toy_clip(4, 3, 8)], 2, 2), TrainConfig(**json.loads(sys.argv[2])), sys.argv[1],
          device="cpu", progress=False, minutes=minutes)
"""


@pytest.fixture(scope="module")
def data():
    return ClipTensors([toy_clip(frames=4, views=3, size=8)], frames=2, views=2)


def losses(result):
    return [record["loss"] for record in result.history]


def test_the_contrastive_head_is_resumed_too(data, tmp_path):
    config = replace(CONFIG, steps=4, batch_size=2, contrastive_weight=0.3)
    whole = train(tiny_model(), data, config, progress=False)
    assert all(record["contrastive"] > 0 for record in whole.history)

    def die(step, _):
        if step == 3:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(tiny_model(), data, config, tmp_path, callback=die, progress=False)
    weights = torch.load(tmp_path / CHECKPOINT, weights_only=True)["weights"]
    assert any(name.startswith("head.") for name in weights)
    result = train(tiny_model(seed=5), data, config, tmp_path, progress=False)
    assert result.history == whole.history
    assert all(torch.equal(a, b) for a, b in zip(result.ema.parameters(), whole.ema.parameters()))


def test_a_batch_in_pieces_is_the_same_batch(data):
    one, two = (train(PlainModel(), data, replace(CONFIG, accumulate=n), progress=False) for n in (1, 2))
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    for a, b in zip(one.model.parameters(), two.model.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_time_can_be_limited(data, tmp_path):
    config = replace(CONFIG, steps=6)
    whole = train(PlainModel(), data, config, progress=False)
    counts = []
    for _ in range(6):
        result = train(PlainModel(), data, config, tmp_path, minutes=0, progress=False)
        counts.append(result.steps)
    assert counts == [1, 2, 3, 4, 5, 6] and result.finished and result.history == whole.history


def test_bfloat16_runs_and_keeps_whole_weights(data):
    rough = train(tiny_model(), data, replace(CONFIG, precision="bf16", contrastive_weight=0.1), progress=False)
    exact = train(tiny_model(), data, replace(CONFIG, contrastive_weight=0.1), progress=False)
    assert all(p.dtype == torch.float32 for p in rough.model.parameters())
    assert losses(rough) == pytest.approx(losses(exact), rel=0.05) and losses(rough) != losses(exact)


def test_gradient_checkpointing_changes_nothing(data):
    plain, again = (train(tiny_model(), data, replace(CONFIG, gradient_checkpointing=flag), progress=False)
                    for flag in (False, True))
    assert again.model.rgb.gradient_checkpointing and not plain.model.rgb.gradient_checkpointing
    assert losses(again) == pytest.approx(losses(plain), rel=1e-6)
    for a, b in zip(plain.history, again.history):
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-5)


def test_workers_do_not_change_what_is_drawn(data):
    here, there = (train(PlainModel(), data, replace(CONFIG, workers=n), progress=False) for n in (0, 1))
    assert here.history == there.history


def test_samples_are_made_with_the_mean_weights_on_the_way(data):
    seen = []

    def sampler(step, network):
        seen.append((step, network.training, [p.detach().clone() for p in network.parameters()]))

    config = replace(CONFIG, steps=4, sample_every=2)
    sampled = train(PlainModel(), data, config, sampler=sampler, progress=False)
    plain = train(PlainModel(), data, config, progress=False)
    assert [(step, mode) for step, mode, _ in seen] == [(2, False), (4, False)]
    assert all(torch.equal(a, b) for a, b in zip(seen[-1][2], sampled.ema.parameters()))
    assert sampled.history == plain.history and sampled.model.training


def test_the_colour_branch_trains_alone(data):
    held = make_heldout(data, 2, 2, p_mean=0.5)
    branch = tiny_model().rgb
    result = train(branch, data, replace(CONFIG, steps=12, p_mean=0.5, learning_rate=1e-2, ema=0.5, known=0.0),
                   heldout=held, progress=False)
    assert result.heldout[-1][1] < 0.9 * result.heldout[0][1]
    assert all(record["part"] == 0 for record in result.history[1:])


@pytest.mark.parametrize("bad, match", [({"accumulate": 3}, "accumulate"), ({"precision": "half"}, "precision"),
                                        ({"known": -1.0}, "known"), ({"workers": -1}, "workers"),
                                        ({"contrastive_weight": -1.0}, "contrastive_weight")])
def test_bad_settings_are_named(bad, match):
    with pytest.raises(ValueError, match=match):
        replace(CONFIG, **bad)


def test_two_processes_take_the_same_steps_as_one(data, tmp_path):
    """One step; then, resumed, the rest. Both leave the loop together when time is up, or this would hang."""
    (tmp_path / "script.py").write_text(SCRIPT)
    settings = {"steps": 3, "batch_size": 4, "warmup": 1, "log_every": 1, "known": 0.5}
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2",
               "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
               str(tmp_path / "script.py"), str(tmp_path / "two"), json.dumps(settings)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    two = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    one = train(PlainModel(), data, TrainConfig(**settings), progress=False)
    assert [record["step"] for record in two] == [1, 2, 3]
    assert [record["loss"] for record in two] == pytest.approx(losses(one), rel=1e-5)
    assert [record["grad_norm"] for record in two] == pytest.approx([r["grad_norm"] for r in one.history], rel=1e-4)
