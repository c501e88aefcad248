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

# What BATCH_SIZE = "auto" means without a GPU.
_BATCH_SIZE = 32

# The settings that a recipe changes, unless the user sets them; "balanced" is the defaults.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "quick": {"EPOCHS": 0},
    "balanced": {},
    "best": {"IMAGE_SIZE": 288, "EPOCHS": 16, "AUGMENTATION_VARIANTS": 16},
}


class Group(Enum):
    """The heading of a setting in the settings file and in docs/settings.md."""

    PROJECT = "The project"
    PICTURES = "The pictures and their three sets"
    MODEL = "The model"
    TRAINING = "Training"
    AUGMENTATION = "Augmentation of the training pictures"
    RESULTS = "Evaluation and results"
    AWS = "AWS: buckets, role, encryption"
    IMAGE = "AWS: the training image"
    JOB = "AWS: the training job"
    ENDPOINT = "AWS: endpoints and batch transform"


class Scope(Enum):
    """Where a setting has an effect; each setting is annotated with one of these."""

    HERE = "used by the commands on this machine; a training job never gets it"
    JOB = "used by training, so a job gets it as a hyperparameter"
    LEARNING = "as JOB, and it changes the trained model: --resume with another value is refused"


class Config(BaseModel):
    """All settings, typed and checked; their names are those of config.py.

    Shares and fractions are between 0 and 1, angles in degrees, sizes in pixels; the names of times say their
    unit. The descriptions are the remarks in config.py and the last column of docs/settings.md.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    PROJECT_NAME: Annotated[str, Group.PROJECT, Scope.HERE] = Field(
        "flowers-classification", description="first part of the names of buckets, role and repository"
    )
    PROJECT_REGION: Annotated[str, Group.PROJECT, Scope.HERE] = Field(
        "eu-west-1", description="the AWS region of all buckets, images and jobs"
    )
    ALGORITHM_NAME: Annotated[str, Group.PROJECT, Scope.HERE] = Field(
        "efficientnet-lite0", description="first part of the names of run folders and jobs"
    )
    INSTANCE_TYPE: Annotated[str, Group.PROJECT, Scope.HERE] = Field(
        "ml.g4dn.xlarge", description="the machine of a SageMaker job"
    )
    TAGS: Annotated[dict[str, str], Group.PROJECT, Scope.HERE] = Field(
        {"Customer": "classifold", "Project": "flowers", "Service": "training"},
        description="tags of every AWS resource",
    )

    DATA_NAME: Annotated[str, Group.PICTURES, Scope.JOB] = Field(
        "flowers", description="prefix in the bucket and name of the channel"
    )
    DATA_LOCAL_DIR: Annotated[PathText, Group.PICTURES, Scope.HERE] = Field(
        "data/flowers", min_length=1, description="the folder of pictures, one sub-folder per class"
    )
    CLASS_FOLDER: Annotated[Literal["outermost", "innermost"], Group.PICTURES, Scope.HERE] = Field(
        "outermost",
        description="which of nested folders names the class: the outermost (directly below DATA_LOCAL_DIR) "
        "or the innermost",
    )
    DATA_MANIFEST: Annotated[PathText, Group.PICTURES, Scope.HERE] = Field(
        "",
        description="a table or JSON file of the pictures, in place of DATA_LOCAL_DIR; no picture is copied",
    )
    MANIFEST_ROOT: Annotated[PathText, Group.PICTURES, Scope.HERE] = Field(
        "",
        description="address of the folder whose sub-folders are a listing's classes; "
        "empty: a picture's own folder",
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
        0.15, description="share of each class for validation"
    )
    PERCENTAGE_EVAL: Annotated[Share, Group.PICTURES, Scope.HERE] = Field(
        0.15, description="share of each class for evaluation"
    )
    SPLIT_SEED: Annotated[Count, Group.PICTURES, Scope.HERE] = Field(
        0, description="seed; the same seed divides the pictures into the same sets"
    )
    SPLIT_GROUP_PATTERN: Annotated[str, Group.PICTURES, Scope.HERE] = Field(
        "", description="regular expression on <class>/<file>; pictures with the same match stay in one set"
    )
    NEAR_COPIES: Annotated[Literal["together", "ignore"], Group.PICTURES, Scope.HERE] = Field(
        "together",
        description="near copies (resized, cropped, mirrored...) and bursts: keep them in one set, or ignore "
        "them",
    )
    SMALL_CLASSES: Annotated[Literal["fail", "skip"], Group.PICTURES, Scope.HERE] = Field(
        "fail",
        description="classes with too few pictures for three sets: stop, or leave them out with a note",
    )
    UNREADABLE_PICTURES: Annotated[Literal["skip", "fail"], Group.PICTURES, Scope.JOB] = Field(
        "skip", description="pictures that cannot be read: name and skip them, or stop"
    )
    MAX_PIXELS: Annotated[Positive, Group.PICTURES, Scope.JOB] = Field(
        100_000_000, description="pictures with more pixels are not decoded but treated as unreadable"
    )
    SAMPLE_BITS: Annotated[
        Annotated[int, Field(ge=8, le=16)] | Literal["auto"], Group.PICTURES, Scope.LEARNING
    ] = Field(
        "auto",
        description="bits used by 16-bit samples, such as 12; auto: what the file says, else 16",
    )

    BACKBONE: Annotated[str, Group.MODEL, Scope.LEARNING] = Field(
        "EfficientNetLite0",
        min_length=1,
        description="a name of keras.applications, or a function of your own as my_model.py:build",
    )
    BACKBONE_WEIGHTS: Annotated[PathText | None, Group.MODEL, Scope.LEARNING] = Field(
        "imagenet", description="imagenet, None for random weights, a file or an earlier run"
    )
    IMAGE_SIZE: Annotated[int, Group.MODEL, Scope.LEARNING] = Field(
        224, ge=16, le=1024, description="pictures are resized to this square, in pixels"
    )
    HEAD_LAYERS: Annotated[Units, Group.MODEL, Scope.LEARNING] = Field(
        (), description="units of hidden layers between backbone and classes"
    )
    HEAD_FEATURES: Annotated[Literal["levels", "top"], Group.MODEL, Scope.LEARNING] = Field(
        "levels", description="levels: the head sees every level of the backbone; top: only the last"
    )
    DROPOUT: Annotated[Share, Group.MODEL, Scope.LEARNING] = Field(
        0.2, description="dropout rate before every layer of the head"
    )

    RECIPE: Annotated[Literal["quick", "balanced", "best"], Group.TRAINING, Scope.JOB] = Field(
        "balanced",
        description="quick: only the head; best: larger pictures, more epochs; see docs/recipes.md",
    )
    TIME_LIMIT: Annotated[float, Group.TRAINING, Scope.JOB] = Field(
        0.0, ge=0, le=40_320, description="minutes within which a run ends with a finished model; 0: no limit"
    )
    RANDOM_SEED: Annotated[int, Group.TRAINING, Scope.LEARNING] = Field(
        42, ge=0, lt=2**32, description="seed of every random number in training"
    )
    BACKEND: Annotated[Literal["auto", "tensorflow", "jax"], Group.TRAINING, Scope.JOB] = Field(
        "auto", description="what Keras computes with"
    )
    PRECISION: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], Group.TRAINING, Scope.LEARNING
    ] = Field(
        "auto",
        description="number format in training; auto: float32, and bfloat16 on GPUs that have it",
    )
    NUM_WORKERS: Annotated[Positive | Literal["auto"], Group.TRAINING, Scope.JOB] = Field(
        "auto", description="threads or processes that read pictures"
    )
    CACHE_GB: Annotated[float, Group.TRAINING, Scope.JOB] = Field(
        1.0, ge=0, description="memory for pictures and activations that are not kept in files between epochs"
    )
    BATCH_SIZE: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | Literal["auto"], Group.TRAINING, Scope.LEARNING
    ] = Field("auto", description="pictures per step; auto: 32, and on a GPU the most that fit")
    STEPS_PER_EPOCH: Annotated[Positive | Literal["auto"], Group.TRAINING, Scope.LEARNING] = Field(
        "auto", description="steps of one epoch; auto: every picture once"
    )
    HEAD_PENALTIES: Annotated[Penalties, Group.TRAINING, Scope.LEARNING] = Field(
        (1.0, 0.3, 0.1, 0.03, 0.01),
        description="regularization strengths tried for the head; the validation set chooses; "
        "(): train it in epochs",
    )
    HEAD_EPOCHS: Annotated[Count, Group.TRAINING, Scope.LEARNING] = Field(
        40, description="epochs for a head that is trained in epochs; 0: the head gets no stage of its own"
    )
    HEAD_LEARNING_RATE: Annotated[Rate, Group.TRAINING, Scope.LEARNING] = Field(
        1e-3, description="largest learning rate for the head that is trained in epochs"
    )
    EPOCHS: Annotated[Count, Group.TRAINING, Scope.LEARNING] = Field(
        10, description="epochs of fine-tuning; 0: only the head is trained"
    )
    LEARNING_RATE: Annotated[Rate, Group.TRAINING, Scope.LEARNING] = Field(
        5e-4, description="largest learning rate of fine-tuning"
    )
    FINE_TUNE_SHARE: Annotated[Fraction, Group.TRAINING, Scope.LEARNING] = Field(
        0.3, description="share of the backbone that is fine-tuned, counted from its last layer"
    )
    OPTIMIZER: Annotated[Literal["adam", "adamw", "sgd"], Group.TRAINING, Scope.LEARNING] = Field(
        "adamw", description="optimizer of both stages"
    )
    MOMENTUM: Annotated[Share, Group.TRAINING, Scope.LEARNING] = Field(0.9, description="momentum of sgd")
    WEIGHT_DECAY: Annotated[float, Group.TRAINING, Scope.LEARNING] = Field(
        0.02, ge=0, le=1, description="decoupled weight decay, in adamw and sgd"
    )
    GRADIENT_CLIP: Annotated[float, Group.TRAINING, Scope.LEARNING] = Field(
        1.0, ge=0, description="largest global norm of a gradient; 0: no clipping"
    )
    LEARNING_RATE_DECAY: Annotated[Decay, Group.TRAINING, Scope.LEARNING] = Field(
        "cosine", description="how the learning rate falls during fine-tuning"
    )
    DECAY_RATE: Annotated[float, Group.TRAINING, Scope.LEARNING] = Field(
        0.5, gt=0, le=1, description="factor of the decays exponential and step"
    )
    DECAY_EPOCHS: Annotated[Positive, Group.TRAINING, Scope.LEARNING] = Field(
        5, description="epochs after which the factor is applied once"
    )
    WARMUP_EPOCHS: Annotated[float, Group.TRAINING, Scope.LEARNING] = Field(
        1.0, ge=0, description="epochs in which the learning rate rises from zero"
    )
    CLASS_WEIGHTS: Annotated[
        Literal["none", "balanced"] | dict[str, float], Group.TRAINING, Scope.LEARNING
    ] = Field(
        "none", description="class weights in the loss; balanced: rare ones count more; or {class: weight}"
    )
    LABEL_SMOOTHING: Annotated[Share, Group.TRAINING, Scope.LEARNING] = Field(
        0.1, description="share of a label that is spread over all classes, in the loss"
    )
    EARLY_STOPPING_MONITOR: Annotated[Monitor, Group.TRAINING, Scope.LEARNING] = Field(
        "val_loss", description="training ends early when this value no longer improves"
    )
    EARLY_STOPPING_PATIENCE: Annotated[Count, Group.TRAINING, Scope.LEARNING] = Field(
        10, description="epochs without a better value; 0: never stop early"
    )
    CHECKPOINT_MONITOR: Annotated[Monitor, Group.TRAINING, Scope.LEARNING] = Field(
        "val_loss", description="value by which the best epoch is chosen"
    )
    CHECKPOINT_TOLERANCE: Annotated[float, Group.TRAINING, Scope.LEARNING] = Field(
        1.0,
        ge=0,
        le=10,
        description="a later epoch is kept if it is worse by at most this many standard errors; 0: the best",
    )
    CHECKPOINT_MINUTES: Annotated[float, Group.TRAINING, Scope.JOB] = Field(
        0.2,
        ge=0,
        le=1440,
        description="minutes between saves of the state for --resume; 0: only after a stage",
    )
    AVERAGED_EPOCHS: Annotated[int, Group.TRAINING, Scope.LEARNING] = Field(
        5, ge=1, le=50, description="an epoch's weights are averaged over this many epochs; 1: no averaging"
    )

    AUGMENTATION_VARIANTS: Annotated[Count, Group.AUGMENTATION, Scope.LEARNING] = Field(
        8, description="augmented versions of each picture; 0: new ones each epoch"
    )
    ROTATION_RANGE: Annotated[float, Group.AUGMENTATION, Scope.LEARNING] = Field(
        15.0, ge=0, le=180, description="rotation by up to this many degrees, either way"
    )
    ZOOM_RANGE: Annotated[Share, Group.AUGMENTATION, Scope.LEARNING] = Field(
        0.2, description="zoom in and out by up to this share"
    )
    WIDTH_SHIFT_RANGE: Annotated[Share, Group.AUGMENTATION, Scope.LEARNING] = Field(
        0.1, description="shift to the side by up to this share of the width"
    )
    HEIGHT_SHIFT_RANGE: Annotated[Share, Group.AUGMENTATION, Scope.LEARNING] = Field(
        0.1, description="shift up or down by up to this share of the height"
    )
    SHEAR_RANGE: Annotated[float, Group.AUGMENTATION, Scope.LEARNING] = Field(
        5.0, ge=0, lt=90, description="shear by up to this many degrees"
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
        0.0, description="share of the pictures in which a rectangle is painted over"
    )

    RUNS_DIR: Annotated[PathText, Group.RESULTS, Scope.HERE] = Field(
        "runs", min_length=1, description="the folder of the run folders"
    )
    TOP_K: Annotated[Positive, Group.RESULTS, Scope.JOB] = Field(
        3, description="k of the top-k accuracy, and number of names shown per prediction"
    )
    BOOTSTRAP_SAMPLES: Annotated[int, Group.RESULTS, Scope.JOB] = Field(
        2000, ge=100, le=100_000, description="bootstrap samples for the 95 % intervals"
    )
    CALIBRATION_BINS: Annotated[int, Group.RESULTS, Scope.JOB] = Field(
        10, ge=2, le=100, description="rows of the reliability table"
    )
    MAX_ERROR: Annotated[float | None, Group.RESULTS, Scope.JOB] = Field(
        None,
        gt=0,
        le=1,
        description="largest mean share of wrong answers: less sure ones become unknown; None: minimum "
        "confidence 0.5",
    )
    FALSE_REFUSALS: Annotated[float, Group.RESULTS, Scope.JOB] = Field(
        0.05,
        gt=0,
        lt=1,
        description="share of pictures of known classes that may be called unknown because of their distance",
    )

    DATA_BUCKET: Annotated[str, Group.AWS, Scope.HERE] = Field(
        "", description="the bucket of the pictures; empty: <PROJECT_NAME>.data"
    )
    OUTPUT_BUCKET: Annotated[str, Group.AWS, Scope.HERE] = Field(
        "", description="the bucket of the results; empty: <PROJECT_NAME>.output"
    )
    BUCKET_NAMESPACE: Annotated[Literal["global", "account-regional"], Group.AWS, Scope.HERE] = Field(
        "global", description="account-regional: bucket names that no other account can take"
    )
    ROLE: Annotated[str, Group.AWS, Scope.HERE] = Field(
        "", description="a role of your own for the jobs, name or ARN; empty: one is created"
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
        150, ge=1, le=5000, description="size of one shard, in MB"
    )
    UPLOAD_THREADS: Annotated[Positive | Literal["auto"], Group.AWS, Scope.HERE] = Field(
        "auto", description="files that are uploaded at the same time"
    )

    BASE_IMAGE: Annotated[str, Group.IMAGE, Scope.HERE] = Field(
        "",
        description="base image, such as one of a mirror or NAME@sha256:…; empty: python:3.11-slim",
    )

    INSTANCE_COUNT: Annotated[int, Group.JOB, Scope.HERE] = Field(
        1, ge=1, le=100, description="number of machines that train one model together"
    )
    INSTANCE_PREFERENCES: Annotated[Texts, Group.JOB, Scope.HERE] = Field(
        (), description="instance types to try after INSTANCE_TYPE, in this order"
    )
    VOLUME_GB: Annotated[int, Group.JOB, Scope.HERE] = Field(
        50, ge=1, le=16384, description="disk of the machine in GB, where it can be chosen"
    )
    MAX_HOURS: Annotated[float, Group.JOB, Scope.HERE] = Field(
        12.0, gt=0, le=672, description="a job that runs longer than this is stopped"
    )
    SPOT: Annotated[bool, Group.JOB, Scope.HERE] = Field(
        False, description="spare capacity: cheaper; may be interrupted, then resumes by itself"
    )
    MAX_WAIT_HOURS: Annotated[float, Group.JOB, Scope.HERE] = Field(
        24.0, gt=0, le=672, description="time limit of a spot job, waiting included; at least MAX_HOURS"
    )
    KEEP_ALIVE_MINUTES: Annotated[int, Group.JOB, Scope.HERE] = Field(
        0, ge=0, le=60, description="minutes for which the machine is kept for the next job (warm pool)"
    )
    INPUT_MODE: Annotated[Literal["File", "FastFile"], Group.JOB, Scope.HERE] = Field(
        "File", description="File: downloaded before the start; FastFile: read from S3 as needed"
    )
    INPUT_DISTRIBUTION: Annotated[Literal["FullyReplicated", "ShardedByS3Key"], Group.JOB, Scope.HERE] = (
        Field(
            "FullyReplicated",
            description="ShardedByS3Key: each of several machines gets only its part of the training shards",
        )
    )
    NETWORK_ISOLATION: Annotated[bool, Group.JOB, Scope.HERE] = Field(
        True, description="the container has no network and no credentials"
    )
    SUBNETS: Annotated[Texts, Group.JOB, Scope.HERE] = Field(
        (), description="subnets of your VPC, to run the job in it"
    )
    SECURITY_GROUPS: Annotated[Texts, Group.JOB, Scope.HERE] = Field(
        (), description="security groups of your VPC, needed with SUBNETS"
    )

    ENDPOINT_INSTANCE_TYPE: Annotated[str, Group.ENDPOINT, Scope.HERE] = Field(
        "ml.m5.large", description="the machine of an endpoint or a batch transform"
    )
    ENDPOINT_INSTANCE_COUNT: Annotated[int, Group.ENDPOINT, Scope.HERE] = Field(
        1, ge=0, le=100, description="minimum number of these machines; 0: none while idle (--async only)"
    )
    ENDPOINT_MAX_COUNT: Annotated[int, Group.ENDPOINT, Scope.HERE] = Field(
        0, ge=0, le=100, description="maximum number of these machines; 0: no autoscaling"
    )
    ENDPOINT_REQUESTS: Annotated[Positive, Group.ENDPOINT, Scope.HERE] = Field(
        600,
        description="target of autoscaling: requests per minute and machine; --async: waiting requests",
    )
    SERVERLESS_MEMORY_MB: Annotated[int, Group.ENDPOINT, Scope.HERE] = Field(
        2048,
        ge=1024,
        le=6144,
        multiple_of=1024,
        description="memory of a serverless endpoint: 1024, 2048 and so on up to 6144",
    )
    SERVERLESS_CONCURRENCY: Annotated[int, Group.ENDPOINT, Scope.HERE] = Field(
        5, ge=1, le=200, description="requests that a serverless endpoint answers at the same time, at most"
    )
    MODEL_APPROVAL: Annotated[Literal["Approved", "PendingManualApproval"], Group.ENDPOINT, Scope.HERE] = (
        Field(
            "Approved",
            description="PendingManualApproval: somebody approves a new model package before it is deployed",
        )
    )

    @property
    def batch_size(self) -> int:
        """Pictures per step; with "auto" what it is without a GPU."""
        return _BATCH_SIZE if self.BATCH_SIZE == "auto" else self.BATCH_SIZE

    @property
    def is_sharded_by_key(self) -> bool:
        """Whether a job's machines get the training shards shared out among them."""
        return self.INPUT_DISTRIBUTION == names.SHARDED_BY_KEY

    @property
    def split_dir(self) -> Path:
        """The folder into which `split` puts the three sets."""
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
        """The folder into which `upload` packs the three sets as shards."""
        split_dir = self.split_dir
        return split_dir.with_name(f"{split_dir.name}-shards")

    def to_json(self) -> str:
        """Return the settings as JSON, in the order of this class."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def find_group(field: FieldInfo) -> Group:
    """Return the heading in a setting's annotation."""
    return next(mark for mark in field.metadata if isinstance(mark, Group))


def list_settings(*scopes: Scope) -> frozenset[str]:
    """Return the names of the settings that have one of these scopes."""
    return frozenset(
        name
        for name, field in Config.model_fields.items()
        if any(isinstance(mark, Scope) and mark in scopes for mark in field.metadata)
    )


# Settings that a job gets, settings that stay here, and those that must not change when a run is resumed.
JOB_SETTINGS = list_settings(Scope.JOB, Scope.LEARNING)
HOME_SETTINGS = list_settings(Scope.HERE)
LEARNING_SETTINGS = list_settings(Scope.LEARNING)
