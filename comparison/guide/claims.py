"""What the service says of itself when its leak is done, beside what the kernel says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comparison.guide.service import held_service
from diagnosis.lab.claims import ClaimsClient
from diagnosis.target.process import Process

if TYPE_CHECKING:
    from comparison.guide.service import Scene


def claims_and_truth(scene: Scene) -> str:
    """Both, as text: before the leak and after it."""
    with held_service(scene) as service:
        service.release()
        client = ClaimsClient(service.running.http, service.running.metrics)
        process = Process(service.pid)
        try:
            lines = [_line("before", client, process)]
            service.wait_until_full()
            lines.append(_line("after", client, process))
        finally:
            client.close()
    head = (
        f"{'':<8}{'status':<9}{'memory_usage_percent':>21}{'process_resident_memory_bytes':>31}{'VmRSS in /proc':>16}"
    )
    return "\n".join([head, *lines])


def _line(when: str, client: ClaimsClient, process: Process) -> str:
    claims, resident = client.read(), process.resident()
    return (
        f"{when:<8}{claims.status:<9}{claims.memory_usage_percent:>21.2f}{claims.resident_bytes:>31}"
        f"{resident.total_bytes:>16}"
    )
