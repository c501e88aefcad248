"""ECR's scan of the image: critical vulnerabilities are said before a job starts, and what is not known."""

from __future__ import annotations

import json
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from classifold.aws.clients import Aws
from classifold.aws.image_scan import check_scan
from classifold.aws.preflight_findings import Finding, guard
from classifold.aws.repository import DOCKER_MANIFEST, ensure_repository
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.cloud import Cloud

REPOSITORY = {"registryId": "123456789012", "repositoryName": "roses"}
WHERE = "image roses"


@pytest.fixture
def digest(aws_account: Cloud, project: object) -> str:
    """Return the digest of an image in the project's repository."""
    aws = Aws(build_config({"PROJECT_NAME": "roses"}))
    ensure_repository(aws, tell=lambda _: None)
    return put_image()


def put_image() -> str:
    layers = [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 1, "digest": "x"}]
    manifest = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "layers": layers, "config": {"digest": "y"}}
    ecr = boto3.client("ecr", region_name="eu-west-1")
    put = ecr.put_image(repositoryName="roses", imageManifest=json.dumps(manifest), imageTag="cpu-1")
    return str(put["image"]["imageId"]["imageDigest"])


def set_scan(cloud: Cloud, digest: str, *, status: str = "COMPLETE", **findings: Any) -> None:
    """Let the next look at the image's scan find this."""
    result = {
        "registryId": REPOSITORY["registryId"],
        "repositoryName": "roses",
        "imageId": {"imageDigest": digest},
        "imageScanStatus": {"status": status, "description": "as it is"},
        "imageScanFindings": {"imageScanCompletedAt": datetime.now(UTC).isoformat(), **findings},
    }
    url = f"{cloud.url}/moto-api/static/ecr/scan-finding-results"
    body = json.dumps({"results": [result], "region": "eu-west-1"}).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


def look(digest: str) -> list[Finding]:
    aws = Aws(build_config({"PROJECT_NAME": "roses"}))
    return list(guard(lambda: check_scan(aws, WHERE, REPOSITORY, digest)))


def test_a_scan_without_a_critical_vulnerability_says_nothing(digest: str) -> None:
    # The lab's scan on push finds one of high severity.
    assert look(digest) == []


def test_critical_vulnerabilities_are_counted_and_named(aws_account: Cloud, digest: str) -> None:
    found = [{"name": f"CVE-2026-{number}", "severity": "CRITICAL"} for number in range(5)]
    found.insert(1, {"name": "CVE-2025-9", "severity": "HIGH"})
    set_scan(aws_account, digest, findings=found, findingSeverityCounts={"CRITICAL": 5, "HIGH": 1, "LOW": 9})
    (finding,) = look(digest)
    assert finding.where == WHERE
    assert finding.what == (
        f"ECR's scan of {datetime.now(UTC):%Y-%m-%d} found 5 critical and 1 high vulnerabilities: "
        "CVE-2026-0, CVE-2026-1, CVE-2026-2 and 2 more"
    )
    assert not finding.is_fatal
    assert finding.hint.startswith("`classifold image` takes the newest base image")
    assert f"--repository-name roses --image-id imageDigest={digest}" in finding.hint


def test_an_enhanced_scan_is_read_too(aws_account: Cloud, digest: str) -> None:
    found = [
        {"severity": "CRITICAL", "packageVulnerabilityDetails": {"vulnerabilityId": "CVE-2026-1"}},
        {"severity": "CRITICAL", "title": "Something else"},
        {"severity": "MEDIUM", "title": "Harmless"},
    ]
    counts = {"CRITICAL": 2, "MEDIUM": 1}
    set_scan(aws_account, digest, status="ACTIVE", enhancedFindings=found, findingSeverityCounts=counts)
    (finding,) = look(digest)
    assert finding.what.endswith("found 2 critical vulnerabilities: CVE-2026-1, Something else")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("IN_PROGRESS", "ECR's scan is not finished"),
        ("PENDING", "ECR's scan is not finished"),
        ("FAILED", "ECR's scan ended with FAILED, as it is"),
        ("UNSUPPORTED_IMAGE", "ECR's scan ended with UNSUPPORTED_IMAGE, as it is"),
    ],
)
def test_a_scan_that_is_not_there_yet_or_failed_could_not_be_looked_at(
    aws_account: Cloud, digest: str, status: str, said: str
) -> None:
    set_scan(aws_account, digest, status=status)
    (finding,) = look(digest)
    assert finding.what == f"vulnerabilities could not be checked: {said}"
    assert finding.hint
    assert not finding.is_fatal


def test_what_an_ended_scan_found_counts_all_the_same(aws_account: Cloud, digest: str) -> None:
    set_scan(aws_account, digest, status="SCAN_ELIGIBILITY_EXPIRED", findingSeverityCounts={"CRITICAL": 1})
    (finding,) = look(digest)
    assert finding.what.endswith("found 1 critical vulnerabilities")


def test_a_scan_of_long_ago_is_said(aws_account: Cloud, digest: str) -> None:
    when = (datetime.now(UTC) - timedelta(days=45)).isoformat()
    set_scan(aws_account, digest, imageScanCompletedAt=when)
    (finding,) = look(digest)
    assert "45 days old" in finding.what
    assert "aws ecr start-image-scan --registry-id 123456789012 --repository-name roses" in finding.hint


def test_a_repository_that_does_not_scan_could_not_be_looked_at(aws_account: Cloud) -> None:
    boto3.client("ecr", region_name="eu-west-1").create_repository(repositoryName="roses")
    (finding,) = look(put_image())
    assert finding.what == "vulnerabilities could not be checked: ECR has no scan of it"
    assert not finding.is_fatal


def test_a_right_that_is_missing_is_a_note(aws_account: Cloud, digest: str) -> None:
    aws_account.deny("ecr:DescribeImageScanFindings")
    (finding,) = look(digest)
    assert finding.what.startswith("this could not be checked: the permission ecr:DescribeImageScanFindings")
    assert not finding.is_fatal
