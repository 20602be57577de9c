"""The programs that are recorded: each has ``SCENARIOS``, a table of functions without arguments, by name.

They run in the environment of a family, know its client library and OpenTelemetry's API, and nothing of this project.
"""
