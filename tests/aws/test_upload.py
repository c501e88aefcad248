"""The sets to S3: what is sent, what is not, and that nothing goes twice."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from classifold.aws.clients import Aws
from classifold.aws.upload import UploadSummary, upload_data
from classifold.dataset.split import split_dataset
from classifold.errors import AwsError, DataError, MissingError
from classifold.packing.pack import pack_sets
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.cloud import Cloud

BUCKET = "petals.data"
SPLIT = "data/petals-split"
HEAD = b"\xff\xd8\xff\xe0\x00\x10JFIF"
MIB = 1 << 20


def write_picture(path: Path, *, size: int = 400, seed: str = "") -> Path:
    """Write what begins as a JPEG and differs from every other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((HEAD + f"{path.name} {seed}".encode()).ljust(size, b"\0"))
    return path


@pytest.fixture
def split_dir(project: Path) -> Path:
    """Return a split of 24 pictures with its record."""
    folder = project / SPLIT
    for set_name, count in (("training", 6), ("validation", 3), ("evaluation", 3)):
        for class_name in ("daisy", "rose"):
            for number in range(count):
                write_picture(folder / set_name / class_name / f"{class_name} {number}.jpg")
    (folder / "split.json").write_text('{"format": 1}')
    return folder


@pytest.fixture
def upload(aws_account: Cloud, split_dir: Path) -> Callable[..., UploadSummary]:
    """Return a function that uploads the split, into a bucket that is there."""
    settings = {"PROJECT_NAME": "petals", "DATA_NAME": "petals", "SPLIT_LOCAL_DIR": SPLIT}
    first = Aws(build_config(settings))
    first.client("s3").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )

    def run(*, delete_stale: bool = False, said: list[str] | None = None, **more: Any) -> UploadSummary:
        aws = Aws(build_config({**settings, **more}))
        tell = (lambda _: None) if said is None else said.append
        return upload_data(aws, delete_stale=delete_stale, tell=tell)

    return run


@pytest.fixture
def s3(upload: Callable[..., UploadSummary]) -> Any:
    """Return boto3's own client, to look at what came."""
    import boto3

    return boto3.client("s3", region_name="eu-west-1")


def list_bucket(s3: Any, prefix: str = "petals/") -> dict[str, int]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return {one["Key"]: one["Size"] for page in pages for one in page.get("Contents", ())}


def keys_put(cloud: Cloud) -> list[str]:
    """Return the key of every PutObject since the last reset, in the order in which they came."""
    return [unquote(one["path"]).removeprefix(f"/{BUCKET}/") for one in cloud.calls("PutObject")]


# What is sent


def test_the_three_sets_arrive_byte_for_byte_under_their_names(
    upload: Callable[..., UploadSummary], split_dir: Path, s3: Any
) -> None:
    summary = upload()
    local = {f"petals/{path.relative_to(split_dir)}": path for path in split_dir.rglob("*.*")}
    assert list_bucket(s3) == {key: path.stat().st_size for key, path in local.items()}
    for key, path in local.items():
        assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == path.read_bytes()
    assert (summary.sent, summary.skipped, summary.stale, summary.deleted) == (25, 0, [], 0)
    assert summary.bytes_sent == sum(path.stat().st_size for path in local.values())
    assert summary.destination == f"s3://{BUCKET}/petals/"


def test_each_object_has_its_media_type_and_a_checksum_that_s3_keeps(
    upload: Callable[..., UploadSummary], s3: Any
) -> None:
    upload()
    for key, kind in {
        "petals/training/daisy/daisy 0.jpg": "image/jpeg",
        "petals/split.json": "application/json",
    }.items():
        head = s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
        assert head["ContentType"] == kind
        assert head["ChecksumCRC32"]


def test_every_request_names_the_account_that_the_bucket_must_belong_to(
    upload: Callable[..., UploadSummary], aws_account: Cloud
) -> None:
    upload()
    calls = aws_account.calls(service="s3")
    owners = {one["headers"].get("x-amz-expected-bucket-owner") for one in calls[1:]}
    assert owners == {aws_account.account}


def test_the_index_goes_last(upload: Callable[..., UploadSummary], aws_account: Cloud) -> None:
    upload()
    assert keys_put(aws_account)[-1] == "petals/split.json"


