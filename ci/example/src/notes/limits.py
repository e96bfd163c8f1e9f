"""How many notes one client may add in a minute: counted in Redis, so that all servers count together."""

from __future__ import annotations

from dataclasses import dataclass

import redis

MINUTE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """At most `most` notes a minute from each client."""

    cache: redis.Redis
    most: int

    def allows(self, client: str) -> bool:
        """Count one more note of `client`; tell whether it may still be added."""
        key = f"notes:added:{client}"
        with self.cache.pipeline() as batch:
            batch.incr(key)
            batch.expire(key, MINUTE_S, nx=True)
            count, _ = batch.execute()
        return int(count) <= self.most


def limit_at(address: str, most: int) -> Limit:
    """Return the limit that is counted at `address`, such as "redis://cache:6379"."""
    return Limit(cache=redis.Redis.from_url(address), most=most)
