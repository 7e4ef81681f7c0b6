"""Recipes: all that makes a model, from its clips to its pipeline, in one TOML file; and what following one costs."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import nn

from sp4dlib.clips.config import SetConfig, from_dict
from sp4dlib.coding import SPATIAL, ColorCode
from sp4dlib.diffusion.autoencoder import VAEConfig
from sp4dlib.diffusion.data import FOLD
from sp4dlib.diffusion.nano import pass_through
from sp4dlib.diffusion.train_config import TrainConfig
from sp4dlib.model import ConcatUNet, DualUNet, MultiViewUNet, cost

CONFIGS = Path(__file__).parents[1] / "configs"
STAGES = ("rgb", "coarse", "dual")
KINDS = {"dual": DualUNet, "concat": ConcatUNet}
STATE_BYTES = 20        # of one weight in training: itself, its gradient, two moments of AdamW, its running mean


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes
    ----------
    sizes : dict
        Arguments of `DualUNet`, but for the numbers of latents, which follow from the autoencoder. TOML has no word
        for None: a ``context_dim`` or ``motion_context_dim`` of 0 is none.
    carry : bool
        Lay a path for the noise through the first weights (`sp4dlib.diffusion.nano.pass_through`): for narrow networks.
    start : str
        Where training starts from (`begin_from`): the folder of a saved pipeline, or a checkpoint of SV4D 2.0, from
        which both branches start. It must have these sizes.
    seed : int
        Of the first weights.
    kind : {"dual", "concat"}
        SP4D's two branches, or one U-Net with concatenated latents to compare them with
        (`sp4dlib.model.concat.ConcatUNet`), which has no stage 1.
    """

    sizes: dict = field(default_factory=dict)
    carry: bool = False
    start: str = ""
    seed: int = 0
    kind: str = "dual"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind of the network is one of {', '.join(KINDS)}; got {self.kind!r}")
        if self.start and self.kind != "dual":
            raise ValueError("a network of kind 'concat' starts from random weights; leave out start")

    def arguments(self) -> dict:
        """``sizes`` as `DualUNet` takes them."""
        made = {name: tuple(value) if isinstance(value, list) else value for name, value in self.sizes.items()}
        return {name: None if name.endswith("context_dim") and not value else value for name, value in made.items()}


@dataclass(frozen=True)
class DataConfig:
    """The clips.

    Attributes
    ----------
    frames, views : int
        T and V of a training window.
    still : float
        Share of windows that repeat one frame: what a single picture is to the network.
    mirror, recolor : float
        Shares of the training windows that are seen in a mirror, and in other colours: see
        :mod:`sp4dlib.clips.augment`. The held-out windows are not.
    heldout : int
        Windows of the split ``val`` on which the loss is followed; 0 is none.
    set : SetConfig, optional
        The training set that is built where none is given.
    code : ColorCode
        How parts become colours.
    """

    frames: int
    views: int
    still: float = 0.2
    mirror: float = 0.0
    recolor: float = 0.0
    heldout: int = 8
    set: SetConfig | None = None
    code: ColorCode = SPATIAL

    def __post_init__(self) -> None:
        for name in ("still", "mirror", "recolor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, in [0, 1]; got {getattr(self, name)}")


@dataclass(frozen=True)
class SamplingConfig:
    """What the pipeline is told beside its networks; see `sp4dlib.diffusion.pipeline.SP4DPipeline`.

    Attributes
    ----------
    steps : int
    guidance : tuple of float
        First and last weight.
    sigma_min, sigma_max : float
    fill : float
    dtype : {"float32", "float16", "bfloat16"}
        In which weights are saved.
    """

    steps: int = 25
    guidance: tuple[float, float] = (1.0, 2.0)
    sigma_min: float = 0.02
    sigma_max: float = 80.0
    fill: float = 0.8
    dtype: str = "float32"


