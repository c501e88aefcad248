"""Compares finished runs from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from classifold.api.paths import PathLike, parse_path
from classifold.settings.config import Config

if TYPE_CHECKING:
    from classifold.api.run import Run
    from classifold.comparison.result import Comparison


def compare(*runs: PathLike | Run, common: bool = False) -> Comparison:
    """Compare finished runs on the same evaluation pictures, each with the first one.

    Args:
        runs: Two runs or more: each a `Run`, its folder, or the name of a run in `runs`.
        common: True to compare on the evaluation pictures that all runs have, where their sets differ;
            otherwise such runs are refused.

    Raises:
        ClassifoldError: Fewer than two different runs are given, one is missing, damaged or not finished, or
            they were evaluated on different pictures.

    Example:
        >>> import classifold
        >>> found = classifold.compare("runs/first", "runs/second")
        >>> found.pairs[0].better, found.pairs[0].worse
        (0, 0)
        >>> print(found.sentences[0])
        B and A are right on all 9 pictures: no difference.
    """
    from pathlib import Path

    from classifold.comparison.compare import compare_runs

    paths = [parse_path(run, where="classifold.compare") for run in runs]
    return compare_runs(
        paths,
        runs_dir=Path(Config.model_fields["RUNS_DIR"].get_default()),
        only_common=common,
        common_option="common=True",
        resume="classifold.train(folder, resume=True)",
    )
