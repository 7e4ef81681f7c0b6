"""``sp4d rig``: a mesh, and what says how it moves, to an animated glTF file."""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from pathlib import Path

import numpy as np

import sp4dlib

log = logging.getLogger(__name__)

EPILOG = """where the parts come from (one of these; without any, --model with the small model of the repository):
  --parts PATH      a folder that `sp4d generate` wrote, a clip (.npz) of Clip.save, or a folder of pictures, one a view
                    in the order of their names, in part colours on white or with ids (0 = background), and a
                    cameras.json: {"azimuths": [0, 90, 180, 270], "elevations": 0, "fill": 0.9}
  --model MODEL     a network segments renders of the mesh itself
  --skeleton RIG    no parts: the skeleton of a rigged .glb/.gltf is taken as it is, and weights are made for it
  INPUT a picture or video, with --model: views are generated, and their visual hull is the mesh
  INPUT a folder of `sp4d generate`: the same with views that are made already

what is written (each whole, or not at all):
  OUT.glb           mesh with its materials, skeleton, skin and, with --animate, animations
  OUT.json          report: parts, tree, weights, what no view saw, settings, seconds

examples:
  sp4d rig fox.glb -o rigged.glb --animate
  sp4d rig chair.obj --parts renders/ -o chair.glb --animate
  sp4d rig fox.glb --model my_model --azimuths 0 90 180 270 -o rigged.glb
  sp4d rig statue.ply --model my_model --image photo.png -o statue.glb
  sp4d rig body.glb --skeleton mixamo.glb --fit --animate -o body_rigged.glb
  sp4d rig out/fox -o fox.glb --animate"""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".mp4", ".mov", ".webm", ".avi", ".mkv")
DOUBT = 0.5         # silhouettes of mesh and parts that overlap by less hardly belong together


def add_rig(commands) -> None:
    """Options of ``sp4d rig``."""
    parser = commands.add_parser(
        "rig", help="a mesh and its parts, or a skeleton, to an animated glTF file",
        description="Give a mesh a skeleton and skinning weights.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("input", metavar="INPUT", help="a mesh (glb, gltf, obj, ply, stl, off, ...); or a picture, a video, or a "
        "folder of `sp4d generate`")
    add("-o", "--output", metavar="OUT.glb", required=True, help="file to write; a report goes beside it, "
        "to OUT.json")
    add("--overwrite", action="store_true", help="replace the files if they are there")
    add("--animate", action="store_true", help="also write motion: the animations of --skeleton, else a wiggle that "
        "swings every joint in turn")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--parts", metavar="PATH", help="part images of the mesh")
    source.add_argument("--skeleton", metavar="RIG.glb", help="a rigged file whose skeleton is taken")
    add("--model", metavar="PATH_OR_ID", help="segments renders of the mesh, or generates views of a picture; as in "
        "sp4d generate (default: the small model that comes with the repository, data/checkpoints/mini)")

    place = parser.add_argument_group("where things are")
    add = place.add_argument
    add("--front", type=float, default=0.0, metavar="DEG", help="where the camera of azimuth 0 stands round the mesh; "
        "0 is its +z side, positive is counter-clockwise seen from above (default: 0)")
    add("--fit", action="store_true", help="scale and move the skeleton so that the box of its own mesh becomes that "
        "of INPUT")

    network = parser.add_argument_group("with --model")
    add = network.add_argument
    add("--image", metavar="FILE", help="a picture of the object, shown to the network as its input; paints the mesh "
        "if that has no colours")
    add("--azimuths", type=float, nargs="+", metavar="DEG", help="views (default: the model's own)")
    add("--elevations", type=float, nargs="+", default=[0.0], metavar="DEG", help="one for each azimuth, or one for "
        "all (default: 0)")
    add("--steps", type=int, metavar="N", help="calls of the network (default: the model's own)")
    add("--seed", type=int, default=0, help="the same seed gives the same files (default: 0)")
    add("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one, else cpu)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), help="of the network")
    add("--offload", action="store_true", help="keep on the GPU only the part of the model that works")

    shape = parser.add_argument_group("parts and weights")
    add = shape.add_argument
    add("--num-parts", type=int, metavar="K", help="how many parts to read out of part colours (default: as many as "
        "are found)")
    add("--influences", type=int, default=4, metavar="N", help="joints that may hold a vertex (default: 4)")
    add("--resolution", type=int, default=128, metavar="N", help="visual hull: cells along a side (default: 128)")
    add("--tolerance", type=int, default=0, metavar="N", help="visual hull: so many views may miss a point (default: "
        "0)")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=rig)


