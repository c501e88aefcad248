"""`classifold serve`: its options, and how they reach the server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifold.cli.options import PATH, PLACE, chosen_max_pixels, load_settings, takes_settings
from classifold.cli.values import Number, OneOf, Share, WholeNumber

if TYPE_CHECKING:
    from classifold.settings.config import Config


@click.command()
@click.argument("run", metavar="RUN", type=PLACE)
@click.option("--name", metavar="NAME", help="What clients call the model (default: as RUN names it).")
@click.option("--host", metavar="ADDRESS", help="Address to listen on (default: 127.0.0.1, this machine).")
@click.option(
    "--port", type=WholeNumber(0, 65535), metavar="N", help="Port (default: 8080); 0 takes a free one."
)
@click.option("--workers", type=WholeNumber(1, 256), metavar="N", help="Number of processes (default: 1).")
@click.option(
    "--threads",
    type=WholeNumber(1, 1024),
    metavar="N",
    help="Threads per process that read and classify pictures (default: one for each core).",
)
@click.option(
    "--top-k",
    type=WholeNumber(min=1),
    metavar="K",
    help="Classes per picture where a request does not say how many (default: TOP_K).",
)
@click.option("--threshold", type=Share(), metavar="P", help="Minimum confidence, as for predict.")
@click.option(
    "--error",
    type=Share(is_open=True),
    metavar="E",
    help="Say unknown often enough that, on average, at most this share of the answers is wrong, as for "
    "predict.",
)
@click.option("--always-answer", is_flag=True, help="Answer every picture, whatever it shows.")
@click.option(
    "--max-mb",
    type=Number(min=0, min_open=True),
    metavar="MB",
    help="Size of the largest request (default: 32).",
)
@click.option(
    "--max-pictures", type=WholeNumber(min=1), metavar="N", help="Most pictures in one request (default: 64)."
)
@click.option(
    "--timeout",
    type=Number(min=0, min_open=True),
    metavar="SECONDS",
    help="Time to receive a request, and then to answer it (default: 30).",
)
@click.option(
    "--queue",
    type=WholeNumber(min=1),
    metavar="N",
    help="Most pictures that wait; further requests get 429 (default: 256).",
)
@click.option(
    "--connections",
    type=WholeNumber(min=1),
    metavar="N",
    help="Most open connections per process (default: 1000).",
)
@click.option(
    "--grace",
    type=Number(min=0),
    metavar="SECONDS",
    help="Time to answer the requests in progress after SIGTERM or Ctrl-C (default: 30).",
)
@click.option(
    "--drain-wait",
    type=Number(min=0),
    metavar="SECONDS",
    help="After SIGTERM, keep answering new requests this long while /health/ready says 503 (default: 0).",
)
@click.option(
    "--log-format",
    type=OneOf(["text", "json", "none"]),
    help="Format of the log, one line per request (default: text).",
)
@click.option(
    "--data",
    type=PATH,
    metavar="DIR",
    help="Folder of the training pictures: show the nearest ones as thumbnails (default: show only their "
    "names).",
)
@click.option(
    "--allowed-hosts",
    metavar="NAMES",
    help="Host names, separated by commas, that are accepted in the Host header besides loopback names.",
)
@takes_settings
def serve(
    run: str, config_path: Path | None, overrides: tuple[str, ...], always_answer: bool, **given: Any
) -> None:
    """Serve the model of a run over HTTP.

    RUN is as for predict. The address /docs describes the interface: POST /predict, SageMaker's
    /invocations, and the open inference protocol V2. Without --host the server is reached from this machine
    alone.

    Each option has an environment variable, such as CLASSIFOLD_SERVE_MAX_MB for --max-mb. If the variable
    CLASSIFOLD_API_KEY is set, requests must send that key. SIGTERM and Ctrl-C stop the server after it has
    answered the requests in progress; SIGHUP reloads the model without losing a request.
    """
    config = load_settings(config_path, overrides)
    from classifold.serve.options import VARIABLES, build_options, find_name
    from classifold.serve.start import serve as run_server

    if "TOP_K" in config.model_fields_set and VARIABLES["top_k"] not in os.environ:
        given["top_k"] = given["top_k"] or config.TOP_K
    if run[:5].lower() == "s3://" and VARIABLES["name"] not in os.environ:
        given["name"] = given["name"] or find_name(run)
    options = build_options(
        {
            **given,
            "run": _open_place(run, config),
            "runs_dir": Path(config.RUNS_DIR),
            "max_pixels": chosen_max_pixels(config),
            "always_answer": always_answer or None,
        },
        os.environ,
    )
    run_server(options)


def _open_place(run: str, config: Config) -> Path:
    """Return where a run is; one in S3 is fetched. Whatever else it is, is found when the model is loaded."""
    if run[:5].lower() != "s3://":
        return Path(run)
    from classifold.cli.s3_places import LazyS3
    from classifold.predict.archives import open_run

    return open_run(run, runs_dir=Path(config.RUNS_DIR), open_s3=LazyS3(config).open)
