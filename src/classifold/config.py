"""The settings: one frozen Config, and the one loader that makes it from defaults, config.py and overrides.

Reading settings never imports TensorFlow or NumPy.
"""

from __future__ import annotations

import ast
import difflib
import json
import math
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from classifold import names
from classifold.errors import Fault, SettingsError

DEFAULT_CONFIG_PATH = Path("container/modeling/config.py")

Share = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=10)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Monitor = Literal["val_loss", "val_accuracy", "loss", "accuracy"]
Decay = Literal["cosine", "exponential", "step", "constant"]


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class Config(BaseModel):
    """Every setting, typed and checked; the names are those of config.py.

    Shares and fractions are between 0 and 1, angles in degrees, sizes in pixels, times as named.
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
    DATA_LOCAL_DIR: str = Field("data/flowers", min_length=1, description="one sub-folder a class")
    SPLIT_LOCAL_DIR: str = Field("", description="where the three sets go; empty: DATA_LOCAL_DIR + '-split'")
    PERCENTAGE_VAL: Share = Field(0.15, description="share of the pictures for validation")
    PERCENTAGE_EVAL: Share = Field(0.15, description="share of the pictures for evaluation")
    SPLIT_SEED: Count = Field(0, description="another number, another division into sets")
    SPLIT_GROUP_PATTERN: str = Field(
        "", description="regular expression on <class>/<file>: one group, one set"
    )
    UNREADABLE_PICTURES: Literal["skip", "fail"] = Field(
        "skip", description="what to do with faulty pictures"
    )
    MAX_PIXELS: Positive = Field(100_000_000, description="a larger picture is refused, not decoded")

    # The model
    BACKBONE: str = Field("EfficientNetLite0", min_length=1, description="a name, or my_model.py:build")
    BACKBONE_WEIGHTS: str | None = Field("imagenet", description="imagenet, None, a file or an earlier run")
    IMAGE_SIZE: int = Field(224, ge=16, le=1024, description="pictures are resized to this square")
    HEAD_LAYERS: Annotated[tuple[Positive, ...], BeforeValidator(_as_tuple)] = Field(
        (), description="units of hidden layers between backbone and classes"
    )
    DROPOUT: Share = Field(0.2, description="before every layer of the head")

    # Training
    RANDOM_SEED: int = Field(42, ge=0, lt=2**32, description="every random number follows from it")
    BACKEND: Literal["auto", "tensorflow", "jax"] = Field("auto", description="Keras's engine")
    NUM_WORKERS: Positive | Literal["auto"] = Field("auto", description="threads that read pictures")
    CACHE_GB: float = Field(1.0, ge=0, description="memory for pictures and activations kept between epochs")
    BATCH_SIZE: int = Field(32, ge=1, le=4096, description="pictures a step")
    STEPS_PER_EPOCH: Positive | Literal["auto"] = Field("auto", description="auto: every picture once")
    HEAD_EPOCHS: Count = Field(40, description="epochs of the head on frozen features")
    HEAD_LEARNING_RATE: Rate = Field(2e-3, description="largest learning rate of the head's stage")
    EPOCHS: Count = Field(15, description="epochs of fine-tuning; 0: the head only")
    LEARNING_RATE: Rate = Field(1e-3, description="largest learning rate of fine-tuning")
    FINE_TUNE_SHARE: Fraction = Field(0.3, description="how much of the backbone learns, from its top")
    OPTIMIZER: Literal["adam", "adamw", "sgd"] = Field("adamw", description="")
    MOMENTUM: Share = Field(0.9, description="of sgd")
    WEIGHT_DECAY: float = Field(0.02, ge=0, le=1, description="decoupled, in adamw and sgd")
    GRADIENT_CLIP: float = Field(1.0, ge=0, description="largest global norm of a gradient; 0: none")
    LEARNING_RATE_DECAY: Decay = Field("cosine", description="of fine-tuning")
    DECAY_RATE: float = Field(0.5, gt=0, le=1, description="factor of exponential and step")
    DECAY_EPOCHS: Positive = Field(5, description="epochs after which the factor is applied once")
    WARMUP_EPOCHS: float = Field(1.0, ge=0, description="the learning rate rises from zero in this time")
    CLASS_WEIGHTS: Literal["none", "balanced"] | dict[str, float] = Field("none", description="in the loss")
    LABEL_SMOOTHING: Share = Field(0.1, description="")
    EARLY_STOPPING_MONITOR: Monitor = Field("val_loss", description="")
    EARLY_STOPPING_PATIENCE: Count = Field(
        6, description="epochs without a better value; 0: never stop early"
    )
    CHECKPOINT_MONITOR: Monitor = Field("val_loss", description="the best epoch by this is kept")

    # Augmentation of the training pictures
    AUGMENTATION_VARIANTS: Count = Field(4, description="versions of each picture; 0: new ones each epoch")
    ROTATION_RANGE: float = Field(15.0, ge=0, le=180, description="degrees to either side")
    ZOOM_RANGE: Share = Field(0.2, description="in and out")
    WIDTH_SHIFT_RANGE: Share = Field(0.1, description="share of the width")
    HEIGHT_SHIFT_RANGE: Share = Field(0.1, description="share of the height")
    SHEAR_RANGE: float = Field(5.0, ge=0, lt=90, description="degrees")
    HORIZONTAL_FLIP: bool = Field(True, description="")
    VERTICAL_FLIP: bool = Field(False, description="")
    BRIGHTNESS_RANGE: Share = Field(0.2, description="")
    CONTRAST_RANGE: Share = Field(0.2, description="")
    SATURATION_RANGE: Fraction = Field(0.2, description="")
    ERASING_PROBABILITY: Fraction = Field(0.0, description="a rectangle is painted over")

    # Evaluation and results
    RUNS_DIR: str = Field("runs", min_length=1, description="where run folders go")
    TOP_K: Positive = Field(3, description="top-k accuracy")
    BOOTSTRAP_SAMPLES: int = Field(2000, ge=100, le=100_000, description="for the 95 % intervals")
    CALIBRATION_BINS: int = Field(10, ge=2, le=100, description="rows of the reliability table")

    @model_validator(mode="after")
    def _check_names(self) -> Config:
        problems = [*_name_problems(self), *_relation_problems(self)]
        if problems:
            raise SettingsError(*problems)
        return self

    @property
    def split_dir(self) -> Path:
        """Where `split` puts the three sets."""
        return Path(self.SPLIT_LOCAL_DIR or self.DATA_LOCAL_DIR.rstrip("/") + "-split")

    def to_json(self) -> str:
        """Return the settings as JSON, in the order of this class."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def _name_problems(config: Config) -> list[Fault]:
    """Return what AWS would refuse later about names."""
    bucket_room = names.BUCKET_NAME_LIMIT - len(names.output_bucket(""))
    rules = (
        (
            "PROJECT_NAME",
            config.PROJECT_NAME,
            3 <= len(config.PROJECT_NAME) <= bucket_room
            and bool(names.BUCKET_NAME_PATTERN.fullmatch(config.PROJECT_NAME))
            and ".." not in config.PROJECT_NAME
            and not config.PROJECT_NAME.startswith(("xn--", "sthree-", "amzn-s3-demo-")),
            f"it names S3 buckets, so expected 3 to {bucket_room} of a-z, 0-9, '-' and '.', letter or digit at both ends",
        ),
        (
            "ALGORITHM_NAME",
            config.ALGORITHM_NAME,
            len(config.ALGORITHM_NAME) <= names.ALGORITHM_NAME_LIMIT
            and bool(names.ALGORITHM_NAME_PATTERN.fullmatch(config.ALGORITHM_NAME)),
            f"it names SageMaker jobs, so expected 1 to {names.ALGORITHM_NAME_LIMIT} of a-z, A-Z, 0-9 and '-', "
            "letter or digit at both ends",
        ),
        (
            "DATA_NAME",
            config.DATA_NAME,
            len(config.DATA_NAME) <= names.CHANNEL_NAME_LIMIT
            and bool(names.CHANNEL_NAME_PATTERN.fullmatch(config.DATA_NAME)),
            f"it names a SageMaker channel, so expected 1 to {names.CHANNEL_NAME_LIMIT} of a-z, A-Z, 0-9, '.', '-' and '_'",
        ),
        (
            "PROJECT_REGION",
            config.PROJECT_REGION,
            bool(names.REGION_PATTERN.fullmatch(config.PROJECT_REGION)),
            "expected an AWS region such as eu-west-1",
        ),
        (
            "INSTANCE_TYPE",
            config.INSTANCE_TYPE,
            config.INSTANCE_TYPE.startswith("ml.") and config.INSTANCE_TYPE.count(".") == 2,
            "expected a SageMaker instance type such as ml.g4dn.xlarge",
        ),
    )
    faults = [
        Fault(f"setting {name}", what, got=repr(value)) for name, value, good, what in rules if not good
    ]
    if len(config.TAGS) > 50:
        faults.append(Fault("setting TAGS", "expected at most 50 tags", got=str(len(config.TAGS))))
    for key, value in config.TAGS.items():
        if not 1 <= len(key) <= 128 or key.lower().startswith("aws:") or len(value) > 256:
            what = "expected a key of 1 to 128 characters that does not start with aws:, and a value of up to 256"
            faults.append(Fault("setting TAGS", what, got=f"{key!r}: {value!r}"))
    return faults


