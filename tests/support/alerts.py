"""The alerts of the rules, by whose they are: the service's team, and what the kernel counts."""

from __future__ import annotations

TEAM = {
    "CatalogDown",
    "CatalogUnhealthy",
    "CatalogMemoryHigh",
    "CatalogResidentMemoryHigh",
    "CatalogMemoryLeak",
    "CatalogGarbageUncollectable",
    "CatalogErrors",
    "CatalogSlow",
    "CatalogLivenessProbeFails",
    "CatalogReadinessProbeFails",
    "CatalogRestarting",
}
KERNEL = {"MemoryNotClaimed", "MemoryLimitAhead", "FunctionKeepsItsMemory"}
