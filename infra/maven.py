"""Single files from Maven repositories, through jgo's pure-Python Maven.

Which repository is asked is jgo's business: its default, or what the user's jgo configuration names. A file in
the user's own Maven cache is offered first. Nothing here says whether the bytes are the right ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.maven import Artifact, MavenContext, PythonResolver
from requests import RequestException

from civicbus.errors import Unavailable

Report = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

_TIMEOUT_S = 30
_REPORT_EVERY_BYTES = 256 * 1024


def cached(coordinate: str) -> Path:
    """Where the user's own Maven cache keeps the file, if it has it."""
    context = _context(GlobalSettings.load().repo_cache)
    artifact = _artifact(coordinate, context)
    return context.repo_cache / artifact.component.path_prefix / artifact.filename


def download(coordinate: str, folder: Path, report: Report) -> Path:
    """Fetch one file into an empty folder; raises Unavailable where no repository gives it."""
    context = _context(folder, PythonResolver(progress_callback=_reporting(report)))
    try:
        return _artifact(coordinate, context).resolve()
    except (RequestException, RuntimeError) as error:
        raise Unavailable(
            f"{coordinate} cannot be downloaded: {error}",
            mend="check the network and the proxy settings, or name a Maven mirror in jgo's configuration",
        ) from None


def stored(coordinate: str, folder: Path) -> Path:
    """The file in a folder laid out as a Maven repository, downloaded where it is not there yet."""
    return _artifact(coordinate, _context(folder)).resolve()


def resolve(roots: Sequence[str], folder: Path) -> list[str]:
    """The coordinates of these artifacts and of everything that they need to run.

    The first root's dependency management decides the versions; the others are taken as they are.
    """
    context = _context(folder)
    dependencies = [context.create_dependency(root) for root in roots]
    for dependency in dependencies[1:]:
        dependency.raw = True
    inputs, transitive = context.resolver.resolve(dependencies)
    return [str(found.artifact) for found in [*inputs, *transitive]]


def _context(cache: Path | None, resolver: PythonResolver | None = None) -> MavenContext:
    context = MavenContext(resolver=resolver, repo_cache=cache, timeout=_TIMEOUT_S)
    context.remote_repos.update(GlobalSettings.load().repositories)
    return context


def _artifact(coordinate: str, context: MavenContext) -> Artifact:
    """``group:artifact:packaging[:classifier]:version``, as jgo writes coordinates."""
    group, name, packaging, *classifier, version = coordinate.split(":")
    return context.project(group, name).at_version(version).artifact("".join(classifier), packaging)


def _reporting(report: Report) -> Callable[[str, int], AbstractContextManager[Callable[[int], None]]]:
    @contextmanager
    def progress(_: str, total: int) -> Iterator[Callable[[int], None]]:
        done = told = 0

        def advance(count: int) -> None:
            nonlocal done, told
            done += count
            if done - told >= _REPORT_EVERY_BYTES or done == total:
                told = done
                report(done, total)

        yield advance

    return progress
