"""The request of a transform job, and the list of pictures that it reads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from classifold import names
from classifold.sagemaker.endpoint_request import Place, list_tags
from classifold.sagemaker.request import has_own_disk

# SageMaker's limit of one request in MB, and of all requests of a machine that are under way together.
# Source: CreateTransformJob's reference, MaxPayloadInMB.
PAYLOAD_LIMIT_MB = 100
_LEAST_PAYLOAD_MB = 6
_AT_ONCE = 16
_TIMEOUT_SECONDS, _RETRIES = 120, 3


@dataclass(frozen=True)
class Pictures:
    """The pictures below an S3 address.

    Attributes:
        bucket: Name of the bucket.
        prefix: The address's key; the names of the pictures are relative to it.
        sizes: Size in bytes of each picture, by its name, in the order of the listing.
        unsent: Why a picture is not sent, by its name: it is empty, archived or too large for a request.
    """

    bucket: str
    prefix: str
    sizes: dict[str, int] = field(default_factory=dict)
    unsent: dict[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """The address."""
        return f"s3://{self.bucket}/{self.prefix}"


def write_manifest(pictures: Pictures) -> bytes:
    """Return the list of pictures in SageMaker's form, as JSON: the address, then every name."""
    entries: list[Any] = [{"prefix": pictures.uri}, *pictures.sizes]
    return json.dumps(entries, ensure_ascii=False).encode()


def choose_payload(sizes: Iterable[int]) -> tuple[int, int]:
    """Return the limit of a request in MB, and the number of requests that a machine gets at the same time.

    SageMaker takes at most 100 MB for both together: the largest picture decides.
    """
    payload = max(_LEAST_PAYLOAD_MB, math.ceil(max(sizes, default=0) / (1 << 20)))
    return payload, max(1, min(_AT_ONCE, PAYLOAD_LIMIT_MB // payload))


def build_transform_request(
    place: Place,
    *,
    name: str,
    pictures: Pictures,
    manifest_uri: str,
    instance_type: str,
    count: int,
) -> dict[str, Any]:
    """Return CreateTransformJob's parameters.

    Args:
        place: Where it runs.
        name: Name of the job and of its model.
        pictures: What it reads.
        manifest_uri: S3 address of the list of the pictures.
        instance_type: SageMaker's name of the machine.
        count: Number of machines.
    """
    payload, at_once = choose_payload(pictures.sizes.values())
    key = place.config.KMS_KEY
    resources: dict[str, Any] = {"InstanceType": instance_type, "InstanceCount": count}
    if key and not has_own_disk(instance_type):
        resources["VolumeKmsKeyId"] = key
    return {
        "TransformJobName": name,
        "ModelName": name,
        "MaxConcurrentTransforms": at_once,
        "ModelClientConfig": {
            "InvocationsTimeoutInSeconds": _TIMEOUT_SECONDS,
            "InvocationsMaxRetries": _RETRIES,
        },
        "MaxPayloadInMB": payload,
        "BatchStrategy": "SingleRecord",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": manifest_uri}},
            "ContentType": "application/x-image",
            "SplitType": "None",
            "CompressionType": "None",
        },
        "TransformOutput": {
            "S3OutputPath": f"s3://{place.output_bucket}/{output_prefix(name)}",
            "Accept": "application/json",
            "AssembleWith": "None",
            **({"KmsKeyId": key} if key else {}),
        },
        "TransformResources": resources,
        "Tags": list_tags(place.tags),
    }


def output_prefix(job: str) -> str:
    """Return the prefix of a transform job's answers in the output bucket."""
    return f"{names.BATCH_PREFIX}{job}/output/"


def manifest_key(job: str) -> str:
    """Return the key of a transform job's list of pictures in the output bucket."""
    return f"{names.BATCH_PREFIX}{job}/pictures.json"


def read_manifest(data: bytes) -> tuple[str, list[str]]:
    """Return the address and the names in a list that `write_manifest` wrote.

    Raises:
        ValueError: It is not such a list.
    """
    entries = json.loads(data)
    if not isinstance(entries, list) or not entries or not isinstance(entries[0], dict):
        raise ValueError("it is not a list of pictures")
    found = [one for one in entries[1:] if isinstance(one, str)]
    return str(entries[0].get("prefix", "")), found


def match_answers(picture_names: Sequence[str], answer_keys: Iterable[str], *, prefix: str) -> dict[str, str]:
    """Return the key of each picture's answer, by the picture's name; pictures without one are left out.

    SageMaker's guide does not say clearly below which part of a picture's key its answer lies, so all are
    tried: the name alone, with the last folder before it, and the whole key. The one that fits most is taken.

    Args:
        picture_names: Names of the pictures, relative to the address that they were listed below.
        answer_keys: Keys of the answers, relative to the job's output path.
        prefix: Key prefix of that address.
    """
    known = set(answer_keys)
    folder = prefix.rstrip("/").rpartition("/")[2]
    heads = dict.fromkeys(("", f"{folder}/" if folder else "", prefix))
    found = [
        {name: f"{head}{name}.out" for name in picture_names if f"{head}{name}.out" in known}
        for head in heads
    ]
    return max(found, key=len)
