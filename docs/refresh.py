"""Write what follows from the code: the settings file, settings, commands, policies, lists of files.

    python docs/refresh.py

A test says when one of them is out of date.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from classifold import metrics, names
from classifold.aws.bucket_rules import Wishes, want_policy
from classifold.aws.caller_policies import build_daily_policy, build_setup_policy
from classifold.aws.policies import build_boundary, build_policy, build_trust
from classifold.aws.policy_scope import Scope
from classifold.aws.serving_policies import build_deploy_policy
from classifold.cli.main import cli, project_manager, split
from classifold.cli.runner import CONTEXT
from classifold.metrics import Metrics
from classifold.settings.backbone_names import APPLICATIONS
from classifold.settings.loader import build_config
from classifold.settings.template import build_config_file, build_settings_page

ROOT = Path(__file__).parents[1]
LIST_BEGINS = "<!-- made by docs/refresh.py from the files' first lines -->"
AWS_BEGINS = "<!-- made by docs/refresh.py: {name} -->"
LIST_ENDS = "<!-- end of what was made -->"
BACKBONES = """
## Backbones

`EfficientNetLite0` brings its ImageNet weights with a package, so nothing is downloaded. These of
keras.applications download theirs once; KerasHub presets are taken by name where keras-hub is installed:

{applications}

A function of your own is named by its file: `BACKBONE = "my_model.py:build"`. It takes the side of the
pictures in pixels and returns a Keras model from RGB pixels 0..255 to features:

```python
import keras


def build(image_size):
    pixels = keras.Input((image_size, image_size, 3))
    planes = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    for width in (32, 64, 128):
        planes = keras.layers.Conv2D(width, 3, strides=2, padding="same", activation="relu")(planes)
    return keras.Model(pixels, planes)
```
"""
# Files that cannot hold a docstring and open with no comment.
DESCRIPTIONS = {
    "prices.json": "List prices of machines, with their day, for where AWS's own list cannot be asked.",
    "parts.html.j2": "The parts that the report's page repeats: tables and galleries.",
    "report.css": "How the report looks, in light and dark, on a screen and on paper.",
    "explain.css": "How the page of `predict --explain` looks: light, dark and printed.",
    "explain.html.j2": "The page of `predict --explain`: its head, and what the figures mean.",
    "explain_items.html.j2": "Its pictures, each with its figures and the training pictures like it.",
    "report.html.j2": "The report's page.",
    "confusion.html.j2": "The confusion matrix, its mistakes in words, and the pictures behind each cell.",
    "trust.html.j2": "Calibration, coverage against accuracy, other pictures, precision against recall.",
    "report.js": "What the report does beyond links: the slider, sorting, cells of the large matrix.",
    "page.html": "The server's page: where pictures are dropped, and the frame of each answer.",
    "docs.html.j2": "The page /docs of the server: every operation of openapi.json, without a script.",
    "docs.css": "How the page /docs looks.",
    "page.css": "How the server's page looks: light and dark, on a phone, with forced colours.",
    "page.js": "Takes pictures by drop, paste, choice or camera; asks for the API key.",
    "card.js": "One picture on the page: its preview, its answer, and what explains it.",
    "asking.js": "Asks the server: a few requests at a time, and again where it is busy.",
    "words.js": "What the page says: every sentence that depends on an answer.",
    "preprocess.py.in": "Preprocessing beside an export, in Python; `@size@` and the like are filled in.",
    "preprocess.js.in": "The same in JavaScript, for pages and Node.js.",
    "Preprocess.swift.in": "The same in Swift.",
    "Preprocess.kt.in": "The same in Kotlin.",
    "index.html.in": "The page that runs an export to TensorFlow.js in a browser, offline.",
    "check.html.j2": "The data check's page.",
    "check.js": "The findings of check.html: filters, pages of 50, what to do with each picture, the plan.",
}
# The account that AWS's own documentation uses, and a key in it.
ACCOUNT = "111122223333"
KEY = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
SUBNETS, GROUPS = ("subnet-11112222", "subnet-33334444"), ("sg-55556666",)
# What each statement of the policies is for. A statement that is not here, or a word for none, is an error.
ROLE_REASONS = {
    "ListData": "find the pictures",
    "ReadData": "read them",
    "WriteResults": "put `model.tar.gz` into the output bucket, which the job cannot read",
    "Checkpoints": "carry the state of an interrupted job to its next machine",
    "ListCheckpoints": "find that state",
    "Logs": "write the logs of jobs and endpoints",
    "Metrics": "show the figures of each epoch, and how busy the machines are",
    "SignInToRegistry": "the registry's password, which AWS gives for a whole account only",
    "PullImage": "pull the images",
    "ReadModels": "read the model of an endpoint, and what is to be answered",
    "WriteAnswers": "write what asynchronous endpoints answer, and with `--capture` requests and answers",
    "ListModels": "find these",
    "LookAtKey": "see that the key can be used",
    "UseKey": "read and write what the key encrypts, through S3, SageMaker and EC2 (the disk) alone",
    "GrantKey": "let SageMaker encrypt the machine's disk with the key",
    "LookAtNetwork": "find your subnets; AWS offers no narrower form",
    "JoinNetwork": "make the machine's network interface, in `SUBNETS` and `SECURITY_GROUPS` alone",
    "KeepInterfaces": "hand it to SageMaker and remove it, in `SUBNETS` alone",
    "ReleaseInterfaces": "take it back from SageMaker",
}
SETUP_REASONS = {
    "Buckets": "make the two buckets, keep them as they should be, and remove them",
    "EmptyBuckets": "empty them when they are removed",
    "WhoseBuckets": "tell another account's bucket from a missing permission; list what the project has",
    "Repository": "make the repository, keep it as it should be, and remove it with its images",
    "EndJobs": "stop and remove training jobs that have the project's tag, and no others",
    "LookAtJobs": "see which project a job belongs to and whether it has ended",
    "Logs": "remove a job's log",
    "Looks": "list jobs and what has the project's tag; AWS offers no narrower form",
    "EndEndpoints": "remove endpoints, and what belongs to them, that have the project's tag, and no others",
    "RemovePackages": "remove the versions of the project's model package group",
    "LookAtEndpoints": "see whose an endpoint is, and what it runs",
    "EndScaling": "end the autoscaling of an endpoint; AWS offers no narrower form",
    "RemoveAlarms": "remove the alarm of an endpoint that scales to zero",
    "ListEndpoints": "list endpoints; AWS offers no narrower form",
    "RemoveEndpointLogs": "remove an endpoint's log",
    "BoundedRole": "make the role and give it permissions, only as long as it has the permissions boundary",
    "Role": "look at the role, tag it, and remove it",
    "LookAtKey": "see that the key can be used",
    "GrantKey": "let ECR use the key",
    "ReleaseKey": "take that back when the repository is removed",
}
DAILY_REASONS = {
    "LookAtBuckets": "see that the buckets are as they should be, and what is in them",
    "SendPictures": "send the pictures; remove those that the split does not have any more",
    "FetchResults": "fetch results",
    "LookAtRole": "see that the role is as it should be; ask IAM what it may do",
    "PassRole": "hand the role to SageMaker, and to nobody else",
    "SignInToRegistry": "the registry's password, which AWS gives for a whole account only",
    "Images": "push images and look for them",
    "StartJobs": "start training jobs that have the project's tag, and no others",
    "TagNewJobs": "give them their tags while they are made, and to no other job",
    "StopJobs": "stop jobs that have the project's tag, and no others",
    "LookAtJobs": "follow jobs, and see whose they are",
    "Logs": "show a job's log",
    "Looks": "list jobs, quotas and prices; AWS offers no narrower form",
    "LookAtKey": "see that the key can be used",
    "UseKey": "write and read what the key encrypts, through S3, ECR and SageMaker alone",
    "GrantKey": "let SageMaker use the key",
}
DEPLOY_REASONS = {
    "SendModels": "send models, and lists of pictures for batch transform",
    "Deploy": "make endpoints, and what belongs to them, that have the project's tag, and no others",
    "TagNewEndpoints": "give them their tags while they are made, and to nothing else",
    "RegisterModels": "add a version to the project's model package group",
    "ChangeEndpoints": "update, ask and remove endpoints that have the project's tag, and no others",
    "LookAtEndpoints": "see whose an endpoint is, and what it runs",
    "Scale": "set the autoscaling of endpoints; AWS offers no narrower form",
    "Alarms": "the alarms that autoscaling works by",
    "ScalingRole": "let autoscaling make its own role, with the account's first endpoint that is scaled",
    "EndpointLogs": "show the log of an endpoint or a transform job",
    "ListEndpoints": "list endpoints; AWS offers no narrower form",
}
IMAGES = (
    ("cpu", "every other machine", "TensorFlow"),
    ("gpu", "`ml.g…` and `ml.p…`, with NVIDIA's GPUs", "JAX with CUDA 12"),
    ("serve", "endpoints, and wherever containers run", "nothing: ONNX Runtime serves"),
)
NUM_PARTS = 5
COMMANDS_HEAD = """# Commands

