"""How far a process says that it has taken in its rules: what a revocation waits for."""

from __future__ import annotations

from dataclasses import dataclass, field

from civicbus.errors import Unavailable
from civicbus.names import AGREEMENTS_TOPIC, Topic
from civicbus.stream_apps.running import Rules


@dataclass
class Followed:
    """The topic of the agreements, to which a test adds."""

    positions: dict[Topic, int] = field(default_factory=lambda: {AGREEMENTS_TOPIC: 1})
    read: int = 0

    def changed(self) -> bool:
        changed, self.read = self.positions[AGREEMENTS_TOPIC] != self.read, self.positions[AGREEMENTS_TOPIC]
        return changed


def test_a_rule_that_could_not_be_made_is_not_said_to_be_taken_in() -> None:
    followed = Followed()
    registry_answers = True

    def read() -> int:
        if not registry_answers:
            raise Unavailable("registry: no answer")
        return followed.positions[AGREEMENTS_TOPIC]

    rules = Rules(followed, read)
    assert rules.renewed(to_the_end=False) == 1
    registry_answers = False
    followed.positions[AGREEMENTS_TOPIC] = 2
    assert rules.renewed(to_the_end=False) is None
    assert rules.taken_in == {AGREEMENTS_TOPIC: 1}
