"""The request of a training job: CreateTrainingJob's parameters from the settings and the template."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifold import names
from classifold.atomic import write_whole
from classifold.errors import Fault, SettingsError
from classifold.sagemaker.channels import build_channels, find_prefix
from classifold.sagemaker.ml_folder import is_foreign
from classifold.sagemaker.template import fill_template, merge_template
from classifold.settings.baked import locate_baked
from classifold.settings.config import HOME_SETTINGS, JOB_SETTINGS, Config
from classifold.settings.loader import build_config, read_hyperparameters, to_hyperparameters
from classifold.settings.words import explain_unknown, shorten

CHECKPOINT_DIR = f"{names.ML_DIR}/checkpoints"
# SageMaker's limits. Source: CreateTrainingJob's reference, HyperParameters.
HYPERPARAMETER_LIMIT, VALUE_LIMIT = 100, 2500
# Machines with built-in disks, whose size is fixed and which cannot use our key: by family, or with a "d".
# Source: https://aws.amazon.com/ec2/instance-types/, the column of instance storage.
_OWN_DISKS = re.compile(r"ml\.(g[4-9]\w*|gr\d\w*|p[4-9][\w-]*|trn\d\w*|inf\d\w*|[a-z]+\d[a-z]*d[a-z]*)\..+")
# Fields that the template must not change, because something else relies on them; with where to change them.
_FIXED = {
    "TrainingJobName": "it is made from ALGORITHM_NAME and the time",
    "RoleArn": "set ROLE in the settings",
    "AlgorithmSpecification.TrainingImage": "it is the image that `classifold image` pushed",
    "AlgorithmSpecification.AlgorithmName": "the job runs the image that `classifold image` pushed",
    "HyperParameters.DATA_NAME": "set DATA_NAME in the settings",
    "OutputDataConfig.S3OutputPath": "set OUTPUT_BUCKET in the settings",
    "OutputDataConfig.CompressionType": "`classifold fetch` reads model.tar.gz",
    "ResourceConfig.InstanceType": "set INSTANCE_TYPE in the settings: the image follows from it",
    "ResourceConfig.InstanceCount": "set INSTANCE_COUNT in the settings",
    "ResourceConfig.InstanceGroups": "set INSTANCE_TYPE and INSTANCE_COUNT in the settings",
    "ResourceConfig.InstancePreferences": "set INSTANCE_PREFERENCES in the settings",
    "EnableManagedSpotTraining": "set SPOT in the settings",
    "CheckpointConfig.LocalPath": f"the image keeps its checkpoints in {CHECKPOINT_DIR}",
    "ServerlessJobConfig": "the job runs the image that `classifold image` pushed",
}
# The setting behind each part of the request, for messages.
SETTING_OF = {
    "TrainingJobName": "ALGORITHM_NAME",
    "RoleArn": "ROLE",
    "InputDataConfig": "DATA_NAME",
    "OutputDataConfig.KmsKeyId": "KMS_KEY",
    "ResourceConfig.VolumeKmsKeyId": "KMS_KEY",
    "ResourceConfig.InstanceType": "INSTANCE_TYPE",
    "ResourceConfig.InstancePreferences": "INSTANCE_PREFERENCES",
    "ResourceConfig.InstanceCount": "INSTANCE_COUNT",
    "ResourceConfig.VolumeSizeInGB": "VOLUME_GB",
    "ResourceConfig.KeepAlivePeriodInSeconds": "KEEP_ALIVE_MINUTES",
    "StoppingCondition.MaxRuntimeInSeconds": "MAX_HOURS",
    "StoppingCondition.MaxWaitTimeInSeconds": "MAX_WAIT_HOURS",
    "VpcConfig.Subnets": "SUBNETS",
    "VpcConfig.SecurityGroupIds": "SECURITY_GROUPS",
    "Tags": "TAGS",
}


@dataclass(frozen=True)
class Draft:
    """A request and its faults."""

    request: dict[str, Any]
    faults: tuple[Fault, ...]

    def finish(self, *more: Fault) -> dict[str, Any]:
        """Return the request.

        Args:
            more: Further faults, found by other checks.

        Raises:
            SettingsError: There are faults; with all of them.
        """
        faults = (*self.faults, *more)
        if faults:
            raise SettingsError(*faults)
        return self.request


def draft_request(
    config: Config,
    *,
    template: Mapping[str, Any],
    job_name: str,
    role_arn: str,
    image_uri: str,
    data_bucket: str,
    output_bucket: str,
    tags: Mapping[str, str],
) -> Draft:
    """Return CreateTrainingJob's parameters: those of the settings, overridden by the template's fields.

    Args:
        config: The settings.
        template: The template from `read_template`, in the form of the request; it may leave fields out.
        job_name: Name of the job and of its run folder.
        role_arn: ARN of the role that the job runs under.
        image_uri: The training image, by its digest.
        data_bucket: Name of the bucket of the pictures.
        output_bucket: Name of the bucket of results and checkpoints.
        tags: Tags of the job, value by key.

    Returns:
        The request, with every fault of the template and of the hyperparameters.
    """
    given = {
        "JOB_NAME": job_name,
        "ROLE_ARN": role_arn,
        "IMAGE_URI": image_uri,
        "DATA_BUCKET": data_bucket,
        "OUTPUT_BUCKET": output_bucket,
    }
    base = _build_base(config, given, tags)
    values = {**config.model_dump(mode="json"), **given, **_derive_values(config)}
    faults: list[Fault] = []
    request = merge_template(base, fill_template(template, values, faults=faults))
    if request.get("Environment") == {}:
        # The template that a project starts with has it empty, as an example.
        del request["Environment"]
    faults += _check_fixed(request, base)
    hyperparameters = request.get("HyperParameters")
    if isinstance(hyperparameters, dict):
        request["HyperParameters"] = {name: _as_text(value) for name, value in hyperparameters.items()}
        faults += _check_hyperparameters(request["HyperParameters"])
    return Draft(request, tuple(faults))


# What the settings say


def _derive_values(config: Config) -> dict[str, Any]:
    """Return the placeholders that are not settings, and those whose value differs from the setting's."""
    return {
        "DATA_PREFIX": find_prefix(config),
        "MAX_RUNTIME_SECONDS": _seconds(config.MAX_HOURS),
        # Several types go into a list of their own, InstancePreferences.
        "INSTANCE_TYPE": None if len(list_instance_types(config)) > 1 else config.INSTANCE_TYPE,
    }


