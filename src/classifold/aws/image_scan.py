"""Reporting critical vulnerabilities that ECR's scan found in an image, before a job starts from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from classifold.aws.clients import Aws
from classifold.aws.preflight_findings import Finding
from classifold.aws.refusals import aws_errors

# At most this many vulnerabilities are named; the others are counted.
_NAMED = 3
# Days after which a scan on push is out of date. Continuous scans are not limited.
_OLD_DAYS = 30
_UNFINISHED = ("IN_PROGRESS", "PENDING")
_PAGE = 1000  # ECR's limit, and more findings than an image has


def check_scan(aws: Aws, where: str, repository: Mapping[str, str], digest: str) -> Iterator[Finding]:
    """Yield notes on what ECR's scan found in an image; the job can be started anyway.

    Args:
        aws: The connection to AWS.
        where: Name of the image in the findings.
        repository: ECR's `registryId` and `repositoryName`.
        digest: Digest of the image, sha256:...

    Raises:
        AwsError: AWS refuses to show the scan.
    """
    client = aws.client("ecr")
    with aws_errors(f"look at the scan of {where}"):
        try:
            answer = client.describe_image_scan_findings(
                **repository, imageId={"imageDigest": digest}, maxResults=_PAGE
            )
        except client.exceptions.ScanNotFoundException:
            what = "vulnerabilities could not be checked: ECR has no scan of it"
            yield Finding(where, what, hint=_start_scan(repository, digest), is_fatal=False)
            return
    yield from _read_scan(answer, where, repository, digest)


def _read_scan(
    answer: Mapping[str, Any], where: str, repository: Mapping[str, str], digest: str
) -> Iterator[Finding]:
    state = answer.get("imageScanStatus") or {}
    found = answer.get("imageScanFindings") or {}
    counts, status = found.get("findingSeverityCounts") or {}, str(state.get("status", "unknown"))
    if counts.get("CRITICAL"):
        hint = (
            "`classifold image` takes the newest base image; see them all with: aws ecr "
            f"describe-image-scan-findings {_name(repository, digest)}"
        )
        yield Finding(where, _count(found, counts), hint=hint, is_fatal=False)
    elif status in _UNFINISHED:
        what = "vulnerabilities could not be checked: ECR's scan is not finished"
        hint = "it takes some minutes after the push; `classifold launch --dry-run` checks again"
        yield Finding(where, what, hint=hint, is_fatal=False)
    elif status not in ("COMPLETE", "ACTIVE"):
        said = f"{status}, {state['description']}" if state.get("description") else status
        what = f"vulnerabilities could not be checked: ECR's scan ended with {said}"
        yield Finding(where, what, hint=_start_scan(repository, digest), is_fatal=False)
    elif status == "COMPLETE" and (days := _age(found)) > _OLD_DAYS:
        what = f"ECR's scan of it is {days} days old, and lacks what became known since then"
        yield Finding(where, what, hint=_start_scan(repository, digest), is_fatal=False)


def _count(found: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """Return what the scan found, in words: its date, the number of vulnerabilities, and the first names."""
    when = found.get("imageScanCompletedAt")
    of_day = f" of {when:%Y-%m-%d}" if isinstance(when, datetime) else ""
    high = f" and {counts['HIGH']} high" if counts.get("HIGH") else ""
    named = _list_critical(found)
    more = f" and {counts['CRITICAL'] - _NAMED} more" if counts["CRITICAL"] > _NAMED and named else ""
    which = f": {', '.join(named)}{more}" if named else ""
    return f"ECR's scan{of_day} found {counts['CRITICAL']} critical{high} vulnerabilities{which}"


def _list_critical(found: Mapping[str, Any]) -> list[str]:
    """Return the names of the first critical vulnerabilities in a basic or an enhanced scan."""
    named = [one.get("name") for one in found.get("findings") or [] if one.get("severity") == "CRITICAL"]
    named += [
        (one.get("packageVulnerabilityDetails") or {}).get("vulnerabilityId") or one.get("title")
        for one in found.get("enhancedFindings") or []
        if one.get("severity") == "CRITICAL"
    ]
    return list(dict.fromkeys(str(one) for one in named if one))[:_NAMED]


def _age(found: Mapping[str, Any]) -> int:
    """Return the days since a scan; 0 if its time is not known."""
    when = found.get("imageScanCompletedAt")
    return (datetime.now(UTC) - when).days if isinstance(when, datetime) else 0


def _name(repository: Mapping[str, str], digest: str) -> str:
    name = f"--repository-name {repository['repositoryName']} --image-id imageDigest={digest}"
    return f"--registry-id {repository['registryId']} {name}"


def _start_scan(repository: Mapping[str, str], digest: str) -> str:
    return f"scan it with: aws ecr start-image-scan {_name(repository, digest)}"
