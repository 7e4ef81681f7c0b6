"""Folding, pictures' scores, scenes, rare poses, and the evaluation as a whole."""

import numpy as np
import pytest
from clips_rigs import arm
from diffusion_toys import toy_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from sp4dlib.coding import fill_silhouette
from sp4dlib.clips import DrawRule, Skip, kinematic_parts
from sp4dlib.clips.sources import Entry
from sp4dlib.evaluation import agreement, color_scores, draw_scene, fold_small_parts, summarize
from sp4dlib.evaluation.examples import painted
from sp4dlib.evaluation.methods import Prediction, predictions
from sp4dlib.evaluation.pictures import silhouette
from sp4dlib.evaluation.rare import BEYOND, MOST, joint_angles, joint_limits, rare_pose
from sp4dlib.evaluation.results import in_order, read_results, write_results
from sp4dlib.evaluation.subjects import Scene, spread
from sp4dlib.rigs import creature

RULE = DrawRule(frames=3, views=3, size=48)


def entry(key="things/arm"):
    return Entry(key, "things", "creature", "arm", "arm", "val", "MIT")


@pytest.fixture(scope="module")
def bird():
    rig = creature("bird", 0, vertices=1500)
    return rig, kinematic_parts(rig)


def image(**counts):
    """One image that holds so many pixels of each part, in rows."""
    flat = np.concatenate([np.full(n, int(name[1:])) for name, n in counts.items()])
    return np.concatenate([flat, np.full(-len(flat) % 100, -1)]).reshape(1, -1, 100).astype(np.int16)


def sizes(ids):
    return {int(k): int(n) for k, n in zip(*np.unique(ids[ids >= 0], return_counts=True))}


def test_a_small_part_goes_to_its_parent_and_a_large_one_stays():
    ids = image(p0=1000, p1=15, p2=16)
    assert sizes(fold_small_parts(ids, [-1, 0, 1])) == {0: 1015, 2: 16}


def test_the_share_counts_where_it_is_more_than_the_pixels():
    ids = image(p0=10_000, p1=49, p2=55)
    assert sizes(fold_small_parts(ids, [-1, 0, 0])) == {0: 10_049, 2: 55}


def test_small_children_make_their_parent_large():
    """A hand of ten pixels with a finger of ten is twenty pixels, and stays."""
    assert sizes(fold_small_parts(image(p0=500, p1=10, p2=10), [-1, 0, 1])) == {0: 500, 1: 20}


def test_hidden_parents_are_passed_over():
    assert sizes(fold_small_parts(image(p0=500, p3=5), [-1, 0, 1, 2])) == {0: 505}


def test_without_a_visible_ancestor_the_nearest_in_the_tree_takes_it():
    parents = [-1, 0, 0, 1, 2]              # 1 and 2 are siblings, 3 and 4 their children; 0 is hidden
    assert sizes(fold_small_parts(image(p1=5, p3=300, p4=400), parents)) == {3: 305, 4: 400}, "its child, not a nephew"
    assert sizes(fold_small_parts(image(p0=5, p3=300, p4=400), parents)) == {3: 300, 4: 405}, "the larger of two"


def test_a_lone_part_stays_however_small():
    assert sizes(fold_small_parts(image(p2=3), [-1, 0, 1])) == {2: 3}


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(0, 2**31))
def test_after_folding_no_part_is_small_and_no_pixel_is_lost(count, seed):
    rng = np.random.default_rng(seed)
    parents = np.array([-1] + [rng.integers(-1, k) for k in range(1, count)])
    ids = rng.choice(np.arange(-1, count), (2, 20, 20), p=rng.dirichlet(np.full(count + 1, 0.2))).astype(np.int16)
    folded = fold_small_parts(ids, parents)
    assert np.array_equal(folded >= 0, ids >= 0) and folded.dtype == ids.dtype
    left = sizes(folded)
    assert len(left) <= 1 or min(left.values()) >= max(16, 0.005 * sum(left.values()))
    assert set(left) <= set(sizes(ids)) and np.array_equal(fold_small_parts(folded, parents), folded)


@pytest.mark.parametrize(("ids", "parents", "message"), [([[3]], [-1, 0], "2 parts"), ([[0]], [1, -1], "precede")])
def test_trees_that_do_not_fit_are_refused(ids, parents, message):
    with pytest.raises(ValueError, match=message):
        fold_small_parts(np.array(ids), parents)


