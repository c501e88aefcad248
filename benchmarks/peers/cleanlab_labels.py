"""Cleanlab's rankings of labels: from given probabilities, and by its own defaults from features.

    python cleanlab_labels.py GIVEN.npz ANSWER.npz

GIVEN holds features (N, F), labels (N,), and probabilities `first` and `final`, (N, C) each. ANSWER gets a
score (N,) for every way, higher where a label is more probably wrong, and `count`, cleanlab's number of wrong
labels for each of the two.
"""

import sys

import numpy as np
from cleanlab import Datalab
from cleanlab.classification import CleanLearning
from cleanlab.count import num_label_issues
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

given = np.load(sys.argv[1])
labels, features = given["labels"], given["features"]
answer = {}
for name in ("first", "final"):
    probabilities = given[name]
    for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        answer[f"{name} {method}"] = -get_label_quality_scores(labels, probabilities, method=method)
    scores = -get_label_quality_scores(labels, probabilities)
    issues = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence")
    scores[issues] = 2 - np.arange(len(issues)) / max(1, len(issues))  # issues first, in their order
    answer[f"{name} find_label_issues"] = scores
    answer[f"count {name}"] = np.array([num_label_issues(labels, probabilities)])
# Its defaults: CleanLearning brings its own model, scikit-learn's LogisticRegression in five folds.
scaled = (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)
answer["CleanLearning"] = -CleanLearning().find_label_issues(scaled, labels)["label_quality"].to_numpy()
lab = Datalab({"label": labels}, label_name="label", verbosity=0)
lab.find_issues(features=features, issue_types={"label": {}})
answer["Datalab features"] = -lab.get_issues("label")["label_score"].to_numpy()
np.savez(sys.argv[2], **answer)
