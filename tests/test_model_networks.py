"""What the networks mix, how they start, what they refuse; folding."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sp4dlib.model import BiDiFuse, DualUNet, MultiViewUNet, fold, unfold
from sp4dlib.model.attention import MODES, GatedFeedForward, MultiViewTransformer, _written_out
from sp4dlib.model.blocks import TemporalConv
from sp4dlib.model.conditioning import camera_angles, condition_vector, sinusoid

SMALL = dict(in_channels=6, out_channels=3, model_channels=16, channel_mult=(1, 2), num_res_blocks=1,
             attention_resolutions=(2,), head_dim=8, context_dim=5, motion_context_dim=3, norm_groups=4,
             num_noise_level_channels=8, camera_channels=8)
B, T, V, SIZE = 2, 3, 2, 4


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def trained(network, seed=0):
    """The network with its zero weights drawn at random, so that every path counts."""
    generator = rng(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def clip(seed=0, channels=3, batch=B, frames=T, views=V):
    draw = rng(seed)
    shape = (batch, frames, views, channels, SIZE, SIZE)
    return {"rgb": torch.randn(shape, generator=draw), "part": torch.randn(shape, generator=draw),
            "condition": torch.randn(batch, frames, channels, SIZE, SIZE, generator=draw),
            "timestep": torch.randn(batch, generator=draw), "cameras": torch.randn(batch, views, 2, generator=draw),
            "context": torch.randn(batch, frames, 5, generator=draw),
            "view_latents": torch.randn(batch, views, channels, SIZE, SIZE, generator=draw)}


def single(seed=0):
    """Arguments of a MultiViewUNet."""
    given = clip(seed)
    sample = torch.cat([given.pop("rgb"), given.pop("part")], 3)
    del given["condition"]
    return {"sample": sample, **given}


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return trained(MultiViewUNet(**SMALL))


@pytest.fixture(scope="module")
def dual():
    torch.manual_seed(0)
    return trained(DualUNet(**SMALL))


# --- attention modes -------------------------------------------------------------------------------------------------

def transformer(mode, context_dim=None):
    torch.manual_seed(0)
    return MultiViewTransformer(8, 4, 16, context_dim, None, mode, 2).eval()


def changed_by(layer, frames, views, pixels, at):
    """(frame, view, pixel) of every token that the camera block changes when the token ``at`` changes."""
    tokens = torch.randn(1, frames, views, pixels, 8, generator=rng())
    other = tokens.clone()
    other[0][at][0] += 1        # one channel: layer normalisation would remove a shift of all
    embedding = torch.randn(1, views, 16, generator=rng(1))
    with torch.no_grad():
        difference = layer._across_views(tokens, None, embedding) - layer._across_views(other, None, embedding)
    return {tuple(index) for index in (difference[0].abs().amax(-1) > 1e-6).nonzero().tolist()}


def test_joint_attention_sees_all_pixels_of_all_views_of_the_frame():
    expected = {(1, view, pixel) for view in range(3) for pixel in range(5)}
    assert changed_by(transformer("joint"), 2, 3, 5, (1, 2, 3)) == expected


def test_view_attention_sees_the_same_pixel_of_all_views_of_the_frame():
    assert changed_by(transformer("view"), 2, 3, 5, (1, 2, 3)) == {(1, view, 3) for view in range(3)}


def test_pixel_groups_are_neighbours_of_one_view():
    assert changed_by(transformer("pixel_group"), 2, 4, 16, (1, 2, 9)) == {(1, 2, pixel) for pixel in (8, 9, 10, 11)}


def test_pixel_groups_straddle_views_where_views_do_not_divide_pixels():
    # Rows of frame 0 are 9·view + pixel; the group of row 9 (view 1, pixel 0) is 8..11.
    assert changed_by(transformer("pixel_group"), 1, 4, 9, (0, 1, 0)) == {(0, 0, 8), (0, 1, 0), (0, 1, 1), (0, 1, 2)}


def test_frame_attention_sees_the_same_pixel_of_the_view_in_all_frames():
    layer = transformer("joint")
    tokens = torch.randn(1, 3, 2, 4, 8, generator=rng())
    other = tokens.clone()
    other[0, 1, 1, 2, 0] += 1
    with torch.no_grad():
        difference = (layer._across_frames(tokens, None) - layer._across_frames(other, None))[0].abs().amax(-1)
    assert {tuple(index) for index in (difference > 1e-6).nonzero().tolist()} == {(frame, 1, 2) for frame in range(3)}


@pytest.mark.parametrize(("frames", "views", "pixels"), [(2, 4, 9), (3, 2, 4), (5, 3, 4)])
def test_pixel_groups_take_the_released_codes_context(frames, views, pixels):
    """Against a loop that gathers each group of rows and looks up its context by the formula."""
    layer = transformer("pixel_group", context_dim=5)
    block = layer.temporal_transformer_blocks[0]
    tokens = torch.randn(1, frames, views, pixels, 8, generator=rng())
    context, embedding = torch.randn(frames, 5, generator=rng(1)), torch.randn(1, views, 16, generator=rng(2))
    alpha = torch.sigmoid(layer.time_mixer.mix_factor)
    with torch.no_grad():
        mixed = tokens[0] + layer.time_pos_embed(embedding[0])[:, None]
        expected = torch.empty_like(mixed)
        for frame in range(frames):
            rows = [divmod(row, pixels) for row in range(views * pixels)]
            for group in range(pixels):
                members = rows[group * views:(group + 1) * views]
                x = torch.stack([mixed[frame, view, pixel] for view, pixel in members])
                told = block.attn2(context[(group * frames + frame) // pixels])
                for (view, pixel), value in zip(members, block(x, 0, told)):
                    expected[frame, view, pixel] = alpha * tokens[0, frame, view, pixel] + (1 - alpha) * value
        actual = layer._across_views(tokens, context[None, :, None, None], embedding)[0]
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_temporal_convolution_is_the_3x1x1_convolution():
    torch.manual_seed(0)
    conv, x = TemporalConv(4), torch.randn(2, 4, 6, 9)
    expected = torch.nn.functional.conv3d(x.unflatten(-1, (3, 3)), conv.weight, conv.bias, padding=(1, 0, 0))
    torch.testing.assert_close(conv(x), expected.flatten(-2))


# --- order of images, conditions -------------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", MODES)
def test_images_are_ordered_frame_major_with_views_fastest(mode):
    torch.manual_seed(0)
    network, given = trained(MultiViewUNet(**SMALL, attention_mode=mode)), single()
    vector = condition_vector(given["cameras"], torch.ones(B), 1e-5, 8, 8)
    images = [(b, t, v) for b in range(B) for t in range(T) for v in range(V)]
    inputs = {"x": torch.stack([given["sample"][index] for index in images]),
              "timesteps": torch.stack([given["timestep"][b] for b, t, v in images]),
              "y": torch.stack([vector[b, v] for b, t, v in images]), "context": given["context"],
              "cond_view": given["view_latents"].flatten(0, 1)}
    with torch.no_grad():
        expected, actual = network.forward_official(inputs, T, V), network(**given)
    for image, index in zip(expected, images):
        torch.testing.assert_close(actual[index], image, atol=1e-5, rtol=1e-5)


def test_camera_angles_follow_the_release():
    angles = camera_angles(torch.tensor([[0.0, 0.0], [0.3, -0.5], [-2.0, 7.0]]))
    expected = [[math.pi / 2, 0], [math.pi / 2 - 0.3, 2 * math.pi - 0.5], [math.pi / 2 + 2, 7 - 2 * math.pi]]
    torch.testing.assert_close(angles, torch.tensor(expected))


def test_sinusoid_is_cosine_then_sine():
    value, frequencies = torch.tensor([0.7]), torch.exp(-math.log(10000) * torch.arange(4) / 4)
    expected = torch.cat([(value * frequencies).cos(), (value * frequencies).sin()])[None]
    torch.testing.assert_close(sinusoid(value, 8), expected)


def test_unconditional_entries_of_a_batch_see_no_condition(dual):
    given, keep = clip(), torch.tensor([True, False])
    other = {name: value.clone() for name, value in given.items()}
    for name in ("condition", "context", "view_latents"):
        other[name][1] = 9.0
    with torch.no_grad():
        free, moved = dual(**given, conditioned=keep), dual(**other, conditioned=keep)
        full = dual(**given)
    assert torch.equal(free.rgb, moved.rgb) and torch.equal(free.part, moved.part)
    torch.testing.assert_close(free.rgb[0], full.rgb[0], atol=1e-5, rtol=1e-5)
    assert (free.rgb[1] - full.rgb[1]).abs().max() > 1e-3


def test_absent_conditions_are_zeros_and_the_noise_entries_vanish(unet):
    given = single()
    zeros = given | {name: torch.zeros_like(given[name]) for name in ("context", "view_latents")}
    absent = {name: given[name] for name in ("sample", "timestep", "cameras")}
    with torch.no_grad():
        torch.testing.assert_close(unet(**absent), unet(**zeros), atol=1e-5, rtol=1e-5)
    vector = condition_vector(given["cameras"], torch.tensor([True, False]), 1e-5, 8, 8)
    assert (vector[0, :, :4] == 1).all() and not vector[1, :, :8].any() and vector[1, :, 8:].any()


def test_every_condition_matters(dual):
    given = clip()
    with torch.no_grad():
        before = dual(**given)
        for name in given:
            after = dual(**(given | {name: given[name] + 0.5}))
            assert (after.rgb - before.rgb).abs().max() > 1e-4, name
            assert (after.part - before.part).abs().max() > 1e-4, name


# --- starting points, fusion, features -------------------------------------------------------------------------------

def test_a_new_network_predicts_zero_and_learns_everywhere():
    torch.manual_seed(0)
    network, given = DualUNet(**SMALL), clip()
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    output = network(**given)
    assert not output.rgb.any() and not output.part.any()
    for _ in range(3):      # the zeros open up from the outside in: output, then residuals and fusion, then the rest
        optimiser.zero_grad()
        output = network(**given)
        ((output.rgb - 1).square().mean() + (output.part + 1).square().mean()).backward()
        optimiser.step()
    still = [name for name, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not still


def test_zero_initialised_fusion_starts_as_two_separate_networks():
    torch.manual_seed(0)
    fused = DualUNet(**SMALL)
    for branch in (fused.rgb, fused.part):
        trained(branch)
    separate = DualUNet(**SMALL, fusion="none")
    missing = separate.load_state_dict(fused.state_dict(), strict=False)
    assert all(name.startswith("fusion_") for name in missing.unexpected_keys) and not missing.missing_keys
    given = clip()
    with torch.no_grad():
        a, b = fused(**given), separate(**given)
        moved = fused(**(given | {"part": given["part"] + 1}))
    assert torch.equal(a.rgb, b.rgb) and torch.equal(a.part, b.part) and torch.equal(moved.rgb, a.rgb)


def test_fusion_adds_one_shared_residual():
    torch.manual_seed(0)
    fuse, (rgb, part) = BiDiFuse(4, zero_init=False), torch.randn(2, 3, 4, 5, 5)
    new_rgb, new_part = fuse(rgb, part)
    torch.testing.assert_close(new_rgb - rgb, new_part - part)
    pixel = torch.cat([rgb[0, :, 1, 2], part[0, :, 1, 2]])
    hidden = (fuse.conv1.weight[:, :, 0, 0] @ pixel + fuse.conv1.bias).clamp(min=0)
    expected = rgb[0, :, 1, 2] + fuse.conv2.weight[:, :, 0, 0] @ hidden + fuse.conv2.bias
    torch.testing.assert_close(new_rgb[0, :, 1, 2], expected)


def test_the_colour_branch_alone_is_stage_one(dual):
    given = clip()
    separate = DualUNet(**SMALL, fusion="none").eval()
    separate.load_state_dict(dual.state_dict(), strict=False)
    condition = given["condition"][:, :, None].expand_as(given["rgb"])
    rest = {name: given[name] for name in ("timestep", "cameras", "context", "view_latents")}
    with torch.no_grad():
        alone = separate.rgb(torch.cat([given["rgb"], condition], 3), **rest)
        torch.testing.assert_close(separate(**given).rgb, alone)


def test_stage_two_starts_from_the_colour_branch(dual):
    network = DualUNet(**SMALL)
    network.copy_rgb_to_part()
    assert all(torch.equal(a, b) for a, b in zip(network.rgb.parameters(), network.part.parameters()))


def test_features_are_what_the_output_convolution_reads(dual):
    given = clip()
    with torch.no_grad():
        output = dual(**given, return_features=True)
        rgb, part = output.features
        assert rgb.shape == part.shape == (B, T, V, 16, SIZE, SIZE)
        torch.testing.assert_close(dual.part.output(part.flatten(0, 2)), output.part.flatten(0, 2))
        assert dual(**given).features is None


# --- practice --------------------------------------------------------------------------------------------------------

def test_saved_networks_return(dual, tmp_path):
    dual.save_pretrained(tmp_path)
    again, given = DualUNet.from_pretrained(tmp_path), clip()
    assert again.config.attention_mode == "joint" and tuple(again.config.channel_mult) == (1, 2)
    with torch.no_grad():
        assert torch.equal(again(**given).part, dual(**given).part)


def test_gradient_checkpointing_changes_nothing(dual):
    given, gradients = clip(), []
    for enable in (dual.disable_gradient_checkpointing, dual.enable_gradient_checkpointing):
        enable()
        dual.zero_grad()
        dual(**given).part.square().sum().backward()
        gradients.append([p.grad.clone() for p in dual.parameters() if p.grad is not None])
    dual.disable_gradient_checkpointing()
    dual.zero_grad()
    assert len(gradients[0]) == len(gradients[1])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_half_precision_stays_close(dual):
    given = clip()
    half = DualUNet.from_config(dual.config)
    half.load_state_dict(dual.state_dict())
    half.to(torch.bfloat16)
    inputs = {name: value.to(torch.bfloat16) for name, value in given.items()}
    with torch.no_grad():
        exact, rough = dual(**given).rgb, half(**inputs).rgb
    assert rough.dtype == torch.bfloat16 and (rough - exact).std() < 0.1 * exact.std()


def test_context_free_networks_have_no_cross_attention():
    network = MultiViewUNet(**(SMALL | {"context_dim": None, "motion_context_dim": None}))
    assert not any("attn2" in name or "norm2.weight" in name and "transformer" in name for name in network.state_dict())
    given = single()
    with pytest.raises(ValueError, match="built without context"):
        network(**given)


@pytest.mark.parametrize(("change", "message"), [
    ({"attention_mode": "3d"}, "choose one of joint, view, pixel_group"),
    ({"norm_groups": 32}, "norm_groups=32 does not divide"),
    ({"head_dim": 5}, "head_dim=5 does not divide"),
    ({"camera_channels": 7}, "even sizes"),
    ({"fusion": "concat"}, "choose one of bidifuse, none")])
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        DualUNet(**(SMALL | change))


@pytest.mark.parametrize(("change", "message"), [
    ({"sample": torch.zeros(B, T, V, 5, 4, 4)}, r"sample must be \(B, T, V, 6, H, W\)"),
    ({"sample": torch.zeros(B, T, V, 6, 5, 4)}, "multiples of 2"),
    ({"cameras": torch.zeros(B, V + 1, 2)}, r"cameras must have shape \(2, 2, 2\)"),
    ({"timestep": torch.zeros(())}, r"timestep must have shape \(2,\)"),
    ({"conditioned": torch.ones(1, dtype=torch.bool)}, r"conditioned must have shape \(2,\)"),
    ({"context": torch.zeros(B, T + 1, 5)}, "context must have shape")])
def test_inputs_that_do_not_fit_are_refused(unet, change, message):
    with pytest.raises(ValueError, match=message):
        unet(**(single() | change))


def test_official_inputs_that_do_not_fit_are_refused(unet):
    with pytest.raises(ValueError, match="lack timesteps, y; there are x"):
        unet.forward_official({"x": torch.zeros(6, 6, 4, 4)}, T, V)
    inputs = {"x": torch.zeros(7, 6, 4, 4), "timesteps": torch.zeros(7), "y": torch.zeros(7, 24)}
    with pytest.raises(ValueError, match="7 images are not whole clips of 3 frames x 2 views"):
        unet.forward_official(inputs, T, V)


def test_wrapped_feed_forward_maps_take_part():
    """What LoRA does: the map is replaced by a module that adds to its result."""
    class Wrapped(torch.nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.weight, self.bias = base, base.weight, base.bias

        def forward(self, x):
            return self.base(x) + 1

    torch.manual_seed(0)
    layer, x = GatedFeedForward(8), torch.randn(3, 8)
    with torch.no_grad():
        plain = layer(x)
    torch.testing.assert_close(layer(x), plain)
    layer.net[0].proj = Wrapped(layer.net[0].proj)
    value, gate = layer.net[0].proj(x).chunk(2, -1)
    torch.testing.assert_close(layer(x), layer.net[2](value * torch.nn.functional.gelu(gate)))


def test_branches_of_different_sizes_are_refused(dual):
    with pytest.raises(ValueError, match="of the same sizes"):
        dual(**(clip() | {"part": torch.zeros(B, T, V + 1, 3, SIZE, SIZE)}))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_folding_loses_nothing(factor, rows, columns, seed):
    images = torch.randn(2, 3, 3, rows * factor, columns * factor, generator=rng(seed))
    folded = fold(images, factor)
    assert folded.shape == (2, 3, 3 * factor**2, rows, columns)
    assert torch.equal(unfold(folded, factor), images)
    patch = images[1, 2, 1, :factor, -factor:].flatten()        # second colour, upper right patch
    assert torch.equal(folded[1, 2, factor**2:2 * factor**2, 0, -1], patch)


def test_sizes_that_do_not_fold_are_refused():
    with pytest.raises(ValueError, match="divides both"):
        fold(torch.zeros(3, 4, 6), 4)
    with pytest.raises(ValueError, match="no multiple of 2²"):
        unfold(torch.zeros(6, 2, 2), 2)


@pytest.mark.parametrize("length", [4, 64])
def test_attention_written_out_is_attention(length):
    """In 16 bits and with gradients a CPU takes another way to the same values and gradients."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(3, 2, length, 8, generator=generator, dtype=torch.float64).requires_grad_()
              for _ in range(3)]
    ours = _written_out(*inputs)
    theirs = torch.nn.functional.scaled_dot_product_attention(*inputs)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(*(torch.autograd.grad(result.square().sum(), inputs) for result in (ours, theirs))):
        torch.testing.assert_close(a, b)