def test_what_lies_beside_the_sets_stays_at_home(
    upload: Callable[..., UploadSummary], split_dir: Path, s3: Any
) -> None:
    (split_dir / "notes.txt").write_text("mine")
    (split_dir / "training" / "daisy" / ".DS_Store").write_bytes(b"x")
    (split_dir / "training" / "daisy" / "prices.csv").write_text("1;2")
    assert upload().sent == 25
    assert not [key for key in list_bucket(s3) if "notes" in key or "DS_" in key]


def test_a_users_own_names_of_the_sets_become_ours(
    upload: Callable[..., UploadSummary], split_dir: Path, s3: Any
) -> None:
    (split_dir / "training").rename(split_dir / "Train")
    (split_dir / "evaluation").rename(split_dir / "test")
    upload()
    assert {key.split("/")[1] for key in list_bucket(s3)} == {
        *("training", "validation", "evaluation"),
        "split.json",
    }


def test_names_of_every_script_arrive_composed(
    upload: Callable[..., UploadSummary], split_dir: Path, s3: Any
) -> None:
    strange = [
        "Gänseblümchen",
        "花",
        "a+b&c=d%41#?",
        "semi;colon 'quote' \"double\"",
        "🌼",
        "~tilde~",
    ]
    folder = split_dir / "training" / unicodedata.normalize("NFD", "Blüte") / "*[sub]"
    for name in strange:
        write_picture(folder / unicodedata.normalize("NFD", f"{name}.jpg"))
    upload()
    expected = {f"petals/training/Blüte/*[sub]/{name}.jpg" for name in strange}
    assert {key for key in list_bucket(s3) if "Blüte" in key} == expected
    again = upload()
    assert (again.sent, again.stale) == (0, [])


def test_a_folder_that_is_no_split_is_refused(
    upload: Callable[..., UploadSummary], split_dir: Path, aws_account: Cloud
) -> None:
    (split_dir / "training").rename(split_dir / "roses")
    with pytest.raises(DataError, match="run `classifold split` first"):
        upload()
    assert not keys_put(aws_account)


# Only what changed


def test_a_second_run_sends_nothing_and_reads_no_picture_again(
    upload: Callable[..., UploadSummary], split_dir: Path, aws_account: Cloud, s3: Any
) -> None:
    upload()
    aws_account.forget_calls()
    summary = upload()
    assert (summary.sent, summary.skipped, summary.bytes_sent) == (0, 25, 0)
    assert {one["operation"] for one in aws_account.calls(service="s3")} == {"ListObjectsV2"}


def test_without_the_record_contents_are_compared_and_nothing_is_sent(
    upload: Callable[..., UploadSummary], project: Path, aws_account: Cloud
) -> None:
    upload()
    for path in (project / ".classifold").iterdir():
        path.unlink()
    aws_account.forget_calls()
    assert upload().skipped == 25
    assert not keys_put(aws_account)


def test_a_damaged_record_is_as_good_as_none(upload: Callable[..., UploadSummary], project: Path) -> None:
    upload()
    for path in (project / ".classifold").iterdir():
        path.write_bytes(b"no database at all" * 100)
    assert upload().skipped == 25
    assert upload().skipped == 25


def test_another_upload_tools_objects_are_recognised_by_content(
    upload: Callable[..., UploadSummary], split_dir: Path, s3: Any, aws_account: Cloud
) -> None:
    for path in split_dir.rglob("*.jpg"):
        key = f"petals/{path.relative_to(split_dir)}"
        s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    aws_account.forget_calls()
    summary = upload()
    assert (summary.sent, summary.skipped) == (1, 24)
    assert keys_put(aws_account) == ["petals/split.json"]


def test_only_a_changed_and_a_new_picture_are_sent(
    upload: Callable[..., UploadSummary], split_dir: Path, aws_account: Cloud
) -> None:
    upload()
    aws_account.forget_calls()
    write_picture(split_dir / "training" / "rose" / "rose 1.jpg", seed="of the same size")
    write_picture(split_dir / "training" / "rose" / "rose 99.jpg")
    assert upload().sent == 2
    assert sorted(keys_put(aws_account)) == [
        "petals/training/rose/rose 1.jpg",
        "petals/training/rose/rose 99.jpg",
    ]


def test_a_touched_picture_is_compared_and_not_sent(
    upload: Callable[..., UploadSummary], split_dir: Path, aws_account: Cloud
) -> None:
    upload()
    for path in split_dir.rglob("*.jpg"):
        os.utime(path, (1, 1))
    assert upload().sent == 0


