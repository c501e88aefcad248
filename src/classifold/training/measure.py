"""Builds the content of metrics.json: scores, calibration, answers, and the estimate for left-out classes."""

from __future__ import annotations

from classifold.metrics import Calibration, Metrics
from classifold.settings.config import Config
from classifold.training.calibrate import SetOutputs, Trust
from classifold.training.evaluate import Answers, build_metrics, measure_calibration, reliability_table
from classifold.trust.coverage import measure_answers
from classifold.trust.temperature import softmax
from classifold.trust.unseen import measure_unseen


def measure_run(answers: Answers, config: Config, *, trust: Trust, seen: SetOutputs) -> Metrics:
    """Return the content of metrics.json but for the pictures that could not be read.

    Args:
        answers: The model's for the evaluation set.
        config: The settings.
        trust: How the model was calibrated, and when it answers.
        seen: What the head saw of the same pictures.
    """
    options = {
        "num_bins": config.CALIBRATION_BINS,
        "num_samples": config.BOOTSTRAP_SAMPLES,
        "seed": config.RANDOM_SEED,
    }
    scores = build_metrics(answers, top_k=config.TOP_K, **options)
    before = Answers(seen.labels, softmax(seen.logits), answers.class_names, seen.keys)
    calibrator = trust.calibrator
    calibration = {
        "method": calibrator.method,
        "temperature": calibrator.temperature,
        "num_pictures": calibrator.num_pictures,
        "reliability": reliability_table(before, config.CALIBRATION_BINS),
        **measure_calibration(before, **options),
    }
    return Metrics(
        **scores,
        calibration=Calibration.model_validate(calibration),
        answers=measure_answers(answers.probabilities, answers.labels, answers.distances, trust.answering),
        unseen=measure_unseen(
            trust.training.set_features,
            trust.validation.set_features,
            seen.set_features,
            answers.class_names,
            false_refusals=config.FALSE_REFUSALS,
            seed=config.RANDOM_SEED,
        ),
    )
