"""Checks beyond each setting's own type: names that AWS accepts, settings that fit together."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from classifold import names
from classifold.errors import Fault
from classifold.settings.backbone_names import find_backbone_fault
from classifold.settings.config import Config
from classifold.settings.words import shorten

# Characters left for DATA_NAME in a channel's name, where the longest name of a set follows it.
_SET_CHANNEL_ROOM = names.CHANNEL_NAME_LIMIT - max(len(names.set_channel("", one)) for one in names.SETS)
_BUCKET_ROOM = names.BUCKET_NAME_LIMIT - len(names.output_bucket(""))


def find_problems(config: Config) -> list[Fault]:
    """Return the faults of settings whose types are right: names, tags, settings that do not fit together."""
    return [
        *_name_problems(config),
        *_tag_problems(config.TAGS),
        *_home_problems(config),
        *_relation_problems(config),
    ]


def find_host_problem(config: Config, count: int, *, where: str) -> Fault | None:
    """Return the fault for more hosts than a batch has pictures, since some would have none; else None.

    Args:
        config: The settings.
        count: Number of hosts that are to train together.
        where: The setting or option that says so.
    """
    size = config.batch_size
    if count <= size:
        return None
    what, hint = "more hosts than pictures in a batch", f"take at most {size}, or raise BATCH_SIZE"
    return Fault(where, what, got=str(count), hint=hint)


_PATHS = (
    *("DATA_LOCAL_DIR", "DATA_MANIFEST", "MANIFEST_ROOT", "SPLIT_LOCAL_DIR"),
    *("BACKBONE_WEIGHTS", "RUNS_DIR"),
)


def _home_problems(config: Config) -> list[Fault]:
    """Return a fault for each path that begins with `~` where this process has no home folder.

    Otherwise a folder named `~` would be made.
    """
    what = "~ means the home folder, and this process has none"
    hint = "write the whole path, or set the environment variable HOME; a folder of that name is ./~"
    values = [(name, getattr(config, name)) for name in _PATHS]
    return [
        replace(_fault(name, what, value), hint=hint) for name, value in values if str(value).startswith("~")
    ]


def _name_problems(config: Config) -> list[Fault]:
    """Return the names that AWS would refuse; found now, since later the work up to there would be lost."""
    rules = (
        (
            "PROJECT_NAME",
            _is_project_name(config.PROJECT_NAME),
            f"it names S3 buckets and the ECR repository, so expected 3 to {_BUCKET_ROOM} of a-z and "
            "0-9, with single '-' or '.' between them, not beginning with "
            f"{', '.join(names.PROJECT_NAME_REFUSED)}",
        ),
        (
            "ALGORITHM_NAME",
            len(config.ALGORITHM_NAME) <= names.ALGORITHM_NAME_LIMIT
            and bool(names.ALGORITHM_NAME_PATTERN.fullmatch(config.ALGORITHM_NAME)),
            f"it names SageMaker jobs, so expected 1 to {names.ALGORITHM_NAME_LIMIT} of a-z, A-Z, 0-9 "
            "and '-', with a letter or digit at both ends",
        ),
        (
            "DATA_NAME",
            not config.DATA_NAME.endswith(".shards"),
            "another DATA_NAME's shards could have this bucket address; expected no .shards at its end",
        ),
        (
            "DATA_NAME",
            len(config.DATA_NAME) <= names.CHANNEL_NAME_LIMIT
            and bool(names.CHANNEL_NAME_PATTERN.fullmatch(config.DATA_NAME)),
            f"it names a SageMaker channel, so expected 1 to {names.CHANNEL_NAME_LIMIT} of a-z, A-Z, 0-9, "
            "'.', '-' and '_'",
        ),
        (
            "PROJECT_REGION",
            bool(names.REGION_PATTERN.fullmatch(config.PROJECT_REGION)),
            "expected an AWS region such as eu-west-1",
        ),
        (
            "INSTANCE_TYPE",
            bool(names.INSTANCE_TYPE_PATTERN.fullmatch(config.INSTANCE_TYPE)),
            "expected a SageMaker instance type such as ml.g4dn.xlarge",
        ),
        (
            "BASE_IMAGE",
            not config.BASE_IMAGE or bool(names.IMAGE_PATTERN.fullmatch(config.BASE_IMAGE)),
            "expected an image such as mirror.example.com/python:3.11-slim, or with @sha256: and 64 digits",
        ),
    )
    faults = [_fault(name, what, getattr(config, name)) for name, good, what in rules if not good]
    return [
        replace(one, hint=_suggest_name(config)) if "PROJECT_NAME" in one.where else one for one in faults
    ]


def _suggest_name(config: Config) -> str:
    """Return a hint with the most similar valid name; empty where there is none."""
    near = derive_project_name(config.PROJECT_NAME, limit=_BUCKET_ROOM)
    return f'for instance PROJECT_NAME = "{near}"' if near else ""


def derive_project_name(text: str, *, limit: int) -> str:
    """Return the closest valid project name; empty if there is none.

    Args:
        text: Any text, such as the name of a folder.
        limit: Largest number of characters of the name.
    """
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    near = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:limit].strip("-")
    return near if _is_project_name(near) else ""


def _is_project_name(name: str) -> bool:
    return (
        3 <= len(name) <= _BUCKET_ROOM
        and bool(names.PROJECT_NAME_PATTERN.fullmatch(name))
        and not name.startswith(names.PROJECT_NAME_REFUSED)
    )


def _tag_problems(tags: dict[str, str]) -> list[Fault]:
    faults = []
    # Two of the allowed tags are our own: names.PROJECT_TAG and names.BEFORE_TAG.
    limit = names.TAG_LIMIT - 2
    if len(tags) > limit:
        faults.append(Fault("setting TAGS", f"expected at most {limit} tags", got=str(len(tags))))
    key_rule = f"expected a key of 1 to {names.TAG_KEY_LIMIT} characters that does not begin with aws:"
    value_rule = f"expected a value of up to {names.TAG_VALUE_LIMIT} characters"
    text_rule = f"expected letters, digits, spaces and {' '.join(names.TAG_CHARACTERS)} only"
    for key, value in tags.items():
        if not 1 <= len(key) <= names.TAG_KEY_LIMIT or key.lower().startswith("aws:"):
            faults.append(_fault("TAGS", key_rule, key))
        if len(value) > names.TAG_VALUE_LIMIT:
            faults.append(_fault("TAGS", value_rule, value))
        faults += [_fault("TAGS", text_rule, text) for text in (key, value) if not _is_tag_text(text)]
    return faults


def _is_tag_text(text: str) -> bool:
    return all(unicodedata.category(char)[0] in "LZN" or char in names.TAG_CHARACTERS for char in text)


def _relation_problems(config: Config) -> list[Fault]:
    """Return the faults of settings that are right by themselves and do not fit together."""
    faults = []
    if config.PERCENTAGE_VAL + config.PERCENTAGE_EVAL >= 1:
        what = "PERCENTAGE_VAL and PERCENTAGE_EVAL together leave nothing to train on; expected less than 1"
        got = f"{config.PERCENTAGE_VAL:g} + {config.PERCENTAGE_EVAL:g}"
        faults.append(Fault("setting PERCENTAGE_EVAL", what, got=got))
    if config.HEAD_EPOCHS + config.EPOCHS == 0:
        what = "nothing would be trained; expected HEAD_EPOCHS or EPOCHS of at least 1"
        faults.append(Fault("setting HEAD_EPOCHS", what, got="0 and 0"))
    backbone = find_backbone_fault(config.BACKBONE)
    faults += [backbone] if backbone else []
    faults += _aws_problems(config)
    if isinstance(config.CLASS_WEIGHTS, dict):
        bad = {name: weight for name, weight in config.CLASS_WEIGHTS.items() if weight <= 0}
        faults += [_fault("CLASS_WEIGHTS", "expected weights above 0", bad)] if bad else []
    try:
        re.compile(config.SPLIT_GROUP_PATTERN)
    except (re.error, RecursionError, OverflowError) as error:
        what = f"not a regular expression: {error}"
        faults.append(_fault("SPLIT_GROUP_PATTERN", what, config.SPLIT_GROUP_PATTERN))
    return faults


def _aws_problems(config: Config) -> list[Fault]:
    faults = [
        _fault(name, "expected an S3 bucket's name: 3 to 63 of a-z, 0-9, '.' and '-'", value)
        for name in ("DATA_BUCKET", "OUTPUT_BUCKET")
        if (value := getattr(config, name)) and not names.BUCKET_NAME_PATTERN.fullmatch(value)
    ]
    faults += _regional_problems(config)
    rules = (
        (
            "ROLE_BOUNDARY",
            not config.ROLE_BOUNDARY or bool(names.POLICY_ARN_PATTERN.fullmatch(config.ROLE_BOUNDARY)),
            "expected the ARN of a policy, such as arn:aws:iam::123456789012:policy/name",
        ),
        (
            "ROLE_BOUNDARY",
            not (config.ROLE_BOUNDARY and config.ROLE),
            "a role of your own (ROLE) is not changed; expected no boundary with ROLE",
        ),
        (
            "MAX_WAIT_HOURS",
            not config.SPOT or config.MAX_WAIT_HOURS >= config.MAX_HOURS,
            "it limits waiting and running of a spot job together, so expected at least MAX_HOURS",
        ),
        (
            "KEEP_ALIVE_MINUTES",
            not (config.SPOT and config.KEEP_ALIVE_MINUTES),
            "a spot machine is not kept for the next job; expected 0 with SPOT",
        ),
        (
            "INSTANCE_PREFERENCES",
            not (config.SPOT and config.INSTANCE_PREFERENCES),
            "a spot job has one instance type; expected no others with SPOT",
        ),
        (
            "INSTANCE_PREFERENCES",
            all(names.INSTANCE_TYPE_PATTERN.fullmatch(one) for one in config.INSTANCE_PREFERENCES),
            "expected SageMaker instance types such as ml.g5.xlarge",
        ),
        (
            "INPUT_DISTRIBUTION",
            config.UPLOAD_AS == "shards" or not config.is_sharded_by_key,
            'ShardedByS3Key shares out whole shards, so it needs UPLOAD_AS = "shards"',
        ),
        (
            "DATA_NAME",
            len(config.DATA_NAME) <= _SET_CHANNEL_ROOM or not config.is_sharded_by_key,
            "with ShardedByS3Key it is part of each set's channel name, so expected at most "
            f"{_SET_CHANNEL_ROOM} characters",
        ),
        (
            "ENDPOINT_INSTANCE_TYPE",
            bool(names.INSTANCE_TYPE_PATTERN.fullmatch(config.ENDPOINT_INSTANCE_TYPE)),
            "expected a SageMaker instance type such as ml.m5.large",
        ),
        (
            "ENDPOINT_MAX_COUNT",
            not config.ENDPOINT_MAX_COUNT or config.ENDPOINT_MAX_COUNT >= config.ENDPOINT_INSTANCE_COUNT,
            "expected at least ENDPOINT_INSTANCE_COUNT, or 0 for no autoscaling",
        ),
        (
            "ENDPOINT_MAX_COUNT",
            bool(config.ENDPOINT_INSTANCE_COUNT or config.ENDPOINT_MAX_COUNT),
            "with ENDPOINT_INSTANCE_COUNT = 0 autoscaling adds the machines; expected at least 1",
        ),
        (
            "SECURITY_GROUPS",
            bool(config.SUBNETS) == bool(config.SECURITY_GROUPS),
            "a job in a VPC needs both SUBNETS and SECURITY_GROUPS",
        ),
    )
    return faults + [_fault(name, what, getattr(config, name)) for name, good, what in rules if not good]


def _regional_problems(config: Config) -> list[Fault]:
    """Return the fault for a project name from which account-regional bucket names follow that S3 refuses."""
    if config.BUCKET_NAMESPACE == "global" or (config.DATA_BUCKET and config.OUTPUT_BUCKET):
        return []
    longest = names.regional_bucket(
        names.output_bucket(config.PROJECT_NAME), account="0" * 12, region=config.PROJECT_REGION
    )
    excess = len(longest) - names.BUCKET_NAME_LIMIT
    if excess > 0:
        room = len(config.PROJECT_NAME) - excess
        dotted = " (a '.' counts as two)" if "." in config.PROJECT_NAME else ""
        what = (
            "account and region are part of account-regional bucket names, so expected at most "
            f"{room} characters{dotted}"
        )
        hint = "to use existing buckets, name them in DATA_BUCKET and OUTPUT_BUCKET"
        return [replace(_fault("PROJECT_NAME", what, config.PROJECT_NAME), hint=hint)]
    if longest.startswith(names.PROJECT_NAME_REFUSED):
        what = f"its account-regional buckets would be called {longest[:20]}…, and S3 refuses such names"
        return [_fault("PROJECT_NAME", what, config.PROJECT_NAME)]
    return []


def _fault(name: str, what: str, value: object) -> Fault:
    return Fault(f"setting {name}", what, got=shorten(value))
