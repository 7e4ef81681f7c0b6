"""The benchmark's re-statement of the official graph against the parity files; our networks against it and loops."""

import math

import pytest
import torch
from model_parity_files import ParityFile

from benchmarks.official_graph import OfficialDualUNet, OfficialUNet
from sp4dlib.model import DualUNet, MultiViewUNet
from sp4dlib.model.attention import MODES, GatedFeedForward, MultiViewTransformer
from sp4dlib.model.conditioning import build_conditioning

CASES = {"sv4d2_nano": OfficialUNet, "sv4d2_8views_nano": OfficialUNet, "sp4d_nano": OfficialDualUNet}


@pytest.mark.parametrize("name", CASES)
def test_the_restatement_computes_what_the_release_does(name):
    case = ParityFile(name)
    model = CASES[name](**case.config["network"])
    model.load_state_dict(case.weights)
    inputs = {key: value.clone() for key, value in case.part("in.").items()}
    for key in case.part("grad.in."):
        inputs[key].requires_grad_()
    sample = model(inputs, *case.layout)
    torch.testing.assert_close(sample, case.tensors["out.sample"], atol=1e-5, rtol=0)

    (sample * inputs["loss_weight"]).sum().backward()
    for key, expected in case.part("grad.in.").items():
        assert (inputs[key].grad - expected).norm() <= 1e-4 * expected.norm(), key
    largest = max(case.part("grad.norm.").values())
    for key, parameter in model.named_parameters():
        expected = case.tensors[f"grad.norm.{key}"]
        norm = 0.0 if parameter.grad is None else parameter.grad.norm()
        assert abs(norm - expected) <= 1e-4 * expected + 1e-6 * largest, key


# --- our networks against the re-statement, where the parity files do not reach ---------------------------------------

WIDE = dict(model_channels=64, channel_mult=[1, 2], num_res_blocks=1, attention_resolutions=[1], num_head_channels=32,
            context_dim=12, adm_in_channels=20)


def random_weights(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise / parameter[0].numel() ** 0.5 if noise.ndim > 1
                            else noise if name.endswith("mix_factor")
                            else 0.1 * noise + name.endswith("weight"))
    return model


def official_inputs(batch: int, frames: int, views: int, height: int, width: int, channels: int = 8) -> dict:
    generator, images = torch.Generator().manual_seed(1), batch * frames * views

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    return {"x": draw(images, channels, height, width), "timesteps": draw(images), "y": draw(images, 20),
            "context": draw(batch, frames, 12), "cond_view": draw(batch * views, 4, height, width)}


@pytest.mark.parametrize(("kind", "ours", "pixel_groups", "layout"), [
    (OfficialUNet, MultiViewUNet, True, (2, 2, 3, 4, 8)),           # 32 and 8 pixels: not divisible by 3 views
    (OfficialUNet, MultiViewUNet, True, (1, 3, 4, 8, 4)),
    (OfficialUNet, MultiViewUNet, False, (2, 3, 5, 4, 6)),
    (OfficialDualUNet, DualUNet, True, (2, 2, 5, 4, 4))])
def test_wider_networks_of_other_layouts_and_batches_agree(kind, ours, pixel_groups, layout):
    config = WIDE | {"use_3d_attention": pixel_groups}
    yardstick = random_weights(kind(**config))
    network = ours.from_official(yardstick.state_dict(), **config)
    results = []
    for evaluate in (yardstick, network.forward_official):
        inputs = official_inputs(*layout, channels=16 if ours is DualUNet else 8)
        for value in inputs.values():
            value.requires_grad_()
        sample = evaluate(inputs, *layout[1:3])
        sample.square().sum().backward()
        results.append((sample.detach(), {name: value.grad for name, value in inputs.items()}))
    (expected, expected_gradients), (actual, gradients) = results
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=0)
    for name, expected in expected_gradients.items():
        assert expected.norm() > 0 and (gradients[name] - expected).norm() <= 1e-4 * expected.norm(), name


# --- one attention layer against loops over its sequences ------------------------------------------------------------

