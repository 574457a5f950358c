"""Retries while a database server is away, with a message to the user and a time limit."""

from __future__ import annotations

import functools
import logging
import os
import re
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from lab.tracking.databases import print_message

P = ParamSpec("P")
T = TypeVar("T")

START_S, RESTART_S = 20.0, 180.0
"""Seconds to wait for a database server: at the start, and later."""
TELL_S = 5.0
ATTEMPTS = 5
FOR_GOOD = re.compile(
    r"password|authenticat|access denied|permission denied|does not exist|unknown database|no pg_hba|"
    r"resolve host|translate host|name or service not known|no such table|read-?only",
    re.IGNORECASE,
)
"""Server messages for which a retry is useless."""
HTTP = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
"""MLflow's own retries, limited to about a minute instead of four and a half; the user's settings come first."""


def for_good(error: BaseException) -> bool:
    """Whether a retry would give the same error."""
    return FOR_GOOD.search(str(error)) is not None


def retry_while_away(work: Callable[[], T], what: str, patience_s: float) -> T:
    """Call `work` again and again while a database server is away.

    Raises OSError after `patience_s`, and the error of `work` where waiting cannot help.
    """
    started, told = time.monotonic(), -TELL_S
    while True:
        try:
            return work()
        except Exception as error:
            if for_good(error) or (not isinstance(error, DBAPIError) and type(error).__name__ != "OperationalError"):
                raise
            reason = " ".join(str(getattr(error, "orig", None) or error).split())
            waited = time.monotonic() - started
            if waited > patience_s:
                raise OSError(f"{what} has not answered for {patience_s:.0f} s ({reason})") from error
            if waited - told >= TELL_S:
                told = waited
                print_message(f"waiting for {what}, {patience_s - waited:.0f} s more at most ({reason})")
            time.sleep(0.5)


def patient_trials(url: str, what: str) -> optuna.storages.RDBStorage:
    """Optuna's storage on a server, which tests connections before use and retries calls that a restart interrupted.

    Each method of the storage is one transaction, so a retry is safe.
    """
    storage = retry_while_away(
        lambda: optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True}), what, RESTART_S
    )

    @event.listens_for(storage.engine, "do_connect")
    def connect(dialect: Any, _: Any, arguments: list[Any], settings: dict[str, Any]) -> Any:
        return retry_while_away(lambda: dialect.connect(*arguments, **settings), what, RESTART_S)

    inner = ("_create_new_trial", "_set_trial_param", "_get_best_trial_id", "_get_trials")  # called by Optuna's cache
    for name in {*optuna.storages.BaseStorage.__abstractmethods__, *inner}:
        setattr(storage, name, retried(getattr(storage, name), what))
    return storage


def retried(method: Callable[P, T], what: str) -> Callable[P, T]:
    """A method of a storage that is retried where its connection breaks."""

    @functools.wraps(method)
    def again(*args: P.args, **kwargs: P.kwargs) -> T:
        for attempt in range(ATTEMPTS):
            try:
                return method(*args, **kwargs)
            except UpdateFinishedTrialError:
                if attempt == 0:
                    raise
                return True  # type: ignore[return-value]  # the first attempt arrived before the break
            except (StorageInternalError, SQLAlchemyError) as error:
                if attempt == ATTEMPTS - 1 or not broken(error):
                    raise
                print_message(f"the connection to {what} broke; trying again")
        raise AssertionError("unreachable")

    return again


def broken(error: Exception) -> bool:
    """Whether an error means that the server has closed the connection."""
    inner = error.__cause__ if isinstance(error, StorageInternalError) else error
    return isinstance(inner, DBAPIError) and inner.connection_invalidated


def announce_waiting(what: str) -> None:
    """Limit how long MLflow waits for its server, and print that it waits."""
    for name, value in HTTP.items():
        os.environ.setdefault(name, value)
    logger = logging.getLogger("urllib3.connectionpool")
    for handler in [one for one in logger.handlers if isinstance(one, Waiting)]:
        logger.removeHandler(handler)
    logger.addHandler(Waiting(what))
    logger.propagate = False


class Waiting(logging.Handler):
    """Prints a line for each of urllib3's retries."""

    def __init__(self, what: str) -> None:
        super().__init__(logging.WARNING)
        self.what = what

    def emit(self, record: logging.LogRecord) -> None:
        """Print that the server is awaited, and why."""
        found = re.search(r"([\w ]*(?:refused|timed out|reset|closed|unreachable|aborted)[\w ]*)", record.getMessage())
        print_message(f"waiting for {self.what}, about a minute at most ({found[1].strip() if found else 'no answer'})")
