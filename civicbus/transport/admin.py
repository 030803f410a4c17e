"""The administration of a Kafka cluster in our own words: topics, rights, users, byte quotas.

Promise: a call returns when the broker it talks to acts on the change, requests are batched, and every
library error leaves here as a civicbus fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    AlterConfigOp,
    ConfigResource,
    ConfigResourceType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError
from kafka.protocol import admin as requests

from civicbus.errors import Unavailable
from civicbus.names import Topic
from civicbus.secrets import Credentials, Principal
from civicbus.settings import Endpoints
from civicbus.transport.authentication import authenticate
from civicbus.transport.python_clients import python_admin
from civicbus.transport.python_faults import raise_for, translated
from civicbus.transport.resources import Binding, ByteQuota, Operation, Resource, TopicSpec, TopicState

_BROKER_DEFAULT = -1
_USER = "User:"
_PRODUCE = "producer_byte_rate"
_CONSUME = "consumer_byte_rate"
_ANY_NAME = 2
_VISIBLE_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.01


@contextmanager
def administration(endpoints: Endpoints, credentials: Credentials) -> Iterator[Administration]:
    """Connect; raises AccessDenied for refused credentials and Unavailable where no broker answers."""
    authenticate(endpoints, credentials)
    with translated(), closing(python_admin(endpoints, credentials)) as client:
        yield Administration(client, endpoints.sasl_mechanism)


class Administration:
    """One connection to the cluster, of a principal that may administer it.

    Where the library keeps only an error's text, the request is sent as such, so that its code is seen.
    """

    def __init__(self, client: KafkaAdminClient, sasl_mechanism: str) -> None:
        self._client = client
        self._mechanism = ScramMechanism[sasl_mechanism.replace("-", "_")]

    @translated()
    def topics(self, names: Collection[Topic]) -> dict[Topic, TopicState]:
        """Those of the named topics that exist."""
        found = {
            Topic(topic["name"]): len(topic["partitions"])
            for topic in self._client.describe_topics(list(names))
            if not _is_unknown(topic)
        }
        configs = self._configs(found)
        return {name: TopicState(partitions=found[name], configs=configs[name]) for name in found}

    @translated()
    def create_topics(self, specs: Collection[TopicSpec]) -> None:
        """Create topics and wait for their leaders; one that is there already is left as it is."""
        if not specs:
            return
        wanted = {
            str(spec.name): {
                "num_partitions": spec.partitions,
                "replication_factor": _BROKER_DEFAULT,
                "configs": dict(spec.configs),
            }
            for spec in specs
        }
        response = self._client.create_topics(wanted, raise_errors=False)
        for topic in response["topics"]:
            if topic["error_code"] != TopicAlreadyExistsError.errno:
                raise_for(topic["error_code"], f"{topic['name']}: {topic['error_message']}")
        self._client.wait_for_topics(list(wanted))

    @translated()
    def alter_topics(self, changes: Mapping[Topic, Mapping[str, str]]) -> None:
        """Set these settings of these topics; others stay."""
        if not changes:
            return
        resources = [
            (ConfigResourceType.TOPIC, name, [(key, AlterConfigOp.SET, value) for key, value in configs.items()])
            for name, configs in changes.items()
        ]
        response = self._send(requests.IncrementalAlterConfigsRequest(resources=resources, validate_only=False))
        for topic in response.responses:
            raise_for(topic.error_code, f"{topic.resource_name}: {topic.error_message}")

    @translated()
    def bindings(self) -> frozenset[Binding]:
        """Every right that allows something to somebody."""
        acls, _ = self._client.describe_acls(
            ACLFilter(
                principal=None,
                host=None,
                operation=ACLOperation.ANY,
                permission_type=ACLPermissionType.ALLOW,
                resource_pattern=ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
            )
        )
        return frozenset(_binding(acl) for acl in acls if acl.principal.startswith(_USER))

    @translated()
    def grant(self, bindings: Collection[Binding]) -> None:
        """Give these rights."""
        if not bindings:
            return
        granted = self._client.create_acls([_acl(binding) for binding in bindings])
        for refusal in granted["failed"]:
            raise_for(refusal.errno, "a right was not granted")
        wanted = frozenset(bindings)
        _wait_until(lambda: wanted <= self.bindings(), "the rights that were granted")

    @translated()
    def withdraw(self, bindings: Collection[Binding]) -> None:
        """Take these rights."""
        if not bindings:
            return
        for _, _, error in self._client.delete_acls([_filter(binding) for binding in bindings]):
            raise_for(error.errno, "a right was not withdrawn")
        unwanted = frozenset(bindings)
        _wait_until(lambda: not unwanted & self.bindings(), "the rights that were withdrawn")

    @translated()
    def scram_users(self) -> frozenset[Principal]:
        """Who can prove itself with the mechanism that the endpoints name."""
        described = self._client.describe_user_scram_credentials()
        return frozenset(
            Principal(user)
            for user, found in described.items()
            if any(info["mechanism"] == self._mechanism for info in found["credential_infos"])
        )

    @translated()
    def set_secrets(self, credentials: Collection[Credentials]) -> None:
        """Make each principal's password this one; the broker gets a salted hash of it."""
        if not credentials:
            return
        salted = [UserScramCredentialUpsertion(c.principal, self._mechanism, c.password) for c in credentials]
        upsertions = [(s.user, s.mechanism, s.iterations, s.salt, s.salted_password) for s in salted]
        response = self._send(requests.AlterUserScramCredentialsRequest(deletions=[], upsertions=upsertions))
        for user in response.results:
            raise_for(user.error_code, f"{user.user}: {user.error_message}")
        wanted = frozenset(c.principal for c in credentials)
        _wait_until(lambda: wanted <= self.scram_users(), "the users that were made")

    @translated()
    def quotas(self) -> dict[Principal, ByteQuota]:
        """The byte quota of each user that has both rates."""
        response = self._send(requests.DescribeClientQuotasRequest(components=[("user", _ANY_NAME, None)], strict=True))
        raise_for(response.error_code, response.error_message)
        rates = {
            entry.entity[0].entity_name: {item.key: int(item.value) for item in entry.values}
            for entry in response.entries
        }
        return {
            Principal(user): ByteQuota(produce=found[_PRODUCE], consume=found[_CONSUME])
            for user, found in rates.items()
            if user is not None and found.keys() >= {_PRODUCE, _CONSUME}
        }

    @translated()
    def set_quotas(self, quotas: Mapping[Principal, ByteQuota]) -> None:
        """Hold each user to this many bytes a second."""
        if not quotas:
            return
        entries = [
            ([("user", user)], [(_PRODUCE, float(quota.produce), False), (_CONSUME, float(quota.consume), False)])
            for user, quota in quotas.items()
        ]
        response = self._send(requests.AlterClientQuotasRequest(entries=entries, validate_only=False))
        for entry in response.entries:
            raise_for(entry.error_code, entry.error_message)

    def _configs(self, names: Iterable[Topic]) -> dict[Topic, dict[str, str]]:
        resources = [ConfigResource(ConfigResourceType.TOPIC, str(name)) for name in names]
        if not resources:
            return {}
        described = self._client.describe_configs(resources, config_filter="all")["topic"]
        return {
            Topic(name): {key: config["value"] for key, config in configs.items()}
            for name, configs in described.items()
        }

    def _send(self, request: requests.ApiMessage) -> requests.ApiMessage:
        """A request that the library has no method for, or none that tells what the broker answered."""
        return self._client._manager.run(self._client._manager.send, request)


