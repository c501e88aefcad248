"""Following a job live: its status and log lines until it ends, through lost connections and logins."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.jobs import RUNNING, JobRow, build_row, describe_job, find_job
from classifold.aws.patience import Patience
from classifold.aws.refusals import aws_errors
from classifold.aws.spot import (
    INTERRUPTED,
    Beginning,
    describe_return,
    explain_interruption,
    format_clock,
    list_interruptions,
    read_beginning,
)
from classifold.errors import AwsError, Fault, Interrupted, MissingError

_POLL_SECONDS = 4.0
# Log lines arrive some seconds after they were written.
_LAST_LINES_SECONDS = 12.0
_EPOCH = re.compile(
    r"^(?P<stage>head|fine-tuning) epoch (?P<number>[0-9]{1,9}) of (?P<last>[0-9]{1,9}): "
    r"validation loss (?P<loss>[-+.0-9a-z]+), accuracy (?P<accuracy>[-+.0-9a-z]+); "
    r".* \((?P<seconds>[0-9]{1,9}(?:\.[0-9]{1,9})?) s, [^()]* pictures/s\)"
)


@dataclass(frozen=True)
class JobEnd:
    """How a job ended.

    Attributes:
        row: The ended job.
        exit_code: 0 if it completed, its own code or 1 if it failed, 130 if it was stopped.
    """

    row: JobRow
    exit_code: int


def follow_job(
    aws: Aws, name: str | None, *, tell: Callable[[str], None], poll_seconds: float = _POLL_SECONDS
) -> JobEnd:
    """Show a job's status and log lines as they come, until it ends.

    Throttling, a lost network and expired credentials are waited out; new credentials are used as soon as
    there are some.

    Args:
        aws: The connection to AWS.
        name: Name of the job; None for the newest.
        tell: Called with one line at a time.
        poll_seconds: Seconds between two requests for news.

    Raises:
        MissingError: There is no such job.
        AwsError: AWS refuses, or could not be reached for an hour.
        Interrupted: On Ctrl-C; the job keeps running.
    """
    follower = _Follower(aws, tell, poll_seconds)
    job_name = None
    try:
        job_name = str(follower.ask(lambda a: find_job(a, name))["TrainingJobName"])
        return follower.run(job_name)
    except KeyboardInterrupt:
        job = f" {job_name or name}" if job_name or name else ""
        hint = f"follow it again with: classifold follow{job}; end it with: classifold stop{job}"
        raise Interrupted(Fault(f"training job{job}", "it keeps running", hint=hint)) from None


def look_up_job(aws: Aws, name: str) -> JobRow:
    """Return a job as it is now; if it was interrupted, its log is read too, for what that cost.

    If the log cannot be read, the training that interruptions lost is not known.

    Raises:
        MissingError: There is no such job.
        AwsError: AWS refuses.
    """
    job = find_job(aws, name)
    # The log can be long, and only jobs that were interrupted need it.
    lines: list[LogLine] = []
    if list_interruptions(job):
        with contextlib.suppress(AwsError):
            lines = read_log(aws, name)
    return build_row(aws, job, _list_beginnings(lines))


def _list_beginnings(lines: Iterable[LogLine]) -> list[Beginning]:
    beginnings = (read_beginning(line.text, line.written) for line in lines)
    return [beginning for beginning in beginnings if beginning is not None]


@dataclass
class _Follower(Patience):
    poll_seconds: float
    streams: dict[str, LogStream] = field(default_factory=dict)
    beginnings: list[Beginning] = field(default_factory=list)
    told_returns: dict[datetime, str] = field(default_factory=dict)
    told_steps: int = 0
    told_step_message: str = ""

    def run(self, name: str) -> JobEnd:
        while True:
            job = self.ask(lambda aws: describe_job(aws, name))
            self._tell_steps(job)
            self._tell_lines(job)
            self._tell_returns(job)
            if job["TrainingJobStatus"] not in RUNNING:
                break
            time.sleep(self.poll_seconds)
        self._tell_last_lines(job)
        row = build_row(self.aws, job, self.beginnings)
        return JobEnd(row, find_exit_code(row))

    def _tell_steps(self, job: Mapping[str, Any]) -> None:
        steps = job.get("SecondaryStatusTransitions") or []
        # The last step once more: SageMaker changes its message while it lasts.
        for index in range(max(self.told_steps - 1, 0), len(steps)):
            step = steps[index]
            message = f"{step['Status']}: {step.get('StatusMessage', '')}".rstrip(": ")
            if step["Status"] == INTERRUPTED:
                message = f"{INTERRUPTED}: {explain_interruption(steps[:index])}"
            if message != self.told_step_message:
                self.tell(f"{format_clock(step['StartTime'])} {message}")
                self.told_step_message = message
        self.told_steps = len(steps)

    def _tell_returns(self, job: Mapping[str, Any]) -> None:
        """Show what each interruption cost once that is known; again if a late log line corrects it."""
        for interruption in list_interruptions(job, self.beginnings):
            said = describe_return(interruption) if interruption.is_settled else ""
            if said and self.told_returns.get(interruption.came) != said:
                self.tell(f"{format_clock(interruption.came)} {INTERRUPTED}: {said}")
                self.told_returns[interruption.came] = said

    def _tell_lines(self, job: Mapping[str, Any]) -> int:
        """Show the new log lines of every host, and return how many there were."""
        job_name = str(job["TrainingJobName"])
        for name in self.ask(lambda aws: find_streams(aws, job_name)):
            self.streams.setdefault(name, LogStream(name))
        num_hosts = len({stream.host for stream in self.streams.values()})
        told = 0
        for stream in self.streams.values():
            prefix = f"{stream.host}: " if num_hosts > 1 else ""
            for line in self._read_new(stream):
                self.tell(prefix + format_line(line.text))
                told += 1
        return told

    def _read_new(self, stream: LogStream) -> list[LogLine]:
        lines: list[LogLine] = []
        is_end = False
        while not is_end:
            page, is_end = self.ask(lambda aws: read_page(aws, stream))
            lines += page
        self.beginnings += _list_beginnings(lines)
        return lines

    def _tell_last_lines(self, job: Mapping[str, Any]) -> None:
        """Wait for the last log lines: CloudWatch is some seconds behind."""
        if not self.streams and job.get("TrainingStartTime") is None:
            return  # the job never had a machine
        until = time.monotonic() + min(_LAST_LINES_SECONDS, 3 * self.poll_seconds)
        while time.monotonic() < until:
            time.sleep(min(self.poll_seconds, 2.0))
            self._tell_lines(job)
        self._tell_returns(job)


def format_line(line: str) -> str:
    """Return a log line for a person: an epoch's line shortened to progress and scores, others unchanged.

    Args:
        line: The line as it is in the log.
    """
    found = _EPOCH.search(line)
    if found is None:
        return line
    stage, number, last, seconds = found["stage"], int(found["number"]), int(found["last"]), found["seconds"]
    left = max(last - number, 0) * float(seconds) / 60
    # Only in the last stage is the time left an upper bound: stages differ in speed and may end early.
    more = f", up to {left:.0f} min left" if stage == "fine-tuning" and left >= 1 else ""
    scores = f"loss {_shorten(found['loss'])}, accuracy {_shorten(found['accuracy'])}"
    return f"{stage} epoch {number} of {last}: validation {scores} ({float(seconds):.1f} s{more})"


def _shorten(figure: str) -> str:
    """Return a figure with three decimals, as a terminal shows it during training."""
    try:
        return f"{float(figure):.3f}"
    except ValueError:
        return figure


def find_exit_code(row: JobRow) -> int:
    """Return the exit code: 0 if the job completed, its own code or 1 if it failed, 130 if it was stopped."""
    if row.status == "Completed":
        return 0
    if row.status == "Stopped":
        return 130
    own = re.search(r"exit code: ([0-9]+)", row.failure_reason)
    return int(own[1]) if own and 0 < int(own[1]) < 256 else 1


@dataclass(frozen=True)
class LogLine:
    """A line of a log.

    Attributes:
        text: The line without its line break.
        written: Time at which it was written, by the machine's clock.
    """

    text: str
    written: datetime


@dataclass
class LogStream:
    """The log of one machine, and how far it was read.

    Attributes:
        name: Name of the stream, `<job>/<host>-<number>`; each further machine of a spot job has its own.
        token: CloudWatch's token of the next page; None at the start.
    """

    name: str
    token: str | None = None

    @property
    def host(self) -> str:
        """Name of the machine among the job's hosts, such as algo-1."""
        return self.name.partition("/")[2].rpartition("-")[0]


def find_streams(aws: Aws, job_name: str) -> list[str]:
    """Return the names of a job's log streams, sorted; none if nothing was logged yet.

    Raises:
        AwsError: AWS refuses.
    """
    try:
        with aws_errors(f"find the log of {job_name}"):
            pages = aws.client("logs").get_paginator("describe_log_streams")
            found = pages.paginate(logGroupName=names.LOG_GROUP, logStreamNamePrefix=f"{job_name}/")
            return sorted(stream["logStreamName"] for page in found for stream in page["logStreams"])
    except MissingError:
        return []  # the group is made with the account's first job


def read_page(aws: Aws, stream: LogStream) -> tuple[list[LogLine], bool]:
    """Return the next lines of a stream, and whether they are the last for now; advances `stream`.

    Raises:
        AwsError: AWS refuses; `stream` is unchanged.
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
    """Return the whole log of a job, stream by stream.

    Raises:
        AwsError: AWS refuses.
    """
    lines: list[LogLine] = []
    for name in find_streams(aws, job_name):
        stream, is_end = LogStream(name), False
        while not is_end:
            page, is_end = read_page(aws, stream)
            lines += page
    return lines