def rig(args: argparse.Namespace) -> None:
    """``sp4d rig``."""
    from sp4dlib import rigs

    began = time.perf_counter()
    output = Path(args.output)
    report_path = output.with_suffix(".json")
    check_arguments(args, output, report_path)
    if not (args.model or args.parts or args.skeleton or Path(args.input).is_dir()):
        from sp4dlib.diffusion.shipped import default_model

        args.model = str(default_model())
    made, report = make_rig(args)
    if not args.animate:
        made, report["animations"] = made.replace(animations=()), {}
    report |= {"command": "rig", "sp4dlib": sp4dlib.__version__,
               "options": {name: value for name, value in vars(args).items() if name not in ("run", "command")},
               "seconds": round(time.perf_counter() - began, 2)}
    output.parent.mkdir(parents=True, exist_ok=True)
    rigs.save(made, output, max_influences=args.influences)
    write_json(report_path, report)
    joints = len(made.skeleton)
    print(f"{output}: {joints} joints, {len(made.vertices)} vertices, {len(made.animations)} animations, "
          f"{report['seconds']:.1f} s; report in {report_path}")


def check_arguments(args: argparse.Namespace, output: Path, report: Path) -> None:
    """Raise a ValueError that says what is missing, before anything long begins."""
    if output.suffix.lower() != ".glb":
        raise ValueError(f"{output}: rigs are written as binary glTF; give a name that ends in .glb")
    for path in (output, report):
        if path.exists() and not args.overwrite:
            raise ValueError(f"{path} is there; choose another name, or give --overwrite")
    if args.influences < 1:
        raise ValueError(f"--influences must be at least 1; got {args.influences}")
    source = Path(args.input)
    if not source.exists():
        raise ValueError(f"{source}: there is no such file or folder")
    if Path(args.input).resolve() == output.resolve():
        raise ValueError(f"{output} is the input itself; choose another name")
    no_mesh = source.is_dir() or source.suffix.lower() in PICTURES
    if no_mesh and (args.parts or args.skeleton):
        raise ValueError(f"{source} is no mesh; --parts and --skeleton need one")
    if args.model and (args.parts or args.skeleton):
        raise ValueError("--model makes the parts; it does not go with --parts or --skeleton")
    if args.image and (no_mesh or args.parts or args.skeleton):
        raise ValueError("--image goes with a mesh whose parts a model makes")
    if args.fit and not args.skeleton:
        raise ValueError("--fit goes with --skeleton")


def make_rig(args: argparse.Namespace):
    """The rig that the options ask for, and what is to be said of it."""
    from sp4dlib import rigs

    source = Path(args.input)
    if source.is_dir() or source.suffix.lower() in PICTURES:
        return from_views(args, source)
    mesh = rigs.load_mesh(source)
    if args.skeleton:
        return from_skeleton(args, mesh)
    if args.parts:
        from sp4dlib.lifting.part_files import load_parts

        found = load_parts(args.parts, args.num_parts)
        return from_parts(mesh, found.parts[:1], found.cameras_of(mesh.vertices, args.front), found.names, args)
    return from_model(args, mesh)


