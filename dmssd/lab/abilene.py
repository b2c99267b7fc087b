"""The Abilene backbone as an edge list of our own: 11 cities, 14 links, and one link more.

Source: the Abilene backbone as Internet2 documented it in February 2005 ("Abilene Network", 200502-IS-AN), which the
Internet Topology Zoo also records (Knight et al., "The Internet Topology Zoo", IEEE JSAC 29(9), 2011). Coordinates are
those of the cities, in degrees. A link's metric is the great-circle distance of its ends in units of 100 km, rounded;
that makes Sunnyvale - Washington DC an equal-cost pair (47 by Los Angeles and Houston, 47 by Denver and Indianapolis).

Deviation from the source: ``DETOUR``, a second link Chicago - New York, stands for a fibre that takes the long way. It
is dearer than its parallel (11) and also than the way round by Indianapolis, Atlanta and Washington DC (22), so no
shortest path ever uses it and the minimum-weight topology drops it under either policy.
"""

from math import asin, cos, radians, sin, sqrt

EARTH_RADIUS_KM = 6371.0

CITIES: dict[str, tuple[float, float]] = {
    "Seattle": (47.61, -122.33),
    "Sunnyvale": (37.37, -122.04),
    "Los Angeles": (34.05, -118.24),
    "Denver": (39.74, -104.98),
    "Kansas City": (39.11, -94.63),
    "Houston": (29.76, -95.36),
    "Chicago": (41.85, -87.65),
    "Indianapolis": (39.77, -86.16),
    "Atlanta": (33.75, -84.39),
    "Washington DC": (38.90, -77.04),
    "New York": (40.71, -74.01),
}

LINKS: tuple[tuple[str, str], ...] = (
    ("Seattle", "Sunnyvale"),
    ("Seattle", "Denver"),
    ("Sunnyvale", "Los Angeles"),
    ("Sunnyvale", "Denver"),
    ("Los Angeles", "Houston"),
    ("Denver", "Kansas City"),
    ("Kansas City", "Houston"),
    ("Kansas City", "Indianapolis"),
    ("Houston", "Atlanta"),
    ("Chicago", "Indianapolis"),
    ("Chicago", "New York"),
    ("Indianapolis", "Atlanta"),
    ("Atlanta", "Washington DC"),
    ("Washington DC", "New York"),
)

DETOUR = ("Chicago", "New York", 25)


def great_circle_km(a: str, b: str) -> float:
    """The distance of two cities along the Earth's surface in km, by the haversine formula."""
    (latitude_a, longitude_a), (latitude_b, longitude_b) = CITIES[a], CITIES[b]
    north = radians(latitude_b - latitude_a)
    east = radians(longitude_b - longitude_a)
    haversine = sin(north / 2) ** 2 + cos(radians(latitude_a)) * cos(radians(latitude_b)) * sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(sqrt(haversine))


def weighted_links() -> list[tuple[str, str, int]]:
    """Every link as (city, city, metric): the 14 of the backbone, then the detour."""
    return [(a, b, round(great_circle_km(a, b) / 100)) for a, b in LINKS] + [DETOUR]
