"""The answers of a transform job, each with the name of its picture, as `predict` has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from classifold.aws.batch_pictures import BatchNotes
from classifold.aws.clients import Aws
from classifold.aws.crew import open_crew
from classifold.aws.refusals import aws_errors
from classifold.pictures.given import Given
from classifold.pictures.limits import PictureError
from classifold.predict.predictor import Prediction
from classifold.predict.sources import Source
from classifold.sagemaker.transform_request import match_answers, output_prefix

_CONNECTIONS = 16
_NO_ANSWER = "there is no answer for it: the job ended before"


def read_predictions(aws: Aws, job: str, notes: BatchNotes) -> Iterator[Prediction]:
    """Yield the prediction of each picture, in the order of the pictures; first those that were sent.

    Args:
        aws: The connection to AWS.
        job: Name of the transform job.
        notes: What `read_lists` returns for it.

    Raises:
        AwsError: AWS refuses.
    """
    keys = _list_answers(aws, job)
    matched = match_answers(notes.picture_names, keys, prefix=notes.prefix)
    root, s3 = output_prefix(job), aws.client("s3", connections=_CONNECTIONS)

    def read(name: str) -> Prediction:
        source = _name_source(f"{notes.address}{name}")
        if name not in matched:
            return Prediction(source, error=_NO_ANSWER)
        with aws_errors(f"read the answer for {name}"):
            body = s3.get_object(Bucket=aws.output_bucket, Key=f"{root}{matched[name]}")["Body"].read()
        return read_answer(source, body, notes.class_names)

    with open_crew(_CONNECTIONS) as crew:
        # In pieces, so that the memory does not grow with the number of pictures.
        for start in range(0, len(notes.picture_names), _PIECE):
            piece = notes.picture_names[start : start + _PIECE]
            found = dict(crew.map(lambda name: (name, read(name)), piece))
            yield from (found[name] for name in piece)
    for name, reason in notes.unsent.items():
        yield Prediction(_name_source(f"{notes.address}{name}"), error=reason)


_PIECE = 500


def _list_answers(aws: Aws, job: str) -> list[str]:
    root = output_prefix(job)
    with aws_errors(f"list the answers of transform job {job}"):
        pages = aws.client("s3").get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=aws.output_bucket, Prefix=root)
        return [one["Key"].removeprefix(root) for page in found for one in page.get("Contents", [])]


def _name_source(name: str) -> Source:
    def refuse() -> Given:
        raise PictureError("the picture is in S3")

    return Source(name, None, refuse)


def read_answer(source: Source, body: bytes, class_names: Sequence[str]) -> Prediction:
    """Return an answer of the server as a prediction; one that is no answer as an error.

    Classes that the answer leaves out, since it has only the most probable ones, get the probability 0.

    Args:
        source: The picture.
        body: The answer as JSON.
        class_names: Names of the model's classes, in the order of its probabilities.
    """
    try:
        answer: dict[str, Any] = json.loads(body)
        if answer["error"] is not None:
            return Prediction(source, error=str(answer["error"]))
        shares = {str(one["class_name"]): float(one["confidence"]) for one in answer["classes"]}
        probabilities = np.array([shares.get(name, 0.0) for name in class_names], np.float32)
        distance = None if answer["distance"] is None else float(answer["distance"])
        return Prediction(source, probabilities, unknown=bool(answer["unknown"]), distance=distance)
    except (ValueError, KeyError, TypeError):
        return Prediction(source, error=f"the answer for it is none: {body[:80]!r}")