@pytest.mark.parametrize("is_deleted", [True, False])
def test_an_object_that_somebody_else_changed_or_deleted_is_sent_again(
    upload: Callable[..., UploadSummary], s3: Any, split_dir: Path, is_deleted: bool
) -> None:
    upload()
    key = "petals/training/rose/rose 1.jpg"
    content = (split_dir / "training" / "rose" / "rose 1.jpg").read_bytes()
    if is_deleted:
        s3.delete_object(Bucket=BUCKET, Key=key)
    else:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x" * len(content))
    assert upload().sent == 1
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content


def test_under_a_key_of_kms_where_etags_say_nothing_the_kept_checksum_is_compared(
    upload: Callable[..., UploadSummary], s3: Any, project: Path, aws_account: Cloud
) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}, "BucketKeyEnabled": True}
    s3.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]})
    upload()
    for path in (project / ".classifold").iterdir():
        path.unlink()
    aws_account.forget_calls()
    assert upload().skipped == 25
    assert not keys_put(aws_account)


# Stale objects


def test_stale_objects_are_listed_and_stay_until_they_are_to_go(
    upload: Callable[..., UploadSummary], s3: Any
) -> None:
    stale = [f"petals/training/tulip/{number}.jpg" for number in range(3)]
    for key in [*stale, "petals.shards/training/shard-00000.tar", "petals2/x.jpg"]:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"old")
    kept = upload()
    assert (sorted(kept.stale), kept.deleted) == (stale, 0)
    assert set(stale) <= set(list_bucket(s3))
    gone = upload(delete_stale=True)
    assert (gone.stale, gone.deleted) == ([], 3)
    assert len(list_bucket(s3)) == 25
    assert len(list_bucket(s3, "")) == 27


def test_in_a_bucket_with_versions_a_stale_object_can_be_had_back(
    upload: Callable[..., UploadSummary], s3: Any
) -> None:
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=BUCKET, Key="petals/old.jpg", Body=b"old")
    assert upload(delete_stale=True).deleted == 1
    versions = s3.list_object_versions(Bucket=BUCKET, Prefix="petals/old.jpg")
    assert len(versions["DeleteMarkers"]) == 1
    assert len(versions["Versions"]) == 1


def test_more_than_a_thousand_stale_objects_go(
    upload: Callable[..., UploadSummary], s3: Any, aws_account: Cloud
) -> None:
    # Made by the lab itself: a thousand requests would take seconds.
    s3.put_object(Bucket=BUCKET, Key="petals/old/first", Body=b"")
    aws_account.copy_object(BUCKET, "petals/old/first", count=1004)
    assert upload(delete_stale=True).deleted == 1005
    assert len(list_bucket(s3)) == 25
    assert len(aws_account.calls("DeleteObjects")) == 2


def test_a_missing_right_to_delete_is_named(
    upload: Callable[..., UploadSummary], s3: Any, aws_account: Cloud
) -> None:
    s3.put_object(Bucket=BUCKET, Key="petals/old.jpg", Body=b"old")
    aws_account.deny("s3:DeleteObject")
    with pytest.raises(AwsError, match="s3:DeleteObject"):
        upload(delete_stale=True)


# Files that cannot be sent


def test_names_that_s3_cannot_carry_are_named_and_the_others_sent(
    upload: Callable[..., UploadSummary], split_dir: Path, s3: Any
) -> None:
    write_picture(split_dir / "training" / "rose" / "bell\a.jpg")
    long = split_dir / "training" / "rose" / "/".join(["deep" * 50] * 6)
    write_picture(long / "x.jpg")
    with pytest.raises(DataError) as caught:
        upload()
    said = str(caught.value)
    assert "control characters" in said
    assert "1,024" in said
    assert len(caught.value.faults) == 2
    keys = set(list_bucket(s3))
    assert len(keys) == 24
    assert "petals/split.json" not in keys


@pytest.mark.skipif(os.getuid() == 0, reason="root reads every file")
def test_an_unreadable_picture_is_named_and_the_others_sent(
    upload: Callable[..., UploadSummary], split_dir: Path, s3: Any
) -> None:
    (split_dir / "training" / "rose" / "rose 1.jpg").chmod(0)
    with pytest.raises(DataError, match=r"rose 1\.jpg: it cannot be read"):
        upload()
    assert len(list_bucket(s3)) == 23


