"""Databases of studies and jobs, and MLflow servers: their addresses, and patience while they are gone or locked."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

import optuna
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError

from cspbench.errors import ConfigError
from cspbench.machine import stop
from cspbench.sweep.database import DatabaseError, unusable

T = TypeVar("T")

_CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"

PATIENCE = 300.0
"""Seconds for which a database may be gone before work gives up."""

SHORTEST, LONGEST = 0.5, 10.0
"""Seconds between two tries, doubled from the first to the second."""

CONNECTION = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "tcp_user_timeout": 20_000}
"""Settings of libpq that notice a cut connection within about 20 seconds."""

LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
"""Errors of sqlite that pass by themselves."""

SQLITE_TIMEOUT = 60.0
"""Seconds for which sqlite itself waits for a locked database."""


@dataclass(frozen=True)
class Servers:
    """Addresses of shared servers.

    Attributes:
        storage: database of studies and jobs; None where the sweep keeps its study in its own folder.
        tracking: MLflow server; None where the sweep keeps its runs in its own folder.
        grace: seconds after which a silent worker counts as lost.
    """

    storage: URL | None = None
    tracking: str | None = None
    grace: float = 60.0

    @classmethod
    def of(cls, storage: str | None, tracking: str | None, grace: float = 60.0) -> Servers:
        """Return the servers of two options, or in their place of OPTUNA_STORAGE and MLFLOW_TRACKING_URI.

        Raises:
            ConfigError: an address that cannot be used, or an option with a password, which others see in `ps`.
        """
        for option, text, instead in (
            ("--storage", storage, "PGPASSWORD, a file ~/.pgpass or OPTUNA_STORAGE"),
            ("--tracking-uri", tracking, _CREDENTIALS),
        ):
            _refuse_password(option, text, instead)
        place = _given("--storage", storage, "OPTUNA_STORAGE")
        server = _given("--tracking-uri", tracking, "MLFLOW_TRACKING_URI")
        return cls(place and _database(*place), server and _mlflow(*server), grace)


LOCAL = Servers()
"""No servers: everything lies in the folder of results."""


def linked_server(option: str | None) -> str | None:
    """Return the MLflow server that a page links to, without user and password.

    Args:
        option: of ``--mlflow``; in its place MLFLOW_TRACKING_URI counts where it is the address of a server.

    Raises:
        ConfigError: an address that cannot be used, or an option with a password.
    """
    _refuse_password("--mlflow", option, _CREDENTIALS)
    place = _given("--mlflow", option, "MLFLOW_TRACKING_URI")
    if place is None or (option is None and not place[1].startswith(("http://", "https://"))):
        return None
    return _mlflow(*place)


def _refuse_password(option: str, text: str | None, instead: str) -> None:
    if text is not None and _address(option, text).password:
        raise ConfigError(f"{option}: a password on the command line can be seen by others; use {instead}")


def _given(option: str, text: str | None, variable: str) -> tuple[str, str] | None:
    """Return an address and the name of the option or variable that it comes from."""
    if text is not None:
        return option, text
    return (variable, os.environ[variable]) if os.environ.get(variable) else None


def _address(source: str, text: str) -> URL:
    try:
        return make_url(text)  # also reads http://
    except (ArgumentError, ValueError):
        raise ConfigError(f"{source}: not an address such as postgresql://USER@HOST/DATABASE") from None


def _database(source: str, text: str) -> URL:
    url = _address(source, text)
    if url.get_backend_name() != "postgresql":
        raise ConfigError(f"{source}: must be a postgresql:// database, not {url.get_backend_name()}")
    if find_spec("psycopg") is None:
        raise ConfigError(f"{source}: PostgreSQL needs a driver: pip install 'cspbench[cluster]'")
    return url.set(drivername="postgresql+psycopg")


def _mlflow(source: str, text: str) -> str:
    """Return the address of an MLflow server; user and password go where MLflow looks for them, and into no log."""
    url = _address(source, text)
    if url.drivername not in ("http", "https"):
        raise ConfigError(f"{source}: must be the address of an MLflow server, http://HOST:PORT")
    if url.username and url.password:
        os.environ.setdefault("MLFLOW_TRACKING_USERNAME", url.username)
        os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", str(url.password))
    return URL.create(url.drivername, host=url.host, port=url.port, database=url.database).render_as_string()


def shown(url: URL) -> str:
    """Return an address without its password; the path of a file."""
    return url.database if _is_file(url) and url.database else url.render_as_string(hide_password=True)


def _is_file(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def connect(url: URL) -> Engine:
    """Return an engine that notices connections which were cut."""
    return create_engine(url, pool_pre_ping=True, connect_args=CONNECTION)


def patiently(url: URL, do: Callable[[], T], patience: float | None = None) -> T:
    """Call a function of a database again with growing pauses while the database is gone or locked.

    Args:
        url: of the database, for the message.
        do: one transaction, which may run twice if the first answer was lost.
        patience: seconds after which to give up.

    Raises:
        DatabaseError: it was gone or locked for too long, or its disk is full.
        KeyboardInterrupt: a stop was requested meanwhile.
    """
    began, pause = time.monotonic(), SHORTEST
    patience = PATIENCE if patience is None else patience
    while True:
        try:
            return do()
        except Exception as error:
            cause = _lost(error)
            if cause is None:
                raise
            reason = str(cause.orig).strip().splitlines()[0]
            if isinstance(cause.orig, sqlite3.Error) and cause.orig.sqlite_errorcode & 0xFF not in LOCKED:
                raise unusable(shown(url), reason) from None
            if time.monotonic() - began + pause > patience:
                raise DatabaseError(
                    f"{shown(url)} could not be reached for {patience:g} seconds ({reason}); start again when it is "
                    "back: what was finished is kept"
                ) from None
        stop.check()
        time.sleep(pause)
        pause = min(2 * pause, LONGEST)


def _lost(error: BaseException | None) -> DBAPIError | None:
    """Return the error of a database that is gone or locked, be it wrapped by Optuna or not."""
    while error is not None:
        if isinstance(error, (OperationalError, InterfaceError)):
            return error
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return error
        error = error.__cause__ or error.__context__  # Optuna's own handling may have tripped over it
    return None


class PatientStorage(optuna.storages.RDBStorage):
    """Optuna's storage on a database that may be gone or locked for a while, see `patiently`."""

    def __init__(self, url: URL) -> None:
        self._url = url
        address = url.render_as_string(hide_password=False)
        server = {"pool_pre_ping": True, "connect_args": CONNECTION}
        options = {"connect_args": {"timeout": SQLITE_TIMEOUT}} if _is_file(url) else server
        patiently(url, lambda: super(PatientStorage, self).__init__(address, engine_kwargs=options))


def _patient(name: str) -> Callable[..., Any]:
    method = getattr(optuna.storages.RDBStorage, name)

    def call(self: PatientStorage, *args: Any, **options: Any) -> Any:
        return patiently(self._url, lambda: method(self, *args, **options))

    return call


# All that Optuna's cache in front of a storage calls: the public methods, and these.
_CALLED = ("_create_new_trial", "_get_trials", "_set_trial_param", "get_trial_id_from_study_id_trial_number")
for _name in (*optuna.storages.BaseStorage.__abstractmethods__, *_CALLED):
    setattr(PatientStorage, _name, _patient(_name))
