"""The platform that a benchmark runs on: broker and registry, the two datasets, and the agreements of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.bus import Bus
from benchmarks.measuring import cpu_seconds
from benchmarks.peers.task import Codec, Stream
from benchmarks.rows import ENTERPRISE_SCHEMA, ENTERPRISES, PERMIT_SCHEMA, PERMITS
from benchmarks.workloads import SUBSCRIBER
from civicbus.cli.activation import activate, published
from civicbus.cli.applying import apply_catalogue
from civicbus.infra import postgres
from civicbus.infra.platform import RunningPlatform, start_platform
from civicbus.infra.processes import Event, Notice
from civicbus.infra.provision import provision_department
from civicbus.infra.topics import dataset_topics, inbox_spec
from civicbus.names import AGREEMENTS_TOPIC, AgreementId, DatasetId, DepartmentId, Topic, value_subject
from civicbus.schemas.agreement import Agreement
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.datasets import (
    Catalogue,
    Classification,
    Dataset,
    Department,
    Field,
    Listing,
    Sharing,
    Title,
    UpdateCycle,
)
from civicbus.schemas.registry import Registry
from civicbus.schemas.views import check
from civicbus.secrets import OPERATOR, SecretStore
from civicbus.settings import Endpoints, Settings, secrets_folder
from civicbus.transport.compacted import put_all

PARTITIONS = 4
_TITLE = Title(zh="性能测试", en="Benchmark")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where one view's rows go in a run, and what they look like."""

    name: str
    stream: Stream

    @property
    def codec(self) -> Codec:
        return self.stream.codec()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A running platform with the datasets of the benchmarks."""

    home: Path
    endpoints: Endpoints
    secrets: SecretStore
    bus: Bus
    broker_pid: int
    permits: Stream
    enterprises: Stream

    @property
    def secret_file(self) -> Path:
        """Where a peer reads the operator's secret."""
        return self.secrets.location(OPERATOR)

    def broker_cpu_s(self) -> float:
        return cpu_seconds(self.broker_pid)

    @property
    def cache(self) -> Path:
        """What the engine keeps to start quickly."""
        return self.home / "cache" / "views"

    def have(self, agreements: Sequence[Agreement]) -> list[Output]:
        """Let these agreements flow, and none else; their inboxes are empty."""
        there = published(self.endpoints, self.secrets).agreements
        wanted = {agreement.id for agreement in agreements}
        ended = sorted(there.keys() - wanted)
        credentials = self.secrets.read(OPERATOR)
        put_all(self.endpoints, credentials, AGREEMENTS_TOPIC, ((name.encode(), None) for name in ended))
        self.bus.delete([agreement.topic for agreement in there.values()])
        activate(self.endpoints, self.secrets, agreements)
        return [self._output(agreement) for agreement in agreements]

    def empty(self, datasets: Sequence[DatasetId]) -> None:
        """The topics of these datasets, made anew."""
        self.bus.recreate([spec for dataset in datasets for spec in dataset_topics(_dataset(dataset))])

    def _output(self, agreement: Agreement) -> Output:
        view = check(agreement, catalogue())
        with Registry(self.endpoints.registry_url) as registry:
            schema_id = registry.register(value_subject(view.topic), view.output)
        stream = Stream(topic=view.topic, schema=view.output.text, schema_id=schema_id)
        return Output(name=agreement.id, stream=stream)


def own_outputs(bench: Bench, name: str, inboxes: Sequence[Stream]) -> list[Stream]:
    """Empty topics of a peer's own, like the inboxes that ours writes."""
    outputs = [Stream(f"bench.{name}.{number}", inbox.schema, inbox.schema_id) for number, inbox in enumerate(inboxes)]
    like = inbox_spec(SUBSCRIBER, AgreementId("like"), PARTITIONS)
    bench.bus.recreate([replace(like, name=Topic(output.topic)) for output in outputs])
    return outputs


@contextmanager
def running(home: Path | None, tell: Tell) -> Iterator[Bench]:
    """A platform in this folder, or in one that is removed afterwards."""
    with ExitStack() as stack:
        if home is None:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="civicbus-bench-")))
            stack.callback(postgres.wipe, home)
        settings = Settings(home=home, bootstrap_servers=None, registry_url=None, database_url=None)
        platform = start_platform(settings, apps=False, listen=lambda notice: _pass_on(notice, tell))
        stack.callback(platform.stop)
        yield _furnished(platform)


def _pass_on(notice: Notice, tell: Tell) -> None:
    if notice.event in {Event.STARTED, Event.READY, Event.DIED}:
        tell(f"{notice.process} {notice.event.value} {notice.detail}".rstrip())


def _furnished(platform: RunningPlatform) -> Bench:
    endpoints, secrets = platform.endpoints, SecretStore(secrets_folder(platform.home))
    entries = catalogue()
    provision_department(endpoints, secrets, *entries.departments)
    apply_catalogue(endpoints, secrets, entries)
    broker = next(each for each in platform.snapshot.processes if each.name == "kafka")
    assert broker.pid is not None
    with Registry(endpoints.registry_url) as registry:
        permits, enterprises = (
            Stream(id_.records, schema.text, registry.register(value_subject(id_.records), schema))
            for id_, schema in _SCHEMAS.items()
        )
    return Bench(
        home=platform.home,
        endpoints=endpoints,
        secrets=secrets,
        bus=Bus(endpoints, secrets),
        broker_pid=broker.pid,
        permits=permits,
        enterprises=enterprises,
    )


_SCHEMAS = {PERMITS: PERMIT_SCHEMA, ENTERPRISES: ENTERPRISE_SCHEMA}


def catalogue() -> Catalogue:
    parties = {dataset.department for dataset in _SCHEMAS} | {SUBSCRIBER}
    return Catalogue(
        departments={name: _department(name) for name in sorted(parties)},
        datasets={name: _dataset(name) for name in _SCHEMAS},
    )


def _department(name: DepartmentId) -> Department:
    return Department(id=name, title=_TITLE, code=name)


def _dataset(name: DatasetId) -> Dataset:
    schema: AvroSchema = _SCHEMAS[name]
    return Dataset(
        id=name,
        title=_TITLE,
        listing=Listing(abstract=_TITLE),
        key=(schema.field_names[0],),
        fields=tuple(
            Field(name=field, title=_TITLE, classification=Classification.INTERNAL) for field in schema.field_names
        ),
        schemas=(schema,),
        sharing=Sharing.CONDITIONAL,
        update_cycle=UpdateCycle.REALTIME,
        partitions=PARTITIONS,
    )
