"""The commands on large data, as a user runs them, with pictures on this machine and in S3."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest


def test_a_listing_is_split_and_packed_and_packed_again(classifold, project, draw_colours):
    folder = draw_colours(project / "colours")
    rows = "".join(f"{path},{path.stat().st_size}\n" for path in folder.rglob("*.png"))
    (project / "list.csv").write_text(f"key,size\n{rows}")
    words = ("--set", "DATA_MANIFEST=list.csv", "--set", f"MANIFEST_ROOT={folder}")
    answer = classifold("split", *words)
    assert answer.code == 0, answer.err
    assert "The three sets are in list-split" in answer.out
    assert "no sha256 and no etag" in answer.err
    answer = classifold("shards", "--json", *words)
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["pictures"] == len(list(folder.rglob("*.png")))
    answer = classifold("shards", *words)
    assert "; 0 were written" in answer.out
    assert classifold("shards", "--share", "1/2", *words).code == 0


@pytest.mark.parametrize("share", ["3/2", "0/2", "1", "a/b"])
def test_a_share_that_is_none_is_a_mistake_of_usage(classifold, project, share):
    answer = classifold("shards", "--share", share)
    assert answer.code == 2
    assert "expected K" in answer.err


def test_pictures_in_s3_are_packed_and_a_missing_one_is_named(
    classifold: Any, project: Any, aws_account: Any
) -> None:
    import boto3

    s3 = boto3.client("s3", region_name="eu-west-1")
    s3.create_bucket(Bucket="far", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    rows = []
    for number in range(40):
        key, body = f"p/{'ab'[number % 2]}/{number}.jpg", b"\xff\xd8\xff" + b"x" * number
        etag = s3.put_object(Bucket="far", Key=key, Body=body)["ETag"]
        rows.append(json.dumps({"bucket": "far", "key": key, "size": len(body), "etag": etag}))
    (project / "list.jsonl").write_text("\n".join(rows))
    words = ("--set", "DATA_MANIFEST=list.jsonl", "--set", "MANIFEST_ROOT=s3://far/p/")
    assert classifold("split", *words).code == 0
    answer = classifold("shards", "--json", *words)
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["pictures"] == 40
    s3.delete_object(Bucket="far", Key="p/a/0.jpg")
    shutil.rmtree(project / "list-split-shards")
    answer = classifold("shards", *words)
    assert answer.code == 1
    assert "error: s3://far/p/a/0.jpg: the picture cannot be packed: there is no such object" in answer.err