In the order of the work. A command ends with exit code 0 when it is done, 1 for a mistake in data, run or
machine, 2 for one in settings or usage, 130 after Ctrl-C or SIGTERM.
"""


def build_backbones() -> str:
    """Return the part of docs/settings.md on backbones, with the names of those of keras.applications."""
    listed = textwrap.fill(", ".join(f"`{name}`" for name in APPLICATIONS), 110, break_on_hyphens=False)
    return BACKBONES.replace("{applications}", listed)


def build_commands_page() -> str:
    """Return docs/commands.md: what `--help` says, of every command and of the template's two scripts."""
    parts = [COMMANDS_HEAD, _build_section(cli, "classifold")]
    parts += [_build_section(command, f"classifold {name}") for name, command in cli.commands.items()]
    parts.append(_build_section(split, "python data_handler.py"))
    parts.append(_build_section(project_manager, "python project_manager.py"))
    return "".join(parts)


def _build_section(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, terminal_width=80, **CONTEXT)
    return f"\n## {name}\n\n```\n{command.get_help(context).strip()}\n```\n"


def build_architecture_page() -> str:
    """Return docs/architecture.md with the list refreshed: a table for each folder, a row for each file."""
    source = ROOT / "src" / "classifold"
    files = [
        path for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc" and path.stat().st_size
    ]
    tables = []
    for folder in sorted({path.parent for path in files}):
        title = f"classifold/{folder.relative_to(source)}".removesuffix("/.")
        tables.append(f"### {title}\n\n| file | what it is for |\n|---|---|\n")
        tables += _list_files(source, [path for path in files if path.parent == folder])
        tables.append("\n")
    return _replace_list(ROOT / "docs" / "architecture.md", "".join(tables).rstrip("\n"))


def build_benchmarks_page() -> str:
    """Return benchmarks/README.md with its list of benchmarks refreshed."""
    folder = ROOT / "benchmarks"
    rows = "".join(_list_files(folder, list(folder.glob("*.py"))))
    return _replace_list(folder / "README.md", f"| command | what it shows |\n|---|---|\n{rows.rstrip()}")


def build_metrics_schema() -> str:
    """Return docs/metrics.schema.json, the JSON Schema of metrics.json, with the docstrings' descriptions."""
    schema = Metrics.model_json_schema()
    for name, part in {"Metrics": schema, **schema["$defs"]}.items():
        _describe_fields(part, name, getattr(metrics, name).__doc__ or "")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema["title"] = "metrics.json of a run of Classifold"
    return json.dumps({**head, **schema}, indent=2) + "\n"


def _describe_fields(part: dict[str, Any], name: str, docstring: str) -> None:
    """Put what a record's docstring says into its part of the schema, for the record and for each field."""
    docstring = re.sub(r"\bNone\b", "null", inspect.cleandoc(docstring))
    text, _, attributes = docstring.partition("\n\nAttributes:\n")
    part["description"] = " ".join(text.split())
    found = dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE))
    for field, value in part["properties"].items():
        value.pop("title", None)
        if field not in found:
            raise ValueError(f"the docstring of {name} does not say what {field} is")
        value["description"] = " ".join(found[field].split())


def build_aws_page() -> str:
    """Return docs/aws.md with its policies and tables of permissions refreshed, for the default settings."""
    plain, whole = build_example_scopes()
    role, set_up, daily = build_policy(plain), build_setup_policy(plain), build_daily_policy(plain)
    wishes = Wishes(plain.data_bucket, plain.partition, "", {})
    made = {
        "the images' sizes": _list_images(),
        "the role's permissions": _list_rights(build_policy(whole), ROLE_REASONS),
        "the permissions to set up": _list_rights(build_setup_policy(whole), SETUP_REASONS),
        "the permissions for daily use": _list_rights(build_daily_policy(whole), DAILY_REASONS),
        "the permissions to deploy": _list_rights(build_deploy_policy(whole), DEPLOY_REASONS),
        "the policy to deploy": _show_json(build_deploy_policy(plain)),
        "the bucket's policy": _show_json(want_policy({}, wishes)),
        "the role's trust": _show_json(build_trust(plain)),
        "the role's policy": _show_json(role),
        "the role's policy with a key and a network": _show_json(_list_new(role, build_policy(whole))),
        "the role's boundary": _show_json(build_boundary(plain)),
        "the policy to set up": _show_json(set_up),
        "the policy to set up with a key": _show_json(_list_new(set_up, build_setup_policy(whole))),
        "the policy for daily use": _show_json(daily),
        "the policy for daily use with a key and a network": _show_json(
            _list_new(daily, build_daily_policy(whole))
        ),
    }
    text = (ROOT / "docs" / "aws.md").read_text(encoding="utf-8")
    for name, part in made.items():
        begins = AWS_BEGINS.format(name=name)
        before, mark, rest = text.partition(begins)
        if not mark:
            raise ValueError(f"docs/aws.md lacks the mark {begins}")
        text = f"{before}{begins}\n{part}\n{LIST_ENDS}{rest.partition(LIST_ENDS)[2]}"
    return text


