"""The domains of clips: one row of facts for each."""

from typing import NamedTuple


class Domain(NamedTuple):
    """The facts of a domain.

    Attributes:
        name: The name in sets, sources and signatures.
        person_part: What the domain shows of a person, such as `face`.
        item: One input of the network.
        item_dtype: The dtype of stored items.
        packet: One part of a media stream of the domain.
        mean_axes: The axes of an input [rows, columns, channels] over which the statistics of the
            network's normalisation are means.
        is_mirrorable: Whether the mirror image of an item has the same label.
    """

    name: str
    person_part: str
    item: str
    item_dtype: str
    packet: str
    mean_axes: tuple[int, ...]
    is_mirrorable: bool


DOMAIN_FACTS = (
    Domain("visual", "face", "face", "uint8", "picture", (0, 1), True),
    Domain("audio", "voice", "log-Mel segment", "float32", "packet", (1,), False),
)
"""The rows: faces, and log-Mel segments of sound. Their order is that of the network's weights."""

DOMAINS = tuple(domain.name for domain in DOMAIN_FACTS)
"""The names of the domains. The network's input `domain` is an index of this tuple."""


def domain_facts(name: str) -> Domain:
    """Return the facts of a domain.

    >>> domain_facts("audio").person_part
    'voice'

    Args:
        name: One of DOMAINS.
    """
    return DOMAIN_FACTS[DOMAINS.index(name)]
