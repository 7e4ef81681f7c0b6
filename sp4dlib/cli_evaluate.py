"""``sp4d evaluate``: scores of a model, of baselines, and of what could be reached."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from sp4dlib.provenance import ROOT

EPILOG = """what is measured:
  protocols  multi-view   all views of a still pose
             multi-frame  all frames of one camera
             rare-poses   multi-view; joints turned further than in any training animation
  settings   generated    the model sees view 0 alone
             given        the model is told the true colours of all images that are scored
             baseline     k-means, connected components, optical flow: told true colours, silhouettes and part count
             ceiling      true part images through the model's autoencoder and the decoder
  methods that end in _count are told the true number of parts, those in _mask the true silhouettes.
  Parts under 0.5 % of a clip's foreground, or under 16 pixels, are folded into their parents.

examples:
  sp4d evaluate runs/mini/model -o results.json
  sp4d evaluate runs/mini/model --split val --groups quaternius --steps 8 --setting given -o val.json
  sp4d evaluate --only-baselines --split val -o baselines.json
  sp4d evaluate runs/mini/model -o results.json --pictures pictures --resume

Rows are written as they come. Ctrl-C keeps them; the same command with --resume goes on."""


def add_evaluate(commands) -> None:
    """Options of ``sp4d evaluate``."""
    parser = commands.add_parser("evaluate", help="scores of a model on rigs it has never seen", epilog=EPILOG,
                                 description="Measure a model on the rigs of a split.",
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", help="a folder of SP4DPipeline.save_pretrained, or its repository on the "
        "Hugging Face hub (default: the small model that comes with the repository, data/checkpoints/mini)")
    add("-o", "--output", metavar="JSON", default="results.json", help="file of the results (default: results.json)")
    add("--resume", action="store_true", help="go on with what is in JSON")
    add("--split", choices=("test", "val"), default="test", help="default: test")
    add("--pictures", metavar="DIR", help="folder for pictures of the best, the median and the worst subject")

    chosen = parser.add_argument_group("what to measure")
    add = chosen.add_argument
    add("--protocol", nargs="+", metavar="P", help="multi-view, multi-frame, rare-poses (default: all)")
    add("--setting", nargs="+", metavar="S", help="generated, given, baseline, ceiling (default: all)")
    add("--groups", nargs="+", metavar="G", help="quaternius, procedural, humans (default: all)")
    add("--subjects", type=int, metavar="N", help="so many of each group, evenly spaced (default: all)")
    add("--per-family", type=int, default=4, metavar="N", help="creatures of each procedural family (default: 4)")
    add("--humans", type=int, default=4, metavar="N", help="people, in the split test (default: 4)")
    add("--no-baselines", action="store_true", help="leave them out")
    add("--only-baselines", action="store_true", help="measure nothing else; MODEL may be left out")

    how = parser.add_argument_group("how")
    add = how.add_argument
    add("--recipe", default="mini", metavar="CONFIG", help="the recipe whose training set says which rigs and families "
        "are in which split (default: mini)")
    add("--steps", type=int, metavar="N", help="calls of the network (default: the model's own)")
    add("--solver", choices=("euler", "multistep"), help="default: the model's own")
    add("--guidance", type=float, nargs="+", metavar="W", help="one weight, or the first and the last; 1 is none, and "
        "takes half the time (default: the model's own)")
    add("--seed", type=int, default=0, help="of clips and sampler (default: 0)")
    add("--size", type=int, default=64, help="pixels, where no model says it (default: 64)")
    add("--frames", type=int, default=4, help="the same (default: 4)")
    add("--views", type=int, default=4, help="the same (default: 4)")
    add("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one, else cpu)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), help="of the network (default: bfloat16 on cuda, else "
        "float32)")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(args: argparse.Namespace) -> None:
    """``sp4d evaluate``."""
    from sp4dlib.diffusion.recipe import read_recipe
    from sp4dlib.evaluation.methods import SETTINGS
    from sp4dlib.evaluation.protocols import evaluate
    from sp4dlib.evaluation.results import subject_lines, table
    from sp4dlib.evaluation.subjects import PROTOCOLS

    protocols = _chosen(args.protocol, PROTOCOLS, "--protocol")
    settings = _chosen(args.setting, SETTINGS, "--setting")
    if args.only_baselines and args.no_baselines:
        raise ValueError("--only-baselines and --no-baselines leave nothing to do; give one of them")
    if args.only_baselines:
        settings = ["baseline"]
    if args.no_baselines:
        settings = [setting for setting in settings if setting != "baseline"]
    recipe = read_recipe(args.recipe)
    if recipe.data.set is None:
        raise ValueError(f"the recipe {recipe.name} has no set of its own; give --recipe with one that has")
    config, pipeline, model = _prepare(args)
    try:
        results = evaluate(config, recipe.data.set, args.output, pipeline, model=model, protocols=protocols,
                           settings=settings, groups=args.groups, subjects=args.subjects, per_family=args.per_family,
                           humans=args.humans, resume=args.resume, pictures=args.pictures,
                           command=" ".join(["sp4d", *sys.argv[1:]]), progress=not args.quiet)
    except KeyboardInterrupt:
        print(f"sp4d: interrupted; the same command with --resume goes on with {args.output}", file=sys.stderr)
        raise SystemExit(130) from None
    if not results["rows"]:
        raise ValueError("nothing could be measured: " + (results["skipped"][0]["reason"] if results["skipped"] else
                                                          "there are no such subjects"))
    print("\n".join([*subject_lines(results), "", *table(results)]))
    if args.pictures:
        _write_pictures(results, Path(args.pictures))
    for item in results["skipped"]:
        where = ", ".join(item[name] for name in ("subject", "protocol", "setting") if name in item)
        print(f"left out: {where}: {item['reason']}")
    print(f"{args.output}: {len(results['rows'])} rows")


def _chosen(names: list[str] | None, known: tuple[str, ...], option: str) -> list[str]:
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"{option} {unknown[0]!r} is none of {', '.join(known)}")
    return [name for name in known if not names or name in names]


def _prepare(args: argparse.Namespace):
    """Configuration, pipeline and what identifies the model; the last two are None without one."""
    from sp4dlib.evaluation.protocols import EvaluationConfig, model_config

    if args.model is None and args.only_baselines:
        return EvaluationConfig(args.split, args.size, args.frames, args.views, args.seed), None, None
    from sp4dlib import profile
    from sp4dlib.cli import load_pipeline
    from sp4dlib.diffusion.shipped import default_model

    path = args.model or str(default_model())
    pipeline = load_pipeline(path, args.device or profile.current().device, args.dtype)
    pipeline.set_progress_bar_config(disable=True)
    if args.solver:
        pipeline.set_solver(args.solver)
    config = model_config(pipeline, args.split, args.seed, args.steps, args.guidance)
    return config, pipeline, {"path": shown(path), "sha256": model_digest(Path(path)), "solver": args.solver}


def shown(model: str) -> str:
    """How results name a model: from the top of the repository, where it lies in it."""
    path = Path(model).absolute()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else model


def model_digest(folder: Path) -> str:
    """sha256 over all files of a model's folder and their names; empty for a repository on the hub."""
    if not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _write_pictures(results: dict, folder: Path) -> None:
    """A sheet of best, median and worst subject for each group and protocol."""
    from PIL import Image

    from sp4dlib.evaluation.examples import examples
    from sp4dlib.show.examples import example_sheet

    ranked = {(row["group"], row["protocol"]): (row["setting"], row["method"]) for row in results["summary"]}
    for (group, protocol), (setting, method) in ranked.items():
        for example in examples(results, folder, protocol, setting, method, group):
            path = folder / f"{group}_{protocol}_{example.rank}.png"
            Image.fromarray(example_sheet(example)).save(path)
            print(f"{path}: {example.subject}, {setting} {method} mIoU {example.score:.3f}")