def _build_base(config: Config, given: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the request for the settings, without the template."""
    job, output = given["JOB_NAME"], given["OUTPUT_BUCKET"]
    request: dict[str, Any] = {
        "TrainingJobName": job,
        "HyperParameters": list_hyperparameters(config),
        "AlgorithmSpecification": {
            "TrainingImage": given["IMAGE_URI"],
            "TrainingInputMode": config.INPUT_MODE,
            "MetricDefinitions": list_metrics(),
        },
        "RoleArn": given["ROLE_ARN"],
        "InputDataConfig": build_channels(config, given["DATA_BUCKET"]),
        "OutputDataConfig": {"S3OutputPath": f"s3://{output}/", **_key("KmsKeyId", config.KMS_KEY)},
        "ResourceConfig": _build_resources(config),
        "StoppingCondition": {"MaxRuntimeInSeconds": _seconds(config.MAX_HOURS)},
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        "EnableNetworkIsolation": config.NETWORK_ISOLATION,
        "EnableInterContainerTrafficEncryption": config.INSTANCE_COUNT > 1,
        "EnableManagedSpotTraining": config.SPOT,
        # Also without spot, so that a broken machine or a time limit that was too low costs only minutes.
        "CheckpointConfig": {
            "S3Uri": f"s3://{output}/{names.checkpoint_prefix(job)}",
            "LocalPath": CHECKPOINT_DIR,
        },
        # SageMaker's profiler would keep writing to the output bucket, and nothing reads that.
        "ProfilerConfig": {"DisableProfiler": True},
    }
    if config.SPOT:
        request["StoppingCondition"]["MaxWaitTimeInSeconds"] = _seconds(config.MAX_WAIT_HOURS)
    if config.SUBNETS:
        vpc = {"Subnets": list(config.SUBNETS), "SecurityGroupIds": list(config.SECURITY_GROUPS)}
        request["VpcConfig"] = vpc
    return request


def _build_resources(config: Config) -> dict[str, Any]:
    """Return ResourceConfig; size and key of the disk only if the machine has no built-in disk."""
    types = list_instance_types(config)
    machines: dict[str, Any] = {"InstanceType": types[0]}
    if len(types) > 1:
        machines = {"InstancePreferences": [{"InstanceType": one} for one in types]}
    own_disks = [has_own_disk(one) for one in types]
    return {
        **machines,
        "InstanceCount": config.INSTANCE_COUNT,
        **({} if all(own_disks) else {"VolumeSizeInGB": config.VOLUME_GB}),
        **({} if any(own_disks) else _key("VolumeKmsKeyId", config.KMS_KEY)),
        **({"KeepAlivePeriodInSeconds": config.KEEP_ALIVE_MINUTES * 60} if config.KEEP_ALIVE_MINUTES else {}),
    }


def has_own_disk(instance_type: str) -> bool:
    """Tell whether a machine has built-in disks, whose size is fixed and which cannot use our key."""
    return bool(_OWN_DISKS.fullmatch(instance_type))


def _key(name: str, kms_key: str) -> dict[str, str]:
    return {name: kms_key} if kms_key else {}


def _seconds(hours: float) -> int:
    return max(1, math.ceil(hours * 3600))


def list_instance_types(config: Config) -> list[str]:
    """Return INSTANCE_TYPE and INSTANCE_PREFERENCES in the order in which SageMaker tries them, each once."""
    return list(dict.fromkeys([config.INSTANCE_TYPE, *config.INSTANCE_PREFERENCES]))


def list_metrics() -> list[dict[str, str]]:
    """Return MetricDefinitions: the metrics that SageMaker finds in the log."""
    return [{"Name": name, "Regex": regex} for name, regex in names.METRICS.items()]


def list_hyperparameters(config: Config) -> dict[str, str]:
    """Return a job's hyperparameters: the settings of training that differ from the defaults, as text.

    Paths of the user's own files are those inside the image.
    """
    inside = config.model_copy(update=locate_baked(config))
    usual = to_hyperparameters(build_config({"RECIPE": config.RECIPE}))
    defaults = {**usual, "RECIPE": build_config({}).RECIPE}  # a recipe is sent by its name
    settings = to_hyperparameters(inside)
    return {
        name: _one_line(text)
        for name, text in settings.items()
        if name in JOB_SETTINGS and text != defaults[name]
    }


def _one_line(text: str) -> str:
    """Return text without line breaks, which SageMaker refuses; `parse_value` reads both forms."""
    return text if text.isprintable() else json.dumps(text)


def _as_text(value: object) -> str:
    """Return a hyperparameter of the template as text: 3 and "3" are the same."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _check_hyperparameters(texts: Mapping[str, str]) -> list[Fault]:
    """Return the faults of a job's hyperparameters, which would else be found after the job has started."""
    settings = {name: text for name, text in texts.items() if not is_foreign(name)}
    faults = [_no_hyperparameter(name) for name in settings if name not in JOB_SETTINGS]
    known = {name: text for name, text in settings.items() if name in JOB_SETTINGS}
    try:
        read_hyperparameters(known, fixed={})
    except SettingsError as error:
        faults += error.faults
    if len(texts) > HYPERPARAMETER_LIMIT:
        what = f"SageMaker takes at most {HYPERPARAMETER_LIMIT} hyperparameters"
        faults.append(Fault(f"{names.REQUEST_FILE}: HyperParameters", what, got=str(len(texts))))
    return faults + [_too_long(name, text) for name, text in texts.items() if len(text) > VALUE_LIMIT]


def _no_hyperparameter(name: str) -> Fault:
    if name not in HOME_SETTINGS:
        return explain_unknown(name, source="hyperparameters", known=dict.fromkeys(JOB_SETTINGS))
    what, hint = "it is not a setting of training, so a job cannot have it", "set it in the settings"
    return Fault(f"setting {name} (hyperparameters)", what, hint=hint)


def _too_long(name: str, text: str) -> Fault:
    what = f"as a hyperparameter it may have at most {VALUE_LIMIT:,} characters"
    hint = 'write CLASS_WEIGHTS = "balanced"' if name == "CLASS_WEIGHTS" else "shorten it"
    return Fault(f"setting {name} (hyperparameters)", what, hint=hint, got=f"{len(text):,}")


# What the template may not change


def _check_fixed(request: Mapping[str, Any], base: Mapping[str, Any]) -> list[Fault]:
    """Return a fault for each field that the template must not change and does."""
    faults = [
        _changed(path, hint, _find(request, path))
        for path, hint in _FIXED.items()
        if _find(request, path) != _find(base, path)
    ]
    if _find_project_tag(request) != _find_project_tag(base):
        hint = "jobs are found by this tag; set PROJECT_NAME in the settings"
        faults.append(_changed(f"Tags: {names.PROJECT_TAG}", hint, _find_project_tag(request)))
    return faults + [fault for ours in base["InputDataConfig"] for fault in _check_source(request, ours)]


def _check_source(request: Mapping[str, Any], ours: Mapping[str, Any]) -> list[Fault]:
    """Return a fault if the template changed the source of one of our channels."""
    name = ours["ChannelName"]
    found = [_find(entry, "DataSource") for entry in _entries(request) if entry.get("ChannelName") == name]
    if found == [ours["DataSource"]]:
        return []
    hint = (
        "set DATA_BUCKET, DATA_NAME, UPLOAD_AS and INPUT_DISTRIBUTION in the settings; channels of other "
        "names may be added"
    )
    return [_changed(f"InputDataConfig: {name}", hint, found[0] if found else None)]


def _find_project_tag(request: Mapping[str, Any]) -> Any:
    tags = request.get("Tags")
    found = [one for one in tags if isinstance(one, dict)] if isinstance(tags, list) else []
    return next((one.get("Value") for one in found if one.get("Key") == names.PROJECT_TAG), None)


def _entries(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    channels = request.get("InputDataConfig")
    return [entry for entry in channels if isinstance(entry, dict)] if isinstance(channels, list) else []


def _changed(path: str, hint: str, value: object) -> Fault:
    where = f"{names.REQUEST_TEMPLATE}: {path}"
    return Fault(where, "the template cannot change this", hint=hint, got=shorten(value))


def _find(request: Any, path: str) -> Any:
    """Return the value at a path such as ResourceConfig.InstanceType; None if there is none."""
    for name in path.split("."):
        request = request.get(name) if isinstance(request, Mapping) else None
    return request


def write_request(path: Path, request: Mapping[str, Any]) -> None:
    """Write a request as JSON, as `aws sagemaker create-training-job --cli-input-json` takes it.

    Raises:
        DiskError: The disk is full or read-only, or writing there is not permitted.
    """
    with write_whole(path) as partial:
        partial.write_text(json.dumps(request, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