def _relation_problems(config: Config) -> list[Fault]:
    """Return what is wrong between settings that are each fine alone."""
    faults = []
    if config.PERCENTAGE_VAL + config.PERCENTAGE_EVAL >= 1:
        what = "PERCENTAGE_VAL and PERCENTAGE_EVAL together leave nothing to train on; expected less than 1"
        got = f"{config.PERCENTAGE_VAL} + {config.PERCENTAGE_EVAL}"
        faults.append(Fault("setting PERCENTAGE_EVAL", what, got=got))
    if config.HEAD_EPOCHS + config.EPOCHS == 0:
        faults.append(
            Fault("setting HEAD_EPOCHS", "expected HEAD_EPOCHS or EPOCHS of at least 1", got="0 and 0"),
        )
    if config.SPLIT_GROUP_PATTERN:
        faults += _pattern_problems(config.SPLIT_GROUP_PATTERN)
    if isinstance(config.CLASS_WEIGHTS, dict):
        bad = {k: v for k, v in config.CLASS_WEIGHTS.items() if not (math.isfinite(v) and v > 0)}
        if bad:
            faults.append(Fault("setting CLASS_WEIGHTS", "expected weights above 0", got=repr(bad)))
    return faults


def _pattern_problems(pattern: str) -> list[Fault]:
    import re

    try:
        re.compile(pattern)
    except re.error as error:
        return [Fault("setting SPLIT_GROUP_PATTERN", f"not a regular expression: {error}", got=repr(pattern))]
    return []


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
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    layers = [
        (str(path or DEFAULT_CONFIG_PATH), _read_config_file(path or DEFAULT_CONFIG_PATH, faults)),
        ("hyperparameters", {k: parse_value(k, v) for k, v in (hyperparameters or {}).items()}),
        ("--set", _read_overrides(overrides, faults)),
    ]
    for source, layer in layers:
        for name, value in layer.items():
            if name in Config.model_fields:
                values[name] = value
                sources[name] = source
            else:
                faults.append(_unknown_setting(source, name))
    return _build_config(values, sources, faults)


