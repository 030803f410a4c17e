"""kafka-python's clients, made from endpoints and credentials: the department-side SDK and the admin client.

Its default partitioner is murmur2, as every client's of the bus is.
"""

from __future__ import annotations

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from civicbus.secrets import Credentials
from civicbus.settings import Endpoints
from civicbus.transport.clients import Options

__all__ = ["python_admin", "python_consumer", "python_producer"]


def python_producer(endpoints: Endpoints, credentials: Credentials, options: Options) -> KafkaProducer:
    """A pure-Python producer, idempotent, acks=all; its default partitioner is murmur2."""
    return KafkaProducer(
        **_kafka_python(endpoints, credentials) | {"enable_idempotence": True, "acks": "all"} | options
    )


def python_consumer(endpoints: Endpoints, credentials: Credentials, options: Options) -> KafkaConsumer:
    """A pure-Python consumer; nothing is committed for it."""
    return KafkaConsumer(**_kafka_python(endpoints, credentials) | {"enable_auto_commit": False} | options)


def python_admin(endpoints: Endpoints, credentials: Credentials, options: Options | None = None) -> KafkaAdminClient:
    """The admin client."""
    return KafkaAdminClient(**_kafka_python(endpoints, credentials) | (options or {}))


def _kafka_python(endpoints: Endpoints, credentials: Credentials) -> Options:
    options: Options = {
        "bootstrap_servers": endpoints.bootstrap_servers.split(","),
        "security_protocol": endpoints.security_protocol,
        "sasl_mechanism": endpoints.sasl_mechanism,
        "sasl_plain_username": credentials.principal,
        "sasl_plain_password": credentials.password,
    }
    if endpoints.tls_ca_file is not None:
        options["ssl_cafile"] = str(endpoints.tls_ca_file)
    return options
