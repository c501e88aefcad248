"""What is no answer of AWS's: a proxy's page, a cut text, a broken line. Told in our words, with the cure."""

from __future__ import annotations

import json
import string
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3.exceptions
import botocore.parsers
import pytest
import s3transfer.exceptions
import urllib3.exceptions
from boto3.s3.transfer import TransferConfig
from botocore import exceptions

from classifold.aws.clients import Aws
from classifold.aws.no_answer import UnreadableAnswerError
from classifold.aws.preflight_findings import guard
from classifold.aws.refusals import aws_errors, is_passing
from classifold.errors import AwsError
from classifold.settings.loader import build_config

PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Sign in to the guest network</title></head><body>Hello</body></html>"
)
GATEWAY = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><center>nginx</center></body></html>"
)
IDENTITY = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    "<Arn>arn:aws:iam::123456789012:user/tester</Arn><UserId>A</UserId><Account>123456789012</Account>"
    "</GetCallerIdentityResult></GetCallerIdentityResponse>"
)
# Status, headers and body. A body longer than its length says is cut; None: the connection is closed at once.
ANSWERS: dict[str, tuple[int, dict[str, str], str | None]] = {
    "a page with 200": (200, {"Content-Type": "text/html"}, PAGE),
    "a page in another spelling": (200, {}, "\ufeff <!-- x -->\n<HTML><Body>hello"),
    "a page that says it is JSON": (200, {"Content-Type": "application/x-amz-json-1.1"}, PAGE),
    "a page that says it is XML": (200, {"Content-Type": "text/xml"}, PAGE),
    "a page with 403": (403, {"Content-Type": "text/html"}, PAGE),
    "a page with 404": (404, {"Content-Type": "text/html"}, PAGE),
    "a page with 407": (407, {"Content-Type": "text/html"}, PAGE),
    "a page with 500": (500, {"Content-Type": "text/html"}, PAGE),
    "a gateway's 502": (502, {"Content-Type": "text/html"}, GATEWAY),
    "a gateway's 503": (503, {"Content-Type": "text/html"}, GATEWAY.replace("502", "503")),
    "500 and nothing": (500, {}, ""),
    "500 and a word": (500, {"Content-Type": "text/plain"}, "upstream connect error"),
    "503 and broken JSON": (503, {"Content-Type": "application/json"}, '{"message": "Serv'),
    "511 to sign in": (511, {"Content-Type": "text/plain"}, "sign in"),
    "a redirection": (302, {"Location": "https://login.example/"}, PAGE),
    "a bare redirection": (302, {"Location": "https://login.example/"}, ""),
    "nothing with 200": (200, {}, ""),
    "a word with 200": (200, {"Content-Type": "text/plain"}, "please sign in"),
    "broken JSON": (200, {"Content-Type": "application/x-amz-json-1.1"}, '{"TrainingJobSummaries": [{"Tr'),
    "broken XML": (200, {"Content-Type": "text/xml"}, "<GetCallerIdentityResponse><GetCaller"),
    "somebody else's JSON": (200, {"Content-Type": "application/json"}, '{"login": "required"}'),
    "a list": (200, {"Content-Type": "application/json"}, "[1, 2]"),
    "a number": (200, {"Content-Type": "application/json"}, "7"),
    "a cut answer": (
        200,
        {"Content-Type": "text/xml", "Content-Length": "5000"},
        "<GetCallerIdentityResponse>",
    ),
    "garbage said to be zipped": (200, {"Content-Encoding": "gzip"}, "not zipped"),
    "bytes of no encoding": (200, {"Content-Type": "text/xml"}, "\x00\x01\x02"),
    "a closed connection": (200, {}, None),
}
CALLS: dict[str, Callable[[Aws], Any]] = {
    "query": lambda aws: aws.client("iam").get_role(RoleName="roses-role")["Role"],
    "json": lambda aws: aws.client("sagemaker").list_training_jobs()["TrainingJobSummaries"],
    "rest-xml": lambda aws: aws.client("s3").list_objects_v2(Bucket="roses.data").get("Contents", []),
    "ec2": lambda aws: aws.client("ec2").describe_subnets()["Subnets"],
    "account": lambda aws: Aws(aws.config).account,
}


