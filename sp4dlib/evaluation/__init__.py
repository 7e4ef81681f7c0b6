"""Evaluation: scores of predicted parts against true ones, baselines, and the protocols of the experiments."""

from sp4dlib.evaluation.baselines import component_parts, flow_parts, kmeans_parts
from sp4dlib.evaluation.examples import Example, examples, painted
from sp4dlib.evaluation.folding import fold_small_parts
from sp4dlib.evaluation.metrics import adjusted_rand_index, contingency, interior, segmentation_scores
from sp4dlib.evaluation.pictures import agreement, color_scores
from sp4dlib.evaluation.protocols import EvaluationConfig, evaluate, model_config
from sp4dlib.evaluation.results import read_results, summarize
from sp4dlib.evaluation.subjects import Scene, draw_scene, list_subjects
from sp4dlib.evaluation.tuning import tune, tuned

__all__ = ["EvaluationConfig", "Example", "Scene", "adjusted_rand_index", "agreement", "color_scores",
           "component_parts", "contingency", "draw_scene", "evaluate", "examples", "flow_parts",
           "fold_small_parts", "interior", "kmeans_parts", "list_subjects", "model_config", "painted", "read_results",
           "segmentation_scores", "summarize", "tune", "tuned"]
