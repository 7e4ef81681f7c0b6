"""Whole files of the official layout: read, computed with, written; and what is said about files that do not fit."""

import ctypes
import logging
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import errors
from official_files import PARITY, Official
from official_reference import Decoder, KLEncoder, VisionTransformer
from safetensors.torch import load_file, save_file

from sp4dlib.model import MultiViewUNet, convert, encoders, official

transformers = pytest.importorskip("transformers", reason="the image encoder needs the extra `official`")


@pytest.fixture(scope="module")
def releases() -> dict[str, Official]:
    return {kind: Official(kind) for kind in PARITY}


@pytest.fixture(scope="module")
def sv4d2(releases) -> Official:
    return releases["sv4d2"]


@pytest.fixture(scope="module")
def files(releases, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("official")
    return {kind: release.write(folder) for kind, release in releases.items()}


@pytest.mark.parametrize("kind", PARITY)
@torch.no_grad()
def test_a_file_becomes_modules_that_compute_what_the_official_ones_do(kind, releases, files):
    release, random = releases[kind], torch.Generator().manual_seed(3)
    modules = official.load(files[kind], config=release.config)
    assert official.kind_of(modules["unet"]) == kind
    for module in modules.values():
        assert not any(tensor.is_meta for tensor in [*module.parameters(), *module.buffers()])
    assert not any(module.training for module in modules.values())

    sample = modules["unet"].forward_official(release.inputs, *release.layout)
    torch.testing.assert_close(sample, release.sample, atol=1e-5, rtol=0)

    image = torch.rand(2, 3, 24, 16, generator=random) * 2 - 1
    mode = modules["vae"].encode(image).latent_dist.mode()
    torch.testing.assert_close(mode, release.encoder(image), atol=2e-5, rtol=1e-5)
    latents = torch.randn(2, 4, 6, 4, generator=random)
    torch.testing.assert_close(modules["vae"].decode(latents).sample, release.decoder(latents), atol=2e-5, rtol=1e-5)
    assert modules["vae"].config.scaling_factor == 0.18215

    pixels = torch.randn(3, 3, 28, 28, generator=random)
    embeds = modules["image_encoder"](pixels).image_embeds
    torch.testing.assert_close(embeds, release.tower(pixels), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", PARITY)
def test_a_file_returns_as_it_came(kind, releases, files, tmp_path):
    modules = official.load(files[kind], config=releases[kind].config)
    official.save(modules, tmp_path / "again.safetensors")
    before, after = load_file(files[kind]), load_file(tmp_path / "again.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [path.name for path in tmp_path.iterdir()] == ["again.safetensors"]

    again = official.load(tmp_path / "again.safetensors", config=releases[kind].config)     # the name tells nothing
    assert official.kind_of(again["unet"]) == kind


def test_names_and_shapes_are_a_bijection_at_full_size():
    with torch.device("meta"):
        vae, tower = encoders.build_vae(), encoders.build_image_encoder()
        reference = {"first_stage_model.decoder.": Decoder(128, (1, 2, 4, 4), 2),
                     "conditioner.embedders.0.open_clip.model.visual.": VisionTransformer()}
        for i in (1, 4, 5):
            reference[f"conditioner.embedders.{i}.encoder."] = KLEncoder()
    expected = {prefix + name: tuple(value.shape) for prefix, module in reference.items()
                for name, value in module.state_dict().items()}
    found, thirds = {}, {}
    for module, pieces in ((vae, encoders.vae_pieces(vae)),
                           (tower, encoders.image_encoder_pieces(tower.state_dict()))):
        state = module.state_dict()
        assert pieces.keys() == state.keys()
        for ours, piece in pieces.items():
            if piece.form == "third":
                thirds.setdefault(piece.name, []).append(piece.third)
            else:
                assert piece.name not in found
            found |= dict.fromkeys((piece.name, *piece.copies), piece.official_shape(tuple(state[ours].shape)))
    assert found == expected
    assert all(sorted(rows) == [0, 1, 2] for rows in thirds.values()) and len(thirds) == 64
    count = {name: sum(parameter.numel() for parameter in module.parameters()) for name, module in reference.items()}
    assert [round(value / 1e6, 1) for value in count.values()] == [49.5, 632.1, 34.2, 34.2, 34.2]


def test_the_dtype_is_that_of_the_file_or_as_asked(sv4d2, files):
    dtypes = {"unet": torch.bfloat16, "image_encoder": torch.float16}
    mixed = official.load(files["sv4d2"], dtype=dtypes, config=sv4d2.config)
    assert {name: {p.dtype for p in module.parameters()} for name, module in mixed.items()} == {
        "unet": {torch.bfloat16}, "vae": {torch.float32}, "image_encoder": {torch.float16}}
    ours = mixed["unet"].to_official()
    assert all(torch.equal(ours[name], weight.bfloat16()) for name, weight in sv4d2.unet.items())
    half = official.load(files["sv4d2"], dtype=torch.float16, components=["vae"], config=sv4d2.config)
    assert half["vae"].dtype == torch.float16 and half["unet"] is half["image_encoder"] is None


def test_what_the_release_never_evaluates_is_left_out(sv4d2, tmp_path, caplog):
    extra = {"conditioner.embedders.1.encoder.decoder.conv_in.weight": torch.zeros(2),
             "conditioner.embedders.4.encoder.post_quant_conv.bias": torch.zeros(2),
             "conditioner.embedders.0.open_clip.model.token_embedding.weight": torch.zeros(2),
             "conditioner.embedders.0.open_clip.model.logit_scale": torch.zeros(()),
             "model_ema.decay": torch.zeros(())}
    with caplog.at_level(logging.INFO, "sp4dlib"):
        official.load(sv4d2.write(tmp_path, **extra), config=sv4d2.config)
    assert "sv4d2.safetensors: 5 tensors are not used (" in caplog.text
    assert "2 of conditioner.embedders.0" in caplog.text and "1 of model_ema.decay" in caplog.text


def test_the_network_alone_can_be_read_and_written(sv4d2, tmp_path):
    alone = {name: None for name in sv4d2.state if not name.startswith("model.")}
    path = sv4d2.write(tmp_path, **alone)
    modules = official.load(path, components=("unet",), config=sv4d2.config)
    official.save(modules, tmp_path / "unet.safetensors")
    assert load_file(tmp_path / "unet.safetensors").keys() == load_file(path).keys()


def test_all_that_does_not_fit_is_one_error_with_the_name_of_the_file(sv4d2, tmp_path):
    visual = "conditioner.embedders.0.open_clip.model.visual."
    changes = {"first_stage_model.decoder.conv_in.bias": None, visual + "proj": torch.zeros(32, 40),
               "model.diffusion_model.surplus": torch.zeros(1)}
    path = sv4d2.write(tmp_path, **changes)
    with pytest.raises(ValueError) as caught:
        official.load(path, config=sv4d2.config)
    message = str(caught.value)
    assert message.startswith("sv4d2.safetensors: ")
    assert "1 missing (first_stage_model.decoder.conv_in.bias)" in message
    assert "1 unexpected (model.diffusion_model.surplus)" in message
    assert f"1 misshapen ({visual}proj (32, 40) (expected (40, 32)))" in message


def test_encoders_that_are_not_copies_are_refused(sv4d2, tmp_path):
    name = "conditioner.embedders.5.encoder.quant_conv.weight"
    path = sv4d2.write(tmp_path, **{name: sv4d2.state[name] + 1e-3})
    with pytest.raises(ValueError, match=r"embedders\.5\.encoder\.quant_conv\.weight differs from conditioner\.emb"):
        official.load(path, components=["vae"], config=sv4d2.config)


def test_the_kind_is_told_from_the_names_of_tensors_and_file(releases, tmp_path):
    nameless = releases["sv4d2_8views"].write(tmp_path, "weights.safetensors")
    config = releases["sv4d2_8views"].config
    with pytest.raises(ValueError, match="may be sv4d2 or sv4d2_8views.*give kind="):
        official.load(nameless, config=config)
    modules = official.load(nameless, "sv4d2_8views", config=config)
    assert modules["unet"].config.attention_mode == "view"
    with pytest.raises(ValueError, match="weights.safetensors is not sp4d: it holds sv4d2 or sv4d2_8views"):
        official.load(nameless, "sp4d")
    official.save(modules, tmp_path / "sv4d2.safetensors")       # metadata outweigh a misleading name
    with pytest.raises(ValueError, match="sv4d2.safetensors is not sv4d2: it holds sv4d2_8views"):
        official.load(tmp_path / "sv4d2.safetensors", "sv4d2", config=config)


def test_files_that_are_no_checkpoint_are_named(tmp_path):
    save_file({"lora.up": torch.zeros(2)}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="lora.safetensors is no checkpoint of sp4d, sv4d2.*it holds lora.up"):
        official.load(tmp_path / "lora.safetensors")
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"):
        (tmp_path / "sp4d.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=rf"\({len(content)} bytes\) is not a whole safetensors file"):
            official.load(tmp_path / "sp4d.safetensors")
    with pytest.raises(FileNotFoundError, match=r"there is no file models/sp4d\.safetensors.*stabilityai/sv4d2\.0"):
        official.load("models/sp4d.safetensors")


def test_a_truncated_file_is_named(sv4d2, tmp_path):
    path = sv4d2.write(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        official.load(path, config=sv4d2.config)


def test_wrong_arguments_are_refused(files):
    with pytest.raises(ValueError, match="unknown components: 'clip'; choose from unet, vae, image_encoder"):
        official.load(files["sp4d"], components=("unet", "clip"))
    with pytest.raises(ValueError, match="unknown kind: 'sv3d'"):
        official.load(files["sp4d"], "sv3d")


def test_networks_that_the_official_code_cannot_run_are_not_written(tmp_path):
    with torch.device("meta"):
        joint = MultiViewUNet(model_channels=64, channel_mult=(1,), num_res_blocks=1)
    with pytest.raises(ValueError, match="attention_mode='joint' is none of the official networks"):
        official.save({"unet": joint}, tmp_path / "joint.safetensors")
    with pytest.raises(ValueError, match="give the network as 'unet'"):
        official.save({"unet": None}, tmp_path / "none.safetensors")
    assert not any(tmp_path.iterdir())


def test_without_transformers_the_error_names_the_extra(sv4d2, files, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'sp4dlib\[official\]'"):
        official.load(files["sv4d2"], components=["image_encoder"], config=sv4d2.config)
    assert official.load(files["sv4d2"], components=["vae"], config=sv4d2.config)["image_encoder"] is None


@pytest.mark.parametrize(("source", "kind", "repository", "file"), [
    ("sp4d", None, "stabilityai/sp4d", "sp4d.safetensors"),
    ("stabilityai/sp4d", None, "stabilityai/sp4d", "sp4d.safetensors"),
    ("stabilityai/sv4d2.0", None, "stabilityai/sv4d2.0", "sv4d2.safetensors"),
    ("stabilityai/sv4d2.0", "sv4d2_8views", "stabilityai/sv4d2.0", "sv4d2_8views.safetensors"),
    ("sv4d2_8views", None, "stabilityai/sv4d2.0", "sv4d2_8views.safetensors"),
    ("someone/mirror", "sv4d2", "someone/mirror", "sv4d2.safetensors")])
def test_a_download_asks_for_the_right_file_and_names_the_licence(source, kind, repository, file, files, monkeypatch,
                                                                  caplog):
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download",
                        lambda *arguments: asked.append(arguments) or str(files[file.removesuffix(".safetensors")]))
    assert official.locate(source, kind).name == file
    assert asked == [(repository, file)]
    assert "Stability AI Community License" in caplog.text and f"huggingface.co/{repository}" in caplog.text


@pytest.mark.parametrize(("kind", "message"), [
    (errors.GatedRepoError, "accept the Stability AI Community License on that page, then log in with `hf auth login`"),
    (errors.LocalEntryNotFoundError, "Connect to the network, or download it from https://huggingface.co/stability"),
    (errors.OfflineModeIsEnabled, "Connect to the network"),
    (errors.RemoteEntryNotFoundError, "stabilityai/sp4d holds no sp4d.safetensors")])
def test_a_download_that_fails_says_what_to_do(kind, message, monkeypatch):
    def refuse(*_):
        raise kind.__new__(kind, "refused")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(OSError, match=message):
        official.load("stabilityai/sp4d")


def test_a_folder_is_searched(files):
    folder = files["sp4d"].parent
    assert official.locate(folder, "sp4d") == files["sp4d"]
    with pytest.raises(FileNotFoundError, match="holds 3 of sp4d.safetensors, sv4d2.safetensors, .*name the file"):
        official.locate(folder)


def resident(field: str) -> int:
    """Bytes: ``VmRSS`` now, ``VmHWM`` at most since the mark was reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is measured through Linux' /proc")
@pytest.mark.parametrize(("dtype", "share"), [(None, 1.2), (torch.bfloat16, 0.8)])
def test_no_second_copy_of_the_network_sits_in_memory(dtype, share, tmp_path):
    config = {"model_channels": 64, "use_3d_attention": True}
    with torch.device("meta"):
        shapes = MultiViewUNet(**convert.official_config(config)).to_official()
    path = tmp_path / "sv4d2.safetensors"
    save_file({f"model.diffusion_model.{name}": torch.ones(value.shape) for name, value in shapes.items()}, path)
    size, size_in_values = path.stat().st_size, sum(value.numel() for value in shapes.values())
    assert size > 250e6
    ctypes.CDLL(None).malloc_trim(0)                            # freed memory that is used again would not count
    Path("/proc/self/clear_refs").write_text("5")               # resets the high-water mark
    before = resident("VmRSS")
    modules = official.load(path, components=("unet",), dtype=dtype, config={"unet": config})
    held = sum(parameter.nbytes for parameter in modules["unet"].parameters())
    assert sum(float(parameter.detach().sum()) for parameter in modules["unet"].parameters()) == size_in_values
    peak = resident("VmHWM") - before
    assert 0.8 * held < peak <= share * size, f"{peak / size:.2f} of the file"