def from_model(args: argparse.Namespace, mesh):
    """Parts of the mesh's own renders."""
    import torch

    from sp4dlib.clips import fit_cameras
    from sp4dlib.diffusion.mesh_views import segment_mesh
    from sp4dlib.lifting.hull import paint

    pipeline = pipeline_of(args)
    if args.image and mesh.appearance is None:
        picture = pipeline.preprocess(args.image)[:1]
        cameras = fit_cameras(mesh.vertices, [args.front], [args.elevations[0]], pipeline.config.image_size,
                              pipeline.config.fill)
        mesh = paint(mesh, picture, cameras, name=mesh.name)
    result = segment_mesh(pipeline, mesh, args.image, args.azimuths, args.elevations, front=args.front,
                          generator=torch.Generator().manual_seed(args.seed), num_inference_steps=args.steps,
                          num_parts=args.num_parts)
    return from_parts(mesh, result.parts, result.cameras, None, args)


def from_views(args: argparse.Namespace, source: Path):
    """A mesh from views: generated here, or by ``sp4d generate`` before."""
    from sp4dlib.diffusion.pipeline import nominal_cameras
    from sp4dlib.lifting.hull import paint, visual_hull
    from sp4dlib.lifting.part_files import load_parts

    if source.is_dir():
        found = load_parts(source, args.num_parts)
        parts, rgb = found.parts[:1], found.rgb
        cameras = found.cameras or nominal_cameras(found.azimuths, found.elevations, found.fill, parts.shape[-1])
    else:
        import torch

        result = pipeline_of(args)(source, args.azimuths, args.elevations, 1, args.steps,
                                   generator=torch.Generator().manual_seed(args.seed), num_parts=args.num_parts)
        if result.parts is None:
            raise ValueError("this model makes colours only; take one with a branch for parts")
        parts, rgb, cameras = result.parts, result.rgb, result.cameras
    masks = parts[0] >= 0
    mesh = visual_hull(masks, cameras, resolution=args.resolution, tolerance=args.tolerance, name=source.stem)
    if rgb is not None:
        mesh = paint(mesh, rgb[0], cameras, masks=masks, name=mesh.name)
    return from_parts(mesh, parts, cameras, None, args)


def pipeline_of(args: argparse.Namespace):
    """The model, on its device, silent if that is wanted."""
    from sp4dlib import profile
    from sp4dlib.cli import load_pipeline

    pipeline = load_pipeline(args.model, args.device or profile.current().device, args.dtype, args.offload)
    pipeline.set_progress_bar_config(disable=args.quiet)
    return pipeline


def from_parts(mesh, parts: np.ndarray, cameras, names, args: argparse.Namespace):
    """Labels, skeleton and weights of a mesh whose views are segmented; the rig and its report."""
    from sp4dlib import lifting
    from sp4dlib.lifting.skeleton import END

    overlap = silhouette_overlap(mesh, parts[0], cameras)
    if overlap < DOUBT and args.parts:
        raise ValueError(f"mesh and part images do not belong together: their outlines overlap by {overlap:.0%} only. "
                         "Is the mesh turned (--front), lying (it must stand upright, y up), or posed otherwise?")
    if overlap < DOUBT:
        log.warning("the generated parts cover the mesh badly: in the worst view outlines overlap by %.0f %%. Look at "
                    "the result; more --steps, other views or a better model may help", 100 * overlap)
    found = lifting.label_report(mesh, parts, cameras)
    ids, labels = np.unique(found.labels, return_inverse=True)
    chosen = None if names is None else [names[k] for k in ids]
    made = lifting.auto_rig(mesh, labels=labels, names=chosen, max_influences=args.influences)
    skeleton = made.skeleton
    area = area_shares(mesh, made.weights.argmax(1), len(skeleton))
    report = {"parts": {name: round(float(share), 4) for name, share in zip(skeleton.names, area)
                        if not name.endswith(END)},
              "unseen_vertices": int((~found.seen).sum()), "views": len(cameras),
              "silhouette_overlap": round(overlap, 4),
              "end_joints": sum(name.endswith(END) for name in skeleton.names)} | describe(made)
    return made, report