def build_example_scopes() -> tuple[Scope, Scope]:
    """Return a project with the defaults in an account of AWS's documentation; and one with key and VPC."""
    config = build_config({})
    plain = Scope(
        project=config.PROJECT_NAME,
        partition="aws",
        region=config.PROJECT_REGION,
        account=ACCOUNT,
        data_bucket=names.data_bucket(config.PROJECT_NAME),
        output_bucket=names.output_bucket(config.PROJECT_NAME),
        repository=names.repository(config.PROJECT_NAME),
        role_arn=f"arn:aws:iam::{ACCOUNT}:role/{names.role(config.PROJECT_NAME)}",
        boundary_arn=f"arn:aws:iam::{ACCOUNT}:policy/{names.boundary(config.PROJECT_NAME)}",
    )
    return plain, replace(plain, kms_key=KEY, subnets=SUBNETS, security_groups=GROUPS)


def _list_images() -> str:
    """Return the table of the images: what each is for, its size and largest parts, as they were measured."""
    measured = json.loads((ROOT / "benchmarks" / "results" / "image.json").read_text(encoding="utf-8"))
    rows = ["| variant | for | Keras runs on | size | largest parts, MB |", "|---|---|---|---|---|"]
    for variant, machines, engine in IMAGES:
        found = measured[variant]
        size = _show_megabytes(found.get("megabytes", found.get("megabytes_estimated")))
        size = size if "megabytes" in found else f"about {size}, estimated from its wheels"
        if "megabytes_compressed" in found:
            size += f", {_show_megabytes(found['megabytes_compressed'])} compressed"
        parts = [(name, megabytes) for name, megabytes in found["largest_parts"].items() if " " not in name]
        largest = ", ".join(f"{name} {megabytes:,}" for name, megabytes in parts[:NUM_PARTS])
        rows.append(f"| `{variant}` | {machines} | {engine} | {size} | {largest} |")
    return "\n".join(rows)


def _show_megabytes(count: int) -> str:
    return f"{count / 1000:.1f} GB" if count >= 500 else f"{count} MB"


def _list_rights(policy: Mapping[str, Any], reasons: Mapping[str, str]) -> str:
    """Return the statements of a policy as a table: what for, which permissions, on what."""
    unused = set(reasons) - {one["Sid"] for one in policy["Statement"]}
    if unused:
        raise ValueError(f"no statement is called {', '.join(sorted(unused))}")
    rows = [
        f"| `{one['Sid']}` | {reasons[one['Sid']]} | {', '.join(f'`{right}`' for right in one['Action'])} |"
        for one in policy["Statement"]
    ]
    return "\n".join(["| statement | what for | permissions |", "|---|---|---|", *rows])


def _list_new(policy: Mapping[str, Any], whole: Mapping[str, Any]) -> list[Any]:
    return [one for one in whole["Statement"] if one not in policy["Statement"]]


def _show_json(value: object) -> str:
    return f"```json\n{json.dumps(value, indent=2)}\n```"


def _list_files(root: Path, files: list[Path]) -> Iterator[str]:
    for path in sorted(files):
        yield f"| `{path.relative_to(root)}` | {_describe_file(path)} |\n"


def _describe_file(path: Path) -> str:
    """Return the first sentence of a file's docstring, or of the comment that it opens with."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        said = ast.get_docstring(ast.parse(text)) or ""
    else:
        said = " ".join(re.findall(r"\A(?:\{#|/\*)-? *(.*?) *-?(?:#\}|\*/)", text, re.DOTALL))
    said = said or DESCRIPTIONS.get(path.name, "")
    return said.partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def _replace_list(page: Path, made: str) -> str:
    """Return the page's text with the part between its two marks replaced."""
    before, _, rest = page.read_text(encoding="utf-8").partition(LIST_BEGINS)
    after = rest.partition(LIST_ENDS)[2]
    return f"{before}{LIST_BEGINS}\n{made}\n{LIST_ENDS}{after}"


def build_files() -> dict[Path, str]:
    """Return the text that each file should have."""
    return {
        ROOT / names.CONFIG_FILE: build_config_file(),
        ROOT / "docs" / "settings.md": build_settings_page() + build_backbones(),
        ROOT / "docs" / "commands.md": build_commands_page(),
        ROOT / "docs" / "architecture.md": build_architecture_page(),
        ROOT / "docs" / "aws.md": build_aws_page(),
        ROOT / "docs" / "metrics.schema.json": build_metrics_schema(),
        ROOT / "benchmarks" / "README.md": build_benchmarks_page(),
    }


if __name__ == "__main__":
    for path, text in build_files().items():
        path.write_text(text, encoding="utf-8")
