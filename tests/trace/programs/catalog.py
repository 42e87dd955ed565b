"""The lab's own leak, as a Python extension: fills its cache, stops with its ledger, and gives everything back.

Arguments: bytes of one block, bytes in all.
"""

import json
import sys
import time

from catalog_cache import MIB, CatalogCache, Options


def stop(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read(1)


chunk, cap = int(sys.argv[1]), int(sys.argv[2])
with CatalogCache(Options(chunk, MIB, period_seconds=1, cap_bytes=cap, start_delay_seconds=0, speed=1000)) as cache:
    stop("ready")
    cache.start()
    while cache.ledger().bytes_live < cap:
        time.sleep(0.01)
    cache.stop()
    ledger = cache.ledger()
    stop(json.dumps({"inserts": ledger.inserts, "bytes": ledger.insert_bytes}))
stop("closed")
