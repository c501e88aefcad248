"""Fixtures: a role, a bucket with a model's archive, and requests that make a model and endpoints of it."""

from __future__ import annotations

import io
import json
import tarfile
import time
from typing import TYPE_CHECKING, Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

if TYPE_CHECKING:
    from lab.cloud import Cloud

REGION = "eu-west-1"
IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/b@sha256:" + "0" * 64
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"}},
        }
    ],
}
RIGHTS = [
    {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b.output/*"},
    {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b.data/*"},
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::b.data"},
    {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::b.output/*"},
    {"Effect": "Allow", "Action": "logs:*", "Resource": "*"},
    {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"},
]
# A server in the place of the image's: it answers with what it was asked and which model it has.
SERVER = """
import http.server, json, os, pathlib, signal, sys, time
model = pathlib.Path("model/name").read_text()
if "broken" in model:
    sys.exit("this model cannot be read")
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        self.answer(404 if self.path != "/ping" else 503 if "ill" in model else 200, b"")
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print("asked", self.path, len(body), flush=True)
        if body == b"crash":
            os._exit(9)
        if body == b"slow":
            time.sleep(2)
        if body == b"bad":
            return self.answer(415, b"no picture")
        said = {"model": model, "bytes": len(body), "type": self.headers["Content-Type"]}
        said |= {"accept": self.headers["Accept"], "variables": dict(os.environ)}
        self.answer(200, json.dumps(said).encode())
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        said = self.headers.get("X-Amzn-SageMaker-Custom-Attributes")
        if said:
            self.send_header("X-Amzn-SageMaker-Custom-Attributes", said + " back")
        self.end_headers()
        self.wfile.write(body)
def leave(*_):
    print("asked to end", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, leave)
print("serving", model, flush=True)
port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def client(service: str, **settings: Any) -> Any:
    """Return a client that tries once."""
    retries = {"mode": "standard", "total_max_attempts": 1}
    return boto3.client(service, region_name=REGION, config=Config(retries=retries, **settings))


def refusal(call: Any, **values: Any) -> tuple[str, str]:
    """Return the code and the message with which a call is refused."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**values)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


class Hosted:
    """What a test hosts: short names for the requests of boto3."""

    def __init__(self, cloud: Cloud, role: str) -> None:
        self.cloud = cloud
        self.role = role
        self.sagemaker = client("sagemaker")
        self.runtime = client("sagemaker-runtime")

    def grant_role(self, *more: dict[str, Any]) -> None:
        """Give the role rights beside those that it has."""
        self.set_rights(*RIGHTS, *more)

    def set_rights(self, *statements: dict[str, Any]) -> None:
        """Let the role have these rights and no others."""
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        client("iam").put_role_policy(RoleName="b-role", PolicyName="p", PolicyDocument=policy)

    def put_archive(self, name: str, text: str = "") -> str:
        """Store an archive of a model; return its address."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            member = tarfile.TarInfo("name")
            content = (text or name).encode()
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        key = f"{name}/output/model.tar.gz"
        client("s3").put_object(Bucket="b.output", Key=key, Body=packed.getvalue())
        return f"s3://b.output/{key}"

    def model_request(self, name: str = "rose", **values: Any) -> dict[str, Any]:
        """Return a request for CreateModel."""
        container = {"Image": IMAGE, "ModelDataUrl": f"s3://b.output/{name}/output/model.tar.gz"}
        return {
            "ModelName": name,
            "ExecutionRoleArn": self.role,
            "PrimaryContainer": container,
            **values,
        }

    def make_model(self, name: str = "rose", text: str = "", **values: Any) -> str:
        """Make a model whose archive says its name; return the name."""
        self.put_archive(name, text)
        self.sagemaker.create_model(**self.model_request(name, **values))
        return name

    def make_config(self, name: str = "rose", variant: dict[str, Any] | None = None, **values: Any) -> str:
        """Make a configuration of one variant; return its name."""
        machines = {"InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}
        one = {"VariantName": "AllTraffic", "ModelName": name, **(machines if variant is None else variant)}
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[one], **values)
        return name

    def make_endpoint(self, name: str = "petals", config: str = "rose", **values: Any) -> dict[str, Any]:
        """Make an endpoint and wait until it serves or has failed; return its description."""
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config, **values)
        return self.wait(name)

    def wait(self, name: str = "petals", *statuses: str) -> dict[str, Any]:
        """Return an endpoint's description once it has one of the statuses."""
        wanted = statuses or ("InService", "Failed")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=name)
            if found["EndpointStatus"] in wanted:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{name} is {found['EndpointStatus']}, not {wanted}")

    def ask(self, body: bytes = b"picture", name: str = "petals", **values: Any) -> dict[str, Any]:
        """Return what an endpoint answers, read as JSON."""
        values = {"ContentType": "image/jpeg", **values}
        answer = self.runtime.invoke_endpoint(EndpointName=name, Body=body, **values)
        found: dict[str, Any] = json.loads(answer["Body"].read())
        return found

    def log_lines(self, group: str) -> dict[str, list[str]]:
        """Return the lines of every stream of a log group."""
        logs = client("logs")
        return {
            one["logStreamName"]: [
                event["message"]
                for event in logs.get_log_events(
                    logGroupName=group, logStreamName=one["logStreamName"], startFromHead=True
                )["events"]
            ]
            for one in logs.describe_log_streams(logGroupName=group)["logStreams"]
        }


@pytest.fixture
def hosted(aws_account: Cloud) -> Hosted:
    """Return an account with a role and two buckets, whose endpoints run a small server."""
    s3, iam = client("s3"), client("iam")
    for name in ("b.data", "b.output"):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    role = iam.create_role(RoleName="b-role", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    aws_account.serve_as(SERVER)
    found = Hosted(aws_account, role)
    found.grant_role()
    return found