class Loops:
    """The attention layer by loops over clips, frames and sequences, from its parameters alone."""

    def __init__(self, layer: MultiViewTransformer, head_dim: int, groups: int) -> None:
        self.p, self.mode, self.head_dim, self.groups = dict(layer.named_parameters()), layer.mode, head_dim, groups

    def dense(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ self.p[f"{name}.weight"].T + self.p.get(f"{name}.bias", torch.zeros(()))

    def two_layers(self, name: str, x: torch.Tensor) -> torch.Tensor:
        x = self.dense(f"{name}.linear_1", x)
        return self.dense(f"{name}.linear_2", x * torch.sigmoid(x))

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return x * self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

    def feed_forward(self, name: str, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.dense(f"{name}.net.0.proj", x).tensor_split(2, -1)
        return self.dense(f"{name}.net.2", value * gate * (1 + torch.erf(gate / math.sqrt(2))) / 2)

    def attention(self, name: str, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (self.dense(f"{name}.to_{letter}", x) for letter in "qkv")
        heads = []
        for start in range(0, x.shape[1], self.head_dim):
            cut = slice(start, start + self.head_dim)
            heads.append(torch.softmax(q[:, cut] @ k[:, cut].T / math.sqrt(self.head_dim), -1) @ v[:, cut])
        return self.dense(f"{name}.to_out.0", torch.cat(heads, -1))

    def block(self, name: str, x: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        """``x`` (length, C) is one sequence; ``token`` (D,) its context, or (length, D) one for each member."""
        if f"{name}.norm_in.weight" in self.p:
            x = x + self.feed_forward(f"{name}.ff_in", self.norm(f"{name}.norm_in", x))
        x = x + self.attention(f"{name}.attn1", self.norm(f"{name}.norm1", x))
        x = x + self.dense(f"{name}.attn2.to_out.0", self.dense(f"{name}.attn2.to_v", token))
        return x + self.feed_forward(f"{name}.ff", self.norm(f"{name}.norm3", x))

    def sequences(self, frame: int, frames: int, views: int, pixels: int) -> list[tuple[list, int]]:
        """Members (view, pixel) of each sequence of the camera block, and the frame whose context it is told."""
        rows = [(view, pixel) for view in range(views) for pixel in range(pixels)]
        if self.mode == "joint":
            return [(rows, frame)]
        if self.mode == "view":
            return [([(view, pixel) for view in range(views)], frame) for pixel in range(pixels)]
        return [(rows[group * views:][:views], (group * frames + frame) // pixels) for group in range(pixels)]

    def clip(self, x: torch.Tensor, embedding: torch.Tensor, context: torch.Tensor,
             latents: torch.Tensor) -> torch.Tensor:
        """One clip: (T, V, C, h, w), (V, E), (T, D), (V, D', 2 h, 2 w)."""
        frames, views, channels, h, w = x.shape
        pixels, places = h * w, [(t, v) for t in range(frames) for v in range(views)]
        grouped = x.reshape(frames, views, self.groups, -1)
        grouped = grouped - grouped.mean(-1, keepdim=True)
        grouped = grouped / (grouped.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        normed = grouped.reshape(x.shape).movedim(2, -1) * self.p["norm.weight"] + self.p["norm.bias"]
        tokens = self.dense("proj_in", normed).flatten(2, 3)                                    # (T, V, N, C)
        tokens = {(t, v): self.block("transformer_blocks.0", tokens[t, v], context[t]) for t, v in places}
        tokens = {(t, v, n): tokens[t, v][n] for t, v in places for n in range(pixels)}

        camera, alpha = self.two_layers("time_pos_embed", embedding), torch.sigmoid(self.p["time_mixer.mix_factor"])
        after = {}
        for t in range(frames):
            for members, told in self.sequences(t, frames, views, pixels):
                mixed = torch.stack([tokens[t, v, n] + camera[v] for v, n in members])
                mixed = self.block("temporal_transformer_blocks.0", mixed, context[told])
                after |= {(t, v, n): alpha * tokens[t, v, n] + (1 - alpha) * y for (v, n), y in zip(members, mixed)}
        tokens, after = after, {}

        angles = torch.arange(frames)[:, None] * 10000 ** (-torch.arange(channels // 2) / (channels // 2))
        when, alpha = torch.cat([angles.cos(), angles.sin()], -1), torch.sigmoid(self.p["motion_mixer.mix_factor"])
        when = self.two_layers("motion_pos_embed", when)
        halved = (latents[..., ::2, ::2] + latents[..., 1::2, ::2] + latents[..., ::2, 1::2] + latents[..., 1::2, 1::2])
        halved = (halved / 4).flatten(2)
        for v in range(views):
            for n in range(pixels):
                mixed = torch.stack([tokens[t, v, n] + when[t] for t in range(frames)])
                mixed = self.block("motion_transformer_blocks.0", mixed, halved[v, :, n])
                after |= {(t, v, n): alpha * tokens[t, v, n] + (1 - alpha) * y for t, y in enumerate(mixed)}
        out = torch.stack([self.dense("proj_out", after[t, v, n]) for t, v in places for n in range(pixels)])
        return x + out.reshape(frames, views, h, w, channels).movedim(-1, 2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("channels", "head_dim", "frames", "views", "size"), [
    (24, 8, 3, 4, (3, 5)), (64, 32, 2, 3, (2, 4)), (16, 16, 4, 2, (2, 3))])
def test_attention_layers_are_the_loops_they_stand_for(mode, channels, head_dim, frames, views, size):
    batch, embed, context_dim, motion_dim, groups = 2, 10, 7, 3, 4
    layer = random_weights(MultiViewTransformer(channels, head_dim, embed, context_dim, motion_dim, mode, groups))
    generator = torch.Generator().manual_seed(2)
    x, embedding, context, latents = (torch.randn(shape, generator=generator).requires_grad_() for shape in (
        (batch, frames, views, channels, *size), (batch, frames, views, embed), (batch, frames, context_dim),
        (batch, views, motion_dim, 2 * size[0], 2 * size[1])))
    loops, inputs = Loops(layer, head_dim, groups), (x, embedding, context, latents)
    expected = torch.stack([loops.clip(x[b], embedding[b, 0], context[b], latents[b]) for b in range(batch)])
    condition = build_conditioning(embedding, context, latents, [size])
    actual = layer(x.flatten(0, 2), condition).unflatten(0, (batch, frames, views))
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-5)
    with torch.no_grad():
        inference = layer(x.flatten(0, 2), build_conditioning(embedding, context, latents, [size]))
    torch.testing.assert_close(inference, actual.flatten(0, 2), atol=1e-5, rtol=1e-5)
    for got, wanted in zip(*(torch.autograd.grad(result.square().sum(), inputs) for result in (actual, expected))):
        assert wanted.norm() > 0 and (got - wanted).norm() <= 1e-4 * wanted.norm()


# --- memory and compilation ------------------------------------------------------------------------------------------

def test_chunked_feed_forward_changes_nothing_but_memory():
    config = WIDE | {"use_3d_attention": True}
    network = DualUNet.from_official(random_weights(OfficialDualUNet(**config)).state_dict(), **config)
    inputs, sizes = official_inputs(1, 2, 3, 4, 8, channels=16), []
    handles = [module.net[2].register_forward_pre_hook(lambda _, args: sizes.append(args[0][..., 0].numel()))
               for module in network.modules() if isinstance(module, GatedFeedForward)]
    with torch.no_grad():
        whole = network.forward_official(inputs, 2, 3)
        assert max(sizes) == 2 * 3 * 32
        network.enable_forward_chunking(100)
        sizes.clear()
        torch.testing.assert_close(network.forward_official(inputs, 2, 3), whole, atol=1e-5, rtol=1e-5)
        assert max(sizes) == 100
        network.disable_forward_chunking()
        sizes.clear()
        assert torch.equal(network.forward_official(inputs, 2, 3), whole) and max(sizes) == 2 * 3 * 32
    for handle in handles:
        handle.remove()
    with pytest.raises(ValueError, match="at least one token"):
        network.enable_forward_chunking(0)


def test_the_network_is_one_graph():
    network = MultiViewUNet(in_channels=8, model_channels=32, channel_mult=(1,), num_res_blocks=1, head_dim=16,
                            context_dim=12, num_noise_level_channels=4, camera_channels=8, attention_mode="pixel_group")
    random_weights(network)
    inputs = official_inputs(1, 2, 3, 2, 4)
    torch.compiler.reset()
    compiled = torch.compile(network.forward_official, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(inputs, 2, 3), network.forward_official(inputs, 2, 3))
