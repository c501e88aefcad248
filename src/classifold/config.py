"""The settings: one frozen Config, and the one loader that makes it from defaults, config.py and overrides.

Reading settings never imports TensorFlow or NumPy.
"""

from __future__ import annotations

import ast
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from classifold import names
from classifold.config_file import read_config_file
from classifold.config_rules import find_problems
from classifold.config_words import explain_unknown, explain_value
from classifold.errors import Fault, SettingsError
from classifold.process import expand_home

DEFAULT_CONFIG_PATH = Path(names.CONFIG_FILE)


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _as_path_text(value: object) -> object:
    """Return a pathlib path as text, with `~` written out, since no later step does that."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    return expand_home(text) if isinstance(text, str) and text.startswith("~") else text


def _refuse_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("no file name holds a NUL character")
    return value


Share = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=10)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
PathText = Annotated[str, BeforeValidator(_as_path_text), AfterValidator(_refuse_nul)]
Units = Annotated[tuple[Positive, ...], BeforeValidator(_as_tuple)]
Penalties = Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(_as_tuple)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Monitor = Literal["val_loss", "val_accuracy", "loss", "accuracy"]
Flip = bool | Literal["auto"]
Decay = Literal["cosine", "exponential", "step", "constant"]

# Where each group of settings begins, for the settings file and the settings page.
GROUPS = {
    "PROJECT_NAME": "The project",
    "DATA_NAME": "The pictures and their three sets",
    "BACKBONE": "The model",
    "RECIPE": "Training",
    "AUGMENTATION_VARIANTS": "Augmentation of the training pictures",
    "RUNS_DIR": "Evaluation and results",
    "DATA_BUCKET": "AWS: buckets, role, encryption",
    "BASE_IMAGE": "AWS: the training image",
    "INSTANCE_COUNT": "AWS: the training job",
}

# What BATCH_SIZE = "auto" is on a processor.
_BATCH_SIZE = 32

# What a recipe sets where nobody says otherwise; "balanced" is the defaults.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "quick": {"EPOCHS": 0},
    "balanced": {},
    "best": {"IMAGE_SIZE": 288, "EPOCHS": 16, "AUGMENTATION_VARIANTS": 16},
}

# What training reads, and so travels with a job as its hyperparameters; the others are this machine's, or
# AWS's. A new setting goes into one of the two.
JOB_SETTINGS = frozenset(
    """
    DATA_NAME UNREADABLE_PICTURES MAX_PIXELS SAMPLE_BITS
    BACKBONE BACKBONE_WEIGHTS IMAGE_SIZE HEAD_LAYERS HEAD_FEATURES DROPOUT
    RECIPE TIME_LIMIT RANDOM_SEED BACKEND PRECISION NUM_WORKERS CACHE_GB BATCH_SIZE STEPS_PER_EPOCH
    HEAD_PENALTIES HEAD_EPOCHS HEAD_LEARNING_RATE EPOCHS LEARNING_RATE FINE_TUNE_SHARE
    OPTIMIZER MOMENTUM WEIGHT_DECAY GRADIENT_CLIP
    LEARNING_RATE_DECAY DECAY_RATE DECAY_EPOCHS WARMUP_EPOCHS
    CLASS_WEIGHTS LABEL_SMOOTHING EARLY_STOPPING_MONITOR EARLY_STOPPING_PATIENCE
    CHECKPOINT_MONITOR CHECKPOINT_TOLERANCE CHECKPOINT_MINUTES AVERAGED_EPOCHS
    AUGMENTATION_VARIANTS ROTATION_RANGE ZOOM_RANGE WIDTH_SHIFT_RANGE HEIGHT_SHIFT_RANGE SHEAR_RANGE
    HORIZONTAL_FLIP VERTICAL_FLIP BRIGHTNESS_RANGE CONTRAST_RANGE SATURATION_RANGE ERASING_PROBABILITY
    TOP_K BOOTSTRAP_SAMPLES CALIBRATION_BINS
    """.split()  # noqa: SIM905 - forty lines else
)
HOME_SETTINGS = frozenset(
    """
    PROJECT_NAME PROJECT_REGION ALGORITHM_NAME INSTANCE_TYPE TAGS
    DATA_LOCAL_DIR DATA_MANIFEST MANIFEST_ROOT MANIFEST_CLASS
    SPLIT_LOCAL_DIR PERCENTAGE_VAL PERCENTAGE_EVAL SPLIT_SEED SPLIT_GROUP_PATTERN SMALL_CLASSES
    SPLIT_FILES RUNS_DIR
    DATA_BUCKET OUTPUT_BUCKET BUCKET_NAMESPACE ROLE ROLE_BOUNDARY KMS_KEY UPLOAD_AS SHARD_MB UPLOAD_THREADS
    BASE_IMAGE INSTANCE_COUNT INSTANCE_PREFERENCES VOLUME_GB MAX_HOURS SPOT MAX_WAIT_HOURS KEEP_ALIVE_MINUTES
    INPUT_MODE INPUT_DISTRIBUTION NETWORK_ISOLATION SUBNETS SECURITY_GROUPS
    """.split()  # noqa: SIM905 - forty lines else
)


class Config(BaseModel):
    """Every setting, typed and checked; the names are those of config.py.

    Shares and fractions are between 0 and 1, angles in degrees, sizes in pixels, times as named.
    The descriptions are the remarks in config.py and the rows of docs/settings.md.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    # The project
    PROJECT_NAME: str = Field("flowers-classification", description="names the buckets and the repository")
    PROJECT_REGION: str = Field("eu-west-1", description="the AWS region of everything")
    ALGORITHM_NAME: str = Field("efficientnet-lite0", description="names the run folders and the jobs")
    INSTANCE_TYPE: str = Field("ml.g4dn.xlarge", description="the machine of a SageMaker job")
    TAGS: dict[str, str] = Field(
        {"Customer": "classifold", "Project": "flowers", "Service": "training"},
        description="put on every AWS resource",
    )

    # The pictures
    DATA_NAME: str = Field("flowers", description="prefix in the bucket and name of the channel")
    DATA_LOCAL_DIR: PathText = Field(
        "data/flowers", min_length=1, description="the folder of pictures, one sub-folder a class"
    )
    DATA_MANIFEST: PathText = Field(
        "",
        description="a listing of the pictures in place of DATA_LOCAL_DIR, a table or JSON; none is copied",
    )
    MANIFEST_ROOT: PathText = Field(
        "",
        description="of a listing: address of the folder whose sub-folders are the classes; "
        "empty: the picture's own",
    )
    MANIFEST_CLASS: str = Field(
        "",
        description="the listing's column with the class; empty: one called label, class or similar, else "
        "the folder",
    )
    SPLIT_LOCAL_DIR: PathText = Field(
        "", description="where the three sets go; empty: beside DATA_LOCAL_DIR, its name with -split"
    )
    SPLIT_FILES: Literal["auto", "copy", "link"] = Field(
        "auto",
        description="copy: clones or copies; link: hard links; auto: link if space is short",
    )
    PERCENTAGE_VAL: Share = Field(0.15, description="share of the pictures for validation")
    PERCENTAGE_EVAL: Share = Field(0.15, description="share of the pictures for evaluation")
    SPLIT_SEED: Count = Field(0, description="another number, another division into sets")
    SPLIT_GROUP_PATTERN: str = Field(
        "", description="regular expression on <class>/<file>; pictures with the same match stay in one set"
    )
    SMALL_CLASSES: Literal["fail", "skip"] = Field(
        "fail", description="classes with too few pictures for the sets: stop, or leave them out and say so"
    )
    UNREADABLE_PICTURES: Literal["skip", "fail"] = Field(
        "skip", description="pictures that cannot be read: name and skip them, or stop"
    )
    MAX_PIXELS: Positive = Field(100_000_000, description="a picture with more is refused, not decoded")
    SAMPLE_BITS: Annotated[int, Field(ge=8, le=16)] | Literal["auto"] = Field(
        "auto",
        description="how many bits 16-bit samples use, such as 12; auto: what the file says, else 16",
    )

    # The model
    BACKBONE: str = Field(
        "EfficientNetLite0",
        min_length=1,
        description="this, any name of keras.applications, or a function of your own as my_model.py:build",
    )
    BACKBONE_WEIGHTS: PathText | None = Field(
        "imagenet", description="imagenet, None for random ones, a file or an earlier run"
    )
    IMAGE_SIZE: int = Field(224, ge=16, le=1024, description="pictures are resized to this square, in pixels")
    HEAD_LAYERS: Units = Field((), description="units of hidden layers between backbone and classes")
    HEAD_FEATURES: Literal["levels", "top"] = Field(
        "levels", description="levels: the head sees every level of the backbone; top: the last alone"
    )
    DROPOUT: Share = Field(0.2, description="before every layer of the head")

    # Training
    RECIPE: Literal["quick", "balanced", "best"] = Field(
        "balanced", description="quick: the head alone; best: more of everything; see docs/recipes.md"
    )
    TIME_LIMIT: float = Field(
        0.0, ge=0, le=40_320, description="minutes in which a run shall end with a finished model; 0: none"
    )
    RANDOM_SEED: int = Field(42, ge=0, lt=2**32, description="every random number follows from it")
    BACKEND: Literal["auto", "tensorflow", "jax"] = Field("auto", description="Keras's engine")
    PRECISION: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="of the arithmetic in training; auto: float32, and bfloat16 on GPUs that have it",
    )
    NUM_WORKERS: Positive | Literal["auto"] = Field("auto", description="threads that read pictures")
    CACHE_GB: float = Field(
        1.0, ge=0, description="memory for pictures and activations that no file keeps between epochs"
    )
    BATCH_SIZE: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = Field(
        "auto", description="pictures a step; auto: 32, and on a GPU the most that fit"
    )
    STEPS_PER_EPOCH: Positive | Literal["auto"] = Field("auto", description="auto: every picture once")
    HEAD_PENALTIES: Penalties = Field(
        (1.0, 0.3, 0.1, 0.03, 0.01),
        description="regularisation of the head, chosen by validation; () learns it in epochs instead",
    )
    HEAD_EPOCHS: Count = Field(
        40, description="epochs of a head that is learned in epochs; 0: no stage of the head alone"
    )
    HEAD_LEARNING_RATE: Rate = Field(1e-3, description="largest learning rate of the head's stage")
    EPOCHS: Count = Field(10, description="epochs of fine-tuning; 0: the head only")
    LEARNING_RATE: Rate = Field(5e-4, description="largest learning rate of fine-tuning")
    FINE_TUNE_SHARE: Fraction = Field(0.3, description="how much of the backbone learns, from its top")
    OPTIMIZER: Literal["adam", "adamw", "sgd"] = Field("adamw", description="of both stages")
    MOMENTUM: Share = Field(0.9, description="of sgd")
    WEIGHT_DECAY: float = Field(0.02, ge=0, le=1, description="decoupled, in adamw and sgd")
    GRADIENT_CLIP: float = Field(1.0, ge=0, description="largest global norm of a gradient; 0: none")
    LEARNING_RATE_DECAY: Decay = Field("cosine", description="of fine-tuning")
    DECAY_RATE: float = Field(0.5, gt=0, le=1, description="factor of exponential and step")
    DECAY_EPOCHS: Positive = Field(5, description="epochs after which the factor is applied once")
    WARMUP_EPOCHS: float = Field(1.0, ge=0, description="the learning rate rises from zero in this time")
    CLASS_WEIGHTS: Literal["none", "balanced"] | dict[str, float] = Field(
        "none", description="of the classes in the loss; balanced: rare ones count more; or {class: weight}"
    )
    LABEL_SMOOTHING: Share = Field(0.1, description="share of the truth spread over all classes, in the loss")
    EARLY_STOPPING_MONITOR: Monitor = Field(
        "val_loss", description="the value whose standstill ends the training"
    )
    EARLY_STOPPING_PATIENCE: Count = Field(
        10, description="epochs without a better value; 0: never stop early"
    )
    CHECKPOINT_MONITOR: Monitor = Field("val_loss", description="the best epoch by this is kept")
    CHECKPOINT_TOLERANCE: float = Field(
        1.0,
        ge=0,
        le=10,
        description="standard errors by which a later epoch may be worse and is kept; 0: the best",
    )
    CHECKPOINT_MINUTES: float = Field(
        0.2,
        ge=0,
        le=1440,
        description="the state for --resume is saved so often, inside an epoch too; 0: after a stage",
    )
    AVERAGED_EPOCHS: int = Field(
        5, ge=1, le=50, description="an epoch's weights are the mean over so many; 1: its own"
    )

    # Augmentation of the training pictures
    AUGMENTATION_VARIANTS: Count = Field(8, description="versions of each picture; 0: new ones each epoch")
    ROTATION_RANGE: float = Field(15.0, ge=0, le=180, description="degrees to either side")
    ZOOM_RANGE: Share = Field(0.2, description="in and out")
    WIDTH_SHIFT_RANGE: Share = Field(0.1, description="share of the width")
    HEIGHT_SHIFT_RANGE: Share = Field(0.1, description="share of the height")
    SHEAR_RANGE: float = Field(5.0, ge=0, lt=90, description="degrees")
    HORIZONTAL_FLIP: Flip = Field(
        "auto", description="mirror half of the pictures left to right; auto: unless that changes a class"
    )
    VERTICAL_FLIP: Flip = Field(
        False, description="mirror half of the pictures top to bottom; auto: unless that changes a class"
    )
    BRIGHTNESS_RANGE: Share = Field(0.2, description="brighter and darker by up to this share")
    CONTRAST_RANGE: Share = Field(0.2, description="more and less contrast by up to this share")
    SATURATION_RANGE: Fraction = Field(0.2, description="more and less colour by up to this share")
    ERASING_PROBABILITY: Fraction = Field(0.0, description="how often a rectangle is painted over")

    # Evaluation and results
    RUNS_DIR: PathText = Field("runs", min_length=1, description="where run folders go")
    TOP_K: Positive = Field(3, description="k of the top-k accuracy, and names a prediction shows")
    BOOTSTRAP_SAMPLES: int = Field(2000, ge=100, le=100_000, description="draws behind the 95 % intervals")
    CALIBRATION_BINS: int = Field(10, ge=2, le=100, description="rows of the reliability table")

    # AWS: buckets, role, encryption
    DATA_BUCKET: str = Field("", description="the bucket of the pictures; empty: <PROJECT_NAME>.data")
    OUTPUT_BUCKET: str = Field("", description="the bucket of the results; empty: <PROJECT_NAME>.output")
    BUCKET_NAMESPACE: Literal["global", "account-regional"] = Field(
        "global", description="account-regional: bucket names that nobody else can take"
    )
    ROLE: str = Field("", description="a role of your own for the jobs, name or ARN; empty: one is made")
    ROLE_BOUNDARY: str = Field(
        "",
        description="ARN of the policy that is the role's permissions boundary; empty: none",
    )
    KMS_KEY: str = Field(
        "", description="ARN of the key that encrypts buckets, images, disks and results; empty: AWS's own"
    )
    UPLOAD_AS: Literal["files", "shards"] = Field(
        "files", description="shards: the pictures packed into a few tar files, faster for many small ones"
    )
    SHARD_MB: int = Field(150, ge=1, le=5000, description="size of a shard, in MB")
    UPLOAD_THREADS: Positive | Literal["auto"] = Field("auto", description="files that are sent at once")

    # AWS: the training image
    BASE_IMAGE: str = Field(
        "",
        description="base image, such as a mirror's or NAME@sha256:…; empty: python:3.11-slim",
    )

    # AWS: the training job
    INSTANCE_COUNT: int = Field(1, ge=1, le=100, description="machines of a job")
    INSTANCE_PREFERENCES: Texts = Field(
        (), description="further instance types, in the order in which they are tried"
    )
    VOLUME_GB: int = Field(50, ge=1, le=16384, description="disk of the machine, where it can be chosen")
    MAX_HOURS: float = Field(12.0, gt=0, le=672, description="a job that runs longer is stopped")
    SPOT: bool = Field(False, description="spare capacity: cheaper, may be interrupted and goes on later")
    MAX_WAIT_HOURS: float = Field(
        24.0, gt=0, le=672, description="of a spot job, with waiting; at least MAX_HOURS"
    )
    KEEP_ALIVE_MINUTES: int = Field(0, ge=0, le=60, description="the machine waits so long for the next job")
    INPUT_MODE: Literal["File", "FastFile"] = Field(
        "File", description="File: downloaded before the start; FastFile: read from S3 as needed"
    )
    INPUT_DISTRIBUTION: Literal["FullyReplicated", "ShardedByS3Key"] = Field(
        "FullyReplicated",
        description="ShardedByS3Key: each of several machines gets its part of the training shards alone",
    )
    NETWORK_ISOLATION: bool = Field(True, description="the container has no network and no credentials")
    SUBNETS: Texts = Field((), description="of your VPC, where the job shall run in it")
    SECURITY_GROUPS: Texts = Field((), description="of your VPC, with SUBNETS")

    @model_validator(mode="after")
    def _check_together(self) -> Config:
        problems = find_problems(self)
        if problems:
            raise SettingsError(*problems)
        return self

    @property
    def batch_size(self) -> int:
        """Pictures a step, where no GPU says otherwise."""
        return _BATCH_SIZE if self.BATCH_SIZE == "auto" else self.BATCH_SIZE

    @property
    def most_epochs(self) -> int:
        """Epochs of both stages at most; a head that is found has one for each penalty."""
        is_found = self.HEAD_EPOCHS and self.HEAD_PENALTIES and not self.HEAD_LAYERS
        return (len(self.HEAD_PENALTIES) if is_found else self.HEAD_EPOCHS) + self.EPOCHS

    @property
    def is_sharded_by_key(self) -> bool:
        """Whether a job's machines get the training shards shared out among them."""
        return self.INPUT_DISTRIBUTION == names.SHARDED_BY_KEY

    @property
    def split_dir(self) -> Path:
        """Where `split` puts the three sets."""
        if self.SPLIT_LOCAL_DIR:
            return Path(self.SPLIT_LOCAL_DIR)
        if self.DATA_MANIFEST:
            listing = Path(self.DATA_MANIFEST)
            return listing.with_name(f"{listing.name.partition('.')[0] or 'listing'}-split")
        data_dir = Path(self.DATA_LOCAL_DIR)
        # "." and ".." have no name of their own to put -split behind.
        data_dir = data_dir.resolve() if data_dir.name in ("", "..") else data_dir
        return Path(f"{data_dir}-split")

    @property
    def shards_dir(self) -> Path:
        """Where `upload` packs the three sets into shards."""
        split_dir = self.split_dir
        return split_dir.with_name(f"{split_dir.name}-shards")

    def to_json(self) -> str:
        """Return the settings as JSON, in the order of this class."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"

    def to_hyperparameters(self) -> dict[str, str]:
        """Return every setting as the string that `parse_value` reads back, for a job's hyperparameters."""
        return {name: _as_text(name, value) for name, value in self.model_dump(mode="json").items()}


