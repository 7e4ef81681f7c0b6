"""Evaluation: scores of predicted parts against true ones."""

from sp4dlib.evaluation.metrics import adjusted_rand_index, contingency, interior, segmentation_scores

__all__ = ["adjusted_rand_index", "contingency", "interior", "segmentation_scores"]
