"""The benchmark of the trainer in small: both loops do the same work, and its numbers are what they say."""

import pytest

from benchmarks import train as benchmark
from sp4dlib.diffusion.recipe import budget, read_recipe

RECIPE = """
size = 32
[model.sizes]
model_channels = 16
channel_mult = [1]
num_res_blocks = 1
attention_resolutions = []
head_dim = 8
context_dim = 0
motion_context_dim = 0
num_noise_level_channels = 4
camera_channels = 4
norm_groups = 4
[data]
frames = 2
views = 2
[vae]
patch = 4
[stages.rgb]
[stages.dual]
batch_size = 2
known = 0.5
contrastive_weight = 0.1
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "tiny.toml"
    path.write_text(RECIPE)
    return benchmark.plain(read_recipe(path))


def test_the_latents_keep_their_side(job):
    assert job.recipe.vae is None and job.recipe.size // job.recipe.factor == 32 // 4
    assert job.recipe.channels == 12 and list(job.recipe.stages) == ["dual"]


def test_both_loops_compute_the_same(job):
    losses = [loop(benchmark.network(job.recipe, "cpu"), job, "cpu", 3)[1]
              for loop in (benchmark.trainer, benchmark.plain_loop)]
    assert len(losses[0]) == 3 and losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][0] != losses[0][1]


def test_numbers_belong_together(job, monkeypatch):
    monkeypatch.setattr(benchmark, "matrix_rate", lambda device, precision: 1e9)
    found = benchmark.measure(job, "cpu", 3, 2)
    assert found["operations_per_sample"] == 3 * budget(job.recipe)["dual"].sample_flops
    for name in ("trainer", "plain"):
        assert len(found[name]["step_seconds"]) == 4, "the first step of each turn does not count"
        expected = found[name]["samples_per_second"] * found["operations_per_sample"] / 1e9
        assert found[name]["share_of_matrix_rate"] == pytest.approx(expected, rel=0.01)
    ratio = found["trainer"]["samples_per_second"] / found["plain"]["samples_per_second"]
    assert found["ratio"] == pytest.approx(ratio, rel=0.01)


def test_a_matrix_product_has_a_rate():
    assert all(benchmark.matrix_rate("cpu", (64,), 2, precision) > 1e6 for precision in ("no", "bf16"))


@pytest.mark.parametrize("size", ["nano", "wide"])
def test_sizes_are_there(size):
    job = benchmark.task(size, "cpu")
    assert job.config.precision == {"nano": "no", "wide": "bf16"}[size] and budget(job.recipe)["dual"].sample_flops > 0
