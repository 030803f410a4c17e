"""docs/benchmarks.md and the JSON file, both from one run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from benchmarks.report import tables
from benchmarks.results import Run

_HEAD = """\
<!-- Written by `make bench` from the run's own output; change benchmarks/page.py. -->
# Benchmarks

How fast the engine is, beside what else could do its work, and what that costs. Everything on this page comes from
one run of

```
make bench
```

on {machine}, begun {began}, {minutes:.0f} minutes long{quick}. `ARGS="--quick"` tries everything out with few rows,
`ARGS="--workload project --engine civicbus --engine kafka-streams"` runs some of it; `--help` says the rest. Only
ratios within one run mean much: the same machine differs by a third from one hour to the next.
"""

_METHOD = """\
## How it is measured

- **One broker, the same topics, the same bytes.** A platform of its own (Apache Kafka and a registry on the same
  processors) and two datasets: permits of 15 fields and about 300 bytes behind the Confluent frame, in 4 partitions,
  each record with the headers `cause` and `sequence`; and enterprises of 6 fields. Every output record has one header,
  `cause`. Topics are made anew before each run.
- **Live engines.** An engine is started, gets its partitions and works off a fifth as many rows as are measured (in
  *both sides*, the first half of the permits) before anything is measured. The measured rows are then written into one
  open transaction, which a read-committed reader does not see, and the commit of that transaction starts the clock: the
  whole backlog is there at one moment, and nothing else wants the processors.
- **Done** is when the committed offsets of the engine's group have passed the end of its input and nothing new becomes
  visible in its outputs; the clock shows when the last thing became visible. faust commits offsets of what it has not
  written yet, so of it only the outputs count. The processor time is that of the engine's own processes from the start
  of the clock to that moment; the broker's is shown beside it.
- **The outputs are read back**, read committed, after every run: every key with its last row, bytes and headers, is
  compared with what Python and fastavro make of the input. A run whose outputs are wrong is shown as such and counts
  for no ratio.
- **In turns.** Round after round, each engine once, each round beginning with another. Shown are the median and, in
  brackets, the range; ratios are made within a round.
- **Kafka Streams** runs `exactly_once_v2` with a commit interval of 100 ms on the JRE that the broker runs on, with
  stores in memory and their changelogs on, in two ways. Its *streams* pass records on, joined to a GlobalKTable in
  *enrich*: they remember nothing of what they sent, take nothing back, and a change of an enterprise changes no permit
  that went out. Its *tables* do what an inbox asks for, as ours does: what was sent is remembered, what leaves a view
  is taken back, and *enrich* and *both sides* are foreign-key joins. Each runs with one thread and with two, and
  ours with one worker process and with two; the better in each workload is compared with the better. A foreign-key
  join may say a row twice while a table is loaded; that is shown, not counted against it.
- **The plain loop** is confluent-kafka with fastavro, a dict for a table, and a transaction each 100 ms. It keeps
  nothing on disk, and nothing takes its rows back: it is the least that somebody would write by hand. **Raw** is the
  same loop and passes the bytes on to one topic, unread.
- **quixstreams** runs exactly once and commits each 100 ms. **faust** runs at least once, because its exactly_once
  duplicated after every kill here. Both get fewer rows, so that a run takes seconds, not minutes; rates are rates.
- Ours remembers what every inbox holds, so that a row that leaves a WHERE is taken back and one that did not change is
  not said again; of the peers only Kafka Streams' tables do. No workload makes use of that; its cost is in the figures.

## What the workloads are

| workload | |
|---|---|
| project | three views of one dataset, each a filter that half of the rows pass and six of the columns |
| enrich | every permit joined to one of 50,000 enterprises and forwarded |
| both-sides | half of the permits are there; the other half arrive, and each enterprise of the first half changes and \
brings its ten permits out again |
| many | 1, 10 and 50 agreements on one dataset that select nothing; ours alone. Without outputs, offsets are \
committed once a second, so its times are exact to a second; its processor time is exact |
| latency | 1,000 changes a second at an even pace into three inboxes, from the producer's call to a read-committed \
reader. Only ours has admission; for comparison one hop from records to the outputs |
| restart | kill -9 with the state of *enrich* in memory; from the start of the process until a change published after \
it is in the inbox |
"""


def text(run: Run) -> str:
    """The page."""
    quick = ", with `--quick`: **its figures mean nothing**" if run.quick else ""
    head = _HEAD.format(machine=run.machine, began=run.began, minutes=run.minutes, quick=quick)
    return "\n".join([head, *_results(run), _METHOD, *_circumstances(run)])


def _results(run: Run) -> Iterator[str]:
    found = dict(tables(run))
    wanted = found.pop("wanted and measured")
    yield from ("## What was wanted, and whether it holds", "", *wanted, "")
    for title, lines in found.items():
        yield from (f"## {title[0].upper()}{title[1:]}", "", *lines, "")


def _circumstances(run: Run) -> Iterator[str]:
    versions = ", ".join(f"{name} {number}" for name, number in run.versions.items())
    yield from ("## Circumstances", "", f"- {run.rounds} rounds of {run.rows:,} rows; {versions}.")
    yield from (f"- Skipped: {name}: {reason}." for name, reason in _lines(run.skipped))
    yield from (f"- Failed: {what}: {reason}." for what, reason in _lines(run.failed))
    yield ""


def _lines(reasons: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Reasons on one line each, short."""
    return ((what, " ".join(reason.split())[:300].rstrip(".")) for what, reason in reasons.items())


def as_json(run: Run) -> str:
    """Everything that was measured."""
    return json.dumps(asdict(run), indent=1)
