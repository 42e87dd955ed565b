"""Where panels change colour and alerts fire. One number serves both, so that red means that somebody is called."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# ---- what the team watches ------------------------------------------------------------------------------------------
# The service's own verdict changes at the same figures (service/health.py): a test compares the two.
MEMORY_HIGH_PERCENT: Final = 80
MEMORY_CRITICAL_PERCENT: Final = 95
# A lookup in a warm cache takes well under a millisecond, 3 on a busy node; 200 ms is what the team promised to the
# shop. In between somebody looks when there is time. 4 ms are in the middle of a bucket (service/metrics.py): where all
# lookups fall into it their p95 is at its upper end, and where a few do it is at its lower one.
LATENCY_SLOW_SECONDS: Final = 0.004
LATENCY_PAGE_SECONDS: Final = 0.2
ERROR_SHARE_NOTED: Final = 0.001
ERROR_SHARE_HIGH: Final = 0.01
PROBES_PASSED_LOW: Final = 0.9
PROBES_PASSED_ALL: Final = 0.999
RESTARTS_NOTED: Final = 1
RESTARTS_HIGH: Final = 3
# Careless extension modules make a few; a hundred are a leak in the managed heap.
UNCOLLECTABLE_NOTED: Final = 1
UNCOLLECTABLE_HIGH: Final = 100

# ---- what the kernel knows ------------------------------------------------------------------------------------------
# Threads' stacks, arenas and mapped files make a process some megabytes larger than it thinks. More is a question,
# and as much as the process itself is an answer.
UNCLAIMED_NOTED_BYTES: Final = 48 * MIB
UNCLAIMED_HIGH_BYTES: Final = 96 * MIB
# Growth within five minutes of the story that is more than a program's warming up.
GROWTH_NOTED_BYTES: Final = 8 * MIB
# A limit that is reached before the working day is over, or before a long weekend is.
TIME_LEFT_SHORT_SECONDS: Final = 8 * 3600
TIME_LEFT_NOTED_SECONDS: Final = 3 * 86400
# A cache that is warm frees about as much as it takes. A function that holds this much and gave back less than one
# block in twenty keeps what it takes.
HELD_NOTED_BYTES: Final = 16 * MIB
HELD_HIGH_BYTES: Final = 64 * MIB
LEAK_RATIO_NOTED: Final = 0.5
LEAK_RATIO_HIGH: Final = 0.95
# Functions that hold less than this are not worth a line of a legend.
HOLDER_BYTES: Final = MIB
EXPLAINED_PARTLY: Final = 0.5
EXPLAINED_WELL: Final = 0.9