def test_a_link_to_a_file_that_is_no_picture_is_named_and_not_sent(
    upload: Callable[..., UploadSummary], split_dir: Path, s3: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "credentials").write_text("[default]")
    good = write_picture(elsewhere / "good.jpg")
    (split_dir / "training" / "rose" / "good.jpg").symlink_to(good)
    (split_dir / "training" / "rose" / "bad.jpg").symlink_to(elsewhere / "credentials")
    (split_dir / "split.json").unlink()
    (split_dir / "split.json").symlink_to(elsewhere / "credentials")
    with pytest.raises(DataError) as caught:
        upload()
    faults = [
        fault for fault in caught.value.faults if "link to something that is not a picture" in fault.what
    ]
    assert [Path(fault.where).name for fault in faults] == ["bad.jpg", "split.json"]
    keys = set(list_bucket(s3))
    assert "petals/training/rose/good.jpg" in keys
    assert not {"petals/training/rose/bad.jpg", "petals/split.json"} & keys


def test_pictures_that_vanish_or_change_meanwhile_are_named_and_the_others_sent(
    upload: Callable[..., UploadSummary], split_dir: Path, s3: Any, aws_account: Cloud
) -> None:
    big = write_picture(split_dir / "training" / "rose" / "big.jpg", size=40 * MIB)
    lost = write_picture(split_dir / "training" / "rose" / "lost.jpg", size=2 * MIB)
    aws_account.slow("PutObject", seconds=0.5, count=8)
    aws_account.slow("UploadPart", seconds=1.5)

    def meddle() -> None:
        while not aws_account.calls("PutObject"):
            time.sleep(0.01)
        lost.unlink()
        while not aws_account.calls("UploadPart"):
            time.sleep(0.01)
        big.write_bytes(HEAD)

    thread = threading.Thread(target=meddle)
    thread.start()
    with pytest.raises(DataError) as caught:
        upload(UPLOAD_THREADS=2)
    thread.join()
    said = str(caught.value)
    assert "lost.jpg: it was removed" in said
    assert "big.jpg: it changed while it was sent" in said
    assert len(list_bucket(s3)) == 24
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_two_names_that_differ_only_in_their_spelling_are_named(
    upload: Callable[..., UploadSummary], split_dir: Path
) -> None:
    for form in ("NFC", "NFD"):
        write_picture(split_dir / "training" / "rose" / unicodedata.normalize(form, "Blüte.jpg"), seed=form)
    with pytest.raises(DataError, match="the same name"):
        upload()


# AWS refuses, the line breaks


def test_a_missing_right_to_write_is_named(upload: Callable[..., UploadSummary], aws_account: Cloud) -> None:
    aws_account.deny("s3:PutObject")
    with pytest.raises(AwsError, match="the permission s3:PutObject"):
        upload()


def test_a_bucket_that_is_not_there_is_missing(upload: Callable[..., UploadSummary]) -> None:
    with pytest.raises(MissingError, match="no-such-bucket-anywhere"):
        upload(DATA_BUCKET="no-such-bucket-anywhere")


def test_a_bucket_of_somebody_elses_gets_nothing(
    upload: Callable[..., UploadSummary], aws_account: Cloud
) -> None:
    aws_account.make_foreign_bucket("others")
    with pytest.raises(AwsError, match="not this account's"):
        upload(DATA_BUCKET="others")
    assert not aws_account.calls("PutObject")


def test_throttled_and_failing_requests_are_repeated_until_all_is_there(
    upload: Callable[..., UploadSummary], aws_account: Cloud, s3: Any
) -> None:
    aws_account.throttle("PutObject", count=3, skip=5)
    aws_account.fail("PutObject", count=2, skip=10)
    assert upload().sent == 25
    assert len(list_bucket(s3)) == 25


def test_a_line_that_is_cut_within_a_picture_is_got_over(
    upload: Callable[..., UploadSummary], aws_account: Cloud, s3: Any
) -> None:
    aws_account.cut("PutObject", count=3, after_bytes=100, skip=4)
    assert upload().sent == 25
    assert len(list_bucket(s3)) == 25