@dataclass(frozen=True)
class Recipe:
    """Everything about a model and its training.

    Attributes
    ----------
    name, about : str
    size : int
        Side of the pictures.
    model : ModelConfig
    data : DataConfig
    stages : dict {"rgb", "coarse", "dual"} to TrainConfig
        ``rgb`` trains the colour branch alone; ``dual`` trains both, from its weights; ``coarse`` comes between and
        does the same on smaller pictures (``shrink``) or fewer frames. The first two may be left out.
    vae : VAEConfig, optional
        Without one, diffusion works on folded pixels.
    sampling : SamplingConfig
    """

    name: str
    size: int
    model: ModelConfig
    data: DataConfig
    stages: dict[str, TrainConfig]
    vae: VAEConfig | None = None
    sampling: SamplingConfig = SamplingConfig()
    about: str = ""

    def __post_init__(self) -> None:
        unknown = set(self.stages) - set(STAGES)
        if unknown or "dual" not in self.stages:
            raise ValueError("stages are [stages.dual] and, if wanted, [stages.rgb] and [stages.coarse]; got "
                             f"{', '.join(self.stages)}")
        if self.model.kind == "concat" and "rgb" in self.stages:
            raise ValueError("a network of kind 'concat' has no colour branch to train alone: leave out [stages.rgb]")
        if self.size % self.factor:
            raise ValueError(f"size {self.size} is no multiple of {self.factor}, the pixels of a latent")
        for name, stage in self.stages.items():
            if self.size % (stage.shrink * self.factor):
                raise ValueError(f"[stages.{name}] pictures of {self.size} pixels cannot be made {stage.shrink} times "
                                 f"smaller and then coded in patches of {self.factor}; change shrink")
            if stage.frames > self.data.frames:
                raise ValueError(f"[stages.{name}] windows of {stage.frames} frames are longer than the recipe's "
                                 f"{self.data.frames}; change frames")
        if self.data.set is not None and self.data.set.clips.size != self.size:
            raise ValueError(f"[data.set.clips] size is {self.data.set.clips.size}, the recipe's size {self.size}; "
                             "they must agree")

    @property
    def factor(self) -> int:
        """Pixels of an image side for one latent."""
        return FOLD if self.vae is None else self.vae.patch

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return 3 * FOLD**2 if self.vae is None else self.vae.latent_channels

    def to_dict(self) -> dict:
        """Plain data."""
        return json.loads(json.dumps(asdict(self)))

    def network(self) -> DualUNet | ConcatUNet:
        """The network before training."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.model.seed)
            model = KINDS[self.model.kind](in_channels=2 * self.channels, out_channels=self.channels,
                                           **self.model.arguments())
        if self.model.carry:
            for branch in (model.rgb, model.part) if self.model.kind == "dual" else (model.unet,):
                pass_through(branch)
        if self.model.start and begin_from(model, self.model.start) and "rgb" in self.stages:
            raise ValueError(f"{self.model.start} has a part branch, which [stages.rgb] would undo: the colour branch "
                             "is copied over it. Leave [stages.rgb] out")
        return model


def begin_from(model: DualUNet, start: str | Path) -> bool:
    """Give a network trained weights, in place.

    Parameters
    ----------
    model : DualUNet
    start : str or Path
        Folder of a pipeline (`save_pretrained`) with a network of the same sizes, or a checkpoint of SV4D 2.0. Where
        that has a colour branch only, the part branch becomes its copy. A pipeline's network knows the latents of its
        own autoencoder: take that as well (``vae.pretrained = "FOLDER/vae"``).

    Returns
    -------
    bool
        Whether there was a part branch to start from.

    Raises
    ------
    ValueError
        If the sizes differ; those that do are named.
    """
    folder = Path(start)
    if not (folder / "model_index.json").is_file():
        model.rgb.load_state_dict(MultiViewUNet.from_official(start).state_dict())
        model.copy_rgb_to_part()
        return False
    kind = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8")).get("_class_name")
    if kind not in ("DualUNet", "MultiViewUNet"):
        raise ValueError(f"{folder / 'unet'} holds a {kind}; training starts from a DualUNet or a MultiViewUNet")
    dual = kind == "DualUNet"
    target = model if dual else model.rgb
    found = type(target).from_pretrained(folder / "unet")
    differ = [f"{name} {found.config.get(name)} there, {value} here" for name, value in target.config.items()
              if not name.startswith("_") and name != "zero_init_fusion"
              and _plain(found.config.get(name)) != _plain(value)]
    if differ:
        raise ValueError(f"the network in {folder} has other sizes than this recipe: {'; '.join(differ)}")
    target.load_state_dict(found.state_dict())
    if not dual:
        model.copy_rgb_to_part()
    return dual


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def read_recipe(name: str | Path) -> Recipe:
    """Read a recipe: the name of one that comes with the library, or a TOML file.

    Paths in ``[data.set]`` count from the file's folder; so do ``model.start`` and ``vae.pretrained``, if they name
    what is there.

    Raises
    ------
    ValueError
        If there is none, it cannot be parsed, or a field is unknown or has a value that makes no sense.
    """
    path = CONFIGS / f"{name}.toml" if str(name) in shipped() else Path(name)
    if not path.is_file():
        raise ValueError(f"{name} is no recipe: give a TOML file or one of {', '.join(shipped())}")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        return _recipe(found, path)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def shipped() -> list[str]:
    """Names of the recipes that come with the library."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def _recipe(found: dict, path: Path) -> Recipe:
    data = dict(_table(found, "data"))
    if "set" in data:
        for source in data["set"].get("sources", ()):
            for key in ("path", "files"):
                if source.get(key):
                    source[key] = str(path.absolute().parent / Path(source[key]).expanduser())
        data["set"] = from_dict(data["set"])
    if "code" in data:
        data["code"] = _made(ColorCode, data["code"], "[data.code]")
    for table, key in (("model", "start"), ("vae", "pretrained")):
        value = found.get(table, {}).get(key)
        if value and (beside := path.absolute().parent / Path(value).expanduser()).exists():
            found[table][key] = str(beside)
    made = {"model": _made(ModelConfig, _table(found, "model"), "[model]"), "data": _made(DataConfig, data, "[data]"),
            "sampling": _made(SamplingConfig, found.get("sampling", {}), "[sampling]"),
            "stages": {stage: _made(TrainConfig, values, f"[stages.{stage}]")
                       for stage, values in _table(found, "stages").items()}}
    if "vae" in found:
        made["vae"] = _made(VAEConfig, found["vae"], "[vae]")
    return _made(Recipe, {"name": path.stem, **found, **made}, "the file")


