"""Sessions with PostgreSQL, and what its errors mean to civicbus, in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from civicbus.errors import AccessDenied, CivicbusError, ConfigurationError, Fenced, Unavailable
from civicbus.settings import Endpoints

Session = psycopg.Connection[tuple[object, ...]]

# A server that went away without a word is noticed within a minute.
_DEFAULTS: dict[str, str | int] = {
    "connect_timeout": 10,
    "application_name": "civicbus",
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
_ROW_FAULTS = {"22", "23", "54", "P0"}  # data, constraint, limit, raised by a trigger
_RAISED = "at RAISE"
_OVERTAKEN = {"40"}  # serialization, deadlock
_WAITED_FOR = {"08", "25", "53", "55", "57", "58"}  # connection, ended transaction, resources, locks, operator, disk


def connect(endpoints: Endpoints, *, role: str, password: str, database: str) -> Session:
    """A session that commits each statement by itself; raises Unavailable or AccessDenied."""
    with translated():
        return psycopg.connect(
            host=endpoints.database_host,
            port=endpoints.database_port,
            user=role,
            password=password,
            dbname=database,
            autocommit=True,
            connect_timeout=10,
            application_name="civicbus",
        )


def connect_to(place: str) -> Session:
    """A session at a libpq connection string, as ``connect``; no fault quotes the string."""
    with translated():
        try:
            given = {name: value for name, value in conninfo_to_dict(place).items() if value is not None}
        except psycopg.ProgrammingError:
            raise ConfigurationError(
                "this is no connection string of PostgreSQL",
                mend="write postgresql://user:password@host:5432/database?sslmode=verify-full",
            ) from None
        return psycopg.connect(make_conninfo("", **{**_DEFAULTS, **given}), autocommit=True)


def is_row_fault(error: psycopg.Error) -> bool:
    """Whether one row is to blame, so that the others go in without it."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.DataError)
    return error.sqlstate[:2] in _ROW_FAULTS or _is_own(error.sqlstate)


def _is_own(code: str) -> bool:
    """Whether PostgreSQL has no such code, so that a trigger of the department gave it."""
    try:
        psycopg.errors.lookup(code)
    except KeyError:
        return True
    return False


def row_fault(error: psycopg.Error) -> str:
    """What was wrong with a row, without its values, which PostgreSQL's own messages quote."""
    places = [place for place in (error.diag.column_name, error.diag.constraint_name) if place]
    return " ".join([error.sqlstate or "", type(error).__name__, *places]).strip()


def fault_of(error: psycopg.Error) -> CivicbusError:
    """The civicbus fault that an error is. The text of one that quotes values is left out."""
    kind = (error.sqlstate or "")[:2]
    if kind in _OVERTAKEN:
        return Fenced(f"PostgreSQL: {row_fault(error)}")
    if error.sqlstate and is_row_fault(error):
        return ConfigurationError(f"PostgreSQL: {row_fault(error)}")
    text = f"PostgreSQL: {_said(error)}"
    if kind == "28" or error.sqlstate == "42501" or _refused_at_the_door(error):
        return AccessDenied(text, mend="check the principal's secret and rights (docs/security.md)")
    if kind in _WAITED_FOR or (not kind and isinstance(error, psycopg.OperationalError)):
        return Unavailable(text)
    return ConfigurationError(text)


def _said(error: psycopg.Error) -> str:
    """PostgreSQL's own words; those of a department's function may tell values."""
    if _RAISED in (error.diag.context or ""):
        return row_fault(error)
    return error.diag.message_primary or str(error).strip()


@contextmanager
def translated() -> Iterator[None]:
    """Raise civicbus faults in place of psycopg's."""
    try:
        yield
    except psycopg.Error as error:
        raise fault_of(error) from error


def _refused_at_the_door(error: psycopg.Error) -> bool:
    """The server asked for the password and then ended the connection; libpq keeps no code of the reason."""
    return error.sqlstate is None and error.pgconn is not None and error.pgconn.used_password
