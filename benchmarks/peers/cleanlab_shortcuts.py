"""Cleanlab's check for properties of pictures that are correlated with the class.

    python cleanlab_shortcuts.py FOLDER

Prints a JSON list: the properties whose score is below its own threshold (0.3 by default).
"""

import contextlib
import json
import sys
from pathlib import Path

from cleanlab import Datalab
from datasets import Dataset, Image

paths = sorted(Path(sys.argv[1]).glob("*/*"))
columns = {"image": [str(path) for path in paths], "label": [path.parent.name for path in paths]}
data = Dataset.from_dict(columns).cast_column("image", Image())
with contextlib.redirect_stdout(sys.stderr):
    lab = Datalab(data=data, label_name="label", image_key="image", verbosity=0)
    lab.find_issues()  # the check runs only together with all others
    found = lab.get_info("spurious_correlations")
frame, threshold = found["correlations_df"], found["threshold"]
reported = frame.loc[frame["score"] < threshold, "property"].tolist()
print(json.dumps([name.removesuffix("_score") for name in reported]))
