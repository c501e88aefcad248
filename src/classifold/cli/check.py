"""The command `check`: what is wrong with the pictures, a page that shows it, and a plan that fixes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifold.asking import asked_for
from classifold.cli.options import (
    PATH,
    check_is_pictures,
    folder_argument,
    json_option,
    list_given_options,
    load_pictures_settings,
    takes_settings,
)
from classifold.errors import Fault, UsageError

if TYPE_CHECKING:
    from classifold.datacheck.check import Checked
    from classifold.datacheck.sets import EstimateJob
    from classifold.settings.config import Config

# Parameters of `check` that do not belong into the command that trains.
_OWN = (
    *("as_json", "is_quick", "is_opened", "output_dir", "run_dir", "plan_path"),
    *("applied", "is_undone", "fail_on", "baseline_path"),
)
# Options that change the data, and those of a check, by parameter.
_MENDING = {"applied": "--apply", "is_undone": "--undo"}
_CHECKING = {
    "is_quick": "--quick",
    "is_opened": "--open",
    "output_dir": "--output",
    "run_dir": "--run",
    "plan_path": "--plan",
    "fail_on": "--fail-on",
    "baseline_path": "--baseline",
}


@click.command()
@folder_argument
@click.option(
    "--quick", "is_quick", is_flag=True, help="Do not look at labels and shortcuts again, which takes longer."
)
@click.option("--open", "is_opened", is_flag=True, help="Open the page in the browser at the end.")
@click.option(
    "--output",
    "output_dir",
    type=PATH,
    metavar="DIR",
    help="Folder of check.html and check.json (default: FOLDER-check, beside it).",
)
@click.option(
    "--run",
    "run_dir",
    type=PATH,
    metavar="RUN",
    help="A finished run: show its accuracy on each kind of unusual picture (default: the newest run on "
    "this data).",
)
@click.option(
    "--plan", "plan_path", type=PATH, metavar="FILE", help="Write a plan that fixes what was found."
)
@click.option(
    "--apply", "applied", type=PATH, metavar="FILE", help="Carry out a plan; no picture is deleted."
)
@click.option("--undo", "is_undone", is_flag=True, help="Take back the plan that was applied last.")
@click.option(
    "--fail-on",
    "fail_on",
    metavar="KINDS",
    help="Exit with code 1 if any finding of these kinds is found, such as leaks,labels; see docs/check.md.",
)
@click.option(
    "--baseline",
    "baseline_path",
    type=PATH,
    metavar="FILE",
    help="An earlier check.json; --fail-on then counts only what is new.",
)
@json_option
@takes_settings
def check(
    folder: Path | None,
    is_quick: bool,
    is_opened: bool,
    output_dir: Path | None,
    run_dir: Path | None,
    plan_path: Path | None,
    applied: Path | None,
    is_undone: bool,
    fail_on: str | None,
    baseline_path: Path | None,
    as_json: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
) -> int:
    """Find what makes the scores wrong, and fix it.

    Reads FOLDER (default: DATA_LOCAL_DIR), or a listing, named as FOLDER or by DATA_MANIFEST. Finds copies
    and leaks, labels that are probably wrong, shortcuts, unusual pictures, and sets that are too small, and
    shows what split would do. Writes a page that opens offline, check.html, and check.json to FOLDER-check;
    with --json, it writes them only if --output is given. No picture is changed.

    --plan writes a plan as CSV: edit it in any spreadsheet. --apply then moves pictures to another class or
    to FOLDER-quarantine, and --undo takes that back. The exit code is 1 if the data cannot be split, or if
    --fail-on names something that was found.
    """
    check_is_pictures(folder, command="classifold check")
    config = load_pictures_settings("classifold check", folder, config_path, overrides)
    _check_together(click.get_current_context().params)
    if is_undone or applied is not None:
        _mend(config, applied, as_json=as_json)
        return 0
    from classifold.atomic import check_has_folder
    from classifold.cli.check_answers import CheckAnswer, print_checked
    from classifold.datacheck.baseline import find_reasons, parse_fail_on
    from classifold.datacheck.check import check_pictures, find_newest_run
    from classifold.findings import read_findings
    from classifold.report.records import iter_predictions

    # What is wrong with the options is reported before the pictures are read, which may take hours.
    kinds = () if fail_on is None else parse_fail_on(fail_on)
    if plan_path is not None:
        check_has_folder(plan_path)
    if run_dir is not None:
        next(iter_predictions(run_dir), None)
    baseline = None if baseline_path is None else read_findings(baseline_path)
    run = run_dir or find_newest_run(config)
    checked = check_pictures(config, is_quick=is_quick, run_dir=run, estimate_job=_price(config))
    reasons = find_reasons(checked.findings, kinds, baseline=baseline)
    # A page without a picture would help nobody, least of all beside a folder whose name was misspelt.
    is_shown = output_dir is not None or not (as_json or checked.is_empty)
    page = _write_page(checked, config, output_dir) if is_shown else None
    if plan_path is not None:
        from classifold.datacheck.plan import write_plan

        write_plan(plan_path, checked.plan)
    context = click.get_current_context()
    with asked_for(folder, options=list_given_options(context, _OWN)):
        answer = CheckAnswer(checked, reasons=reasons, page=page, plan=plan_path)
        print_checked(answer, is_opened=is_opened, as_json=as_json)
    return 1 if checked.report.faults or reasons else 0


def _check_together(values: Mapping[str, Any]) -> None:
    """Refuse options that make no sense together.

    Args:
        values: Value of each parameter of `check`.

    Raises:
        UsageError: --apply or --undo has options of a check beside it, or --baseline is without --fail-on.
    """
    mending = [option for name, option in _MENDING.items() if values[name]]
    others = [option for name, option in _CHECKING.items() if values[name]]
    if len(mending) > 1:
        fault = Fault("classifold check", f"{' and '.join(mending)} exclude each other", hint="leave one out")
    elif mending and others:
        what = f"{mending[0]} moves pictures and checks none, so {others[0]} does nothing here"
        fault = Fault("classifold check", what, hint=f"leave out {others[0]}, and check again afterwards")
    elif values["baseline_path"] and not values["fail_on"]:
        what = "--baseline does nothing without --fail-on"
        fault = Fault(
            "classifold check", what, hint="name what must not be new, such as --fail-on leaks,labels"
        )
    else:
        return
    raise UsageError(fault)


def _price(config: Config) -> EstimateJob:
    """Return the function from minutes here to minutes and price on the configured machine; asks nobody."""
    from classifold.aws.cost import find_list_price
    from classifold.datacheck.sets import scale_to_machine
    from classifold.machine import count_cores

    def estimate(minutes: float) -> tuple[float | None, float | None]:
        there = scale_to_machine(minutes, config.INSTANCE_TYPE, num_cores=count_cores())
        price = find_list_price(config.PROJECT_REGION, config.INSTANCE_TYPE)
        return there, None if there is None or price is None else there / 60 * price.usd_per_hour

    return estimate


def _write_page(checked: Checked, config: Config, output_dir: Path | None) -> Path | None:
    """Write check.html and check.json; return the page's path, None where the default place refuses.

    Raises:
        DiskError: The folder that the user named cannot be written.
    """
    from classifold.datacheck.check import choose_check_dir
    from classifold.datacheck.output import write_output
    from classifold.errors import DiskError
    from classifold.progress import say

    if output_dir is not None:
        return write_output(checked, config, output_dir)
    try:
        return write_output(checked, config, choose_check_dir(config))
    except DiskError as error:  # as on a read-only disk: the answer below is still of use
        why = f"{error.faults[0].where}: {error.faults[0].what}"
        say(f"note: the page was not written: {why}; --output DIR names another folder")
        return None


def _mend(config: Config, applied: Path | None, *, as_json: bool) -> None:
    """Carry out a plan; None takes the last one back."""
    from classifold.cli.check_answers import print_applied, print_new_listing, print_undone

    data_dir = Path(config.DATA_LOCAL_DIR)
    if applied is None:
        from classifold.datacheck.apply import undo

        if config.DATA_MANIFEST:
            what = "a plan for a listing moved no file, so there is nothing to take back"
            raise UsageError(
                Fault("classifold check", what, hint="use the old listing again; it was not changed")
            )
        print_undone(undo(data_dir), as_json=as_json)
    elif config.DATA_MANIFEST:
        from classifold.datacheck.new_listing import write_new_listing
        from classifold.datacheck.plan import read_plan

        written = write_new_listing(
            Path(config.DATA_MANIFEST),
            read_plan(applied),
            plan=applied,
            root=config.MANIFEST_ROOT,
            class_column=config.MANIFEST_CLASS,
        )
        print_new_listing(written, as_json=as_json)
    else:
        from classifold.datacheck.apply import apply_plan
        from classifold.datacheck.places import find_class_folders

        # Classes of nested folders are named by the last one, so a plan does not say where they are.
        nested = find_class_folders(data_dir) if config.CLASS_FOLDER == "innermost" else None
        print_applied(apply_plan(data_dir, applied, class_folders=nested), as_json=as_json)