def from_skeleton(args: argparse.Namespace, mesh):
    """Weights for a skeleton that is given."""
    from sp4dlib import lifting, rigs

    given = rigs.load(args.skeleton)
    if args.fit:
        given = fit_skeleton(given, mesh)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    slack = 0.1 * (high - low).max()
    carried = given.weights.any(0)
    out = np.any((given.skeleton.joints < low - slack) | (given.skeleton.joints > high + slack), axis=1) & carried
    if out.sum() > 0.5 * carried.sum():
        raise ValueError(f"{args.skeleton}: {int(out.sum())} of {int(carried.sum())} joints that carry weight lie "
                         "outside the mesh. Give --fit to scale and move the skeleton, or save both in one space")
    weights = lifting.bone_weights(mesh, given.skeleton)
    animations = given.animations or (lifting.wiggle(given.skeleton),)
    made = rigs.Rig(mesh.vertices, mesh.faces, weights, given.skeleton, animations, mesh.appearance, mesh.name)
    return made, {"skeleton": str(args.skeleton), "joints_outside": int(out.sum())} | describe(made)


def fit_skeleton(given, mesh):
    """The rig scaled and moved, uniformly, so that its box takes the place of the mesh's."""
    from dataclasses import replace

    low, high = given.vertices.min(0), given.vertices.max(0)
    aim_low, aim_high = np.asarray(mesh.vertices).min(0), np.asarray(mesh.vertices).max(0)
    matrix = np.eye(4)
    matrix[:3, :3] *= (aim_high - aim_low).max() / (high - low).max()
    matrix[:3, 3] = (aim_low + aim_high) / 2 - matrix[0, 0] * (low + high) / 2
    skeleton = replace(given.skeleton, bind=matrix @ given.skeleton.bind)
    animations = []
    for animation in given.animations:
        before = np.tile(np.eye(4), (len(skeleton), 1, 1)) if animation.before is None else animation.before.copy()
        before[0] = matrix @ before[0]
        animations.append(replace(animation, before=before))
    vertices = given.vertices * matrix[0, 0] + matrix[:3, 3]
    return given.replace(vertices=vertices, skeleton=skeleton, animations=tuple(animations))


def describe(made) -> dict:
    """What the report says of any rig."""
    skeleton = made.skeleton
    influences = (made.weights > 1e-4).sum(1)
    return {"vertices": len(made.vertices), "faces": len(made.faces), "joints": len(skeleton),
            "tree": {name: skeleton.names[parent] if parent >= 0 else None
                     for name, parent in zip(skeleton.names, skeleton.parents.tolist())},
            "influences": {"mean": round(float(influences.mean()), 3), "largest": int(influences.max())},
            "unweighted_vertices": int((~np.isclose(made.weights.sum(1), 1, atol=1e-4)).sum()),
            "animations": {animation.name: round(animation.duration, 3) for animation in made.animations}}


def area_shares(mesh, labels: np.ndarray, count: int) -> np.ndarray:
    """Share of the surface of each label, (count,)."""
    a, b, c = np.moveaxis(np.asarray(mesh.vertices)[mesh.faces], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return np.bincount(labels[mesh.faces].ravel(), np.repeat(area / 3, 3), count) / max(area.sum(), 1e-30)


def silhouette_overlap(mesh, parts: np.ndarray, cameras) -> float:
    """Least IoU, over views, of the outlines of mesh and parts (V, H, H)."""
    from sp4dlib.clips import render

    vertices = np.asarray(mesh.vertices, np.float64)
    _, ids = render(vertices[None], np.asarray(mesh.faces), np.zeros(len(vertices), np.int64),
                    cameras.resized(parts.shape[-1]))
    drawn, given = ids[0] >= 0, parts >= 0
    return float(np.min((drawn & given).sum((1, 2)) / np.maximum((drawn | given).sum((1, 2)), 1)))


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
