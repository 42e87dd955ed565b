"""The program in the pod: a catalog service that leaks through `catalog_cache` and claims to be in perfect health."""
