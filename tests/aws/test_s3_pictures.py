"""Pictures and archives in S3: found, read, refused, and what that costs in requests."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from classifold.aws.s3_pictures import S3Pictures
from classifold.errors import AwsError, DataError
from classifold.pictures.limits import PictureError
from classifold.predict.inputs import Inputs, find_sources
from classifold.predict.reading_ahead import LargerError
from classifold.predict.sources import Passed
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.cloud import Cloud

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def bucket(aws_account: Cloud) -> Callable[..., None]:
    """Return a function that puts an object into a bucket, which is made first."""
    s3 = boto3.client("s3", region_name="eu-west-1")
    s3.create_bucket(Bucket="album", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    def put(key: str, body: bytes = PNG, **more: str) -> None:
        s3.put_object(Bucket="album", Key=key, Body=body, **more)

    return put


def open_s3(max_pixels: int = 10**6) -> S3Pictures:
    return S3Pictures(build_config({}), max_pixels=max_pixels)


def find(address: str, passed: Passed | None = None) -> list[str]:
    return [one.name for one in open_s3().find(address, passed or Passed())]


def reason_of(address: str, **more: int) -> str:
    with pytest.raises(PictureError) as caught:
        open_s3(**more).open(address).fetch(None)
    return caught.value.reason


def count_requests(cloud: Cloud) -> dict[str, int]:
    counts: dict[str, int] = {}
    for call in cloud.calls(service="s3"):
        counts[call["operation"]] = counts.get(call["operation"], 0) + 1
    return counts


def test_a_prefix_gives_its_pictures_by_key_and_counts_the_rest(
    bucket: Callable[..., None], aws_account: Cloud
) -> None:
    for key in ("trip/b.jpg", "trip/a.PNG", "trip/sub/c.heic", "trip-old/d.jpg", "trip/x.xmp", "trip/y.xmp"):
        bucket(key)
    for key in ("trip/clip.mov", "trip/.hidden.jpg", "trip/@eaDir/e.jpg", "trip/README", "trip/sub/"):
        bucket(key)
    passed = Passed()
    expected = [f"s3://album/trip/{name}" for name in ("a.PNG", "b.jpg", "sub/c.heic")]
    assert find("s3://album/trip/", passed) == expected
    assert passed.describe() == [
        "passed over 6 files: 2 .xmp, 1 without an ending, 1 .mov, 1 hidden, 1 left by the system",
        ".mov: videos are read from this machine only: copy them here",
    ]
    assert find("s3://album/trip") == expected
    assert len(find("S3://album")) == 4
    # A page of the listing costs a request; looking at an object would be one more.
    assert "HeadObject" not in count_requests(aws_account)
    assert "GetObject" not in count_requests(aws_account)


def test_one_picture_is_one_request(bucket: Callable[..., None], aws_account: Cloud) -> None:
    bucket("a b/ü.jpg", b"content")
    before = count_requests(aws_account)
    [remote] = open_s3().find("s3://album/a b/ü.jpg", Passed())
    assert remote.fetch(None) == b"content"
    after = count_requests(aws_account)
    assert {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name)} == {
        "GetObject": 1
    }


def test_a_picture_whose_key_has_no_ending_is_found_by_its_whole_key(bucket: Callable[..., None]) -> None:
    bucket("photos/9f3a", b"content")
    assert find("s3://album/photos/9f3a") == ["s3://album/photos/9f3a"]


def test_a_prefix_of_nothing_is_an_error_that_names_what_is_near(bucket: Callable[..., None]) -> None:
    bucket("photos-2026/a.jpg")
    with pytest.raises(
        DataError, match=r"no objects below this prefix; a key that begins so is photos-2026/a.jpg"
    ):
        find("s3://album/photos")
    with pytest.raises(DataError, match="there are no objects below this prefix\n"):
        find("s3://album/x")
    with pytest.raises(DataError, match="the address has no bucket"):
        find("s3://")
    with pytest.raises(DataError, match="expected the address of one picture"):
        open_s3().open("s3://album/photos/")


def test_more_objects_than_a_page_of_the_listing_are_all_found(
    bucket: Callable[..., None], aws_account: Cloud
) -> None:
    bucket("many/a.jpg")
    aws_account.copy_object("album", "many/a.jpg", count=2_500)
    passed = Passed()
    assert len(find("s3://album/many/", passed)) + passed.total == 2_501
    assert count_requests(aws_account)["ListObjectsV2"] == 3


def test_what_cannot_be_read_of_an_object_is_its_own_reason(
    bucket: Callable[..., None], aws_account: Cloud
) -> None:
    bucket("large.jpg", bytes(1000))
    assert reason_of("s3://album/gone.jpg") == "there is no such object"
    assert "can have" in reason_of("s3://album/large.jpg", max_pixels=-(2**26))
    with pytest.raises(LargerError):
        open_s3().open("s3://album/large.jpg").fetch(10)
    aws_account.deny("s3:GetObject")
    assert "the permission s3:GetObject is missing" in reason_of("s3://album/large.jpg")


def test_an_archived_or_empty_object_is_not_asked_for(
    bucket: Callable[..., None], aws_account: Cloud
) -> None:
    bucket("old/a.jpg", StorageClass="GLACIER")
    bucket("old/b.jpg", b"")
    for remote, words in zip(
        open_s3().find("s3://album/old/", Passed()), ("is archived", "is empty"), strict=True
    ):
        with pytest.raises(PictureError, match=words):
            remote.fetch(None)
    assert "GetObject" not in count_requests(aws_account)


def test_credentials_that_end_on_the_way_end_the_command_and_not_every_picture(
    bucket: Callable[..., None], aws_account: Cloud
) -> None:
    bucket("a.jpg")
    aws_account.expire("GetObject")
    with pytest.raises(AwsError, match="the credentials have expired"):
        open_s3().open("s3://album/a.jpg").fetch(None)


def test_a_passing_failure_is_tried_again(bucket: Callable[..., None], aws_account: Cloud) -> None:
    bucket("a.jpg", b"content")
    aws_account.throttle("GetObject", count=1)
    assert open_s3().open("s3://album/a.jpg").fetch(None) == b"content"


def test_a_bucket_that_is_missing_or_closed_is_an_error_before_the_first_picture(
    bucket: Callable[..., None], aws_account: Cloud
) -> None:
    with pytest.raises(AwsError, match="cannot list s3://nobodys-bucket/"):
        find("s3://nobodys-bucket/")
    aws_account.deny("s3:ListBucket")
    with pytest.raises(AwsError, match="the permission s3:ListBucket is missing"):
        find_sources(["s3://album/x/"], Inputs(open_s3=open_s3))


def test_no_expected_owner_is_sent_since_the_bucket_may_be_somebody_elses(
    bucket: Callable[..., None], aws_account: Cloud
) -> None:
    bucket("trip/a.jpg")
    [remote] = open_s3().find("s3://album/trip/", Passed())
    remote.fetch(None)
    for call in aws_account.calls(service="s3"):
        assert "x-amz-expected-bucket-owner" not in json.dumps(call).lower()


def test_without_credentials_requests_are_not_signed_and_a_refusal_says_so(
    bucket: Callable[..., None], aws_account: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket("a.jpg")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    aws_account.deny("s3:GetObject")
    assert reason_of("s3://album/a.jpg") == "there are no AWS credentials, and this is not public"
    assert all("authorization" not in json.dumps(call).lower() for call in aws_account.calls("GetObject"))
    body = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    aws_account.replace("ListObjectsV2", status=403, body=body)
    with pytest.raises(AwsError, match="run `aws configure`, or set AWS_PROFILE"):
        find("s3://album/trip/")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"s3://a,b/x.jpg", "s3://a,b/x.jpg"),
        (b"s3://a/x.jpg", "s3://a/x.jpg"),
        (b"s3://../x.jpg", "s3://../x.jpg"),
        (b"s3://al..bum/x.jpg", "s3://al..bum/x.jpg"),
        (b"s3://-album/x.jpg", "s3://-album/x.jpg"),
        ("s3://älbum/x.jpg".encode(), "s3://älbum/x.jpg"),
        (b"s3://AKIA:s3cr3t@album/x.jpg", "s3://album/x.jpg"),
        (b"s3:///x.jpg", "s3:///x.jpg"),
        (b"s3://album/\xff.jpg", r"s3://album/\xff.jpg"),
        (b"s3://album/" + b"x" * 1021 + b".jpg", "s3://album/" + "x" * 1021 + ".jpg"),
    ],
)
def test_a_malformed_address_in_a_list_is_one_unreadable_picture(
    bucket: Callable[..., None], line: bytes, shown: str
) -> None:
    bucket("a.jpg")
    content = line + b"\ns3://album/a.jpg\n"
    bad, good = find_sources(["-"], Inputs(open_s3=open_s3, standard_input=io.BytesIO(content)))
    assert (good.name, good.read()) == ("s3://album/a.jpg", PNG)
    assert bad.name == shown
    with pytest.raises(PictureError, match=r"the address (is malformed|has no bucket)"):
        bad.read()


@pytest.mark.parametrize("code", ["InvalidBucketName", "InvalidURI", "KeyTooLongError"])
def test_what_s3_finds_malformed_is_one_unreadable_picture(
    bucket: Callable[..., None], aws_account: Cloud, code: str
) -> None:
    bucket("a.jpg")
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
    aws_account.replace("GetObject", status=400, body=body)
    assert reason_of("s3://album/a.jpg") == "the address is malformed"


# The commands


def test_predict_answers_for_a_prefix_and_an_archive_in_s3(
    bucket: Callable[..., None],
    aws_account: Cloud,
    classifold: Callable[..., Any],
    colour_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import io

    from PIL import Image

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(colour_run / "model.onnx", "model.onnx")
    bucket("job/output/model.tar.gz", (tmp_path / "model.tar.gz").read_bytes())
    for name, colour in (("blue", (0, 0, 255)), ("green", (0, 255, 0)), ("red", (255, 0, 0))):
        content = io.BytesIO()
        Image.new("RGB", (40, 30), colour).save(content, "PNG")
        bucket(f"trip/{name}.png", content.getvalue())
    bucket("trip/broken.png", b"\x89PNG\r\n\x1a\nbroken")
    bucket("trip/notes.txt", b"hello")
    run = "s3://album/job/output/model.tar.gz"
    for _ in range(2):
        answer = classifold("predict", run, "s3://album/trip/", "--format", "json")
        assert answer.code == 1, answer.err
        rows = json.loads(answer.out)
        assert [(row["path"], row["predicted_class"]) for row in rows] == [
            ("s3://album/trip/blue.png", "blue"),
            ("s3://album/trip/broken.png", None),
            ("s3://album/trip/green.png", "green"),
            ("s3://album/trip/red.png", "red"),
        ]
        assert "passed over 1 file: 1 .txt" in answer.err.splitlines()
    gets = [call for call in aws_account.calls("GetObject") if "model.tar.gz" in json.dumps(call)]
    assert len(gets) == 1  # the second time it was in the cache


def test_python_loads_an_archive_in_s3(
    bucket: Callable[..., None], colour_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import classifold

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(colour_run / "model.onnx", "model.onnx")
    bucket("model.tar.gz", (tmp_path / "model.tar.gz").read_bytes())
    assert classifold.load("s3://album/model.tar.gz").class_names == ("blue", "green", "red")
