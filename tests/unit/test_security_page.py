"""docs/security.md says of the broker what the rules say."""

from __future__ import annotations

import re
from pathlib import Path

from civicbus.infra.access import DEPARTMENT_QUOTA, department_rights, platform_rights
from civicbus.names import AgreementId, DepartmentId
from civicbus.transport.resources import Binding, Operation, Resource

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
ROW = re.compile(r"\| (?P<principal>\S+) \| (?P<resource>[a-z ]+) \| `(?P<name>[^`]+)`[^|]* \| (?P<may>[a-z, ]+) \|")
DEPARTMENT, AGREEMENT = "<department>", "<agreement>"
ANY_ENDING = "…*"


def on_the_page() -> set[tuple[str, str, str, bool, str]]:
    return {
        (row["principal"].strip("*"), row["resource"], row["name"].removesuffix(ANY_ENDING), prefixed, operation)
        for row in ROW.finditer(PAGE.read_text())
        for prefixed in [row["name"].endswith(ANY_ENDING)]
        for operation in [*row["may"].split(", "), "describe"]
    }


def in_words(binding: Binding) -> tuple[str, str, str, bool, str]:
    resource = Resource(binding.resource).name.lower().replace("_", " ")
    return binding.principal, resource, binding.name, binding.prefixed, Operation(binding.operation).name.lower()


def test_the_table_of_rights_is_the_rules() -> None:
    departments = {
        ("department", resource, name, prefixed, operation)
        for _, resource, name, prefixed, operation in map(
            in_words, department_rights(DepartmentId(DEPARTMENT), [AgreementId(AGREEMENT)])
        )
    }
    assert on_the_page() == departments | set(map(in_words, platform_rights()))


def test_the_quota_is_the_one_that_is_set() -> None:
    assert {DEPARTMENT_QUOTA.produce, DEPARTMENT_QUOTA.consume} == {50_000_000}
    assert "at most 50 MB a second" in PAGE.read_text()