def build_config(values: Mapping[str, Any]) -> Config:
    """Return the settings with `values` in place of the defaults; for tests and for saved settings.

    Raises:
        SettingsError: With every fault that was found.
    """
    unknown = [_unknown_setting("settings", name) for name in values if name not in Config.model_fields]
    known = {name: value for name, value in values.items() if name in Config.model_fields}
    return _build_config(known, {}, unknown)


def _build_config(values: dict[str, Any], sources: dict[str, str], faults: list[Fault]) -> Config:
    config = None
    try:
        config = Config(**values)
    except ValidationError as error:
        faults += [_field_fault(problem, sources) for problem in _one_a_field(error)]
        # The relations between settings are still checked, with the defaults in place of the faulty ones.
        faulty = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
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


def _one_a_field(error: ValidationError) -> list[Any]:
    """Return one problem a setting; those of a union's branches are joined with "or"."""
    joined: dict[str, Any] = {}
    for problem in error.errors():
        name = str(problem["loc"][0])
        if name not in joined:
            joined[name] = dict(problem)
        elif problem["msg"] not in joined[name]["msg"]:
            joined[name]["msg"] += f", or {problem['msg'].removeprefix('Input should be ')}"
    return list(joined.values())


def _field_fault(problem: Any, sources: dict[str, str]) -> Fault:
    name = str(problem["loc"][0])
    what = problem["msg"].replace("Input should", "it should").replace("be a valid", "be a")
    what = what.replace("integer", "whole number")
    source = f" ({sources[name]})" if name in sources else ""
    hint = ""
    if name.startswith("PERCENTAGE") and isinstance(problem["input"], int | float) and problem["input"] >= 1:
        hint = f"write it as a share: {name} = {problem['input'] / 100:g}"
    return Fault(f"setting {name}{source}", what, got=repr(problem["input"]), hint=hint)


