"""What users call from Python, and what the command line shares with it."""