class Stranger:
    """A server that answers every request but the question for the account as it is told to."""

    def __init__(self) -> None:
        self.answer: tuple[int, dict[str, str], str | None] = (200, {}, "")
        self.knows_the_account = True
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self) -> None:
                asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                is_identity = stranger.knows_the_account and b"GetCallerIdentity" in asked
                status, headers, body = (200, {}, IDENTITY) if is_identity else stranger.answer
                self.close_connection = True
                if body is None:
                    return
                self.send_response(status)
                # Said to the client too, or it might send its next request just before it sees the end.
                usual = {"Content-Length": str(len(body.encode())), "Connection": "close"}
                for name, value in {**usual, **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body.encode())

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = reply  # noqa: N815 - http.server's names

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture(scope="module")
def server() -> Iterator[Stranger]:
    found = Stranger()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def stranger(server: Stranger, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    """Return the server that stands between here and AWS, and let boto3 reach it, once for each request."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    server.knows_the_account = True
    return server


@pytest.fixture
def aws(stranger: Stranger) -> Aws:
    return Aws(build_config({"PROJECT_NAME": "roses"}))


@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_answer_of_aws_s_is_told_with_a_cure_in_every_protocol(
    aws: Aws, stranger: Stranger, call: str
) -> None:
    for name, answer in ANSWERS.items():
        stranger.answer = answer
        stranger.knows_the_account = call != "account"
        with pytest.raises(AwsError) as caught, aws_errors("look"):
            CALLS[call](aws)
        (fault,) = caught.value.faults
        assert fault.what, name
        assert fault.hint, name
        assert "<" not in fault.what, (name, fault.what)
        assert is_passing(caught.value.__cause__), (name, caught.value.__cause__)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "a page with 200",
            "is not AWS's, or was changed on its way: it is a page for a browser, titled \"Sign in",
        ),
        ("a redirection", "and leads to https://login.example/"),
        ("a gateway's 502", "AWS, or a gateway or proxy before it, answered HTTP 502"),
        ("a word with 200", "it is not JSON, or it was cut short"),
        ("somebody else's JSON", "it is JSON, but not from AWS"),
        ("nothing with 200", "it is empty"),
    ],
)
def test_what_came_in_the_place_of_an_answer_is_said(
    aws: Aws, stranger: Stranger, name: str, said: str
) -> None:
    stranger.answer = ANSWERS[name]
    with pytest.raises(AwsError) as caught, aws_errors("list the jobs"):
        aws.client("sagemaker").list_training_jobs()
    assert said in caught.value.faults[0].what
    assert "HTTPS_PROXY" in caught.value.faults[0].hint


def test_an_object_whose_bytes_break_off_is_told(aws: Aws, stranger: Stranger, tmp_path: Path) -> None:
    stranger.answer = (200, {"ETag": '"a"', "Content-Length": "5000"}, "too short")
    s3 = aws.client("s3")
    once = TransferConfig(num_download_attempts=1)

    def download() -> None:
        s3.download_file("roses.output", "job/output/model.tar.gz", str(tmp_path / "model"), Config=once)

    def read() -> None:
        s3.get_object(Bucket="roses.output", Key="a")["Body"].read()

    for fetch in (download, read):
        with pytest.raises(AwsError) as caught, aws_errors("download it"):
            fetch()
        (fault,) = caught.value.faults
        assert fault.where == "cannot download it"
        assert "run the command again" in fault.hint
    assert list(tmp_path.iterdir()) == []


def test_a_look_that_somebody_else_answers_is_a_note(aws: Aws, stranger: Stranger) -> None:
    for answer in ANSWERS.values():
        stranger.answer = answer

        def look() -> list[Any]:
            with aws_errors("read the quotas"):
                return list(aws.client("sagemaker").list_training_jobs()["TrainingJobSummaries"])

        (finding,) = list(guard(look))
        assert not finding.is_fatal
        assert finding.what.startswith("this could not be checked: ")


def test_a_gateway_s_page_is_asked_again_as_any_fault_of_a_server_s(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setattr("time.sleep", lambda _: None)
    stranger.answer = (502, {}, PAGE)
    aws = Aws(build_config({"PROJECT_NAME": "roses"}))
    with pytest.raises(exceptions.ClientError) as caught:
        aws.client("iam").get_role(RoleName="a")
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 1


def test_a_server_without_tls_and_a_name_that_does_not_resolve_are_told(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger.answer = (200, {}, PAGE)
    monkeypatch.setenv("AWS_ENDPOINT_URL", stranger.url.replace("http:", "https:"))
    with pytest.raises(AwsError) as caught:
        _ = Aws(build_config({})).account
    assert "AWS_CA_BUNDLE" in caught.value.faults[0].hint
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://aws.invalid")
    with pytest.raises(AwsError) as caught:
        _ = Aws(build_config({})).account
    assert "HTTPS_PROXY" in caught.value.faults[0].hint


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("credential_process = {python} -c print('nonsense')", "cannot be"),
        ("credential_process = /nowhere/to/be/found", "/nowhere/to/be/found"),
        (
            "web_identity_token_file = /nowhere/token\nrole_arn = arn:aws:iam::123456789012:role/a",
            "/nowhere/token",
        ),
        ("source_profile = default\nrole_arn = arn:aws:iam::123456789012:role/a", ""),
        ("max_attempts = many", "many"),
        ("retry_mode", ""),
    ],
)
def test_a_profile_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, said: str
) -> None:
    import sys

    path = tmp_path / "config"
    path.write_text("[default]\n" + settings.replace("{python}", sys.executable) + "\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AwsError) as caught:
        _ = Aws(build_config({})).account
    (fault,) = caught.value.faults
    assert said in fault.what
    assert fault.hint


def list_errors(*modules: Any) -> list[type[Exception]]:
    found = [one for module in modules for one in vars(module).values() if isinstance(one, type)]
    return sorted({one for one in found if issubclass(one, Exception)}, key=lambda one: one.__name__)


def make(kind: type[Exception]) -> Exception:
    """Return an error of botocore's as it is raised, every word of its sentence filled in."""
    fields = {name: "x" for _, name, _, _ in string.Formatter().parse(getattr(kind, "fmt", "")) if name}
    if issubclass(kind, exceptions.ClientError):
        return kind({"Error": {"Code": "Odd", "Message": "said"}}, "GetObject")
    if issubclass(kind, exceptions.WaiterError):
        return kind(name="x", reason="y", last_response={})
    return kind(**fields)


BOTO_ERRORS = [
    one
    for one in list_errors(exceptions)
    if issubclass(one, exceptions.BotoCoreError | exceptions.ClientError)
]


@pytest.mark.parametrize("kind", BOTO_ERRORS)
def test_every_error_that_botocore_has_is_told_with_what_was_being_done(kind: type[Exception]) -> None:
    with pytest.raises(AwsError) as caught, aws_errors("look at it"):
        raise make(kind)
    (fault,) = caught.value.faults
    assert fault.where == "cannot look at it"
    assert fault.what
    assert "{" not in fault.what
    # What AWS itself refused is told in its own words, which say what to do as well as ours could.
    assert fault.hint or issubclass(kind, exceptions.ClientError)


@pytest.mark.parametrize(
    "error",
    [
        botocore.parsers.ResponseParserError("invalid XML received"),
        boto3.exceptions.S3UploadFailedError("failed"),
        boto3.exceptions.RetriesExceededError(OSError("reset")),
        s3transfer.exceptions.RetriesExceededError(OSError("reset")),
        s3transfer.exceptions.S3DownloadFailedError("failed"),
        urllib3.exceptions.ProtocolError("broken"),
        urllib3.exceptions.DecodeError("not gzip"),
        urllib3.exceptions.SSLError("bad record"),
        urllib3.exceptions.IncompleteRead(1, 2),
    ],
)
def test_what_boto3_s_neighbours_raise_is_told_too(error: Exception) -> None:
    with pytest.raises(AwsError) as caught, aws_errors("look at it"):
        raise error
    assert caught.value.faults[0].where == "cannot look at it"
    assert caught.value.faults[0].hint


def test_an_answer_that_lacks_what_is_read_from_it_is_told_where_nobody_waits_for_it() -> None:
    from classifold.aws.answer_parser import Answer

    with pytest.raises(AwsError, match="it lacks TrainingJobs"):
        _ = Answer(Other=1)["TrainingJobs"]
    assert Answer(Other=1).get("TrainingJobs") is None
    assert isinstance(UnreadableAnswerError("x"), exceptions.BotoCoreError)
    assert json.dumps(Answer(a=1)) == '{"a": 1}'
