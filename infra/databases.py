"""One PostgreSQL role and one database for each department, and nobody in anybody else's.

Promise: a department's role logs in to the database of its own name only, which it owns; it is no superuser,
and makes neither roles nor databases. The server gets a salted hash of a password, never the password. The
server is civicbus's own: databases of strangers are not touched, but one that lets everybody in is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from civicbus.errors import ConfigurationError
from civicbus.names import DepartmentId
from civicbus.postgres import Session, connect, translated
from civicbus.schemas.datasets import Title
from civicbus.secrets import OPERATOR, Credentials, Principal
from civicbus.settings import Endpoints

OPERATOR_ROLE = "civicbus_operator"
MAINTENANCE_DATABASE = "postgres"

# Any number that nobody else locks; it makes one provisioning wait for another.
_PROVISIONING = 0x63697669


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartmentDatabase:
    """A department's database as the server has it."""

    department: DepartmentId
    title: Title | None


@contextmanager
def session(endpoints: Endpoints, credentials: Credentials, database: str | None = None) -> Iterator[Session]:
    """A connection without a transaction around it; a department's own database where none is named."""
    role = role_of(credentials.principal)
    own = MAINTENANCE_DATABASE if credentials.principal == OPERATOR else role
    connection = connect(endpoints, role=role, password=credentials.password, database=database or own)
    with translated(), connection:
        yield connection


def authenticate(endpoints: Endpoints, credentials: Credentials) -> None:
    """Raises AccessDenied where the server refuses the credentials, Unavailable where it does not answer."""
    with session(endpoints, credentials):
        pass


def role_of(principal: Principal) -> str:
    """The database role that shares the principal's secret."""
    return OPERATOR_ROLE if principal == OPERATOR else principal


def claim_server(database_url: str, operator: Credentials) -> None:
    """Make the operator's role on a server that somebody else runs, as its superuser."""
    with translated(), psycopg.connect(database_url, autocommit=True) as connection:
        if _one(connection, "SELECT oid FROM pg_roles WHERE rolname = %s", OPERATOR_ROLE) is None:
            connection.execute(SQL("CREATE ROLE {}").format(Identifier(OPERATOR_ROLE)))
        connection.execute(SQL("ALTER ROLE {} LOGIN SUPERUSER").format(Identifier(OPERATOR_ROLE)))
        set_secret(connection, operator)


def provision_databases(operator: Session, departments: Sequence[Credentials]) -> None:
    """Make what is missing, give every role its secret, and close every database to everybody else."""
    operator.execute("SELECT pg_advisory_lock(%s)", (_PROVISIONING,))
    for credentials in departments:
        _provision_role(operator, credentials)
        _provision_database(operator, role_of(credentials.principal))
    _close_to_the_public(operator)
    operator.execute("SELECT pg_advisory_unlock(%s)", (_PROVISIONING,))


def set_secret(session: Session, credentials: Credentials) -> None:
    """Give a role its secret; sessions that are open stay open."""
    role = role_of(credentials.principal)
    verifier = session.pgconn.encrypt_password(credentials.password.encode(), role.encode(), b"scram-sha-256")
    session.execute(SQL("ALTER ROLE {} PASSWORD {}").format(Identifier(role), Literal(verifier.decode())))


def set_title(operator: Session, department: DepartmentId, title: Title) -> None:
    """Keep a department's name in both languages with its database."""
    text = json.dumps({"zh": title.zh, "en": title.en}, ensure_ascii=False)
    operator.execute(SQL("COMMENT ON DATABASE {} IS {}").format(Identifier(department), Literal(text)))


def department_databases(operator: Session) -> list[DepartmentDatabase]:
    """The departments that have a database of their name."""
    rows = operator.execute(
        "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database"
        " WHERE pg_get_userbyid(datdba) = datname ORDER BY datname"
    )
    return [DepartmentDatabase(department=DepartmentId(str(name)), title=_title(comment)) for name, comment in rows]


def _provision_role(operator: Session, credentials: Credentials) -> None:
    role = role_of(credentials.principal)
    powers = operator.execute(
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls"
        " FROM pg_roles WHERE rolname = %s",
        (role,),
    ).fetchone()
    if powers is None:
        operator.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(role)))
    elif powers[0]:
        raise ConfigurationError(
            f"the database role {role} may do more than a department's role",
            mend="choose another department name, or take its powers by ALTER ROLE",
        )
    set_secret(operator, credentials)


def _provision_database(operator: Session, role: str) -> None:
    """Closed until PUBLIC is shut out, so that no role slips in between the two statements."""
    owner = _one(operator, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", role)
    if owner is None:
        create = "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS false"
        operator.execute(SQL(create).format(Identifier(role), Identifier(role)))
    elif owner != role:
        raise ConfigurationError(
            f"the database {role} belongs to {owner}", mend="choose another department name, or ALTER DATABASE … OWNER"
        )
    if _one(operator, "SELECT datallowconn FROM pg_database WHERE datname = %s", role) is False:
        _revoke_from_public(operator, role)
        operator.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(Identifier(role)))


def _close_to_the_public(operator: Session) -> None:
    open_to_all = operator.execute(
        "SELECT datname, pg_get_userbyid(datdba) FROM pg_database"
        " WHERE datallowconn AND has_database_privilege('public', oid, 'CONNECT')"
    ).fetchall()
    for name, owner in open_to_all:
        if name not in {MAINTENANCE_DATABASE, "template1"} and owner not in {name, OPERATOR_ROLE}:
            raise ConfigurationError(
                f"the database {name} of {owner} lets every role connect",
                mend=f'give civicbus a server of its own, or run REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC',
            )
        _revoke_from_public(operator, str(name))


def _revoke_from_public(operator: Session, database: str) -> None:
    operator.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(Identifier(database)))


def _title(comment: object) -> Title | None:
    if not isinstance(comment, str):
        return None
    try:
        found = json.loads(comment)
        return Title(zh=found["zh"], en=found["en"])
    except (ValueError, TypeError, KeyError):
        return None


def _one(session: Session, query: LiteralString, argument: str) -> object:
    row = session.execute(query, (argument,)).fetchone()
    return None if row is None else row[0]
