from gossip.health import LocalHealth


def test_health_saturates_at_both_ends() -> None:
    health = LocalHealth(8)
    health.better()
    assert (health.score, health.factor) == (0, 1)
    for _ in range(20):
        health.worse()
    assert (health.score, health.factor) == (8, 9)
    health.better()
    assert health.factor == 8