def _table(found: dict, name: str) -> dict:
    if not isinstance(found.get(name), dict):
        raise ValueError(f"there must be a table [{name}]")
    return found[name]


def _made(kind: type, values: dict, where: str):
    known = [item.name for item in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{where} has no field {unknown[0]!r}; it has {', '.join(known)}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


@dataclass(frozen=True)
class StageBudget:
    """What a stage costs.

    Attributes
    ----------
    parameters : int
        Of the network.
    state_bytes : int
        Weights, gradients, AdamW's moments and the running mean, in 32 bits: shared by the devices under FSDP.
    sample_flops : int
        Of the network's way forth for one sample.
    flops : int
        Of the whole stage: the way back costs twice as much, gradient checkpointing once more.
    """

    parameters: int
    state_bytes: int
    sample_flops: int
    flops: int


def budget(recipe: Recipe) -> dict[str, StageBudget]:
    """Count what training costs, stage by stage, on the meta device: neither memory nor a GPU is needed.

    Activations, the autoencoder and the drawing of clips come on top.
    """
    with torch.device("meta"):
        model = replace(recipe, model=replace(recipe.model, carry=False, start="")).network()
    return {name: _stage_budget(model.rgb if name == "rgb" else model, recipe, recipe.stages[name])
            for name in STAGES if name in recipe.stages}


def _stage_budget(network: nn.Module, recipe: Recipe, config: TrainConfig) -> StageBudget:
    side, data = recipe.size // config.shrink // recipe.factor, recipe.data
    frames = config.frames or data.frames
    with torch.device("meta"):
        latents = torch.empty(1, frames, data.views, recipe.channels, side, side)
        told = {"timestep": torch.empty(1), "cameras": torch.empty(1, data.views, 2)}
    if not isinstance(network, MultiViewUNet):
        given = {"rgb": latents, "part": latents, "condition": latents[:, :, 0]}
    else:
        given = {"sample": torch.cat([latents, latents], 3)}
    counted = cost.count(network, lambda: network(**given, **told), [*given.values(), *told.values()])
    passes = 4 if config.gradient_checkpointing else 3
    return StageBudget(counted.parameters, STATE_BYTES * counted.parameters, counted.flops,
                       passes * counted.flops * config.batch_size * config.steps)
