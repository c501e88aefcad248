"""Fetching a job's result: downloaded, unpacked safely, checked, and moved to the runs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from classifold import names
from classifold.atomic import move_folder
from classifold.aws.clients import Aws
from classifold.aws.jobs import RUNNING, build_row, find_cure, find_job
from classifold.aws.refusals import aws_errors
from classifold.errors import DiskError, Fault, JobError, disk_errors
from classifold.printable import format_json
from classifold.progress import show_progress
from classifold.run_folder import check_run, unpack_archive

_HEADROOM = 2.0  # unpacked size to expect, in sizes of the archive


def fetch_job(aws: Aws, name: str | None, *, tell: Callable[[str], None]) -> Path:
    """Download and unpack a job's result into RUNS_DIR; the folder appears only once it is complete.

    A stopped job's best model so far goes to `<job>.interrupted`, as on this machine.

    Args:
        aws: The connection to AWS.
        name: Name of the job; None for the newest.
        tell: Called with one line for each step.

    Returns:
        The run folder.

    Raises:
        JobError: The job is still running, or left nothing.
        RunError: Its result is damaged, or not safe to unpack.
        AwsError: AWS refuses.
    """
    job = find_job(aws, name)
    job_name, runs_dir = str(job["TrainingJobName"]), Path(aws.config.RUNS_DIR)
    is_whole = job["TrainingJobStatus"] == "Completed"
    run_dir = runs_dir / (job_name if is_whole else job_name + names.INTERRUPTED_ENDING)
    if run_dir.exists():
        tell(f"{run_dir} exists already")
        return run_dir
    uri = find_archive(job)
    with disk_errors(run_dir):
        runs_dir.mkdir(parents=True, exist_ok=True)
        # A unique folder, since two processes may fetch the same job at once.
        partial = Path(tempfile.mkdtemp(prefix=f".{job_name}.", dir=runs_dir))
        try:
            archive = partial / names.MODEL_ARCHIVE
            hint = "the result was removed, or never written; classifold jobs says how the job ended"
            download_object(aws, uri, archive, hint=hint)
            unpack_archive(archive, partial / "run")
            check_run(partial / "run", is_whole=is_whole, where=uri)
            _write_bill(aws, job, partial / "run")
            move_folder(partial / "run", run_dir)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    tell(f"{uri} is unpacked in {run_dir}")
    return run_dir


def _write_bill(aws: Aws, job: dict[str, Any], run_dir: Path) -> None:
    """Write what the job was billed into the run folder; the price is null where it is not known."""
    row = build_row(aws, job)
    bill = {
        "format": 1,
        "name": row.name,
        "region": aws.region,
        "instance_type": row.instance_type,
        "num_instances": row.num_instances,
        "is_spot": row.is_spot,
        "billable_seconds": row.billable_seconds,
        "usd": row.cost,
        "price_source": row.price_source,
    }
    (run_dir / names.JOB_JSON).write_text(f"{format_json(bill, indent=2)}\n", encoding="utf-8")


def find_archive(job: dict[str, Any]) -> str:
    """Return the S3 address of a job's result.

    Raises:
        JobError: The job is still running, or left nothing.
    """
    name, status = job["TrainingJobName"], job["TrainingJobStatus"]
    if status in RUNNING:
        hint = f"wait for its end with: classifold follow {name}"
        what = f"it is still running ({job['SecondaryStatus']})"
        raise JobError(Fault(f"training job {name}", what, hint=hint))
    uri = (job.get("ModelArtifacts") or {}).get("S3ModelArtifacts")
    if status == "Failed" or not uri:
        reason = str(job.get("FailureReason") or "it left no model")
        raise JobError(Fault(f"training job {name}", f"{status}: {reason}", hint=find_cure(reason)))
    return str(uri)


def download_object(aws: Aws, uri: str, target: Path, *, hint: str) -> None:
    """Download an object in parallel parts; S3's checksum is compared if the object has one.

    Args:
        aws: The connection to AWS.
        uri: S3 address of the object.
        target: The file that it becomes.
        hint: What to do if there is no such object.

    Raises:
        AwsError: AWS refuses, or there is no such object.
        DiskError: There is no room for it and its content.
    """
    from boto3.s3.transfer import TransferConfig

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    with aws_errors(f"download {uri}", hint=hint):
        s3 = aws.client("s3")
        size = int(s3.head_object(Bucket=bucket, Key=key)["ContentLength"])
        _check_room(target.parent, size)
        with show_progress("downloading", size, unit="bytes") as advance:
            s3.download_file(
                bucket,
                key,
                str(target),
                ExtraArgs={"ChecksumMode": "ENABLED"},
                Callback=advance,
                Config=TransferConfig(multipart_chunksize=16 * 10**6, num_download_attempts=10),
            )


def _check_room(folder: Path, size: int) -> None:
    free, needed = shutil.disk_usage(folder).free, (1 + _HEADROOM) * size
    if free < needed:
        what = f"the result needs about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        hint = "free some space, or set RUNS_DIR to another disk"
        raise DiskError(Fault(str(folder.parent), what, hint=hint))
