"""A catalog service that runs already: in a container, in a pod of this node, or as a process. It is not restarted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis.base.closing import Closing
from diagnosis.base.errors import LabError
from diagnosis.lab.claims import ClaimsClient
from diagnosis.lab.ledger import LedgerClient

if TYPE_CHECKING:
    from diagnosis.learn.catalog import Addresses
    from diagnosis.target.process import Process

__all__ = ["Elsewhere"]

# The service has this extension module mapped, however it was started and wherever it is installed.
MODULE = "_catalog_cache."


class Elsewhere(Closing):
    """The service, reached at its addresses. Use it as a context manager.

    Args:
        process: the leaker, as this machine numbers it.
        at: where it answers from here: a stack's ``port_forward_commands`` bring its ports to 127.0.0.1.
        named: the options that named the process.

    Attributes:
        options: of `learn`, that lead to it again.

    Raises:
        LabError: one of the addresses does not answer as the service, or the process is another program.
    """

    def __init__(self, process: Process, at: Addresses, named: tuple[str, ...]) -> None:
        self.process, self.at = process, at
        self.options = (*named, "--http", at.http, "--metrics", at.metrics, "--ledger", at.ledger)
        self.claims = ClaimsClient(at.http, at.metrics)
        self.ledger = LedgerClient(at.ledger)
        try:
            self.claims.read()
            self.speed = self.ledger.read().speed
            self._check()
        except LabError:
            self.close()
            raise

    def _check(self) -> None:
        """Raise a LabError for another program. Its sockets tell nothing: the addresses may be forwarded to a pod."""
        if not any(mapping.name.startswith(MODULE) for mapping in self.process.code_maps()):
            raise LabError(
                f"pid {self.pid} is not the catalog service: it is {self.process.command}",
                "pgrep -af 'python.* -m service$' lists the services of this machine; or name --container or --pod",
            )

    @property
    def pid(self) -> int:
        """The process that leaks."""
        return self.process.pid

    def ended(self) -> str:
        """How it ended; "" while it runs."""
        return "" if self.process.alive() else f"pid {self.pid} has ended"

    def close(self) -> None:
        """Close the connections; the service runs on."""
        self.claims.close()
        self.ledger.close()
