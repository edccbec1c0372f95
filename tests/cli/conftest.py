"""Fixtures of tests that run studies."""

from support.studies import *  # noqa: F403 - fixtures
