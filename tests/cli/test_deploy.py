"""The commands of endpoints at the command line: what they print, ask, refuse, and their exit codes."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from PIL import Image

from classifold.aws.clients import Aws
from classifold.aws.endpoints import EndpointRow
from classifold.cli.answers import format_table
from classifold.cli.deploy_answers import build_endpoints_table
from classifold.sagemaker.endpoint_request import Hosting

if TYPE_CHECKING:
    from lab.cloud import Cloud

Classifold = Callable[..., Any]
MakeRun = Callable[[str], Path]


def client(service: str) -> Any:
    return boto3.client(service, region_name="eu-west-1")


@pytest.fixture
def shop(serving: Aws) -> Aws:
    """Return the way into an account; the settings file of the current folder is that of its project."""
    Path("container/modeling/config.py").write_text('PROJECT_NAME = "petals"\n')
    return serving


def test_a_run_is_deployed_asked_listed_and_removed_as_the_documentation_types_it(
    shop: Aws, aws_account: Cloud, colour_run: Path, classifold: Classifold, tmp_path: Path
) -> None:
    aws_account.serve_as("")  # the server itself
    Image.new("RGB", (40, 30), "#00ff00").save(tmp_path / "photo.png")
    made = classifold("deploy", colour_run, "--test", tmp_path / "photo.png", "--top-k", "2")
    assert made.code == 0, made.err
    assert "Endpoint petals serves colours-2026-01-01-00-00-00" in made.out
    assert "Answer: green 9" in made.out
    assert " ms the first time, then " in made.out
    assert "(median of 5)" in made.out
    assert "endpoint petals: InService" in made.err
    listed = classifold("endpoints")
    assert "petals" in listed.out
    assert "1 x ml.m5.large" in listed.out
    assert json.loads(classifold("endpoints", "--json").out)[0]["run_name"] == "colours-2026-01-01-00-00-00"
    kept = classifold("undeploy", "petals")
    assert kept.code == 1
    assert "--yes removes without asking" in kept.err
    assert [one["name"] for one in json.loads(classifold("endpoints", "--json").out)] == ["petals"]
    removed = classifold("undeploy", "petals", "--yes")
    assert removed.code == 0, removed.err
    assert classifold("endpoints").out == "No endpoints. Make one with: classifold deploy RUN\n"
    assert classifold("undeploy", "petals", "--yes").code == 1


def test_json_has_the_requests_the_cost_and_the_answer(
    shop: Aws, make_run: MakeRun, classifold: Classifold
) -> None:
    answer = json.loads(classifold("deploy", make_run("rose"), "--json").out)
    assert answer["endpoint"] == "petals"
    assert answer["probe"]["answer"]["predicted_class"] == "rose"
    assert answer["cost"]["usd_per_hour"] > 0
    assert answer["requests"]["CreateModel"]["PrimaryContainer"]["ModelPackageName"].endswith("/petals/1")


def test_an_asynchronous_endpoint_is_asked_with_the_command_that_deploy_prints(
    shop: Aws, make_run: MakeRun, classifold: Classifold, tmp_path: Path
) -> None:
    said = classifold("deploy", make_run("rose"), "--async")
    assert said.code == 0, said.err
    assert "invoke-endpoint-async --endpoint-name petals " in said.out
    (sent,) = re.findall(r"--input-location (s3://\S+)", said.out)
    assert f"aws s3 cp photo.jpg {sent}\n" in said.out
    bucket, _, key = sent.removeprefix("s3://").partition("/")
    client("s3").put_object(Bucket=bucket, Key=key, Body=b"picture")
    asked = client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName="petals", InputLocation=sent, ContentType="application/x-image"
    )
    (below,) = re.findall(r"below (s3://\S+/output/)", said.out)
    assert asked["OutputLocation"].startswith(below)
    assert "/failed/" in asked["FailureLocation"]
    assert asked["FailureLocation"].rpartition("/")[0] + "/" in said.out


def test_the_example_of_an_asynchronous_endpoint_in_the_documentation_prints_the_answer(
    shop: Aws, make_run: MakeRun, classifold: Classifold, root: Path, run_python: Callable[..., Any]
) -> None:
    assert classifold("deploy", make_run("rose"), "--async").code == 0
    page = (root / "docs" / "deploy.md").read_text(encoding="utf-8")
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "_async" in code]
    Image.new("RGB", (40, 30), "red").save("photo.jpg")
    answer = run_python("-c", example.replace("flowers-classification", "petals"))
    assert answer.out == "rose\n", answer.err


def test_a_refused_picture_is_said_and_the_exit_code_is_1(
    shop: Aws, make_run: MakeRun, classifold: Classifold, tmp_path: Path
) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "photo.jpg")
    assert classifold("deploy", make_run("rose")).code == 0
    said = classifold("deploy", make_run("picky"), "--test", tmp_path / "photo.jpg")
    assert said.code == 1
    assert "Endpoint petals serves now picky-2026-01-01-00-00-00" in said.out
    assert "JPEG is not read here (status 415); it answers for another picture" in said.out
    back = classifold("deploy", "--rollback", "--test", tmp_path / "photo.jpg")
    assert back.code == 0, back.err
    assert "Endpoint petals serves rose-2026-01-01-00-00-00 again" in back.out
    again = classifold("deploy", "--rollback", "--test", tmp_path / "photo.jpg", "--json")
    assert again.code == 1
    assert json.loads(again.out)["run"] == "picky-2026-01-01-00-00-00"


def test_a_dry_run_needs_no_credentials(
    project: Path, make_run: MakeRun, classifold: Classifold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    Path("container/modeling/config.py").write_text('PROJECT_NAME = "petals"\n')
    said = classifold("deploy", make_run("rose"), "--dry-run")
    assert said.code == 1, said.err
    assert '"CreateEndpoint"' in said.out
    assert "there are no AWS credentials" in said.out
    assert said.out.endswith("Nothing was changed.\n")


def test_the_exit_code_of_a_dry_run_says_whether_something_is_missing(
    shop: Aws, make_run: MakeRun, classifold: Classifold
) -> None:
    run = make_run("rose")
    assert classifold("deploy", run, "--dry-run").code == 0
    dear = classifold("deploy", run, "--dry-run", "--max-hourly-cost", "0.1", "--json")
    assert dear.code == 1
    (finding,) = [one for one in json.loads(dear.out)["findings"] if one["is_fatal"]]
    assert finding["what"] == "it may cost 0.13 USD an hour"
    client("ecr").delete_repository(repositoryName="petals", force=True)
    missing = classifold("deploy", run, "--dry-run")
    assert missing.code == 1
    assert "missing: image " in missing.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "missing argument RUN"),
        (("run", "--rollback"), "takes no RUN"),
        (("--rollback", "--dry-run"), "it has no --dry-run"),
        (("run", "--serverless", "--async"), "an endpoint is either serverless or asynchronous"),
        (("run", "--serverless", "--count", "2"), "a serverless endpoint has no machines of its own"),
        (("run", "--serverless", "--capture", "5"), "captures no data of serverless endpoints"),
        (("run", "--count", "0"), "--count 0: only asynchronous endpoints can scale to zero machines"),
        (("run", "--async", "--count", "0"), "autoscaling adds them, and it is off"),
        (("run", "--instance-type", "m5.large"), "expected an instance type"),
        (("run", "--name", "roses"), "begin with the project's name"),
        (("run", "--name", "petals-" + "x" * 50), "expected up to 43"),
        (("run", "--threshold", "0.8", "--always-answer"), "--always-answer"),
    ],
)
def test_options_that_do_not_fit_together_are_refused_before_aws_is_asked(
    shop: Aws, aws_account: Cloud, classifold: Classifold, words: tuple[str, ...], said: str
) -> None:
    aws_account.forget_calls()
    answer = classifold("deploy", *words)
    assert answer.code == 2
    assert said in answer.err
    assert aws_account.calls() == []


def test_a_run_that_is_nowhere_is_named_with_where_it_was_looked_for(
    shop: Aws, classifold: Classifold
) -> None:
    answer = classifold("deploy", "petal-2026")
    assert answer.code == 1
    assert "no such run folder, and no such training job" in answer.err
    assert "expected the address of a model.tar.gz" in classifold("deploy", "s3://petals.output/x").err


def test_undeploy_removes_what_a_stopped_undeploy_has_left(
    shop: Aws, make_run: MakeRun, classifold: Classifold
) -> None:
    assert classifold("deploy", make_run("rose")).code == 0
    client("sagemaker").delete_endpoint(EndpointName="petals")
    until = time.monotonic() + 60
    while client("sagemaker").list_endpoints()["Endpoints"]:
        assert time.monotonic() < until
        time.sleep(0.02)
    removed = classifold("undeploy", "petals", "--yes")
    assert removed.code == 0, removed.err
    assert client("sagemaker").list_models()["Models"] == []
    assert classifold("undeploy", "petals", "--yes").code == 1


def test_ctrl_c_says_what_goes_on_and_what_it_costs(
    shop: Aws, aws_account: Cloud, make_run: MakeRun, classifold: Classifold, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("classifold.aws.deploy.wait_for_endpoint", interrupt)
    answer = classifold("deploy", make_run("rose"))
    assert answer.code == 130
    assert "endpoint petals: it may be under way, and costs 0.13 USD an hour" in answer.err
    assert "classifold undeploy petals" in answer.err
    monkeypatch.undo()


def test_the_table_of_endpoints_fits_sixty_columns(shop: Aws) -> None:
    from datetime import UTC, datetime

    row = EndpointRow(
        name="flowers-classification-live",
        status="InService",
        hosting=Hosting("real-time", "ml.m5.xlarge", 2, max_count=8),
        num_machines=5,
        model_name="flowers-classification-live-2026-01-01-00-00-00",
        run_name="efficientnet-lite0-2026-01-01-00-00-00",
        usd_per_hour=1.285,
        price_source="a table",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        failure_reason="",
    )
    lines = format_table(build_endpoints_table([row]), width=60).splitlines()
    assert max(map(len, lines)) <= 60
    assert re.search(r"1\.2[89] USD", " ".join(lines))


def test_an_endpoint_keeps_role_and_image_from_being_removed_without_it(
    shop: Aws, make_run: MakeRun, classifold: Classifold
) -> None:
    assert classifold("deploy", make_run("rose")).code == 0
    refused = classifold("destroy", "petals-role", "--yes")
    assert refused.code == 1
    assert "endpoint petals: it answers requests, and needs what would be removed" in refused.err
    assert client("iam").get_role(RoleName="petals-role")


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_whether_something_was_removed_decides_the_exit_code(
    shop: Aws,
    make_run: MakeRun,
    classifold: Classifold,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
) -> None:
    assert classifold("deploy", make_run("rose")).code == 0
    for words, several in ((("undeploy", "petals"), 1), (("destroy",), 20)):
        keyboard, terminal = os.openpty()
        os.write(keyboard, f"{answer}\n".encode() * several)
        with os.fdopen(terminal, encoding="utf-8") as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            assert classifold(*words).code == code
        os.close(keyboard)
    left = client("sagemaker").list_endpoints()["Endpoints"]
    assert bool(left) == (answer == "n")


def test_an_endpoint_that_is_being_changed_is_left_alone(
    shop: Aws, make_run: MakeRun, classifold: Classifold, aws_account: Cloud
) -> None:
    assert classifold("deploy", make_run("rose")).code == 0
    aws_account.set_hosting(bake_seconds=3)
    first, second = make_run("tulip"), make_run("daisy")
    updating = threading.Thread(target=_update, args=(shop, first))
    updating.start()
    until = time.monotonic() + 30
    while client("sagemaker").describe_endpoint(EndpointName="petals")["EndpointStatus"] != "Updating":
        assert time.monotonic() < until
        time.sleep(0.02)
    answer = classifold("deploy", second)
    updating.join()
    assert answer.code == 1
    assert "it is being changed: Updating" in answer.err


def _update(aws: Aws, run: Path) -> None:
    from classifold.aws.deploy import deploy_model
    from classifold.aws.deploy_plan import DeployOptions

    deploy_model(
        aws, str(run), DeployOptions("petals", Hosting("real-time", "ml.m5.large")), tell=lambda _: None
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"threshold": 0.8}, {"threshold": 0.8, "top_k": 3}),
        ({"error": 0.01, "top_k": 5}, {"error": 0.01, "top_k": 5}),
        ({"always_answer": True}, {"always_answer": True}),
    ],
)
def test_the_server_reads_the_options_as_they_were_given(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    from classifold.cli.deploy import build_environment
    from classifold.serve.options import build_options
    from classifold.settings.loader import build_config

    values = {"top_k": None, "threshold": None, "error": None, "always_answer": False, **given}
    environment = build_environment(build_config({"MAX_PIXELS": 1000}), "classifold deploy", values)
    options = build_options({"run": Path("model")}, environment)
    assert {name: getattr(options, name) for name in expected} == expected
    assert options.max_pixels == 1000
