"""The pictures of a transform job: found below an S3 address, and listed for SageMaker and for later."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.refusals import aws_errors
from classifold.dataset.leftovers import reason_to_pass_over
from classifold.errors import DataError, Fault, JobError, MissingError
from classifold.pictures.formats import PICTURE_ENDINGS
from classifold.predict.sources import Passed
from classifold.progress import show_progress
from classifold.sagemaker.transform_request import (
    PAYLOAD_LIMIT_MB,
    Pictures,
    manifest_key,
    read_manifest,
    write_manifest,
)

_ARCHIVED = ("GLACIER", "DEEP_ARCHIVE")


@dataclass(frozen=True)
class BatchNotes:
    """What is kept beside a transform job's answers, to write them down later and on any machine.

    Attributes:
        run_name: Name of the run whose model answers.
        class_names: Names of the model's classes, in the order of its probabilities.
        top_k: Number of classes per picture in the answers.
        prefix: Key prefix of the pictures; their names are relative to it.
        address: S3 address of the pictures.
        picture_names: Names of the pictures that were sent, in order.
        unsent: Why a picture was not sent, by its name.
    """

    run_name: str
    class_names: tuple[str, ...]
    top_k: int
    prefix: str
    address: str
    picture_names: tuple[str, ...]
    unsent: dict[str, str]


def list_pictures(aws: Aws, address: str, passed: Passed) -> Pictures:
    """Return the pictures below an S3 address, chosen by the endings of their names.

    Args:
        aws: The connection to AWS.
        address: s3://bucket or s3://bucket/prefix.
        passed: Counts what is no picture by its ending.

    Raises:
        DataError: It is not the address of a prefix, or there is no picture below it.
        AwsError: AWS refuses.
    """
    bucket, _, folder = address.removeprefix("s3://").partition("/")
    if not address.startswith("s3://") or not bucket:
        hint = "for instance s3://my-bucket/photos/"
        raise DataError(Fault(address, "expected an S3 prefix", hint=hint))
    prefix = f"{folder.rstrip('/')}/" if folder.strip("/") else ""
    found = Pictures(bucket, prefix)
    with (
        aws_errors(f"list {found.uri}"),
        show_progress("listing the pictures", None, unit="objects") as advance,
    ):
        pages = aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            for listed in page.get("Contents", []):
                _sort_in(found, listed, passed)
            advance(len(page.get("Contents", [])))
    if not found.sizes and not found.unsent:
        what = "there are no pictures below this prefix"
        hint = f"{passed.total:,} objects there are no pictures" if passed.total else "check the address"
        raise DataError(Fault(address, what, hint=hint))
    return found


def _sort_in(found: Pictures, listed: dict[str, Any], passed: Passed) -> None:
    name, size = str(listed["Key"]).removeprefix(found.prefix), int(listed["Size"])
    if not name or name.endswith("/"):
        return  # a console's mark of a folder
    reason = next(filter(None, map(reason_to_pass_over, name.split("/"))), "")
    if reason or f".{name.rpartition('.')[2].lower()}" not in PICTURE_ENDINGS:
        passed.add(name, reason=reason)
    elif not size:
        found.unsent[name] = "the file is empty"
    elif listed.get("StorageClass") in _ARCHIVED:
        found.unsent[name] = "the object is archived; restore it first"
    elif size > PAYLOAD_LIMIT_MB << 20:
        found.unsent[name] = (
            f"{size / 1e6:,.0f} MB are more than batch transform sends ({PAYLOAD_LIMIT_MB} MiB)"
        )
    else:
        found.sizes[name] = size


def notes_key(job: str) -> str:
    """Return the key of a transform job's notes in the output bucket."""
    return f"{names.BATCH_PREFIX}{job}/job.json"


def send_lists(aws: Aws, job: str, pictures: Pictures, notes: BatchNotes) -> None:
    """Store the list of pictures that the job reads, and what is needed to write its answers down.

    Raises:
        AwsError: AWS refuses.
    """
    kept = {
        "format": 1,
        "run": notes.run_name,
        "classes": list(notes.class_names),
        "top_k": notes.top_k,
        "prefix": notes.prefix,
        "address": notes.address,
        "unsent": notes.unsent,
    }
    contents = {
        manifest_key(job): write_manifest(pictures),
        notes_key(job): json.dumps(kept, ensure_ascii=False).encode(),
    }
    with aws_errors(f"send the list of pictures of transform job {job}"):
        for key, body in contents.items():
            aws.client("s3").put_object(
                Bucket=aws.output_bucket, Key=key, Body=body, ContentType="application/json"
            )


def read_lists(aws: Aws, job: str) -> BatchNotes:
    """Return what `send_lists` stored for a job.

    Raises:
        JobError: It is not there, or damaged.
        AwsError: AWS refuses.
    """
    where, s3 = f"transform job {job}", aws.client("s3")
    try:
        with aws_errors(f"read the list of pictures of transform job {job}"):
            manifest, kept = (
                s3.get_object(Bucket=aws.output_bucket, Key=key)["Body"].read()
                for key in (manifest_key(job), notes_key(job))
            )
        _, picture_names = read_manifest(manifest)
        found = json.loads(kept)
        return BatchNotes(
            run_name=str(found["run"]),
            class_names=tuple(map(str, found["classes"])),
            top_k=int(found["top_k"]),
            prefix=str(found["prefix"]),
            address=str(found["address"]),
            picture_names=tuple(picture_names),
            unsent={str(name): str(reason) for name, reason in found["unsent"].items()},
        )
    except MissingError as error:
        what = "`classifold batch` did not start it, or its list of pictures was removed"
        raise JobError(Fault(where, what, hint="check the job's name")) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = "its list of pictures is damaged"
        raise JobError(Fault(where, what, hint="run the batch again")) from error
