"""One of others' skinning methods, run by an interpreter that has it: ``METHOD GIVEN.npz MADE.npz``.

Imports nothing of this project, whose environment need not have bpy or igl. GIVEN holds ``vertices`` (N, 3), ``faces``
(F, 3) and bones ``starts``, ``stops`` (S, 3); MADE gets ``weights`` (N, S) and ``about``, a JSON of seconds, cpu
seconds, peak resident MB and version. Times are those of the method's own call, without imports and copying.
"""

import json
import sys
import time

import numpy as np

ITERATIONS = 8          # of libigl's active set solver, its own default
SAMPLES = 10            # points along each bone that become vertices of the tetrahedral mesh
TETGEN = "pYq2.0Q"


def blender(vertices, faces, starts, stops):
    """Armature deform with automatic weights (bone heat)."""
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    mesh = bpy.data.meshes.new("mesh")
    mesh.from_pydata(vertices.tolist(), [], faces.tolist())
    body = bpy.data.objects.new("mesh", mesh)
    armature = bpy.data.armatures.new("armature")
    frame = bpy.data.objects.new("armature", armature)
    for item in (body, frame):
        bpy.context.collection.objects.link(item)
    bpy.context.view_layer.objects.active = frame
    frame.select_set(True)
    bpy.ops.object.mode_set(mode="EDIT")
    for i, (start, stop) in enumerate(zip(starts, stops)):
        bone = armature.edit_bones.new(f"bone{i}")
        bone.head, bone.tail = start, stop
    bpy.ops.object.mode_set(mode="OBJECT")
    body.select_set(True)
    with Clock() as clock:
        bpy.ops.object.parent_set(type="ARMATURE_AUTO")
    weights = np.zeros((len(vertices), len(starts)))
    column = {group.index: int(group.name.removeprefix("bone")) for group in body.vertex_groups}
    for vertex in mesh.vertices:
        for group in vertex.groups:
            weights[vertex.index, column[group.group]] = group.weight
    return weights, clock, bpy.app.version_string


def bbw(vertices, faces, starts, stops):
    """Bounded biharmonic weights (Jacobson et al. 2011) of bone handles, in TetGen's mesh of the inside."""
    from importlib.metadata import version

    import igl
    import igl.copyleft.tetgen as tetgen

    ends, index = np.unique(np.round(np.concatenate([starts, stops]), 9), axis=0, return_inverse=True)
    bones = index.ravel().reshape(2, -1).T.astype(np.int64)
    points, edges, cages = np.zeros(0, np.int64), np.zeros((0, 2), np.int64), np.zeros((0, 3), np.int64)
    with Clock() as clock:
        inside = tetgen.mesh_with_skeleton(vertices, faces, ends, points, bones, edges, SAMPLES, TETGEN)
        nodes, tets = inside[0], np.asarray(inside[1], np.int64)
        handles, values = igl.boundary_conditions(nodes, tets, ends, points, bones, edges, cages)
        weights = igl.bbw(nodes, tets, handles, values, max_iter=ITERATIONS)[:len(vertices)]
    return weights, clock, f"libigl {version('libigl')}"


class Clock:
    """Wall and processor seconds of a block."""

    def __enter__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error):
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu


def peak_megabytes():
    """Largest resident size of this process so far; not ru_maxrss, which a child inherits from its parent."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def main():
    method, given, made = sys.argv[1:]
    with np.load(given) as data:
        arrays = {name: np.ascontiguousarray(data[name]) for name in ("vertices", "faces", "starts", "stops")}
    weights, clock, version = {"blender": blender, "bbw": bbw}[method](**arrays)
    about = {"seconds": round(clock.wall, 4), "cpu_seconds": round(clock.cpu, 4), "peak_mb": round(peak_megabytes()),
             "version": version}
    np.savez(made, weights=np.asarray(weights, np.float64), about=json.dumps(about))


if __name__ == "__main__":
    main()