def test_a_line_that_stays_cut_is_told_and_the_next_run_sends_the_rest_alone(
    upload: Callable[..., UploadSummary],
    aws_account: Cloud,
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    aws_account.cut("PutObject", count=None, after_bytes=100, skip=10)
    with pytest.raises(AwsError, match="cannot reach AWS"):
        upload(UPLOAD_THREADS=2)
    aws_account.clear()
    there = set(list_bucket(s3))
    assert 10 <= len(there) <= 12
    aws_account.forget_calls()
    rest = upload()
    # What was under way when the first run ended may have arrived since.
    assert len(there) <= rest.skipped <= 12
    assert rest.sent == 25 - rest.skipped
    assert not there & set(keys_put(aws_account))
    assert len(list_bucket(s3)) == 25


class DamagedLine(socketserver.ThreadingTCPServer):
    """A line to the stand-in on which one picture's bytes change on their way."""

    daemon_threads = True

    def __init__(self, url: str) -> None:
        self.there = urlsplit(url)
        super().__init__(("127.0.0.1", 0), DamagedConnection)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class DamagedConnection(socketserver.BaseRequestHandler):
    server: DamagedLine

    def handle(self) -> None:
        with socket.create_connection((self.server.there.hostname, self.server.there.port)) as there:
            back = threading.Thread(target=self._pass_on, args=(there, self.request), daemon=True)
            back.start()
            self._pass_on(self.request, there)
            back.join()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                # Within the picture alone: in the address the blank is %20.
                target.sendall(data.replace(b"JFIFrose 3.jpg", b"JFIFrose 8.jpg"))
            target.shutdown(socket.SHUT_RDWR)


def test_a_picture_that_arrives_damaged_is_refused_by_s3_and_told(
    upload: Callable[..., UploadSummary], aws_account: Cloud, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DamagedLine(aws_account.url) as line:
        threading.Thread(target=line.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        with pytest.raises(AwsError, match=r"rose 3\.jpg.*(?i:checksum|digest|crc32)"):
            upload()
        # What is under way goes on for a moment; on a line that is gone it would be tried again and again.
        _wait_for_crew()
        line.shutdown()
    keys = list_bucket(s3)
    assert not [key for key in keys if key.endswith("rose 3.jpg")]
    assert "petals/split.json" not in keys


# Interrupted, and continued

KILLED = """
import sys
from classifold.aws.clients import Aws
from classifold.aws.upload import upload_data
from classifold.settings.loader import build_config
upload_data(Aws(build_config({{"PROJECT_NAME": "petals", "DATA_NAME": "petals", "SPLIT_LOCAL_DIR": {split!r},
                               "UPLOAD_THREADS": 4}})), tell=print)
"""


def upload_and_stop(cloud: Cloud, operation: str, *, after: int, with_signal: signal.Signals) -> int:
    """Start an upload in a process of its own, end it after some requests, and return its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(split=SPLIT)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while len(cloud.calls(operation)) < after:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(with_signal)
    started = time.monotonic()
    process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    cloud.clear()
    time.sleep(0.5)  # what was under way arrives
    return process.returncode


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_after_ctrl_c_or_kill_the_next_run_sends_nothing_that_is_there(
    upload: Callable[..., UploadSummary], aws_account: Cloud, s3: Any, how: signal.Signals
) -> None:
    aws_account.slow("PutObject", seconds=0.1)
    assert upload_and_stop(aws_account, "PutObject", after=10, with_signal=how) != 0
    there = set(list_bucket(s3))
    assert 5 < len(there) < 25
    aws_account.forget_calls()
    summary = upload()
    assert summary.sent + len(there) == 25
    assert not there & set(keys_put(aws_account))
    assert len(list_bucket(s3)) == 25


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_large_file_goes_on_with_the_parts_that_are_missing(
    upload: Callable[..., UploadSummary], split_dir: Path, aws_account: Cloud, s3: Any, how: signal.Signals
) -> None:
    large = split_dir / "training" / "rose" / "large.jpg"
    large.write_bytes(HEAD + os.urandom(70 * MIB + 5))
    aws_account.slow("UploadPart", seconds=600, skip=3)
    assert upload_and_stop(aws_account, "UploadPart", after=5, with_signal=how) != 0
    (pending,) = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    parts = s3.list_parts(Bucket=BUCKET, Key=pending["Key"], UploadId=pending["UploadId"])["Parts"]
    assert 1 <= len(parts) < 9
    aws_account.forget_calls()
    summary = upload()
    sent = {one["query"] for one in aws_account.calls("UploadPart")}
    assert len(sent) == len(aws_account.calls("UploadPart")) == 9 - len(parts)
    assert summary.bytes_sent < large.stat().st_size
    assert s3.get_object(Bucket=BUCKET, Key=pending["Key"])["Body"].read() == large.read_bytes()
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    assert upload().sent == 0


def test_parts_of_a_file_that_changed_since_are_not_used(
    upload: Callable[..., UploadSummary], split_dir: Path, aws_account: Cloud, s3: Any
) -> None:
    large = split_dir / "training" / "rose" / "large.jpg"
    large.write_bytes(HEAD + os.urandom(40 * MIB))
    aws_account.slow("UploadPart", seconds=600, skip=1)
    upload_and_stop(aws_account, "UploadPart", after=3, with_signal=signal.SIGKILL)
    large.write_bytes(HEAD + os.urandom(40 * MIB))
    upload()
    key = "petals/training/rose/large.jpg"
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == large.read_bytes()


def test_a_large_file_is_checked_as_a_whole_and_recognised_without_the_record(
    upload: Callable[..., UploadSummary], split_dir: Path, project: Path, aws_account: Cloud, s3: Any
) -> None:
    large = split_dir / "training" / "rose" / "large.jpg"
    large.write_bytes(HEAD + os.urandom(33 * MIB))
    upload()
    completion = aws_account.calls("CompleteMultipartUpload")[0]["headers"]
    assert completion["x-amz-checksum-crc32"]
    assert completion["x-amz-checksum-type"] == "FULL_OBJECT"
    for path in (project / ".classifold").iterdir():
        path.unlink()
    aws_account.forget_calls()
    assert upload().sent == 0
    assert not aws_account.calls("UploadPart")


def test_an_upload_in_parts_that_was_cleared_away_begins_anew(
    upload: Callable[..., UploadSummary], split_dir: Path, aws_account: Cloud, s3: Any
) -> None:
    (split_dir / "training" / "rose" / "large.jpg").write_bytes(HEAD + os.urandom(40 * MIB))
    aws_account.slow("UploadPart", seconds=600, skip=1)
    upload_and_stop(aws_account, "UploadPart", after=3, with_signal=signal.SIGKILL)
    (pending,) = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    s3.abort_multipart_upload(Bucket=BUCKET, Key=pending["Key"], UploadId=pending["UploadId"])
    upload()
    assert "petals/training/rose/large.jpg" in list_bucket(s3)


def test_two_uploads_to_one_place_do_not_meet(
    upload: Callable[..., UploadSummary], aws_account: Cloud
) -> None:
    aws_account.slow("PutObject", seconds=2)
    first = threading.Thread(target=upload)
    first.start()
    while not aws_account.calls("PutObject"):
        time.sleep(0.01)
    with pytest.raises(AwsError, match="another upload"):
        upload()
    aws_account.clear()
    first.join()


# As shards


def test_shards_go_with_their_indexes_last_and_once(
    upload: Callable[..., UploadSummary], split_dir: Path, aws_account: Cloud, s3: Any
) -> None:
    from PIL import Image

    for number, path in enumerate(sorted(split_dir.rglob("*.jpg"))):
        Image.new("RGB", (8 + number, 8)).save(path)
    summary = upload(UPLOAD_AS="shards", SHARD_MB=1)
    assert summary.destination == f"s3://{BUCKET}/petals.shards/"
    keys = set(list_bucket(s3, "petals.shards/"))
    assert {"petals.shards/shards.json", "petals.shards/split.json"} <= keys
    assert {key for key in keys if key.endswith(".tar")} == {
        f"petals.shards/{name}/shard-00000.tar" for name in ("training", "validation", "evaluation")
    }
    assert set(keys_put(aws_account)[-2:]) == {"petals.shards/shards.json", "petals.shards/split.json"}
    assert upload(UPLOAD_AS="shards", SHARD_MB=1).sent == 0


# What the user sees


def test_it_says_how_much_goes_where(upload: Callable[..., UploadSummary], split_dir: Path) -> None:
    said: list[str] = []
    upload(said=said)
    assert said == ["sending 25 files (0.0 MB) to s3://petals.data"]
    said.clear()
    upload(said=said)
    assert said == []
    path = split_dir / "split.json"
    os.utime(path, (1, 1))
    upload(said=said)
    assert said == [
        "sending 1 file (0.0 MB) to s3://petals.data, of which 1 is first compared with the objects there"
    ]


@pytest.fixture(autouse=True)
def _no_threads_are_left_behind() -> Iterator[None]:
    yield
    _wait_for_crew()


def _wait_for_crew() -> None:
    deadline = time.monotonic() + 5
    while (left := _crew()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


def _crew() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "crew"]


@pytest.fixture
def listed(project: Path, split_dir: Path) -> Path:
    """Return the split of a listing of the pictures; none of them is copied."""
    root = project / "everything"
    for path in split_dir.rglob("*.jpg"):
        write_picture(root / path.parent.name / f"{path.parent.parent.name} {path.name}", seed=str(path))
    rows = [f"{path},{path.stat().st_size}\n" for path in sorted(root.rglob("*.jpg"))]
    (project / "listed.csv").write_text("key,size\n" + "".join(rows))
    values = {"DATA_MANIFEST": "listed.csv", "MANIFEST_ROOT": str(root), "SPLIT_LOCAL_DIR": "data/listed"}
    return split_dataset(build_config(values)).split_dir


def test_shards_that_were_packed_from_a_listing_go_as_they_are(
    upload: Callable[..., UploadSummary], s3: Any, listed: Path, project: Path
) -> None:
    settings = {"UPLOAD_AS": "shards", "SHARD_MB": 1, "SPLIT_LOCAL_DIR": str(listed)}
    with pytest.raises(DataError, match="not packed yet") as caught:
        upload(**settings)
    assert caught.value.faults[0].hint == "pack them with: classifold shards"
    config = build_config(settings)
    pack_sets(config.split_dir, config.shards_dir, shard_mb=1, roots=["everything"])
    summary = upload(**settings)
    there = list_bucket(s3, "petals.shards/")
    assert set(there) == {
        f"petals.shards/{path.relative_to(config.shards_dir).as_posix()}"
        for path in config.shards_dir.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    assert summary.sent == len(there) == 5
    # The folder of shards is named as well where training reads it here.
    assert upload(**{**settings, "SPLIT_LOCAL_DIR": str(config.shards_dir)}).sent == 0
    # A split that is another by now is not sent as it was.
    (listed / "split.json").write_text('{"format": 1, "other": 2}')
    with pytest.raises(DataError, match="has changed since these shards were packed"):
        upload(**settings)


@pytest.mark.parametrize("harm", ["missing", "short"])
def test_of_a_folder_of_shards_with_a_hole_nothing_is_sent(
    upload: Callable[..., UploadSummary], s3: Any, listed: Path, harm: str
) -> None:
    config = build_config({"SPLIT_LOCAL_DIR": str(listed)})
    pack_sets(config.split_dir, config.shards_dir, shard_mb=1, roots=["everything"])
    shard = config.shards_dir / "training" / "shard-00000.tar"
    if harm == "missing":
        shard.unlink()
    else:
        os.truncate(shard, 1000)
    with pytest.raises(DataError, match=r"shard-00000\.tar"):
        upload(UPLOAD_AS="shards", SHARD_MB=1, SPLIT_LOCAL_DIR=str(config.shards_dir))
    assert list_bucket(s3, "petals.shards/") == {}


def test_manifests_and_shards_are_no_files_to_send(
    upload: Callable[..., UploadSummary], listed: Path
) -> None:
    config = build_config({"SPLIT_LOCAL_DIR": str(listed)})
    pack_sets(config.split_dir, config.shards_dir, shard_mb=1, roots=["everything"])
    for folder in (listed, config.shards_dir):
        with pytest.raises(DataError, match="no files to send") as caught:
            upload(SPLIT_LOCAL_DIR=str(folder))
        assert caught.value.faults[0].hint == 'set UPLOAD_AS = "shards"'


# A disk without locks

UPLOAD = """
import sys
from classifold.aws.clients import Aws
from classifold.aws.upload import upload_data
from classifold.settings.loader import build_config
settings = {"PROJECT_NAME": "petals", "DATA_NAME": "petals", "SPLIT_LOCAL_DIR": sys.argv[1]}
print(upload_data(Aws(build_config(settings)), delete_stale=False, tell=lambda _: None).sent)
"""


def test_a_disk_without_locks_remembers_what_was_sent_all_the_same(upload, run_python, poor_disk, project):
    del upload  # the bucket is there
    for sent in ("25\n", "0\n"):
        done = run_python("-c", UPLOAD, SPLIT, cwd=project, env=poor_disk(lock_error=errno.ENOLCK))
        assert done.out == sent, done.err
        assert done.err == "note: the disk of .classifold does not support locks: start no other upload now\n"
