"""The commands on large data, as a user runs them, with pictures on this machine and in S3."""

from __future__ import annotations

import importlib.util
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


def test_check_ends_with_its_verdict_and_the_command_that_trains(
    classifold: Any, project: Any, draw_colours: Any
) -> None:
    draw_colours(project / "my photos", count=8)
    answer = classifold("check", "my photos", "--quick", "--set", "EPOCHS=3")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1] == "ready: classifold train 'my photos' --set EPOCHS=3"
    assert "\nWhat split would make\n" in answer.out
    assert "note: the evaluation set is small: with " in answer.err
    assert "3 classes have fewer than 5 evaluation pictures (blue, green, red)" in answer.err


def test_check_shows_no_table_where_nothing_was_read(
    classifold: Any, project: Any, draw_colours: Any
) -> None:
    folder = draw_colours(project / "photos", count=8)
    for name in ("blue", "green"):
        shutil.rmtree(folder / name)
    answer = classifold("check", "photos")
    assert answer.code == 1
    assert answer.out == "not ready: 1 problem\n"
    assert not (project / "photos-check").exists()
    assert "error: photos: a classifier needs at least two classes" in answer.err


@pytest.mark.parametrize("command", ["check", "split", "train"])
def test_one_picture_in_place_of_a_folder_is_called_that(
    classifold: Any, project: Any, draw_colours: Any, command: str
) -> None:
    if command == "train" and importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs the extra train")
    draw_colours(project / "photos", count=8)
    answer = classifold(command, "photos/red/red 0.png")
    assert answer.code == 1
    assert answer.err.endswith(
        "error: photos/red/red 0.png: this is one picture (PNG)\n"
        "hint: name the folder that holds one sub-folder of pictures per class, here perhaps photos\n"
    )