def load_config(
    path: Path | None = None,
    *,
    hyperparameters: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
) -> Config:
    """Return the settings: defaults < config.py < hyperparameters < overrides.

    Args:
        path: The settings file; None takes `container/modeling/config.py` and must exist all the same.
        hyperparameters: A job's, every value a string.
        overrides: `NAME=VALUE` strings, as given to `--set`.

    Raises:
        SettingsError: With every fault that was found, not only the first.
    """
    faults: list[Fault] = []
    path = path or DEFAULT_CONFIG_PATH
    layers = {
        str(path): read_config_file(path, known=Config.model_fields, faults=faults),
        "hyperparameters": {name: parse_value(name, text) for name, text in (hyperparameters or {}).items()},
        "--set": _read_overrides(overrides, faults),
    }
    return _merge_layers(layers, faults)


def override_config(overrides: Sequence[str]) -> Config:
    """Return the defaults with `NAME=VALUE` strings in their place; for commands that need no settings file.

    Raises:
        SettingsError: With every fault that was found.
    """
    faults: list[Fault] = []
    return _merge_layers({"--set": _read_overrides(overrides, faults)}, faults)


def read_hyperparameters(texts: Mapping[str, str], *, fixed: Mapping[str, Any]) -> Config:
    """Return a job's settings: defaults < hyperparameters < `fixed`, what the place where it runs decides.

    Raises:
        SettingsError: With every fault that was found.
    """
    given = {name: parse_value(name, text) for name, text in texts.items()}
    return _merge_layers({"hyperparameters": given, "container": fixed}, [])