def _unknown_setting(source: str, name: str) -> Fault:
    near = difflib.get_close_matches(name.upper(), Config.model_fields, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else "docs/settings.md lists every setting"
    return Fault(f"setting {name} ({source})", "there is no such setting", hint=hint)


def _read_config_file(path: Path, faults: list[Fault]) -> dict[str, Any]:
    """Return the UPPER_CASE constants of a settings file; add to `faults` what keeps it from being read."""
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = "run the command in the project's folder, or name the file with --config PATH"
        faults.append(Fault(str(path), "there is no such settings file", hint=hint))
        return {}
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(str(path), f"the settings file cannot be read: {error}"))
        return {}
    scope: dict[str, Any] = {"__file__": str(path), "__name__": "classifold_settings"}
    try:
        # The user's own file, which is Python by the template's contract.
        exec(compile(source, str(path), "exec"), scope)  # noqa: S102
    except SyntaxError as error:
        hint = f"mend this line: {(error.text or '').strip()}"
        faults.append(Fault(f"{path}:{error.lineno}", f"not valid Python: {error.msg}", hint=hint))
        return {}
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1].lineno
        faults.append(Fault(f"{path}:{line}", f"{type(error).__name__}: {error}", hint="mend this line"))
        return {}
    return {
        name: value
        for name, value in scope.items()
        if name.isupper() and not name.startswith("_") and not isinstance(value, ModuleType | type)
    }


def _read_overrides(overrides: Sequence[str], faults: list[Fault]) -> dict[str, Any]:
    values = {}
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            hint = f"for instance --set {name or 'BATCH_SIZE'}=16"
            faults.append(Fault("--set", "expected NAME=VALUE", got=repr(text), hint=hint))
        else:
            values[name.strip()] = parse_value(name.strip(), value)
    return values


def parse_value(name: str, text: str) -> Any:
    """Return the value that a string stands for, as the setting's type wants it: `"32"` is 32 for BATCH_SIZE.

    Text settings keep the string as it is; other settings read Python's literals (and JSON's true, false, null);
    what is no literal stays a string and is judged by the setting's type.
    """
    field = Config.model_fields.get(name)
    if field is not None and field.annotation is str:
        return text
    literal = {"true": "True", "false": "False", "null": "None"}.get(text.strip(), text.strip())
    try:
        return ast.literal_eval(literal)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
