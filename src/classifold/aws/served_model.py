"""The model that an endpoint serves: taken from a run here or in S3, and sent once, by its content."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.jobs import find_job
from classifold.aws.refusals import aws_errors, is_denied, is_missing
from classifold.aws.results import download_object, find_archive
from classifold.errors import AwsError, ClassifoldError, Fault, RunError, disk_errors
from classifold.inference import limited_model, open_session
from classifold.predict.model_file import find_model
from classifold.progress import show_progress
from classifold.run_folder import find_run, unpack_archive

Tell = Callable[[str], None]
# What serving needs of a run. Settings, pictures and scores of the training stay here: they may hold paths
# and names that are nobody else's business.
SERVED_FILES = (names.MODEL_ONNX, names.CLASSES_JSON, names.REFERENCE_NPZ)
_ARCHIVES = (".tar.gz", ".tgz")
_S3_ARCHIVE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)")


@dataclass(frozen=True)
class ServedModel:
    """A model in a folder of this machine.

    Attributes:
        run_name: Name of the run that it comes from.
        folder: The folder that holds its files, and perhaps others.
        digest: SHA-256 of names and contents of the files that are served, in hexadecimal: the same model
            always has the same one.
    """

    run_name: str
    folder: Path
    digest: str

    @property
    def key(self) -> str:
        """Key of its archive in the output bucket."""
        return f"{names.MODELS_PREFIX}{self.digest}/{names.MODEL_ARCHIVE}"


@contextlib.contextmanager
def open_served_model(aws: Aws, run: str, *, tell: Tell) -> Iterator[ServedModel]:
    """Give the model of a run; what was downloaded or unpacked for it is removed afterwards.

    Args:
        aws: The connection to AWS; asked only where the run is not on this machine.
        run: A run folder, the name of one in RUNS_DIR, a model.onnx, a model.tar.gz here or in S3, or the
            name of a training job of the project.
        tell: Called with one line for each step that takes time.

    Raises:
        RunError: There is no such run, it is damaged, or its model does not load.
        AwsError: AWS refuses.
    """
    with tempfile.TemporaryDirectory(prefix="classifold-serve-") as temporary:
        folder, name = _find_files(aws, run, Path(temporary), tell=tell)
        model = find_model(folder)
        _check_loads(model)
        yield ServedModel(name, model.parent, _hash_files(model.parent))


def _find_files(aws: Aws, run: str, temporary: Path, *, tell: Tell) -> tuple[Path, str]:
    """Return the folder or model of a run, and the run's name."""
    if run.startswith("s3://"):
        found = _S3_ARCHIVE.fullmatch(run)
        if not found or not run.endswith(_ARCHIVES):
            hint = "name the archive, as in s3://bucket/job/output/model.tar.gz"
            raise RunError(Fault(run, "expected the address of a model.tar.gz", hint=hint))
        return _fetch(aws, run, temporary, tell=tell), _name_by_key(found["key"])
    path = find_run(Path(run), runs_dir=Path(aws.config.RUNS_DIR))
    if path.name.endswith(_ARCHIVES) and path.is_file():
        return _unpack(path, temporary), path.absolute().parent.name
    if path.exists() or "/" in run:
        folder = path if path.is_dir() else path.parent
        return path, folder.absolute().name
    return _fetch_job(aws, run, temporary, tell=tell), run


def _name_by_key(key: str) -> str:
    """Return the name of the run whose archive has this key: <job>/output/model.tar.gz."""
    parts = [part for part in key.split("/")[:-1] if part not in ("", "output")]
    return parts[-1] if parts else names.MODEL_ARCHIVE


def _fetch_job(aws: Aws, name: str, temporary: Path, *, tell: Tell) -> Path:
    """Return the folder with the result of a training job of the project, which is downloaded."""
    try:
        job = find_job(aws, name)
    except ClassifoldError as error:
        hint = "`classifold jobs` lists this project's jobs; a run on this machine is a folder"
        what = f"no such run folder, and no such training job ({error.faults[0].what})"
        raise RunError(Fault(name, what, hint=hint)) from error
    return _fetch(aws, find_archive(job), temporary, tell=tell)


def _fetch(aws: Aws, uri: str, temporary: Path, *, tell: Tell) -> Path:
    tell(f"reading {uri}")
    archive = temporary / names.MODEL_ARCHIVE
    with disk_errors(temporary):
        download_object(aws, uri, archive, hint="check the address, and that the archive is still there")
    return _unpack(archive, temporary, where=uri)


def _unpack(archive: Path, temporary: Path, *, where: str = "") -> Path:
    folder = temporary / "run"
    try:
        with disk_errors(temporary):
            unpack_archive(archive, folder)
    except RunError as error:
        faults = [Fault(where or str(archive), one.what, one.hint, got=one.got) for one in error.faults]
        raise RunError(*faults) from error
    return folder


def _check_loads(model: Path) -> None:
    """Refuse a model that no server could load, before anything is sent."""
    try:
        with limited_model(model):
            open_session(model)
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        hint = "fetch or train the run again"
        raise RunError(Fault(str(model), f"the model does not load: {error}", hint=hint)) from error


def _hash_files(folder: Path) -> str:
    found = hashlib.sha256()
    for name in SERVED_FILES:
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                found.update(f"{name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()


def send_model(aws: Aws, model: ServedModel, *, tell: Tell) -> str:
    """Send a model's archive to the output bucket, unless it is there, and return its S3 address.

    Raises:
        AwsError: AWS refuses.
        DiskError: The disk is full.
    """
    uri = f"s3://{aws.output_bucket}/{model.key}"
    if _is_there(aws, model.key):
        tell(f"the model is there already: {uri}")
        return uri
    with tempfile.TemporaryDirectory(prefix="classifold-serve-") as temporary:
        archive = Path(temporary) / names.MODEL_ARCHIVE
        with disk_errors(archive):
            write_served_archive(model.folder, archive)
        tell(f"sending the model, {archive.stat().st_size / 1e6:,.1f} MB, to {uri}")
        _send(aws, archive, model.key)
    return uri


def _is_there(aws: Aws, key: str) -> bool:
    """Tell whether an object exists; the key follows from the content, so that this is enough."""
    try:
        with aws_errors(f"look for s3://{aws.output_bucket}/{key}"):
            aws.client("s3").head_object(Bucket=aws.output_bucket, Key=key)
    except AwsError as error:
        cause = error.__cause__
        # Without the permission to look it is sent again.
        if isinstance(cause, Exception) and (is_missing(cause) or is_denied(cause)):
            return False
        raise
    return True


def write_served_archive(folder: Path, target: Path) -> None:
    """Write the files that serving needs into a model.tar.gz, without times, owners or paths."""
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in SERVED_FILES:
            path = folder / name
            if not path.is_file():
                continue
            member = tarfile.TarInfo(name)
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                archive.addfile(member, file)


def _send(aws: Aws, archive: Path, key: str) -> None:
    from boto3.s3.transfer import TransferConfig

    size = archive.stat().st_size
    # S3 refuses what arrives damaged: boto3 sends a checksum with every part.
    extra: dict[str, Any] = {"ContentType": "application/gzip", "ChecksumAlgorithm": "CRC32"}
    with (
        aws_errors(f"send s3://{aws.output_bucket}/{key}"),
        show_progress("sending the model", size, unit="bytes") as advance,
    ):
        aws.client("s3").upload_file(
            str(archive),
            aws.output_bucket,
            key,
            ExtraArgs=extra,
            Callback=advance,
            Config=TransferConfig(multipart_chunksize=16 * 10**6),
        )
