"""``sp4d train``: make a model by a recipe."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EPILOG = """what is written to DIR:
  recipe.json                         what was asked for
  data/                               the training set, if none was given
  vae/, rgb/, coarse/, dual/          checkpoint.pt and metrics.jsonl of autoencoder, colour branch, both branches
                                      (in two parts, if the recipe says so)
  samples/                            pictures of a held-out clip on the way: true and generated colours, then parts
  model/                              the result: give it to `sp4d generate --model`

examples:
  sp4d train nano -o runs/nano
  sp4d train mini -o runs/mini --minutes 9             and then, as often as needed:
  sp4d train mini -o runs/mini --minutes 9 --resume
  sp4d train my_recipe.toml --data KinematicParts-Open
  sp4d train mini -o runs/mini --export trial           while the first command still goes on
  sp4d train paper --budget
  accelerate launch --num_processes 4 -m sp4dlib train mini -o runs/mini

Ctrl-C ends it after the step at hand, with a checkpoint. A run that was stopped, in whatever way, goes on with
--resume, and ends with the same weights."""


def add_train(commands) -> None:
    """Options of ``sp4d train``."""
    parser = commands.add_parser("train", help="training sets to models", epilog=EPILOG,
                                 description="Train a model by a recipe.",
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("config", metavar="CONFIG", help="nano, mini, paper, or a .toml file like theirs")
    add("-o", "--output", metavar="DIR", help="folder of the run (default: runs/CONFIG)")
    add("--resume", action="store_true", help="go on with what is in DIR")
    add("--data", metavar="DIR", help="a set that `sp4d data build` wrote (default: build the recipe's own)")
    add("--minutes", type=float, metavar="N", help="stop after so long, to go on later")
    add("--budget", action="store_true", help="say what it costs, and do nothing")
    add("--export", metavar="MODEL", help="do not train: write the model as it is at the run's last checkpoint to this "
        "folder, for `sp4d generate --model MODEL`; the run may still go on")
    add("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one, else cpu)")
    add("--workers", type=int, default=0, metavar="N", help="processes that build the set (default: this one)")
    add("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run_train)


def run_train(args: argparse.Namespace) -> None:
    """``sp4d train``."""
    from sp4dlib.diffusion.recipe import read_recipe

    recipe = read_recipe(args.config)
    if args.budget:
        print("\n".join(budget_lines(recipe)))
        return
    if args.minutes is not None and args.minutes <= 0:
        raise ValueError(f"--minutes must be positive; got {args.minutes}")
    from sp4dlib.diffusion.run_recipe import MODEL, export_run, follow

    out = Path(args.output or Path("runs") / recipe.name)
    if args.export:
        stage, steps = export_run(recipe, out, args.export)
        print(f"{args.export}: the model after {steps} of {recipe.stages[stage].steps} steps of [stages.{stage}]")
        return
    try:
        outcome = follow(recipe, out, data=args.data, resume=args.resume, minutes=args.minutes, device=args.device,
                         workers=args.workers, progress=False if args.quiet else None)
    except KeyboardInterrupt:
        print(f"sp4d: interrupted; go on with --resume -o {out}", file=sys.stderr)
        raise SystemExit(130) from None
    for name, result in outcome.stages.items():
        held = f", held-out loss {result.heldout[-1][1]:.4f}" if result.heldout else ""
        print(f"{name}: {result.steps} steps, {result.seconds:.0f} s in this run{held}")
    if outcome.finished:
        print(f"{out / MODEL}: the model; sp4d generate PICTURE -o DIR --model {out / MODEL}")
    else:
        print(f"{out}: stopped; the same command with --resume goes on")


def budget_lines(recipe) -> list[str]:
    """What a recipe costs, in words."""
    from sp4dlib.diffusion.recipe import budget

    lines = [f"{recipe.name}: {recipe.data.frames} frames x {recipe.data.views} views of {recipe.size} pixels"]
    for name, stage in budget(recipe).items():
        config = recipe.stages[name]
        lines.append(
            f"  {name}: {config.steps} steps of {config.batch_size}, {stage.parameters / 1e6:,.1f} M weights, "
            f"{stage.state_bytes / 2**30:,.2f} GiB of training state, {stage.sample_flops / 1e12:,.4f} TFLOP forth a "
            f"sample, {stage.flops / 1e15:,.3f} PFLOP in all: {stage.flops / 3.6e15:,.2f} hours at 1 TFLOP/s")
    return lines
