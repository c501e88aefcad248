"""The folder of a new project: its settings file, scripts and job template, for users without a checkout."""
