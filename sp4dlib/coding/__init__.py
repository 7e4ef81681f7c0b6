"""The spatial colour code: part ids to colours and back."""

from sp4dlib.coding.code import SPATIAL, ColorCode, random_colors
from sp4dlib.coding.colors import MIN_DISTANCE, encode, part_colors
from sp4dlib.coding.damage import code_patches, corrupt, resample, resampled_parts
from sp4dlib.coding.decoding import decode
from sp4dlib.coding.ids import fold_small_parts
from sp4dlib.coding.regions import fill_silhouette

__all__ = ["MIN_DISTANCE", "SPATIAL", "ColorCode", "code_patches", "corrupt", "decode", "encode", "fill_silhouette",
           "fold_small_parts", "part_colors", "random_colors", "resample", "resampled_parts"]
