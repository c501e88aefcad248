"""What an image is made of: files, arguments and labels of its build, and the tag that follows."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import classifold
from classifold import names
from classifold.aws.image_base import Base, find_bases, hash_bases, label_base, pin_dockerfile
from classifold.errors import BackboneError, DockerError, Fault, SettingsError, disk_errors
from classifold.project_files import CARRIED, PACKAGE, locate_file
from classifold.settings.baked import BakedFile, find_application, find_keras_home, list_baked
from classifold.settings.config import Config

Variant = Literal["cpu", "hosts", "gpu", "serve"]
_TITLES = {
    "cpu": "Classifold training, CPU",
    "hosts": "Classifold training, CPU, several hosts",
    "gpu": "Classifold training, GPU",
    "serve": "Classifold serving",
}

_CONTAINER_FILES = ("Dockerfile", "lean.py", "requirements-build.txt")
_PROJECT_FILES = ("pyproject.toml", "LICENSE")
# The wheel's description; with the real README every change of it would need a new image.
_README = "# Classifold, in its image\n"
_TAG_DIGITS = 16
VARIANT_LABEL = "classifold:variant"
# `serve` listens on the port in SAGEMAKER_BIND_TO_PORT. Without the label SageMaker refuses the image on an
# endpoint of several containers. Source: its guide, "Custom Inference Code with Hosting Services".
_TAKES_PORT = {"com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true"}


@dataclass(frozen=True)
class ImagePlan:
    """Everything that determines an image.

    Attributes:
        variant: "cpu", "hosts", "gpu" or "serve".
        files: The build's context: a file on this machine or content, by its path in the context.
        cached: Further files of the context, which only save a download, by their path in the context.
        arguments: The Dockerfile's arguments, value by name.
        labels: The labels of the image, value by name.
        base_names: Names of the base images in the Dockerfile.
        tag: Tag computed from all the above except `cached`. Once the bases are pinned, a part computed from
            their digests is added.
        reference: Name of the image in the local engine.
    """

    variant: Variant
    files: Mapping[str, Path | bytes]
    cached: Mapping[str, Path]
    arguments: Mapping[str, str]
    labels: Mapping[str, str]
    base_names: tuple[str, ...]
    tag: str
    reference: str

    def is_tag_of_content(self, tag: str) -> bool:
        """Whether an image of this tag has this content, whatever its bases."""
        return tag == self.tag or (bool(self.base_names) and tag.startswith(f"{self.tag}-"))


def plan_image(config: Config, *, variant: Variant, model: Path | None = None) -> ImagePlan:
    """Return what the image for these settings is made of; reads files, writes nothing.

    Only settings that name its base image, project, tags and, for training, backbone and weights change an
    image. Engine and registry are not asked: `pin_plan` adds the digests of the bases.

    Args:
        config: The settings.
        variant: "cpu", "hosts", "gpu" or "serve".
        model: The model.onnx that the image serves; None: it serves what is mounted. No other file of the run
            goes into the image: settings and environment name folders of this machine.

    Raises:
        BackboneError: A file for the image is missing, or cannot be put into it.
        DockerError: The package lacks its own build files.
        SettingsError: BASE_IMAGE is set, and the Dockerfile does not start from it.
    """
    is_training = variant in names.TRAINING_VARIANTS
    application = find_application(config) if is_training else ""
    baked = list_baked(config) if is_training else []
    files: dict[str, Path | bytes] = {**_find_project(variant), **_find_baked(baked)}
    if model is not None:
        files[f"baked/model/{names.MODEL_ONNX}"] = model
    arguments = {"VARIANT": variant, "APPLICATION": application}
    if config.BASE_IMAGE:
        arguments["BASE"] = config.BASE_IMAGE
    base_names = find_bases(_read_dockerfile(files), arguments)
    if config.BASE_IMAGE and config.BASE_IMAGE not in base_names:
        what = "no stage of container/Dockerfile starts from it"
        hint = "write `ARG BASE` before its first stage and `FROM ${BASE}`, or leave BASE_IMAGE empty"
        raise SettingsError(Fault("setting BASE_IMAGE", what, hint=hint, got=repr(config.BASE_IMAGE)))
    labels = _build_labels(config, variant)
    tag = f"{variant}-{_hash_content(files, arguments, labels)}"
    return ImagePlan(
        variant=variant,
        files=files,
        cached=_find_cached(application),
        arguments=arguments,
        labels=labels,
        base_names=base_names,
        tag=tag,
        reference=f"{names.repository(config.PROJECT_NAME)}:{tag}",
    )


def pin_plan(plan: ImagePlan, bases: Sequence[Base]) -> ImagePlan:
    """Return the plan with its bases pinned: in the Dockerfile, in the labels and in the tag.

    Args:
        plan: The plan from `plan_image`.
        bases: The resolved base images, one for each of `plan.base_names`.
    """
    if not bases:
        return plan
    dockerfile = pin_dockerfile(_read_dockerfile(plan.files), plan.arguments, bases)
    ending = hash_bases(bases)
    return replace(
        plan,
        files={**plan.files, names.DOCKERFILE: dockerfile.encode()},
        labels={**plan.labels, **label_base(bases)},
        tag=f"{plan.tag}-{ending}",
        reference=f"{plan.reference}-{ending}",
    )


def _read_dockerfile(files: Mapping[str, Path | bytes]) -> str:
    content = files[names.DOCKERFILE]
    if isinstance(content, bytes):
        return content.decode()
    try:
        return content.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DockerError(Fault(str(content), "it is not UTF-8 text", hint="save it as UTF-8")) from error


def write_context(plan: ImagePlan, folder: Path) -> None:
    """Write the build's context: exactly the files of the plan, readable by everybody.

    Raises:
        DiskError: The disk is full, or the folder cannot be written.
    """
    with disk_errors(folder):
        for name in ("baked/keras/models", "baked/project", "baked/model"):
            (folder / name).mkdir(parents=True)
        for name, content in {**plan.files, **plan.cached}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                shutil.copyfile(content, path)
        # Any user may run the image, whatever this user's umask.
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)


def _find_project(variant: Variant) -> dict[str, Path | bytes]:
    """Return the package's source and build files; those in the user's own container/ replace ours."""
    files: dict[str, Path | bytes] = {name: locate_file(name) for name in _PROJECT_FILES}
    pins = {each: f"requirements-{each}.txt" for each in names.IMAGE_VARIANTS}
    for name in (*_CONTAINER_FILES, *pins.values()):
        own = Path("container") / name
        files[f"container/{name}"] = own if own.is_file() else locate_file(own.as_posix())
    missing = [str(path) for path in files.values() if isinstance(path, Path) and not path.is_file()]
    if missing:
        what = f"files that the image is built from are missing: {', '.join(missing)}"
        raise DockerError(Fault("build the image", what, hint="reinstall classifold"))
    # Empty, so that a change of another variant's wheels does not change this image.
    files |= {f"container/{name}": b"" for each, name in pins.items() if each != variant}
    files["pyproject.toml"] = _drop_carried(
        locate_file("pyproject.toml").read_text(encoding="utf-8")
    ).encode()
    files["README.md"] = _README.encode()
    files |= {f"src/classifold/{path.relative_to(PACKAGE).as_posix()}": path for path in _list_source()}
    return files


def _drop_carried(project: str) -> str:
    """Return pyproject.toml without its table of the files that a wheel carries beside the source.

    No job reads these files, and without the table the build's context needs none of them.
    """
    return re.sub(
        r"^\[tool\.hatch\.build\.targets\.wheel\.force-include\]\n(?:[^\[\n].*\n|\n)*",
        "",
        project,
        flags=re.MULTILINE,
    )


def _list_source() -> list[Path]:
    return [
        path
        for path in sorted(PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not path.is_relative_to(CARRIED)
        if not path.name.startswith(".")
    ]


def _find_baked(baked: list[BakedFile]) -> dict[str, Path | bytes]:
    missing = [one for one in baked if not one.source.is_file()]
    if missing:
        hint = "the image takes a local file or run folder; download an s3:// address first"
        what = "there is no such file to put into the image"
        raise BackboneError(
            *(Fault(f"setting {one.setting}", what, hint=hint, got=repr(str(one.source))) for one in missing)
        )
    return {f"baked/project/{one.name}": one.source for one in baked}


def _find_cached(application: str) -> dict[str, Path]:
    """Return the published weights that Keras has on this machine; Keras checks them in the build."""
    wanted = _letters(application.partition(":")[0])
    found = sorted((find_keras_home() / "models").glob("*.h5")) if wanted else []
    fitting = [path for path in found if wanted in _letters(path.name) and "notop" in _letters(path.name)]
    return {f"baked/keras/models/{path.name}": path for path in fitting}


def _letters(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())


def _build_labels(config: Config, variant: Variant) -> dict[str, str]:
    """Return the image's labels, without a time, so that the same content gives the same image."""
    return {
        # A label's name ends at its first equals sign.
        **{key: value for key, value in config.TAGS.items() if "=" not in key},
        names.PROJECT_TAG: config.PROJECT_NAME,
        VARIANT_LABEL: variant,
        **_TAKES_PORT,
        "org.opencontainers.image.title": _TITLES[variant],
        "org.opencontainers.image.version": classifold.__version__,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.source": "https://github.com/classifold/classifold",
    }


def _hash_content(
    files: Mapping[str, Path | bytes], arguments: Mapping[str, str], labels: Mapping[str, str]
) -> str:
    said = json.dumps([dict(arguments), dict(labels)], sort_keys=True)
    digest = hashlib.sha256(said.encode())
    for name in sorted(files):
        content = files[name]
        digest.update(f"\0{name}\0".encode())
        digest.update(hashlib.sha256(content).digest() if isinstance(content, bytes) else _hash_file(content))
    return digest.hexdigest()[:_TAG_DIGITS]


def _hash_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
