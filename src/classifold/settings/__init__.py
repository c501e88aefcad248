"""The settings: one frozen Config, how a settings file is read, and what must hold between settings."""
