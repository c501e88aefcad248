"""`python -m classifold`: the command line, for where the script `classifold` is not on the PATH."""

import os
import sys


def _leave_working_folder() -> None:
    """Take the working directory off the module path, where `python -m` puts it before the standard library.

    A user's random.py there would be imported in place of Python's.
    """
    try:
        folder = os.getcwd()  # noqa: PTH109 - pathlib, too, is still to be imported
    except OSError:  # the folder was removed
        folder = ""
    if not sys.flags.safe_path and sys.path[:1] in ([folder], [""]):
        del sys.path[0]


if __name__ == "__main__":
    _leave_working_folder()

    from classifold.cli.main import main

    sys.exit(main())