def _is_unknown(topic: Mapping[str, int]) -> bool:
    if topic["error_code"] == UnknownTopicOrPartitionError.errno:
        return True
    raise_for(topic["error_code"], str(topic["name"]))
    return False


def _acl(binding: Binding) -> ACL:
    pattern = ResourcePattern(ResourceType(binding.resource), binding.name, _pattern_type(binding))
    return ACL(*_who_may_what(binding), pattern)


def _filter(binding: Binding) -> ACLFilter:
    pattern = ResourcePatternFilter(ResourceType(binding.resource), binding.name, _pattern_type(binding))
    return ACLFilter(*_who_may_what(binding), pattern)


def _who_may_what(binding: Binding) -> tuple[str, str, ACLOperation, ACLPermissionType]:
    return f"{_USER}{binding.principal}", binding.host, ACLOperation(binding.operation), ACLPermissionType.ALLOW


def _pattern_type(binding: Binding) -> ACLResourcePatternType:
    return ACLResourcePatternType.PREFIXED if binding.prefixed else ACLResourcePatternType.LITERAL


def _binding(acl: ACL) -> Binding:
    pattern = acl.resource_pattern
    return Binding(
        principal=Principal(acl.principal.removeprefix(_USER)),
        resource=Resource(pattern.resource_type),
        name=pattern.resource_name,
        prefixed=pattern.pattern_type is ACLResourcePatternType.PREFIXED,
        operation=Operation(acl.operation),
        host=acl.host,
    )


def _wait_until(visible: Callable[[], bool], what: str) -> None:
    """The controller answers before the brokers have heard; wait for the one we talk to."""
    deadline = time.monotonic() + _VISIBLE_WITHIN_S
    while not visible():
        if time.monotonic() > deadline:
            raise Unavailable(f"the broker does not show {what}", mend="look at its log")
        time.sleep(_LOOK_EVERY_S)
