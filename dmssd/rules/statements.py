"""The topics on which members make statements (:mod:`gossip.replica`), and how much each author may say on each.

A topic is used like this: its rules are listed here; the node publishes by ``replica.handle(Publish(topic, subject,
body), now)``, and hands ``StatementsChanged`` of that topic to whoever is named in ``Node._on_statements_changed``.
Whatever a topic's statements mean must be a function of the set alone, so that all members conclude alike.
"""

from collections.abc import Mapping

from dmssd.rules.terms import TOPIC_SESSIONS
from dmssd.security.acts import TOPIC_ADMIT, TOPIC_EXPEL, TOPIC_SUCCEED, TOPIC_WAITING
from gossip.replica import TopicRules

STATEMENTS_SINCE = 2
"""The protocol from which on members understand statements."""

TOPIC_ADDRESS = "address"

TOPICS: Mapping[str, TopicRules] = {
    TOPIC_ADMIT: TopicRules(author_max=2_048, body_bytes_max=1_024, durable=True),
    TOPIC_EXPEL: TopicRules(author_max=256, body_bytes_max=16_384 + 512, durable=True),
    TOPIC_WAITING: TopicRules(author_max=1, body_bytes_max=10_240),
    TOPIC_SUCCEED: TopicRules(author_max=1, body_bytes_max=512),
    TOPIC_SESSIONS: TopicRules(author_max=1, body_bytes_max=64, durable=True),
    TOPIC_ADDRESS: TopicRules(author_max=8, body_bytes_max=512),
}
