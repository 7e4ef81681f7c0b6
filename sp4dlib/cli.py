"""The command ``sp4d``: parse, call the library, print."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import sp4dlib
from sp4dlib.cli_data import add_data
from sp4dlib.cli_evaluate import add_evaluate
from sp4dlib.cli_rig import add_rig
from sp4dlib.cli_train import add_train

EPILOG = """what is written (whole, or not at all):
  rgb.mp4, parts.mp4   all views side by side, in colour and in part colours
  grid.png             some frames (rows: colour, parts) by all views (columns)
  parts.npz            parts (T, V, H, W) int16, -1 = background; part_images and rgb (T, V, H, W, 3) uint8;
                       azimuths, elevations (V,) degrees
  settings.json        everything needed to do it again

examples:
  sp4d generate fox.png -o out/fox
  sp4d generate fox.png -o out/fox --model my_model --azimuths 0 90 180 270
  sp4d generate walk.mp4 -o out/walk --model my_model --background rembg --solver multistep --steps 25
  sp4d generate turn/ -o out/turn --model my_model --azimuths 0 90 --known 1=side_view/ --hold-input
  sp4d generate walk.mp4 -o out/walk --model stabilityai/sp4d --device cuda --offload"""
MODELS = ("a folder that SP4DPipeline.save_pretrained wrote (`sp4d train mini` makes one), its repository "
          "on the Hugging Face hub, or released weights: sp4d, sv4d2, sv4d2_8views, or a file of theirs")


def build_parser() -> argparse.ArgumentParser:
    """The options of all commands."""
    parser = argparse.ArgumentParser(prog="sp4d", description="Kinematic part videos from pictures, the training sets "
                                     "behind them, and rigs from parts.")
    parser.add_argument("--version", action="version", version=f"sp4d {sp4dlib.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_generate(commands)
    add_rig(commands)
    add_data(commands)
    add_train(commands)
    add_evaluate(commands)
    return parser


def add_generate(commands) -> None:
    """Options of ``sp4d generate``."""
    parser = commands.add_parser(
        "generate", help="a picture or a video to many views, in colour and in parts",
        description="Make views of what a picture or a video shows, in colour and in kinematic parts.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("input", metavar="INPUT", help="a picture, an animation (gif), a video (mp4, mov, webm, ...) or a folder of "
        "pictures")
    add("-o", "--output", metavar="DIR", required=True, help="folder to write; must be new, or empty")
    add("--overwrite", action="store_true", help="replace DIR if it is there")
    add("--model", metavar="PATH_OR_ID", help="folder of SP4DPipeline.save_pretrained, repository on the Hugging Face "
        "hub, or released weights: sp4d, sv4d2, sv4d2_8views, or a .safetensors file of theirs (default: the small "
        "model that comes with the repository, data/checkpoints/mini)")
    add("--kind", choices=("sp4d", "sv4d2", "sv4d2_8views"), help="which release a .safetensors file holds, where "
        "neither its tensors nor its name tell")

    views = parser.add_argument_group("views")
    add = views.add_argument
    add("--azimuths", type=float, nargs="+", metavar="DEG", help="degrees, positive moves the camera counter-clockwise "
        "seen from above; the first is the input's camera if the model generates that view, else they count from it "
        "(default: the model's own)")
    add("--elevations", type=float, nargs="+", default=[0.0], metavar="DEG", help="degrees, up positive: one for each "
        "azimuth, or one for all (default: 0)")
    add("--input-elevation", type=float, default=0.0, metavar="DEG", help="of the input's camera, for models that do "
        "not generate its view (default: 0)")
    add("--known", action="append", default=[], metavar="[FRAME:]VIEW=PATH", help="a picture of this frame and view, "
        "or a video or folder of this view, that is known; only the rest is generated. May be given many times")
    add("--hold-input", action="store_true", help="the input is known, too: hold the view of its camera to it")

    picture = parser.add_argument_group("what is done to the input")
    add = picture.add_argument
    add("--frames", type=int, metavar="N", help="how many frames to make (default: as many as there are)")
    add("--every", type=int, default=1, metavar="K", help="take every K-th frame of the input (default: 1)")
    add("--background", choices=("auto", "alpha", "white", "rembg"), default="auto", help="how the object is told from "
        "the background (default: auto, which is alpha if anything is transparent, else white)")
    add("--follow", action="store_true", help="crop each frame round the object, for one that crosses the picture")
    add("--no-crop", action="store_true", help="take square frames as they are")

    sampling = parser.add_argument_group("sampling")
    add = sampling.add_argument
    add("--steps", type=int, metavar="N", help="calls of the network for a window (default: the model's own)")
    add("--solver", choices=("euler", "multistep"), help="multistep is of second order: half the steps (default: the "
        "model's own)")
    add("--guidance", type=float, nargs="+", metavar="W", help="one weight for all images, or the first and the last "
        "of a ramp; 1 is none (default: the model's own)")
    add("--seed", type=int, default=0, help="the same seed gives the same files (default: 0)")
    add("--num-parts", type=int, metavar="K", help="how many parts to read out (default: as many as are found)")

    machine = parser.add_argument_group("machine")
    add = machine.add_argument
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: cuda if there is one, else cpu)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), help="of the network (default: bfloat16 on cuda, else "
        "float32)")
    add("--offload", action="store_true", help="keep on the GPU only the part of the model that works")
    add("--sequential-guidance", action="store_true", help="less memory, a little slower")
    add("--chunk-tokens", type=int, metavar="N", help="less memory: tokens that the network's feed-forward layers take "
        "at once, such as 16384 (default: all)")
    add("--chunk", type=int, default=4, metavar="N", help="images that the VAE takes at once (default: 4)")
    add("--fps", type=float, default=12.0, help="of the videos that are written (default: 12)")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=generate)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. What is wrong with the input is said in one line."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="sp4d: %(message)s")
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("sp4d: interrupted; nothing was written", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, FloatingPointError, RuntimeError) as error:
        print(f"sp4d: error: {error}", file=sys.stderr)
        return 1
    return 0


def generate(args: argparse.Namespace) -> None:
    """``sp4d generate``."""
    began = time.perf_counter()
    output = Path(args.output)
    if output.exists() and not args.overwrite and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} is there and not empty; choose another folder, or give --overwrite")
    from sp4dlib.diffusion.images import as_frames

    if args.every < 1 or args.fps <= 0:
        raise ValueError(f"--every must be at least 1 and --fps positive; got {args.every} and {args.fps}")
    if args.guidance is not None and len(args.guidance) > 2:
        raise ValueError(f"--guidance takes one weight, or the first and the last; got {len(args.guidance)}")
    image = as_frames(args.input)[::args.every] if args.every > 1 else args.input
    known = parse_known(args.known, args.every)

    import torch

    from sp4dlib import profile
    from sp4dlib.diffusion.shipped import default_model

    args.model = args.model or str(default_model())
    device = args.device or profile.current().device
    pipeline = load_pipeline(args.model, device, args.dtype, args.offload, args.kind)
    if args.solver:
        pipeline.set_solver(args.solver)
    if args.chunk_tokens is not None:
        pipeline.enable_forward_chunking(args.chunk_tokens)
    pipeline.set_progress_bar_config(disable=args.quiet)
    result = pipeline(
        image, args.azimuths, args.elevations, args.frames, args.steps, args.guidance,
        torch.Generator().manual_seed(args.seed), crop=not args.no_crop, known=known, hold_input=args.hold_input,
        input_elevation=args.input_elevation, follow=args.follow, background=args.background,
        sequential_guidance=args.sequential_guidance, chunk=args.chunk, num_parts=args.num_parts)
    settings = describe(args, pipeline, result, device, time.perf_counter() - began)
    write_result(output, result, settings, args.fps, args.overwrite)
    frames, views = result.rgb.shape[:2]
    parts = "" if result.parts is None else f", {result.parts.max() + 1} parts"
    print(f"{output}: {frames} frames x {views} views{parts}, {settings['seconds']:.0f} s")


def parse_known(words: Sequence[str], every: int = 1) -> dict[tuple[int, int], np.ndarray]:
    """``[FRAME:]VIEW=PATH`` to pictures by (frame, view).

    Without a frame the path is a video or a folder of the whole view, of which every ``every``-th frame counts.
    """
    from sp4dlib.diffusion.images import as_frames

    known = {}
    for word in words:
        place, equals, path = word.partition("=")
        frame, colon, view = place.rpartition(":")
        if not equals or not path or not view.isdigit() or (colon and not frame.isdigit()):
            raise ValueError(f"--known {word!r} is not [FRAME:]VIEW=PATH, such as 0:2=back.png or 2=back.mp4")
        if colon:
            known[int(frame), int(view)] = as_frames(path)
        else:
            known |= {(t, int(view)): picture for t, picture in enumerate(as_frames(path)[::every])}
    return known


def load_pipeline(model: str, device: str, dtype: str | None = None, offload: bool = False,
                  released: str | None = None):
    """The pipeline in a folder, on the hub, or in a released checkpoint (of the kind ``released``), on the device.

    Raises
    ------
    ValueError
        If the folder or repository holds no SP4DPipeline, or a kind is given for what is no released checkpoint.
    """
    import diffusers
    import torch

    from sp4dlib.diffusion.official import to_pipeline
    from sp4dlib.diffusion.pipeline import SP4DPipeline
    from sp4dlib.model.official import RELEASES

    diffusers.utils.logging.disable_progress_bar()                       # that of loading; the sampler has its own
    kind = getattr(torch, dtype or ("bfloat16" if device.startswith("cuda") else "float32"))
    if offload and not device.startswith(("cuda", "xpu", "mps")):
        raise ValueError(f"--offload moves models to a GPU and back; there is none in --device {device}")
    if model in RELEASES or model in {release.repository for release in RELEASES.values()} \
            or model.endswith(".safetensors"):
        pipeline = to_pipeline(model, released, dtype={"unet": kind, "image_encoder": kind, "vae": torch.float32})
    else:
        if released is not None:
            raise ValueError(f"--kind tells released weights apart, and --model {model} is none: leave it out")
        check_folder(Path(model))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)               # the name that all versions of diffusers know
            pipeline = SP4DPipeline.from_pretrained(model, torch_dtype={"unet": kind, "default": torch.float32})
    if offload:
        pipeline.enable_model_cpu_offload(device=device)
        return pipeline
    return pipeline.to(device)


def check_folder(model: Path) -> None:
    """Is this a folder that `SP4DPipeline` can be loaded from? Names that are no local path may be on the hub."""
    if not model.exists():
        if model.is_absolute() or len(model.parts) != 2:
            raise ValueError(f"--model {model}: there is no such folder. Give {MODELS}")
        return
    index = model / "model_index.json"
    if not index.is_file():
        raise ValueError(f"--model {model} holds no model_index.json: give the folder that "
                         "SP4DPipeline.save_pretrained wrote")
    try:
        kind = json.loads(index.read_text(encoding="utf-8")).get("_class_name")
    except (json.JSONDecodeError, AttributeError) as error:
        raise ValueError(f"{index} is broken ({error}); save the pipeline again") from error
    if kind != "SP4DPipeline":
        raise ValueError(f"--model {model} is a {kind}, not an SP4DPipeline; give another model")


def describe(args: argparse.Namespace, pipeline, result, device: str, seconds: float) -> dict:
    """Everything needed to do it again."""
    import diffusers
    import torch

    from sp4dlib.diffusion.samplers import solver_name

    config = pipeline.config
    options = {name: value for name, value in vars(args).items() if name not in ("run", "command")}
    return {
        "command": "generate", "sp4dlib": sp4dlib.__version__, "torch": torch.__version__,
        "diffusers": diffusers.__version__, "device": device, "dtype": str(pipeline.unet.dtype).removeprefix("torch."),
        "options": options,
        "used": {"steps": args.steps or config.num_inference_steps, "solver": solver_name(pipeline.scheduler),
                 "guidance": args.guidance or config.guidance_scale,
                 "sigma_min": pipeline.scheduler.config.sigma_min, "sigma_max": pipeline.scheduler.config.sigma_max},
        "model": {name: value for name, value in config.items() if not name.startswith("_")
                  and name not in ("unet", "vae", "image_encoder", "scheduler")},
        "cameras": {"azimuths": result.cameras.azimuths.tolist(), "elevations": result.cameras.elevations.tolist(),
                    "fov": result.cameras.fov, "distance": result.cameras.distance, "fill": result.cameras.fill},
        "frames": len(result.rgb), "views": len(result.cameras),
        "parts": None if result.parts is None else int(result.parts.max()) + 1, "seconds": round(seconds, 1)}


def write_result(folder: Path, result, settings: dict, fps: float = 12.0, overwrite: bool = False) -> None:
    """Write what `EPILOG` lists into a folder that appears whole or not at all.

    Parameters
    ----------
    folder : Path
    result : SP4DPipelineOutput
        With arrays (``output_type="np"``).
    settings : dict
        For ``settings.json``.
    fps : float
    overwrite : bool
        Replace the folder.
    """
    from PIL import Image

    from sp4dlib.show.images import strip, write_video

    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.{os.getpid()}.part"
    partial.mkdir()
    try:
        layers = {"rgb": result.rgb} | ({} if result.part_images is None else {"parts": result.part_images})
        for name, images in layers.items():
            write_video([strip(frame[None]) for frame in images], partial / f"{name}.mp4", fps)
        shown = np.unique(np.linspace(0, len(result.rgb) - 1, 6).round().astype(int))
        rows = np.stack([images[t] for t in shown for images in layers.values()])
        Image.fromarray(strip(rows)).save(partial / "grid.png")
        arrays = {"rgb": result.rgb, "azimuths": result.cameras.azimuths, "elevations": result.cameras.elevations}
        if result.part_images is not None:
            arrays |= {"parts": result.parts, "part_images": result.part_images}
        np.savez_compressed(partial / "parts.npz", **arrays)
        (partial / "settings.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        replace_folder(folder, partial, overwrite)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(folder: Path, partial: Path, overwrite: bool) -> None:
    """Give ``partial`` the name ``folder``."""
    old = partial.with_suffix(".old")
    if folder.exists():
        if not overwrite and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} has been filled meanwhile; choose another, or give --overwrite")
        folder.rename(old)
    partial.rename(folder)
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)
