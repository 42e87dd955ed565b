"""Time in the story and time on the clock: intervals, windows and holds shrink as the lab's speed grows."""

from __future__ import annotations

import math
from dataclasses import dataclass

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# Calm enough for a Prometheus of 256 MiB, and often enough for a first phase that lasts 30 s.
CALM_SCRAPE_SECONDS = 5
# Grafana's own rule for $__rate_interval: over fewer scrapes a rate is a guess.
SCRAPES_IN_A_WINDOW = 4
# A machine's pauses do not get shorter because the story runs faster.
HICCUP_SECONDS = 10
SHORTEST_RANGE_MINUTES = 5


@dataclass(frozen=True)
class Pace:
    """How fast the lab's story runs: at speed 60 an hour of it takes a minute."""

    speed: float = 1.0

    @property
    def scrape_seconds(self) -> int:
        """How often Prometheus looks, in seconds: 5 at speed 1, and 1, its finest sensible step, from speed 4 on."""
        return max(1, round(CALM_SCRAPE_SECONDS / max(self.speed, 1.0)))

    @property
    def scrape_interval(self) -> str:
        """How often Prometheus looks, as it writes durations."""
        return duration(self.scrape_seconds)

    def seconds(self, story_seconds: float) -> float:
        """How long a time of the story takes on the clock."""
        return story_seconds / self.speed

    def window_seconds(self, story_seconds: float, at_least: float = 0) -> float:
        """A range to take rates over: a time of the story, and at least four scrapes and ``at_least`` seconds."""
        return max(self.seconds(story_seconds), SCRAPES_IN_A_WINDOW * self.scrape_seconds, at_least)

    def window(self, story_seconds: float, at_least: float = 0) -> str:
        """The same, as Prometheus writes durations."""
        return duration(self.window_seconds(story_seconds, at_least))

    def hold(self, story_seconds: float) -> str:
        """How long a condition must last before an alert fires: a time of the story, and no mere hiccup."""
        return duration(max(self.seconds(story_seconds), HICCUP_SECONDS))

    @property
    def time_range(self) -> str:
        """What a dashboard shows at first: the hour of the story, as Grafana writes a range's beginning."""
        return f"now-{max(SHORTEST_RANGE_MINUTES, math.ceil(self.seconds(HOUR) / MINUTE))}m"


def duration(seconds: float) -> str:
    """Whole seconds, rounded up, in Prometheus' notation: ``90s``, ``5m``, ``1h``."""
    whole = math.ceil(seconds)
    for unit, length in (("h", 3600), ("m", 60)):
        if whole and whole % length == 0:
            return f"{whole // length}{unit}"
    return f"{whole}s"