def test_psnr_and_ssim_of_known_pictures():
    true = np.full((2, 16, 16, 3), 100, np.uint8)
    assert color_scores(true, true) == {"psnr": 100.0, "ssim": 1.0}
    off = color_scores(true + np.uint8(10), true)
    assert off["psnr"] == pytest.approx(20 * np.log10(25.5)) and 0.9 < off["ssim"] < 1
    with pytest.raises(ValueError, match="one shape"):
        color_scores(true, true[:1])


def test_agreement_of_two_half_overlapping_squares():
    parts, colors = np.full((1, 8, 8), -1), np.full((1, 8, 8, 3), 255, np.uint8)
    parts[0, 2:6, :4], colors[0, 2:6, 2:6] = 0, 0
    assert agreement(parts, colors) == {"inside": 0.5, "silhouette_iou": pytest.approx(1 / 3)}
    assert agreement(np.full((1, 8, 8), -1), colors) == {"inside": 0.0, "silhouette_iou": 0.0}
    assert not silhouette(np.full((1, 2, 2, 3), 250, np.uint8)).any(), "nearly white is background"


def test_a_known_silhouette_is_filled_from_the_nearest_part():
    parts = np.array([[[0, -1, -1, -1, 1]], [[-1, -1, -1, -1, 2]]], np.int16)
    inside = np.array([[[1, 1, 0, 1, 1]], [[1, 1, 0, 0, 0]]], bool)
    parts[0, 0, 2] = 2
    assert fill_silhouette(parts, inside).tolist() == [[[0, 0, -1, 1, 1]], [[0, 0, -1, -1, -1]]]
    assert fill_silhouette(np.full_like(parts, -1), inside).max() == 0


@pytest.mark.parametrize("protocol", ["multi-view", "multi-frame"])
def test_a_scene_is_the_same_each_time_and_true_parts_score_one(bird, protocol):
    rig, parts = bird
    scene, again = (draw_scene(entry(), rig, parts, protocol, RULE, seed=3) for _ in range(2))
    assert np.array_equal(scene.clip.rgb, again.clip.rgb) and np.array_equal(scene.parts, again.parts)
    other = draw_scene(entry("things/other"), rig, parts, protocol, RULE, seed=3)
    assert not np.array_equal(scene.clip.rgb, other.clip.rgb), "subjects are drawn apart"
    frames, views = (3, 3) if protocol == "multi-frame" else (1, 3)
    assert scene.clip.rgb.shape[:2] == (frames, views) and scene.rgb.shape == (3, 48, 48, 3)
    first = scene.clip.rgb[:, 0] if protocol == "multi-frame" else scene.clip.rgb[0]
    assert np.array_equal(scene.rgb, first)
    row = Prediction("truth", scene.parts, {}).row(scene)
    assert [row[name] for name in ("miou", "ari", "f1", "macc")] == [1, 1, 1, 1]
    assert row["clip_parts"] == scene.num_parts >= row["num_parts"] > 1


def test_what_has_no_motion_stands_still():
    rig = arm().replace(animations=())
    parts = kinematic_parts(arm())
    assert isinstance(draw_scene(entry(), rig, parts, "multi-frame", RULE), Skip)
    assert draw_scene(entry(), rig, parts, "multi-view", RULE).num_parts >= 2


def test_the_settings_of_a_scene():
    """Baselines get the true count and silhouettes; a perfect network without an autoencoder would score 1."""
    from types import SimpleNamespace

    scene = Scene("toy", "toys", "multi-frame", toy_clip(frames=3, views=2, size=32))
    made = {p.method: p for p in predictions(scene, "baseline")}
    assert list(made) == ["kmeans", "components", "flow"]
    assert all(np.array_equal(p.parts >= 0, scene.parts >= 0) for p in made.values())
    for prediction in predictions(scene, "ceiling", SimpleNamespace(vae=None)):
        assert prediction.row(scene)["miou"] == 1
    with pytest.raises(ValueError, match="setting is one of"):
        list(predictions(scene, "guessed"))


def test_the_model_is_shown_what_the_setting_says():
    clip = toy_clip(frames=3, views=2, size=32)
    scene, calls = Scene("toy", "toys", "multi-frame", clip), []

    def pipeline(image, azimuths, elevations, **options):
        from types import SimpleNamespace

        calls.append((image, options["known"]))
        assert options["decode_parts"] is False and options["crop"] is False
        return SimpleNamespace(rgb=clip.rgb, part_images=clip.part_images)

    made = {(name, p.method): p.row(scene) for name in ("generated", "given")
            for p in predictions(scene, name, pipeline)}
    assert all(np.array_equal(image, clip.rgb[:, 0]) for image, _ in calls)
    assert calls[0][1] is None and sorted(calls[1][1]) == [(0, 0), (1, 0), (2, 0)], "only what is scored is known"
    assert {row["miou"] for row in made.values()} == {1.0}
    generated = made["generated", "model"]
    assert generated["psnr"] == generated["psnr_further"] == 100 and generated["silhouette_iou"] == 1
    assert ("given", "model_count_mask") in made and "psnr" not in made["given", "model"]


