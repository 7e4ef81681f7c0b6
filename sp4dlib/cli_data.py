"""``sp4d data``: build, check and show training sets; fetch the files of lists."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

SOURCES = """sources:
  PATH                    a folder of .glb and .gltf files, at any depth, or one file
  LIST                    .csv, .json, .jsonl, .parquet or .txt of objects, as Objaverse-XL has them; their files are
                          looked for in --files, a folder or a JSON file {fileIdentifier: path}
  assets[:SPLIT]          the rigs by Quaternius (python -m sp4dlib.rigs.assets)
  procedural[:A,B][=N]    N creatures of each family, or of the families A and B
  humans[=N]              N people (needs anny)

examples:
  sp4d data build rigs/ -o set --workers 8
  sp4d data build assets procedural=50 -o set --size 128 --per-object 2
  sp4d data build --config data/kinematic_parts_open.toml -o KinematicParts-Open --workers 16
  sp4d data build list.parquet --files ~/.objaverse -o set --ray auto

A build that was stopped, in whatever way, goes on when the same command is given again. The result does not depend on
the number of workers. Objects that are left out are named with their reason in DIR/report.json."""


def add_data(commands) -> None:
    """Options of ``sp4d data``."""
    parser = commands.add_parser("data", help="rigs to training sets of colour and part video",
                                 description="Build, check and show training sets; fetch the files of lists.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_build(actions)
    fetch = actions.add_parser("fetch", help="get the files of an Objaverse-XL list", description="Download the files "
                               "of a list with the objaverse package. FOLDER/files.json is for `build --files`.")
    fetch.add_argument("list", metavar="LIST")
    fetch.add_argument("-o", "--output", metavar="FOLDER", required=True)
    fetch.add_argument("--workers", type=int, default=4, metavar="N", help="downloads at a time (default: 4)")
    fetch.set_defaults(run=run_fetch)
    check = actions.add_parser("check", help="is a set whole, and what it says it is?", description="Verify hashes, "
                               "counts, splits and pictures of a set; the exit status is 1 if anything is wrong.")
    check.add_argument("folder", metavar="DIR")
    check.add_argument("--quick", action="store_true", help="do not decode the pictures")
    check.add_argument("--workers", type=int, default=1, metavar="N", help="threads (default: 1)")
    check.set_defaults(run=run_check)
    show = actions.add_parser("show", help="a summary and a contact sheet", description="Print what a set holds, and "
                              "draw some of its clips.")
    show.add_argument("folder", metavar="DIR")
    show.add_argument("-o", "--output", metavar="PNG", help="of the contact sheet (default: DIR.png)")
    show.add_argument("--split", choices=("train", "val", "test"), help="draw clips of this split only")
    show.add_argument("--clips", type=int, default=8, metavar="N", help="on the sheet (default: 8)")
    show.add_argument("--seed", type=int, default=0, help="choose other clips (default: 0)")
    show.set_defaults(run=run_show)


def _add_build(actions) -> None:
    parser = actions.add_parser("build", help="build a set, or go on building it", epilog=SOURCES,
                                description="Build a training set of clips from rigs.",
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("sources", nargs="*", metavar="SOURCE", help="see below; added to those of --config")
    add("-o", "--output", metavar="DIR", required=True, help="folder of the set")
    add("--config", metavar="FILE", help="everything about the set in a .toml or .json file; options below override it")
    add("--files", metavar="PATH", default="", help="where the files of a list are")
    add("--licence", metavar="NAME", default="unknown", help="of the files in folders, such as CC-BY-4.0")
    add("--size", type=int, metavar="PIXELS", help="of an image side (default: 256)")
    add("--frames", type=int, metavar="T", help="of a clip (default: 24)")
    add("--views", type=int, metavar="V", help="of a clip (default: 24)")
    add("--per-object", type=int, metavar="N", help="clips of an object at the most (default: 4)")
    add("--invented", type=int, metavar="N", help="motions to invent for each object beside its own, so that rigs "
        "without animations yield clips as well (default: 0)")
    add("--seed", type=int, help="another seed, other cameras, lights and splits (default: 0)")
    machine = parser.add_argument_group("machine")
    add = machine.add_argument
    add("--workers", type=int, metavar="N", help="processes (default: 1); with --ray local, its CPUs")
    add("--ray", metavar="ADDRESS", help="work on a Ray cluster: its address, auto for the one this machine belongs "
        "to, or local")
    add("--limit", type=float, default=900.0, metavar="SECONDS", help="for one object (default: 900)")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run_build)


def run_build(args: argparse.Namespace) -> None:
    """``sp4d data build``."""
    from sp4dlib.clips.build import build_set
    from sp4dlib.clips.config import SetConfig, parse_sources, read_config

    sources = parse_sources(args.sources, args.files, args.licence)
    if args.config:
        config = read_config(args.config)
        config = replace(config, sources=config.sources + sources)
    elif sources:
        config = SetConfig(sources)
    else:
        raise ValueError("say what to build from: SOURCE..., or --config FILE")
    drawn = {name: getattr(args, name) for name in ("size", "frames", "views") if getattr(args, name) is not None}
    names = ("per_object", "invented", "seed")
    own = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    config = replace(config, clips=replace(config.clips, **drawn), **own)
    workers = args.workers if args.workers is not None else 0 if args.ray else 1
    try:
        manifest = build_set(config, args.output, workers=workers, ray=args.ray, limit=args.limit,
                             progress=not args.quiet)
    except KeyboardInterrupt:
        print("sp4d: interrupted; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
    print(f"{args.output}: {_counts(manifest)}")
    print("\n".join(_left_out(manifest["summary"])) or "nothing was left out")


def run_fetch(args: argparse.Namespace) -> None:
    """``sp4d data fetch``."""
    from sp4dlib.clips.annotations import download

    files = download(args.list, args.output, args.workers)
    print(f"{files}: {len(json.loads(files.read_text(encoding='utf-8')))} files; build with --files {files}")


def run_check(args: argparse.Namespace) -> None:
    """``sp4d data check``."""
    from sp4dlib.clips.check import check_set
    from sp4dlib.clips.shards import read_manifest

    problems = check_set(args.folder, pictures=not args.quick, workers=args.workers)
    for problem in problems:
        print(problem)
    if problems:
        raise ValueError(f"{args.folder}: {len(problems)} problem" + "s" * (len(problems) > 1))
    print(f"{args.folder}: whole; {_counts(read_manifest(args.folder))}")


def run_show(args: argparse.Namespace) -> None:
    """``sp4d data show``."""
    from PIL import Image

    from sp4dlib.clips.shards import read_manifest
    from sp4dlib.show.sheets import contact_sheet

    folder = Path(args.folder).absolute()
    manifest = read_manifest(folder)
    splits = [args.split] if args.split else [name for name, entry in manifest["summary"]["splits"].items()
                                              if entry["clips_kept"]]
    sheet, captions = contact_sheet(folder, splits, args.clips, args.seed)
    print(f"{manifest['config']['name']}: {_counts(manifest)}")
    for table in ("splits", "sources"):
        for name, entry in manifest["summary"][table].items():
            licences = ", ".join(entry["licences"])
            print(f"  {table[:-1]:6} {name:20} {entry['objects_kept']:7} of {entry['objects']} objects "
                  f"{entry['clips_kept']:7} clips  {licences}")
    print("\n".join(_left_out(manifest["summary"])) or "nothing was left out")
    target = Path(args.output) if args.output else folder.with_name(folder.name + ".png")
    partial = target.with_name(target.name + ".part")
    Image.fromarray(sheet).save(partial, "png")
    partial.replace(target)
    print(f"{target}: one clip a row")
    print("\n".join(f"  {caption}" for caption in captions))


def _counts(manifest: dict) -> str:
    summary, clips = manifest["summary"], manifest["config"]["clips"]
    size = sum(shard["bytes"] for shard in manifest["shards"])
    return (f"{summary['clips_kept']} clips of {summary['objects_kept']} objects, {clips['frames']} frames x "
            f"{clips['views']} views of {clips['size']} pixels, {size / 1e6:,.1f} MB")


def _left_out(summary: dict) -> list[str]:
    lines = [f"  left out: {count} objects, {reason}" for reason, count in summary["objects_dropped"].items()]
    lines += [f"  left out: {count} clips, {reason}" for reason, count in summary["clips_dropped"].items()]
    return lines + [f"  passed over in {name}: {json.dumps(counts)}" for name, counts in summary["passed_over"].items()]
