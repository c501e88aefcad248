"""What an answer is worth: calibrated probabilities, when to say "unknown", and why the model answered so."""