def test_angles_of_joints_are_their_own():
    rig = arm((1.0, 1.0, 1.0))
    assert joint_angles(rig) == pytest.approx([0, 90, 0], abs=1e-4), "a parent's turn does not count"
    assert joint_limits([rig, rig.replace(animations=())]) == pytest.approx(
        {"bone 0": 0, "bone 1": 90, "bone 2": 0}, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_rare_poses_turn_joints_beyond_training(bird, seed):
    rig, parts = bird
    limits = {rig.skeleton.names[3]: 70.0}
    pose = rare_pose(rig, parts, limits, np.random.default_rng(seed))
    angles = joint_angles(rig.replace(animations=(pose,)))
    known = np.maximum(joint_angles(rig), [limits.get(name, 0) for name in rig.skeleton.names])
    turned = angles > 1e-3
    assert turned.any() and not turned[0]
    assert (angles[turned] > known[turned] + BEYOND[0] - 1e-3).all() and angles.max() <= MOST + 1e-3
    again = rare_pose(rig, parts, limits, np.random.default_rng(seed))
    assert np.array_equal(pose.rotation, again.rotation)


def test_there_is_no_rare_pose_where_training_has_seen_all():
    rig = arm()
    skip = rare_pose(rig, kinematic_parts(rig), {name: 170.0 for name in rig.skeleton.names}, np.random.default_rng(0))
    assert isinstance(skip, Skip) and skip.reason == "no rare pose"


def test_subjects_are_those_of_the_split_of_the_training_set(monkeypatch):
    from sp4dlib.diffusion.recipe import read_recipe
    from sp4dlib.evaluation import list_subjects
    from sp4dlib.rigs import humans
    from sp4dlib.rigs.assets import names

    data = read_recipe("mini").data.set
    entries, skipped = list_subjects(data, "val", per_family=2)
    assert not skipped and {entry.split for entry in entries} == {"val"}
    assert [entry.locator for entry in entries if entry.source == "quaternius"] == sorted(names("val"))
    assert [entry.key for entry in entries if entry.source == "procedural"] == [
        "procedural/bird/00000", "procedural/bird/00001"], "families that train has seen are not here"
    monkeypatch.setattr(humans, "prepared", lambda: False)
    entries, skipped = list_subjects(data, "test")
    assert {entry.source for entry in entries} == {"quaternius", "procedural"}
    assert skipped[0]["subject"] == "humans" and skipped[0]["reason"], "what is missing is said"
    assert not list_subjects(data, "test", humans=0)[1]


def test_subjects_are_spread_over_the_list():
    assert spread(list("abcde"), 3) == ["a", "c", "e"] and spread(list("abc"), None) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="at least one"):
        spread([1], 0)


def test_summaries_are_means_over_subjects(tmp_path):
    rows = [{"subject": name, "group": "g", "protocol": protocol, "setting": "given", "method": "model", "miou": miou,
             "ari": 0.5} for protocol, name, miou in [("multi-frame", "b", 0.2), ("multi-view", "b", 0.4),
                                                      ("multi-view", "a", 0.6)]]
    rows = in_order(rows, ["a", "b"])
    assert [(row["subject"], row["protocol"]) for row in rows] == [
        ("a", "multi-view"), ("b", "multi-view"), ("b", "multi-frame")]
    views, frames = summarize(rows)
    assert (views["miou"], views["subjects"], views["ari_std"]) == (0.5, 2, 0)
    assert views["miou_std"] == pytest.approx(0.141421, abs=1e-6) and frames["miou_std"] == 0
    write_results(tmp_path / "deep" / "r.json", {"config": {}, "rows": rows, "skipped": []})
    assert read_results(tmp_path / "deep" / "r.json")["rows"] == rows
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no results"):
        read_results(tmp_path / "other.json")


def test_predictions_are_painted_in_the_colours_that_they_match():
    true = np.array([[[0, 0, 1, 1, -1]]])
    colors = np.array([[1, 0, 0], [0, 0, 1.0]])
    picture = painted(np.array([[[5, 5, 2, 2, 3]]]), true, colors)[0, 0].tolist()
    assert picture[:4] == [[255, 0, 0]] * 2 + [[0, 0, 255]] * 2
    assert len(set(picture[4])) == 1 and picture[4][0] < 255, "grey where nothing matches"
