"""Blender Cycles draws the same rig from the same cameras: the yardstick of :mod:`benchmarks.data`.

Runs under an interpreter that has ``bpy`` (``pip install bpy``), which the library neither needs nor imports:

    python benchmarks/cycles_child.py JOB.json

``JOB.json`` names the file, its animation, frames, cameras, image size and samples; a line of JSON with the seconds of
each picture comes back. One thread, no bounces, no denoising: colour and object index at the lowest cost that Cycles
has for them.
"""

import json
import math
import os
import sys
import tempfile
import time

import bpy
from mathutils import Vector


def main(path: str) -> None:
    """Draw and print."""
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=job["file"])
    scene = bpy.context.scene
    settle(scene, job)
    play(job["animation"])
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.angle = math.radians(job["fov"])
    scene.collection.objects.link(camera)
    scene.camera = camera
    for angles, strength in (((0.6, 0.2, 0.3), 3.0), ((-0.8, 0.1, 2.5), 1.0)):
        sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
        sun.rotation_euler, sun.data.energy = angles, strength
        scene.collection.objects.link(sun)
    seconds, cpu_seconds, covered = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        scene.render.filepath = os.path.join(folder, "picture.png")
        for shot in job["shots"]:
            began, used = time.perf_counter(), time.process_time()
            x, y, z = shot["position"]                              # glTF's y is up, Blender's is z
            camera.location = (x, -z, y)
            u, v, w = job["target"]
            camera.rotation_euler = (Vector((u, -w, v)) - camera.location).to_track_quat("-Z", "Y").to_euler()
            whole, part = divmod(shot["time"] * scene.render.fps, 1)
            scene.frame_set(int(whole), subframe=part)
            bpy.ops.render.render(write_still=True)
            seconds.append(time.perf_counter() - began)
            cpu_seconds.append(time.process_time() - used)
            covered.append(coverage(scene.render.filepath))
    print(json.dumps({"blender": bpy.app.version_string, "seconds": seconds, "cpu_seconds": cpu_seconds,
                      "covered": covered}))


def settle(scene, job: dict) -> None:
    """Cycles at its cheapest for colour and object index."""
    scene.render.engine = "CYCLES"
    scene.cycles.device, scene.cycles.samples = "CPU", job["samples"]
    scene.cycles.use_denoising, scene.cycles.max_bounces = False, 0
    scene.render.resolution_x = scene.render.resolution_y = job["size"]
    scene.render.film_transparent = True
    scene.render.use_persistent_data = True
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.compression = 15
    scene.view_layers[0].use_pass_object_index = True


def play(animation: str) -> None:
    """Give the armature the action of this name."""
    wanted = [action for action in bpy.data.actions if animation in action.name]
    for thing in bpy.data.objects:
        if thing.animation_data and wanted:
            for track in thing.animation_data.nla_tracks:
                track.mute = True
            thing.animation_data.action = wanted[0]
            if hasattr(thing.animation_data, "action_slot") and wanted[0].slots:
                thing.animation_data.action_slot = wanted[0].slots[0]


def coverage(path: str) -> float:
    """Share of a picture that is not transparent: does it show the object at all?"""
    image = bpy.data.images.load(path)
    alpha = list(image.pixels)[3::4]
    bpy.data.images.remove(image)
    return sum(a > 0.5 for a in alpha) / len(alpha)


if __name__ == "__main__":
    main(sys.argv[1])
