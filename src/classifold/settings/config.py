"""The settings: one frozen Config, where each is said once: type, default, heading, scope and remark."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)
from pydantic.fields import FieldInfo

from classifold import names
from classifold.processes import expand_home


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

# What BATCH_SIZE = "auto" is on a processor.
_BATCH_SIZE = 32

# What a recipe sets where nobody says otherwise; "balanced" is the defaults.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "quick": {"EPOCHS": 0},
    "balanced": {},
    "best": {"IMAGE_SIZE": 288, "EPOCHS": 16, "AUGMENTATION_VARIANTS": 16},
}


class Group(Enum):
    """Under which heading a setting stands in the settings file and in docs/settings.md."""

    PROJECT = "The project"
    PICTURES = "The pictures and their three sets"
    MODEL = "The model"
    TRAINING = "Training"
    AUGMENTATION = "Augmentation of the training pictures"
    RESULTS = "Evaluation and results"
    AWS = "AWS: buckets, role, encryption"
    IMAGE = "AWS: the training image"
    JOB = "AWS: the training job"


class Scope(Enum):
    """Where a setting counts: each is one of these, and says so in its line."""

    HERE = "for this machine or for AWS; a training job never sees it"
    JOB = "training reads it, so it goes with a job as a hyperparameter"
    LEARNING = "like JOB, and it changes what is learned: --resume with another value is refused"


class Config(BaseModel):
    """Every setting, typed and checked; the names are those of config.py.

    Shares and fractions are between 0 and 1, angles in degrees, sizes in pixels, times as named.
    The descriptions are the remarks in config.py and the rows of docs/settings.md.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    PROJECT_NAME: Annotated[str, Group.PROJECT, Scope.HERE] = Field(
        "flowers-classification", description="names the buckets and the repository"
    )
    PROJECT_REGION: Annotated[str, Group.PROJECT, Scope.HERE] = Field(
        "eu-west-1", description="the AWS region of everything"
    )
    ALGORITHM_NAME: Annotated[str, Group.PROJECT, Scope.HERE] = Field(
        "efficientnet-lite0", description="names the run folders and the jobs"
    )
    INSTANCE_TYPE: Annotated[str, Group.PROJECT, Scope.HERE] = Field(
        "ml.g4dn.xlarge", description="the machine of a SageMaker job"
    )
    TAGS: Annotated[dict[str, str], Group.PROJECT, Scope.HERE] = Field(
        {"Customer": "classifold", "Project": "flowers", "Service": "training"},
        description="put on every AWS resource",
    )

    DATA_NAME: Annotated[str, Group.PICTURES, Scope.JOB] = Field(
        "flowers", description="prefix in the bucket and name of the channel"
    )
    DATA_LOCAL_DIR: Annotated[PathText, Group.PICTURES, Scope.HERE] = Field(
        "data/flowers", min_length=1, description="the folder of pictures, one sub-folder a class"
    )
    DATA_MANIFEST: Annotated[PathText, Group.PICTURES, Scope.HERE] = Field(
        "",
        description="a listing of the pictures in place of DATA_LOCAL_DIR, a table or JSON; none is copied",
    )
    MANIFEST_ROOT: Annotated[PathText, Group.PICTURES, Scope.HERE] = Field(
        "",
        description="of a listing: address of the folder whose sub-folders are the classes; "
        "empty: the picture's own",
    )
    MANIFEST_CLASS: Annotated[str, Group.PICTURES, Scope.HERE] = Field(
        "",
        description="the listing's column with the class; empty: one called label, class or similar, else "
        "the folder",
    )
    SPLIT_LOCAL_DIR: Annotated[PathText, Group.PICTURES, Scope.HERE] = Field(
        "", description="where the three sets go; empty: beside DATA_LOCAL_DIR, its name with -split"
    )
    SPLIT_FILES: Annotated[Literal["auto", "copy", "link"], Group.PICTURES, Scope.HERE] = Field(
        "auto",
        description="copy: clones or copies; link: hard links; auto: link if space is short",
    )
    PERCENTAGE_VAL: Annotated[Share, Group.PICTURES, Scope.HERE] = Field(
        0.15, description="share of the pictures for validation"
    )
    PERCENTAGE_EVAL: Annotated[Share, Group.PICTURES, Scope.HERE] = Field(
        0.15, description="share of the pictures for evaluation"
    )
    SPLIT_SEED: Annotated[Count, Group.PICTURES, Scope.HERE] = Field(
        0, description="another number, another division into sets"
    )
    SPLIT_GROUP_PATTERN: Annotated[str, Group.PICTURES, Scope.HERE] = Field(
        "", description="regular expression on <class>/<file>; pictures with the same match stay in one set"
    )
    SMALL_CLASSES: Annotated[Literal["fail", "skip"], Group.PICTURES, Scope.HERE] = Field(
        "fail", description="classes with too few pictures for the sets: stop, or leave them out and say so"
    )
    UNREADABLE_PICTURES: Annotated[Literal["skip", "fail"], Group.PICTURES, Scope.JOB] = Field(
        "skip", description="pictures that cannot be read: name and skip them, or stop"
    )
    MAX_PIXELS: Annotated[Positive, Group.PICTURES, Scope.JOB] = Field(
        100_000_000, description="a picture with more is refused, not decoded"
    )
    SAMPLE_BITS: Annotated[
        Annotated[int, Field(ge=8, le=16)] | Literal["auto"], Group.PICTURES, Scope.LEARNING
    ] = Field(
        "auto",
        description="how many bits 16-bit samples use, such as 12; auto: what the file says, else 16",
    )

    BACKBONE: Annotated[str, Group.MODEL, Scope.LEARNING] = Field(
        "EfficientNetLite0",
        min_length=1,
        description="this, any name of keras.applications, or a function of your own as my_model.py:build",
    )
    BACKBONE_WEIGHTS: Annotated[PathText | None, Group.MODEL, Scope.LEARNING] = Field(
        "imagenet", description="imagenet, None for random ones, a file or an earlier run"
    )
    IMAGE_SIZE: Annotated[int, Group.MODEL, Scope.LEARNING] = Field(
        224, ge=16, le=1024, description="pictures are resized to this square, in pixels"
    )
    HEAD_LAYERS: Annotated[Units, Group.MODEL, Scope.LEARNING] = Field(
        (), description="units of hidden layers between backbone and classes"
    )
    HEAD_FEATURES: Annotated[Literal["levels", "top"], Group.MODEL, Scope.LEARNING] = Field(
        "levels", description="levels: the head sees every level of the backbone; top: the last alone"
    )
    DROPOUT: Annotated[Share, Group.MODEL, Scope.LEARNING] = Field(
        0.2, description="before every layer of the head"
    )

    RECIPE: Annotated[Literal["quick", "balanced", "best"], Group.TRAINING, Scope.JOB] = Field(
        "balanced", description="quick: the head alone; best: more of everything; see docs/recipes.md"
    )
    TIME_LIMIT: Annotated[float, Group.TRAINING, Scope.JOB] = Field(
        0.0, ge=0, le=40_320, description="minutes in which a run shall end with a finished model; 0: none"
    )
    RANDOM_SEED: Annotated[int, Group.TRAINING, Scope.LEARNING] = Field(
        42, ge=0, lt=2**32, description="every random number follows from it"
    )
    BACKEND: Annotated[Literal["auto", "tensorflow", "jax"], Group.TRAINING, Scope.JOB] = Field(
        "auto", description="Keras's engine"
    )
    PRECISION: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], Group.TRAINING, Scope.LEARNING
    ] = Field(
        "auto",
        description="of the arithmetic in training; auto: float32, and bfloat16 on GPUs that have it",
    )
    NUM_WORKERS: Annotated[Positive | Literal["auto"], Group.TRAINING, Scope.JOB] = Field(
        "auto", description="threads that read pictures"
    )
    CACHE_GB: Annotated[float, Group.TRAINING, Scope.JOB] = Field(
        1.0, ge=0, description="memory for pictures and activations that no file keeps between epochs"
    )
    BATCH_SIZE: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | Literal["auto"], Group.TRAINING, Scope.LEARNING
    ] = Field("auto", description="pictures a step; auto: 32, and on a GPU the most that fit")
    STEPS_PER_EPOCH: Annotated[Positive | Literal["auto"], Group.TRAINING, Scope.LEARNING] = Field(
        "auto", description="auto: every picture once"
    )
    HEAD_PENALTIES: Annotated[Penalties, Group.TRAINING, Scope.LEARNING] = Field(
        (1.0, 0.3, 0.1, 0.03, 0.01),
        description="regularisation of the head, chosen by validation; () learns it in epochs instead",
    )
    HEAD_EPOCHS: Annotated[Count, Group.TRAINING, Scope.LEARNING] = Field(
        40, description="epochs of a head that is learned in epochs; 0: no stage of the head alone"
    )
    HEAD_LEARNING_RATE: Annotated[Rate, Group.TRAINING, Scope.LEARNING] = Field(
        1e-3, description="largest learning rate of the head's stage"
    )
    EPOCHS: Annotated[Count, Group.TRAINING, Scope.LEARNING] = Field(
        10, description="epochs of fine-tuning; 0: the head only"
    )
    LEARNING_RATE: Annotated[Rate, Group.TRAINING, Scope.LEARNING] = Field(
        5e-4, description="largest learning rate of fine-tuning"
    )
    FINE_TUNE_SHARE: Annotated[Fraction, Group.TRAINING, Scope.LEARNING] = Field(
        0.3, description="how much of the backbone learns, from its top"
    )
    OPTIMIZER: Annotated[Literal["adam", "adamw", "sgd"], Group.TRAINING, Scope.LEARNING] = Field(
        "adamw", description="of both stages"
    )
    MOMENTUM: Annotated[Share, Group.TRAINING, Scope.LEARNING] = Field(0.9, description="of sgd")
    WEIGHT_DECAY: Annotated[float, Group.TRAINING, Scope.LEARNING] = Field(
        0.02, ge=0, le=1, description="decoupled, in adamw and sgd"
    )
    GRADIENT_CLIP: Annotated[float, Group.TRAINING, Scope.LEARNING] = Field(
        1.0, ge=0, description="largest global norm of a gradient; 0: none"
    )
    LEARNING_RATE_DECAY: Annotated[Decay, Group.TRAINING, Scope.LEARNING] = Field(
        "cosine", description="of fine-tuning"
    )
    DECAY_RATE: Annotated[float, Group.TRAINING, Scope.LEARNING] = Field(
        0.5, gt=0, le=1, description="factor of exponential and step"
    )
    DECAY_EPOCHS: Annotated[Positive, Group.TRAINING, Scope.LEARNING] = Field(
        5, description="epochs after which the factor is applied once"
    )
    WARMUP_EPOCHS: Annotated[float, Group.TRAINING, Scope.LEARNING] = Field(
        1.0, ge=0, description="the learning rate rises from zero in this time"
    )
    CLASS_WEIGHTS: Annotated[
        Literal["none", "balanced"] | dict[str, float], Group.TRAINING, Scope.LEARNING
    ] = Field(
        "none", description="of the classes in the loss; balanced: rare ones count more; or {class: weight}"
    )
    LABEL_SMOOTHING: Annotated[Share, Group.TRAINING, Scope.LEARNING] = Field(
        0.1, description="share of the truth spread over all classes, in the loss"
    )
    EARLY_STOPPING_MONITOR: Annotated[Monitor, Group.TRAINING, Scope.LEARNING] = Field(
        "val_loss", description="the value whose standstill ends the training"
    )
    EARLY_STOPPING_PATIENCE: Annotated[Count, Group.TRAINING, Scope.LEARNING] = Field(
        10, description="epochs without a better value; 0: never stop early"
    )
    CHECKPOINT_MONITOR: Annotated[Monitor, Group.TRAINING, Scope.LEARNING] = Field(
        "val_loss", description="the best epoch by this is kept"
    )
    CHECKPOINT_TOLERANCE: Annotated[float, Group.TRAINING, Scope.LEARNING] = Field(
        1.0,
        ge=0,
        le=10,
        description="standard errors by which a later epoch may be worse and is kept; 0: the best",
    )
    CHECKPOINT_MINUTES: Annotated[float, Group.TRAINING, Scope.JOB] = Field(
        0.2,
        ge=0,
        le=1440,
        description="the state for --resume is saved so often, inside an epoch too; 0: after a stage",
    )
    AVERAGED_EPOCHS: Annotated[int, Group.TRAINING, Scope.LEARNING] = Field(
        5, ge=1, le=50, description="an epoch's weights are the mean over so many; 1: its own"
    )

    AUGMENTATION_VARIANTS: Annotated[Count, Group.AUGMENTATION, Scope.LEARNING] = Field(
        8, description="versions of each picture; 0: new ones each epoch"
    )
    ROTATION_RANGE: Annotated[float, Group.AUGMENTATION, Scope.LEARNING] = Field(
        15.0, ge=0, le=180, description="degrees to either side"
    )
    ZOOM_RANGE: Annotated[Share, Group.AUGMENTATION, Scope.LEARNING] = Field(0.2, description="in and out")
    WIDTH_SHIFT_RANGE: Annotated[Share, Group.AUGMENTATION, Scope.LEARNING] = Field(
        0.1, description="share of the width"
    )
    HEIGHT_SHIFT_RANGE: Annotated[Share, Group.AUGMENTATION, Scope.LEARNING] = Field(
        0.1, description="share of the height"
    )
    SHEAR_RANGE: Annotated[float, Group.AUGMENTATION, Scope.LEARNING] = Field(
        5.0, ge=0, lt=90, description="degrees"
    )
    HORIZONTAL_FLIP: Annotated[Flip, Group.AUGMENTATION, Scope.LEARNING] = Field(
        "auto", description="mirror half of the pictures left to right; auto: unless that changes a class"
    )
    VERTICAL_FLIP: Annotated[Flip, Group.AUGMENTATION, Scope.LEARNING] = Field(
        False, description="mirror half of the pictures top to bottom; auto: unless that changes a class"
    )
    BRIGHTNESS_RANGE: Annotated[Share, Group.AUGMENTATION, Scope.LEARNING] = Field(
        0.2, description="brighter and darker by up to this share"
    )
    CONTRAST_RANGE: Annotated[Share, Group.AUGMENTATION, Scope.LEARNING] = Field(
        0.2, description="more and less contrast by up to this share"
    )
    SATURATION_RANGE: Annotated[Fraction, Group.AUGMENTATION, Scope.LEARNING] = Field(
        0.2, description="more and less colour by up to this share"
    )
    ERASING_PROBABILITY: Annotated[Fraction, Group.AUGMENTATION, Scope.LEARNING] = Field(
        0.0, description="how often a rectangle is painted over"
    )

    RUNS_DIR: Annotated[PathText, Group.RESULTS, Scope.HERE] = Field(
        "runs", min_length=1, description="where run folders go"
    )
    TOP_K: Annotated[Positive, Group.RESULTS, Scope.JOB] = Field(
        3, description="k of the top-k accuracy, and names a prediction shows"
    )
    BOOTSTRAP_SAMPLES: Annotated[int, Group.RESULTS, Scope.JOB] = Field(
        2000, ge=100, le=100_000, description="draws behind the 95 % intervals"
    )
    CALIBRATION_BINS: Annotated[int, Group.RESULTS, Scope.JOB] = Field(
        10, ge=2, le=100, description="rows of the reliability table"
    )

    DATA_BUCKET: Annotated[str, Group.AWS, Scope.HERE] = Field(
        "", description="the bucket of the pictures; empty: <PROJECT_NAME>.data"
    )
    OUTPUT_BUCKET: Annotated[str, Group.AWS, Scope.HERE] = Field(
        "", description="the bucket of the results; empty: <PROJECT_NAME>.output"
    )
    BUCKET_NAMESPACE: Annotated[Literal["global", "account-regional"], Group.AWS, Scope.HERE] = Field(
        "global", description="account-regional: bucket names that nobody else can take"
    )
    ROLE: Annotated[str, Group.AWS, Scope.HERE] = Field(
        "", description="a role of your own for the jobs, name or ARN; empty: one is made"
    )
    ROLE_BOUNDARY: Annotated[str, Group.AWS, Scope.HERE] = Field(
        "",
        description="ARN of the policy that is the role's permissions boundary; empty: none",
    )
    KMS_KEY: Annotated[str, Group.AWS, Scope.HERE] = Field(
        "", description="ARN of the key that encrypts buckets, images, disks and results; empty: AWS's own"
    )
    UPLOAD_AS: Annotated[Literal["files", "shards"], Group.AWS, Scope.HERE] = Field(
        "files", description="shards: the pictures packed into a few tar files, faster for many small ones"
    )
    SHARD_MB: Annotated[int, Group.AWS, Scope.HERE] = Field(
        150, ge=1, le=5000, description="size of a shard, in MB"
    )
    UPLOAD_THREADS: Annotated[Positive | Literal["auto"], Group.AWS, Scope.HERE] = Field(
        "auto", description="files that are sent at once"
    )

    BASE_IMAGE: Annotated[str, Group.IMAGE, Scope.HERE] = Field(
        "",
        description="base image, such as a mirror's or NAME@sha256:…; empty: python:3.11-slim",
    )

    INSTANCE_COUNT: Annotated[int, Group.JOB, Scope.HERE] = Field(
        1, ge=1, le=100, description="machines of a job"
    )
    INSTANCE_PREFERENCES: Annotated[Texts, Group.JOB, Scope.HERE] = Field(
        (), description="further instance types, in the order in which they are tried"
    )
    VOLUME_GB: Annotated[int, Group.JOB, Scope.HERE] = Field(
        50, ge=1, le=16384, description="disk of the machine, where it can be chosen"
    )
    MAX_HOURS: Annotated[float, Group.JOB, Scope.HERE] = Field(
        12.0, gt=0, le=672, description="a job that runs longer is stopped"
    )
    SPOT: Annotated[bool, Group.JOB, Scope.HERE] = Field(
        False, description="spare capacity: cheaper, may be interrupted and goes on later"
    )
    MAX_WAIT_HOURS: Annotated[float, Group.JOB, Scope.HERE] = Field(
        24.0, gt=0, le=672, description="of a spot job, with waiting; at least MAX_HOURS"
    )
    KEEP_ALIVE_MINUTES: Annotated[int, Group.JOB, Scope.HERE] = Field(
        0, ge=0, le=60, description="the machine waits so long for the next job"
    )
    INPUT_MODE: Annotated[Literal["File", "FastFile"], Group.JOB, Scope.HERE] = Field(
        "File", description="File: downloaded before the start; FastFile: read from S3 as needed"
    )
    INPUT_DISTRIBUTION: Annotated[Literal["FullyReplicated", "ShardedByS3Key"], Group.JOB, Scope.HERE] = (
        Field(
            "FullyReplicated",
            description="ShardedByS3Key: each of several machines gets its part of the training shards alone",
        )
    )
    NETWORK_ISOLATION: Annotated[bool, Group.JOB, Scope.HERE] = Field(
        True, description="the container has no network and no credentials"
    )
    SUBNETS: Annotated[Texts, Group.JOB, Scope.HERE] = Field(
        (), description="of your VPC, where the job shall run in it"
    )
    SECURITY_GROUPS: Annotated[Texts, Group.JOB, Scope.HERE] = Field(
        (), description="of your VPC, with SUBNETS"
    )

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


def find_group(field: FieldInfo) -> Group:
    """Return the heading that a setting names in its annotation."""
    return next(mark for mark in field.metadata if isinstance(mark, Group))


def list_settings(*scopes: Scope) -> frozenset[str]:
    """Return the names of the settings of some scopes."""
    return frozenset(
        name
        for name, field in Config.model_fields.items()
        if any(isinstance(mark, Scope) and mark in scopes for mark in field.metadata)
    )


# What goes with a job, what stays here, and what must not change while a run is resumed.
JOB_SETTINGS = list_settings(Scope.JOB, Scope.LEARNING)
HOME_SETTINGS = list_settings(Scope.HERE)
LEARNING_SETTINGS = list_settings(Scope.LEARNING)
