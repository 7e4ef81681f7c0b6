"""How good the rigs are that come out of part maps: ``python -m benchmarks.rigging``; writes data/results/rigging.json.

Sections (``--parts``), each of which can run alone and is merged into the file rig by rig:

* ``labels``: skinning weights from perfect part labels, beside rigid labels, the plain band, Blender and libigl.
* ``lifted``: labels from true part maps of 12 and of 4 views at 512 x 512, and weights from these on the five.
* ``bones``: skinning weights from the true bones alone, beside Blender and libigl.
* ``skeleton``: joints and tree from perfect and from lifted labels.
* ``speed``: labels to weights of 20 parts at 50,000 and 200,000 vertices, beside Blender; every run in its own process.
* ``twins``: nine broken twins of one mesh, and inputs that are hardly a mesh.

What is measured on, and the rules for parts and reference trees: :mod:`benchmarks.rigging_subjects`. What is compared
with: :mod:`benchmarks.rigging_anchors`. What the numbers mean: :mod:`sp4dlib.evaluation.rigging`; L1 is summed over
parts (0 to 2), deformation is in permille of the longest side, poses are drawn with seed 7 from U(0, 30) degrees.

    python -m benchmarks.rigging --parts labels --rigs five,val --no-anchors --dry
"""

from __future__ import annotations

import argparse
import logging
import os

from benchmarks import record, rigging_sections, rigging_store
from benchmarks.rigging_anchors import Programs, Run
from benchmarks.rigging_subjects import names

log = logging.getLogger("benchmarks.rigging")


def main() -> None:
    """Run the chosen sections on the chosen rigs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--parts", default=",".join(rigging_sections.SECTIONS), help="sections, comma-separated")
    parser.add_argument("--rigs", default="five,val", help="five, train, val, test, or names, comma-separated")
    parser.add_argument("--references", help="folder of an installed dm-control and the unpacked npm package")
    parser.add_argument("--bpy-python", help="interpreter that has bpy (Blender)")
    parser.add_argument("--igl-python", help="interpreter that has libigl")
    parser.add_argument("--limit", type=float, default=900, help="seconds that an anchor may take")
    parser.add_argument("--no-anchors", action="store_true", help="neither Blender nor libigl")
    parser.add_argument("--resume", action="store_true", help="skip rigs that the file has from this very commit")
    parser.add_argument("--dry", action="store_true", help="print the tables only; store nothing")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    chosen = options.parts.split(",")
    if unknown := set(chosen) - set(rigging_sections.SECTIONS):
        parser.error(f"there is no section {', '.join(sorted(unknown))}; choose from "
                     f"{', '.join(rigging_sections.SECTIONS)}")
    programs = Programs() if options.no_anchors else Programs(options.bpy_python, options.igl_python, options.limit)
    run, results = Run(options.references, programs), {} if options.dry else rigging_store.stored()
    for section in chosen:
        chosen_names = rigging_sections.OWN_NAMES.get(section) or names(options.rigs)
        results = measure(section, chosen_names, run, results, options)
        log.info("\n%s\n%s", section, rigging_store.table(results[section]))


def measure(section: str, rigs: list[str], run: Run, results: dict, options) -> dict:
    """Run a section rig by rig; what is done is stored after each."""
    settings = rigging_sections.settings(section, run)
    for name in rigs:
        done = results.get(section, {"rigs": {}})["rigs"].get(name, {})
        if options.resume and done.get("commit") == record.commit() and "error" not in done:
            continue
        worked = cpu_seconds()
        try:
            values = rigging_sections.SECTIONS[section](name, run)
        except Exception as error:                  # one rig must not cost the others; the file tells of it
            log.exception("%s: %s failed", section, name)
            values = {"error": f"{type(error).__name__}: {error}"}
        made = rigging_store.entry(name, values, cpu_seconds() - worked)
        log.info("%s: %s, %.1f CPU seconds", section, name, made["cpu_seconds"])
        results = rigging_store.merge(results, section, name, made, settings)
        if not options.dry:
            rigging_store.write(results)
    return results


def cpu_seconds() -> float:
    """Of this process and the children that it has waited for."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
