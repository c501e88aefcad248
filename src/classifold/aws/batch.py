"""Starting a transform job: the pictures below an S3 address are answered by the model of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from classifold import names
from classifold.aws.batch_pictures import BatchNotes, list_pictures, send_lists
from classifold.aws.clients import Aws
from classifold.aws.cost import SHORTEST_SECONDS
from classifold.aws.deploy_plan import (
    build_place,
    check_requests,
    choose_model_name,
    look,
    make_up_package,
    refuse_findings,
)
from classifold.aws.hosting_cost import HostingCost, estimate_transform
from classifold.aws.model_packages import check_approval, ensure_group, ensure_package
from classifold.aws.places import find_places
from classifold.aws.preflight_findings import Finding
from classifold.aws.refusals import aws_errors
from classifold.aws.role_wait import retry_young_role
from classifold.aws.served_model import ServedModel, open_served_model, send_model
from classifold.aws.serving_checks import check_transform
from classifold.aws.serving_image import find_serving_image
from classifold.aws.undeploy import remove_models
from classifold.counts import count_of
from classifold.errors import ClassifoldError, Fault, Interrupted, JobError
from classifold.money import format_usd
from classifold.predict.predictor import load_predictor
from classifold.predict.sources import Passed
from classifold.sagemaker import endpoint_request as requests
from classifold.sagemaker.endpoint_request import Place
from classifold.sagemaker.transform_request import (
    Pictures,
    build_transform_request,
    choose_payload,
    manifest_key,
)

Tell = Callable[[str], None]


@dataclass(frozen=True)
class BatchOptions:
    """What the user asked for.

    Attributes:
        address: S3 address of the pictures.
        instance_type: SageMaker's name of the machine.
        count: Number of machines.
        top_k: Number of classes per picture.
        environment: Environment variables of the server.
        max_cost: US dollars that the job may cost at most; None for no limit.
    """

    address: str
    instance_type: str
    count: int
    top_k: int
    environment: Mapping[str, str]
    max_cost: float | None = None


@dataclass(frozen=True)
class Batch:
    """A transform job that was started, or would be.

    Attributes:
        name: Name of the job and of its model.
        requests: Parameters of each request by the operation's name.
        cost: What it costs per hour.
        max_seconds: Seconds after which it is stopped for the sake of its cost; None for no limit.
        findings: What the checks found.
        pictures: What it reads.
        passed_over: What was passed over below the address, in words; empty for nothing.
        notes: What its answers are written down with.
    """

    name: str
    requests: dict[str, dict[str, Any]]
    cost: HostingCost
    max_seconds: float | None
    findings: list[Finding]
    pictures: Pictures
    passed_over: str
    notes: BatchNotes


def start_batch(
    aws: Aws,
    run: str,
    options: BatchOptions,
    *,
    dry_run: bool = False,
    show: Callable[[Batch], None] | None = None,
    tell: Tell,
) -> Batch:
    """Start a transform job with the model of a run.

    Args:
        aws: The connection to AWS.
        run: What `open_served_model` takes.
        options: What the user asked for.
        dry_run: Check only: nothing on AWS is changed.
        show: Called with the job, and so with its cost, before anything is changed.
        tell: Called with one line for each step.

    Raises:
        DataError: There are no pictures below the address.
        JobError: The checks found something that prevents it, or it would cost too much.
        AwsError: AWS refuses.
        RunError: There is no such run, or its model does not load.
    """
    with open_served_model(aws, run, tell=tell) as model:
        batch, place = _plan(aws, model, options, is_dry_run=dry_run, tell=tell)
        if dry_run:
            return batch
        refuse_findings(batch.findings)
        if show is not None:
            show(batch)
        send_model(aws, model, tell=tell)
    send_lists(aws, batch.name, batch.pictures, batch.notes)
    ensure_group(aws, place)
    arn, status = ensure_package(aws, batch.requests["CreateModelPackage"])
    check_approval(arn, status)
    batch.requests["CreateModel"]["PrimaryContainer"]["ModelPackageName"] = arn
    _start(aws, batch, tell=tell)
    return batch


def _start(aws: Aws, batch: Batch, *, tell: Tell) -> None:
    client, name = aws.client("sagemaker"), batch.name
    try:
        retry_young_role(
            lambda: client.create_model(**batch.requests["CreateModel"]),
            doing=f"make model {name}",
            tell=tell,
        )
        with aws_errors(f"start transform job {name}"):
            client.create_transform_job(**batch.requests["CreateTransformJob"])
    except ClassifoldError:
        remove_models(aws, [name], tell=lambda _: None)
        raise
    except KeyboardInterrupt:
        what = "interrupted while it was being started: it may be running anyway"
        hint = f"end it with: classifold batch --stop {name}"
        raise Interrupted(Fault(f"transform job {name}", what, hint=hint)) from None


def _plan(
    aws: Aws, model: ServedModel, options: BatchOptions, *, is_dry_run: bool, tell: Tell
) -> tuple[Batch, Place]:
    places = find_places(aws, is_dry_run=is_dry_run, find_image=lambda: find_serving_image(aws))
    place, passed = build_place(aws, places), Passed()
    pictures = list_pictures(aws, options.address, passed)
    name = choose_model_name(aws, names.batch_base(aws.config.PROJECT_NAME), is_asked=places.is_account_known)
    planned = _build_requests(place, model, options, name, pictures)
    check_requests(planned)
    cost = estimate_transform(aws, options.instance_type, options.count)
    findings = [*places.findings, *_check_bucket(aws, place, pictures)]
    max_seconds = None
    try:
        max_seconds = find_time_limit(cost, options.max_cost)
    except JobError as error:
        findings += [Finding(one.where, one.what, hint=one.hint) for one in error.faults]
    tell(f"{count_of(len(pictures.sizes), 'picture')}; checking role, image, quota, key and network")
    findings += look(
        places,
        lambda: check_transform(aws, place, instance_type=options.instance_type, count=options.count),
    )
    if not pictures.sizes:
        findings.append(Finding(options.address, "every picture there is empty, archived or too large"))
    notes = BatchNotes(
        run_name=model.run_name,
        class_names=load_predictor(model.folder).class_names,
        top_k=options.top_k,
        prefix=pictures.prefix,
        address=pictures.uri,
        picture_names=tuple(pictures.sizes),
        unsent=pictures.unsent,
    )
    said = "; ".join(passed.describe())
    return Batch(name, planned, cost, max_seconds, findings, pictures, said, notes), place


def _build_requests(
    place: Place, model: ServedModel, options: BatchOptions, name: str, pictures: Pictures
) -> dict[str, dict[str, Any]]:
    payload, _ = choose_payload(pictures.sizes.values())
    # SageMaker counts in MiB, the server in MB.
    limit = math.ceil(payload * (1 << 20) / 1e6)
    environment = {"CLASSIFOLD_SERVE_MAX_MB": str(limit), **options.environment}
    return {
        "CreateModelPackage": requests.build_package_request(
            place,
            archive_uri=f"s3://{place.output_bucket}/{model.key}",
            run_name=model.run_name,
            digest=model.digest,
        ),
        "CreateModel": requests.build_model_request(
            place,
            name=name,
            package_arn=make_up_package(place),
            environment=environment,
            kind="real-time",
        ),
        "CreateTransformJob": build_transform_request(
            place,
            name=name,
            pictures=pictures,
            manifest_uri=f"s3://{place.output_bucket}/{manifest_key(name)}",
            instance_type=options.instance_type,
            count=options.count,
        ),
    }


def _check_bucket(aws: Aws, place: Place, pictures: Pictures) -> list[Finding]:
    """Return a note if the role can read the pictures only by a policy that is not the project's."""
    if pictures.bucket in (aws.data_bucket, aws.output_bucket):
        return []
    what = f"the role {place.role_arn.rpartition('/')[2]} reads the project's own buckets only"
    hint = (
        f"let the bucket's policy allow {place.role_arn} s3:GetObject, or copy the pictures to "
        f"s3://{aws.data_bucket}/"
    )
    return [Finding(f"bucket {pictures.bucket}", what, hint=hint, is_fatal=False)]


def find_time_limit(cost: HostingCost, max_cost: float | None) -> float | None:
    """Return the seconds after which a job has cost a sum; None for no limit.

    Args:
        cost: Its cost per hour.
        max_cost: US dollars; None for no limit.

    Raises:
        JobError: No price is known, or the sum pays for less than ten minutes.
    """
    if max_cost is None:
        return None
    where = f"--max-cost {max_cost:g}"
    if not cost.usd_per_hour:
        raise JobError(Fault(where, "; ".join(cost.remarks), hint="start it without --max-cost"))
    seconds = max_cost / cost.usd_per_hour * 3600
    if seconds < SHORTEST_SECONDS:
        what = f"it pays for {seconds / 60:.0f} minutes ({format_usd(cost.usd_per_hour)} an hour)"
        raise JobError(Fault(where, what, hint="raise it, or choose a cheaper or fewer machines"))
    return seconds
