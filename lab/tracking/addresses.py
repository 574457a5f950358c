"""Checks of the addresses in `MLFLOW_TRACKING_URI` and `OPTUNA_STORAGE` before they are used."""

from __future__ import annotations

import re
import socket
import urllib.request
from urllib.parse import urlsplit

import sqlalchemy
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from lab.tracking.databases import TRIALS_KIND, DatabaseKind, refuse_another
from lab.tracking.patience import START_S, for_good, retry_while_away

DATABASES = ("sqlite", "postgresql", "mysql", "mssql", "oracle")


def without_password(address: str) -> str:
    """Address without its password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", address)


def check_address(address: str, kind: DatabaseKind) -> None:
    """Raises ValueError for an unusable address: no scheme, no driver, unknown host, no database.

    Looks up the server's name and does not connect; `check_server` connects.
    """
    named = f"{kind.setting}={without_password(address)}"
    scheme = re.match(r"([A-Za-z][\w+.-]*)://", address)
    if scheme is None or scheme[1] == "file":
        if kind is TRIALS_KIND:
            raise ValueError(f"{named} is no database; write sqlite:////folder/optuna.db, or leave it out")
        if re.fullmatch(r"[\w.-]+:\d+(/.*)?", address):
            raise ValueError(f"{named} has no scheme: write http://{address}")
        if re.match(r"(databricks|uc)\b", address):
            return
        raise ValueError(
            f"{named} is a folder, and MLflow keeps runs in a database: write sqlite:////folder/mlflow.db or the "
            "address of a server, or leave it out (LAB_RUNS names the folder of the lab's own database)"
        )
    if scheme[1] in ("http", "https"):
        if kind is TRIALS_KIND:
            raise ValueError(f"{named} is no database; Optuna needs one, such as postgresql+psycopg://user@host/name")
        check_host(address, named)
    elif scheme[1] == "sqlite" and not address.startswith("sqlite:///"):
        raise ValueError(f"{named} is no address of a database; write sqlite:////folder/name.db")
    elif kind is TRIALS_KIND or scheme[1].partition("+")[0] in (*DATABASES, "postgres"):
        check_driver(address, named)


def check_host(address: str, named: str) -> None:
    """Raises ValueError where a server's name does not resolve, unless a proxy may resolve it."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or 80
    except ValueError as error:
        raise ValueError(f"{named} is no address ({error})") from None
    if not host:
        raise ValueError(f"{named} names no host: write http://host:5000")
    if urllib.request.getproxies():
        return
    try:
        socket.getaddrinfo(host, port)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{named}: there is no host {host!r} ({error})") from None


def check_driver(address: str, named: str) -> URL:
    """Raises ValueError where SQLAlchemy cannot read an address or lacks its driver."""
    if address.startswith("postgres://"):
        raise ValueError(f"{named}: write postgresql+psycopg:// in place of postgres://")
    try:
        url = make_url(address)
        url.get_dialect().import_dbapi()
    except ImportError as error:
        advice = f"install the driver ({error})"
        if address.startswith("postgresql"):
            advice = "pip install 'gadfree[postgres]', and write postgresql+psycopg://"
        raise ValueError(f"{named}: there is no driver for it here; {advice}") from None
    except (ArgumentError, NoSuchModuleError) as error:
        raise ValueError(f"{named} is no address of a database ({error})") from None
    return url


def check_server(address: str, kind: DatabaseKind) -> None:
    """Check that a database server accepts the login and holds the right tables; does nothing for other addresses.

    Raises ValueError where the server refuses for good or the database belongs to another program, OSError where it
    does not answer.
    """
    scheme = address.partition(":")[0].partition("+")[0]
    if scheme not in DATABASES or scheme == "sqlite":
        return
    named = f"{kind.setting}={without_password(address)}"
    engine = sqlalchemy.create_engine(address)

    def ask() -> tuple[set[str], str | None]:
        with engine.connect() as connection:
            tables = set(sqlalchemy.inspect(connection).get_table_names())
            if "alembic_version" not in tables:
                return tables, None
            row = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).first()
            return tables, row[0] if row else None

    try:
        tables, revision = retry_while_away(ask, named, START_S)
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        if for_good(error):
            raise ValueError(f"{named}: {reason}") from None
        raise OSError(f"{named}: {reason}") from error
    finally:
        engine.dispose()
    refuse_another(tables, revision, kind, named)
