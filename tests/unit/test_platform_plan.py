"""What a platform consists of, by its settings, before anything runs."""

import os

import pytest
from typer.testing import CliRunner

from civicbus.cli.main import app
from civicbus.errors import ConfigurationError
from civicbus.infra.desired import Role, add_processes
from civicbus.infra.plan import Downloads, app_services, endpoints_of, platform_plan
from civicbus.infra.ports import Ports
from civicbus.infra.processes import Event, unheard
from civicbus.names import DepartmentId
from civicbus.secrets import BROKER, OPERATOR, Credentials, Principal, SecretStore
from civicbus.settings import IngressSettings, Settings, process_environment, secrets_folder

PORTS = Ports(kafka=1, controller=2, registry=3, postgres=4)


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path, bootstrap_servers=None, registry_url=None, database_url=None)


def names(settings):
    return [step.name for step in platform_plan(settings.home, settings, unheard)]


def test_parts_are_started_here_unless_a_setting_names_them(settings):
    assert names(settings) == ["kafka files", "registry files", "postgres files", "provisioning"]
    registry_elsewhere = settings.model_copy(update={"registry_url": "http://registry:8081"})
    assert names(registry_elsewhere) == ["kafka files", "registry", "postgres files", "provisioning"]


def test_the_secrets_are_there_before_the_parts_that_share_them_are_made_at_the_same_time(settings):
    names(settings)
    assert set(SecretStore(secrets_folder(settings.home)).principals()) >= {OPERATOR, BROKER}


def test_an_external_broker_needs_the_operator_s_credentials(settings):
    elsewhere = settings.model_copy(update={"bootstrap_servers": "kafka:9092"})
    with pytest.raises(
        ConfigurationError, match=r"no credentials for the Kafka at kafka:9092.*platform-operator\.json"
    ):
        names(elsewhere)
    SecretStore(secrets_folder(settings.home)).write(Credentials(OPERATOR, "given"))
    assert names(elsewhere)[0] == "kafka"


def test_endpoints_are_the_embedded_ones_or_the_external_ones(settings):
    here = endpoints_of(settings, PORTS)
    assert (here.bootstrap_servers, here.database_host, here.database_port) == ("127.0.0.1:1", "127.0.0.1", 4)
    assert here.security_protocol == "SASL_PLAINTEXT"
    there = endpoints_of(
        settings.model_copy(
            update={
                "bootstrap_servers": "kafka:9092",
                "security_protocol": "SASL_SSL",
                "database_url": "postgresql://postgres:hunter2@database/postgres",
            }
        ),
        PORTS,
    )
    assert (there.bootstrap_servers, there.security_protocol) == ("kafka:9092", "SASL_SSL")
    assert (there.database_host, there.database_port) == ("database", 5432)
    assert "hunter2" not in there.model_dump_json()


def test_each_department_with_an_inbox_has_a_table_process(settings):
    add_processes(settings.home, Role.TABLE, [DepartmentId("market")])
    services = {service.name: service for service in app_services(settings.home, settings, IngressSettings())}
    assert list(services) == ["admission", "views", "table-market"]
    assert services["table-market"].command[-4:] == ("--department", "market", "--home", str(settings.home))
    assert {service.after for service in services.values()} == {("provisioning", "registry")}


def test_the_ingress_runs_with_the_first_key_until_the_last_or_with_an_issuer(settings):
    SecretStore(secrets_folder(settings.home)).ensure(Principal("market"))

    def ingress(**options):
        services = app_services(settings.home, settings, IngressSettings(**options))
        return next((service.environment for service in services if service.name == "ingress"), None)

    def key(*options):
        result = CliRunner().invoke(app, ["--home", str(settings.home), "ingress", "key", "market", *options])
        assert result.exit_code == 0, result.output

    assert ingress() is None
    key()
    assert ingress(port=8443)["CIVICBUS_INGRESS_PORT"] == "8443"
    key("--revoke")
    assert ingress() is None
    assert ingress(oidc_issuer="https://issuer", oidc_jwks_url="https://issuer/keys") is not None


def test_a_password_in_the_environment_is_not_passed_on(monkeypatch):
    monkeypatch.setenv("CIVICBUS_DATABASE_URL", "postgresql://postgres:hunter2@database/postgres")
    assert process_environment()["PATH"] == os.environ["PATH"]
    assert not any("hunter2" in value for value in process_environment().values())


def test_downloads_are_told_as_sums_and_not_too_often():
    told = []
    downloads = Downloads("kafka", told.append)
    for done in range(1000):
        downloads("a.jar", done * 10_000, 10_000_000)
        downloads("b.jar", done * 10_000, 10_000_000)
    assert {notice.event for notice in told} == {Event.PROGRESS}
    assert 1 <= len(told) <= 3
    assert told[0].detail == "downloading 0.0 of 10.0 MB"


def test_a_department_that_captures_has_a_converter_and_a_kafka_connect_of_its_own(settings):
    add_processes(settings.home, Role.CAPTURE, [DepartmentId("gardens")])
    services = {service.name: service for service in app_services(settings.home, settings, IngressSettings())}
    assert {"capture-gardens", "connect-gardens"} < services.keys()
    assert str(settings.cache_folder) in services["connect-gardens"].command
    assert {name for name, service in services.items() if not service.essential} == {
        "capture-gardens",
        "connect-gardens",
    }
