"""A job's log as CloudWatch keeps it: a stream of lines for each machine that it had."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from classifold import names
from classifold.aws.clients import Aws, aws_errors
from classifold.errors import MissingError


@dataclass(frozen=True)
class LogLine:
    """A line of a log.

    Attributes:
        text: Without its line break.
        written: When, by the machine's clock.
    """

    text: str
    written: datetime


@dataclass
class LogStream:
    """The log of one machine, and how far it was read.

    Attributes:
        name: `<job>/<host>-<number>`; a spot job that goes on has another one.
        token: Where the next page begins; None at the start.
    """

    name: str
    token: str | None = None

    @property
    def host(self) -> str:
        """Which machine of the job it is: algo-1."""
        return self.name.partition("/")[2].rpartition("-")[0]


def find_streams(aws: Aws, job_name: str) -> list[str]:
    """Return the names of a job's streams, sorted; none where nothing was logged yet.

    Raises:
        AwsError: If AWS refuses.
    """
    try:
        with aws_errors(f"find the log of {job_name}"):
            pages = aws.client("logs").get_paginator("describe_log_streams")
            found = pages.paginate(logGroupName=names.LOG_GROUP, logStreamNamePrefix=f"{job_name}/")
            return sorted(stream["logStreamName"] for page in found for stream in page["logStreams"])
    except MissingError:
        return []  # the group is made with the account's first job


def read_page(aws: Aws, stream: LogStream) -> tuple[list[LogLine], bool]:
    """Return the next lines of a stream, and whether these were the last for now; `stream` moves on.

    Raises:
        AwsError: If AWS refuses; the stream stays where it is.
    """
    token = {"nextToken": stream.token} if stream.token else {}
    with aws_errors(f"read the log {stream.name}"):
        page = aws.client("logs").get_log_events(
            logGroupName=names.LOG_GROUP, logStreamName=stream.name, startFromHead=True, **token
        )
    is_end = page["nextForwardToken"] == stream.token or not page["events"]
    stream.token = page["nextForwardToken"]
    return [_read_line(event) for event in page["events"]], is_end


def _read_line(event: dict[str, object]) -> LogLine:
    written = datetime.fromtimestamp(float(str(event["timestamp"])) / 1000, tz=UTC)
    return LogLine(str(event["message"]).rstrip("\n"), written)


def read_log(aws: Aws, job_name: str) -> list[LogLine]:
    """Return all of a job's log, stream by stream.

    Raises:
        AwsError: If AWS refuses.
    """
    lines: list[LogLine] = []
    for name in find_streams(aws, job_name):
        stream, is_end = LogStream(name), False
        while not is_end:
            page, is_end = read_page(aws, stream)
            lines += page
    return lines
