"""Fixtures of tests that train on a corpus."""

from support.studies import corpus  # noqa: F401 - a fixture
