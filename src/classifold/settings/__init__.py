"""The settings: one frozen Config, the settings file, and the checks on both."""
