"""Real records of three departments under SELECTs that are shipped nowhere, with views killed while they load."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO

import polars as pl
from rich.console import Console

from civicbus.cli.activation import activate
from civicbus.cli.applying import apply_catalogue
from civicbus.cli.demo.play import file_sources
from civicbus.infra.provision import provision_department
from civicbus.names import DatasetId, DepartmentId
from civicbus.producers.journal import Journal, journal_path
from civicbus.producers.publisher import Publisher
from civicbus.producers.table import ROW, Table
from civicbus.producers.table_source import TableSource
from civicbus.schemas.agreement import Agreement, KeyMode
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from civicbus.schemas.datasets import Catalogue
from support.agreed import agreed, check, new_subscriber, settled
from support.chicago import FOLDER, needs_chicago
from support.platform import Platform
from support.stages import StageProcess

pytestmark = needs_chicago

KILLS = 3
REGISTER = DatasetId.parse("business_affairs.license_register")
INSPECTIONS = DatasetId.parse("public_health.food_inspections")
COMPLAINTS = DatasetId.parse("streets_sanitation.sanitation_complaints")

HELD_OUT = {
    "doubtful_licences": (
        KeyMode.RECORD,
        f"""SELECT i.inspection_id, i.license_number, i.results, r.legal_name, r.license_status, r.term_expiration,
                   r.term_expiration - i.inspection_date AS days_left
            FROM   {INSPECTIONS} AS i
            LEFT JOIN {REGISTER} AS r ON r.license_number = i.license_number
            WHERE  i.results <> 'Pass' AND (r.license_status IS NULL OR r.license_status <> 'AAI')""",
    ),
    "places": (
        KeyMode.RECORD,
        f"""SELECT i.inspection_id, i.zip_code AS inspected_zip, r.zip_code AS registered_zip,
                   coalesce(r.doing_business_as, i.dba_name) AS name, i.zip_code = r.zip_code AS same
            FROM   {INSPECTIONS} AS i
            INNER JOIN {REGISTER} AS r ON r.license_number = i.license_number""",
    ),
    "elsewhere": (
        KeyMode.HASHED,
        f"""SELECT i.risk, i.inspection_date, r.ward, mask(r.legal_name, 2, 0) AS holder
            FROM   {INSPECTIONS} AS i
            INNER JOIN {REGISTER} AS r ON r.license_number = i.license_number
            WHERE  r.zip_code <> i.zip_code OR r.license_status IN ('AAC', 'REV')""",
    ),
    "ward_complaints": (
        KeyMode.RECORD,
        f"""SELECT service_request_number, ward, status, nature_of_violation, completion_date - creation_date AS days
            FROM   {COMPLAINTS}
            WHERE  ward IN ('6', '21', '17') AND status IN ('Completed', 'Open - Dup')""",
    ),
}


class City:
    """The departments' files, published as `civicbus publish` and the demo do it."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        shipped = load_catalogue(shipped_catalogue())
        found = file_sources(FOLDER, shipped, Console(file=StringIO()))
        self.sources = {source.dataset.id: source for source in found}
        owners = sorted({name.department for name in self.sources})
        provision_department(platform.endpoints, platform.secrets, *owners)
        entries = Catalogue(
            departments={owner: shipped.departments[owner] for owner in owners},
            datasets={source.dataset.id: source.dataset for source in found},
        )
        apply_catalogue(platform.endpoints, platform.secrets, entries)
        self.owners: list[DepartmentId] = owners

    def agreements(self) -> list[Agreement]:
        subscriber = new_subscriber(self.platform)
        return [
            agreed(stem, select, subscriber=subscriber, owners=self.owners, key=key)
            for stem, (key, select) in HELD_OUT.items()
        ]

    def load(self) -> None:
        """Publish every table, the register last, so that rows wait for the licence that they name."""
        for name in sorted(self.sources, key=lambda name: name == REGISTER):
            self.publish(name, self.sources[name].table)

    def revise_register(self) -> None:
        """Every fifth licence is revoked, every seventh moves, and every eleventh leaves the register."""
        table = self.sources[REGISTER].table
        row = pl.col(ROW)
        revised = table.frame.with_columns(
            license_status=pl.when(row % 5 == 0).then(pl.lit("REV")).otherwise(pl.col("license_status")),
            zip_code=pl.when(row % 7 == 0).then(pl.lit("60601")).otherwise(pl.col("zip_code")),
        )
        self.publish(REGISTER, replace(table, frame=revised.filter(row % 11 != 0)))

    def publish(self, name: DatasetId, table: Table) -> None:
        dataset = self.sources[name].dataset
        home = self.platform.home
        with Journal(journal_path(home, name), name) as journal, Publisher.at(home, dataset) as publisher:
            TableSource(dataset, publisher.schema_id, journal, publisher).publish_table(table)


def killed_while(work: Callable[[], None], process: StageProcess, chance: random.Random, kills: int) -> None:
    """Do the work, with the process killed and started again so often meanwhile."""
    working = threading.Thread(target=work, daemon=True)
    working.start()
    for _ in range(kills):
        time.sleep(chance.uniform(0.1, 1.5))  # the moment of the kill is what varies
        process.kill()
        process.start()
    working.join()


def test_held_out_selects_over_real_records_equal_duckdb_after_random_kills(
    platform: Platform, running_admission: StageProcess, running_views: StageProcess
) -> None:
    city = City(platform)
    agreements = city.agreements()
    activate(platform.endpoints, platform.secrets, agreements)
    chance = random.Random(17)
    killed_while(city.load, running_views, chance, kills=2)
    check(settled(platform, list(city.sources), agreements))
    killed_while(city.revise_register, running_views, chance, kills=1)
    proofs = settled(platform, list(city.sources), agreements)
    check(proofs)
    assert proofs[1].expected_rows > 10_000
