"""What PostgreSQL's errors mean: one row's, a wait, a twin, or something to mend."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from civicbus.errors import AccessDenied, CivicbusError, ConfigurationError, Fenced, Unavailable
from civicbus.postgres import fault_of, is_row_fault

KINDS = {code[:2] for code in errors._sqlcodes if len(code) == 5}


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (errors.AdminShutdown, Unavailable),
        (errors.TooManyConnections, Unavailable),
        (errors.DiskFull, Unavailable),
        (errors.LockNotAvailable, Unavailable),
        (errors.IdleInTransactionSessionTimeout, Unavailable),
        (errors.ConnectionFailure, Unavailable),
        (errors.DeadlockDetected, Fenced),
        (errors.SerializationFailure, Fenced),
        (errors.InvalidPassword, AccessDenied),
        (errors.InsufficientPrivilege, AccessDenied),
        (errors.UndefinedColumn, ConfigurationError),
        (psycopg.OperationalError, Unavailable),
    ],
)
def test_each_error_says_what_to_do_next(error: type[psycopg.Error], fault: type[CivicbusError]) -> None:
    assert type(fault_of(error("secret"))) is fault
    assert not is_row_fault(error("secret"))


@pytest.mark.parametrize(
    "error",
    [
        errors.CharacterNotInRepertoire,
        errors.NumericValueOutOfRange,
        errors.CheckViolation,
        errors.ProgramLimitExceeded,
        errors.RaiseException,
        psycopg.DataError,
    ],
)
def test_what_one_row_is_to_blame_for_is_isolated(error: type[psycopg.Error]) -> None:
    assert is_row_fault(error("x"))


def test_a_code_of_a_departments_own_trigger_is_about_its_row_and_its_text_is_not_told() -> None:
    class Own(psycopg.Error):
        sqlstate = "MY001"

    assert is_row_fault(Own("order of Zhang San refused"))
    assert "Zhang" not in str(fault_of(Own("order of Zhang San refused")))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_class_of_error_has_a_meaning(kind: str) -> None:
    error = next(cls for code, cls in errors._sqlcodes.items() if code.startswith(kind) and len(code) == 5)
    assert isinstance(fault_of(error("x")), CivicbusError)


def test_an_error_that_quotes_a_row_is_told_without_its_values() -> None:
    fault = fault_of(errors.UniqueViolation("Key (phone)=(13800000000) already exists."))
    assert "13800000000" not in str(fault)