def build_config(values: Mapping[str, Any]) -> Config:
    """Return the settings with `values` in place of the defaults; for tests and for saved settings.

    Raises:
        SettingsError: With every fault that was found.
    """
    return _merge_layers({"settings": values}, [])


def _merge_layers(layers: Mapping[str, Mapping[str, Any]], faults: list[Fault]) -> Config:
    """Return the settings of all layers, a later one above an earlier one; raise every fault at once."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, layer in layers.items():
        for name, value in layer.items():
            if name in Config.model_fields:
                values[name], sources[name] = value, source
            else:
                faults.append(explain_unknown(name, source=source, known=Config.model_fields))
    for name, value in RECIPES.get(str(values.get("RECIPE")), {}).items():
        if name not in values:
            values[name], sources[name] = value, "RECIPE"
    config = None
    try:
        config = Config(**values)
    except ValidationError as error:
        faulty = {str(problem["loc"][0]) for problem in error.errors()}
        faults += [
            explain_value(name, values[name], source=sources[name], field=Config.model_fields[name])
            for name in values
            if name in faulty
        ]
        # The relations between settings are still checked, with the defaults in place of the faulty ones.
        faults += _faults_of({name: value for name, value in values.items() if name not in faulty})
    except SettingsError as error:
        faults += error.faults
    if faults or config is None:
        raise SettingsError(*faults)
    return config


def _faults_of(values: dict[str, Any]) -> Sequence[Fault]:
    try:
        Config(**values)
    except SettingsError as error:
        return error.faults
    return ()


def _read_overrides(overrides: Sequence[str], faults: list[Fault]) -> dict[str, Any]:
    values = {}
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            hint = f"for instance --set {name if name in Config.model_fields else 'BATCH_SIZE'}=16"
            faults.append(Fault("--set", "expected NAME=VALUE", got=repr(text), hint=hint))
        else:
            values[name.strip()] = parse_value(name.strip(), value)
    return values


def parse_value(name: str, text: str) -> Any:
    """Return the value that a string stands for, as the setting's type wants it: `"32"` is 32 for BATCH_SIZE.

    Text settings keep the string as it is, unless it is a JSON string in its quotes; other settings read
    JSON and Python's literals; what is neither stays a string and is judged by the setting's type.
    """
    field = Config.model_fields.get(name)
    annotation = field.annotation if field else None
    bare = text.strip()
    if annotation in _TEXT_TYPES:
        if annotation is not str and bare.lower() in ("none", "null"):
            return None
        value = _read_literal(bare) if bare.startswith('"') else text
        return value if isinstance(value, str) else text
    if bare.lower() in _WORDS:
        return _WORDS[bare.lower()]
    literal = _read_literal(bare)
    # SageMaker's SDK writes a string as JSON once more: "32" in its quotes is 32 as well.
    is_wrapped = bare.startswith('"') and isinstance(literal, str) and literal != bare
    return parse_value(name, literal) if is_wrapped else literal


_TEXT_TYPES = (str, PathText | None)
_WORDS = {"true": True, "false": False, "null": None}


def _read_literal(text: str) -> Any:
    """Return what JSON or else Python makes of the text; the text itself where both refuse it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _as_text(name: str, value: object) -> str:
    """Return the inverse of `parse_value`: text as it is where that is safe, everything else as JSON."""
    if isinstance(value, str) and parse_value(name, value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
