"""The engines, each as the command that starts it and what has to be known to treat it fairly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.environments import PEERS, Command, Missing, kafka_streams, python_peer
from benchmarks.measuring import cpu_seconds
from benchmarks.peers.task import Stream
from benchmarks.platform import Bench, Tell
from benchmarks.workloads import Workload
from civicbus.errors import Unavailable
from civicbus.infra.plan import FRUGAL

STOP_WITHIN_S = 20.0
OURS = "civicbus"
RAW = "raw"
_THROUGHPUT = frozenset({Workload.PROJECT, Workload.ENRICH, Workload.BOTH_SIDES})
_ONE_SIDE = frozenset({Workload.PROJECT, Workload.ENRICH})


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine, with so many ``threads`` or worker processes. ``share`` of the rows is what it gets, where all of
    them would take it minutes.

    ``settle_s``: so long nothing new must come before it counts as done. ``commits``: its committed offsets tell
    how far it is. ``copies``: it writes one output, its input's bytes. ``tables``: it keeps tables, of which rows are
    taken back, where it could pass records on.
    """

    name: str
    title: str
    command: Command
    workloads: frozenset[Workload]
    threads: int = 1
    share: float = 1.0
    settle_s: float = 1.5
    exactly_once: bool = True
    commits: bool = True
    copies: bool = False
    tables: bool = False

    @property
    def ours(self) -> bool:
        return self.name.startswith(OURS)


def available(names: Sequence[str], tell: Tell) -> tuple[list[Engine], dict[str, str]]:
    """The engines of these names (all, where none is named), and why which peers cannot run here."""
    engines: list[Engine] = []
    skipped: dict[str, str] = {}
    for family, make in _FAMILIES.items():
        if names and family not in names:
            continue
        made = make(tell)
        if isinstance(made, Missing):
            skipped[family] = made.reason
        else:
            engines += made
    return engines, skipped


def _ours(_: Tell) -> list[Engine]:
    command = (sys.executable, "-m", "civicbus.stream_apps.views")
    one = Engine(name=OURS, title="civicbus, 1 worker", command=command, workloads=frozenset(Workload))
    return [one, replace(one, name=f"{OURS}-2", title="civicbus, 2 workers", workloads=_THROUGHPUT, threads=2)]


def _raw(_: Tell) -> list[Engine]:
    command = (sys.executable, str(PEERS / "raw.py"))
    return [Engine(name=RAW, title="raw pass-through", command=command, workloads=_ONE_SIDE, copies=True)]


def _loop(_: Tell) -> list[Engine]:
    command = (sys.executable, str(PEERS / "loop.py"))
    return [Engine(name="loop", title="confluent-kafka and fastavro", command=command, workloads=_THROUGHPUT)]


def _kafka_streams(tell: Tell) -> list[Engine] | Missing:
    command = kafka_streams(tell)
    if isinstance(command, Missing):
        return command
    return [
        Engine(
            name=f"{KAFKA_STREAMS}-{threads}",
            title=f"Kafka Streams 4.2.1, {threads} thread{'s' if threads > 1 else ''}",
            command=command,
            workloads=_THROUGHPUT,
            threads=threads,
        )
        for threads in (1, 2)
    ]


def _kafka_streams_tables(tell: Tell) -> list[Engine] | Missing:
    """As ours does: what was sent is remembered, and what leaves a view is taken back."""
    made = _kafka_streams(tell)
    if isinstance(made, Missing):
        return made
    return [
        replace(
            engine,
            name=f"{KAFKA_STREAMS_TABLES}-{engine.threads}",
            title=engine.title.replace("Streams", "Streams tables"),
            workloads=_ONE_SIDE,
            tables=True,
        )
        for engine in made
    ]


def _quixstreams(tell: Tell) -> list[Engine] | Missing:
    python = python_peer("quixstreams", tell)
    if isinstance(python, Missing):
        return python
    command = (*python, str(PEERS / "quixstreams_peer.py"))
    return [Engine(name="quixstreams", title="quixstreams 3.28.1", command=command, workloads=_ONE_SIDE, share=0.4)]


def _faust(tell: Tell) -> list[Engine] | Missing:
    python = python_peer("faust", tell)
    if isinstance(python, Missing):
        return python
    return [
        Engine(
            name="faust",
            title="faust-streaming 0.15.3",
            command=(*python, str(PEERS / "faust_peer.py")),
            workloads=_ONE_SIDE,
            share=0.05,
            settle_s=5.0,
            exactly_once=False,
            commits=False,
        )
    ]


KAFKA_STREAMS = "kafka-streams"
KAFKA_STREAMS_TABLES = "tables-of-kafka-streams"
_FAMILIES = {
    OURS: _ours,
    KAFKA_STREAMS: _kafka_streams,
    KAFKA_STREAMS_TABLES: _kafka_streams_tables,
    "quixstreams": _quixstreams,
    "faust": _faust,
    "loop": _loop,
    RAW: _raw,
}
FAMILIES = tuple(_FAMILIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """An engine's processes."""

    name: str
    processes: Sequence[subprocess.Popen[bytes]]
    log: Path

    @property
    def pid(self) -> int:
        """Of the first."""
        return self.processes[0].pid

    def cpu_s(self) -> float:
        return sum(cpu_seconds(process.pid) for process in self.processes)

    def must_run(self) -> None:
        """Raises Unavailable with their last words where one has ended."""
        for process in self.processes:
            if process.poll() is not None:
                words = self.log.read_text(errors="replace").strip()[-1500:]
                raise Unavailable(f"{self.name} ended with status {process.returncode}:\n{words}")

    def kill(self) -> None:
        """As a power cut would."""
        for process in self.processes:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """In order, if they listen."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def started(name: str, commands: Sequence[Command], folder: Path) -> Iterator[Started]:
    """Processes of sessions of their own, so that Ctrl-C reaches them only through us; they are ended on the way out.

    Each has the allocator's settings that the supervisor gives our processes.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        how = {"stdout": file, "stderr": file, "cwd": folder, "env": {**os.environ, **FRUGAL}}
        processes = [subprocess.Popen(command, start_new_session=True, **how) for command in commands]
    running = Started(name=name, processes=processes, log=log)
    try:
        yield running
    finally:
        running.stop()


def commands_of(bench: Bench, engine: Engine, task: Path) -> list[Command]:
    """What starts the engine: ours gets its home and a process for each worker, a peer its task."""
    if not engine.ours:
        return [(*engine.command, str(task))]
    command = (*engine.command, "--home", str(bench.home))
    return [(*command, "--worker", str(number)) for number in range(engine.threads)]


def write_task(
    bench: Bench, engine: Engine, *, workload: Workload, group: str, outputs: Sequence[Stream], folder: Path
) -> Path:
    """The file that tells a peer what to do."""
    task = folder / "task.json"
    document = {
        "workload": workload,
        "group": group,
        "threads": engine.threads,
        "tables": engine.tables,
        "folder": str(folder),
        "bootstrap_servers": bench.endpoints.bootstrap_servers,
        "security_protocol": bench.endpoints.security_protocol,
        "sasl_mechanism": bench.endpoints.sasl_mechanism,
        "secret": str(bench.secret_file),
        "permits": asdict(bench.permits),
        "enterprises": asdict(bench.enterprises),
        "outputs": [asdict(output) for output in outputs],
    }
    task.write_text(json.dumps(document))
    return task
