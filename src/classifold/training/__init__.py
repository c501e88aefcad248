"""From three sets of pictures to a trained, measured and exported model."""
