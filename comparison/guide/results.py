"""The harness's results as the guide's blocks and as one JSON document."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from comparison.guide.choices import CHOICES
from comparison.guide.document import code, table
from comparison.loops.loads import PACKAGED_SQLITE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from comparison.guide.findings import Finding
    from comparison.guide.measure import Cost

MIB = 1 << 20
NOT_RUN = "not run where this page was made: see the table of what could not be run"


@dataclass
class Results:
    """Everything that one run of the harness found.

    Attributes:
        findings: of every tool on every scene that it ran on.
        costs: of the bare loop and of every tool.
        excerpts: of reports, by the name of their mark.
        packaged: what a tool named for most of what leaked through a packaged library, by its slug.
        missing: why a tool did not run, by its name, or by its name and the scene.
    """

    findings: list[Finding] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    excerpts: dict[str, str] = field(default_factory=dict)
    packaged: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def blocks(self, shown: Iterable[str]) -> dict[str, str]:
        """The guide's blocks by the names of their marks.

        Args:
            shown: the names of all blocks with a tool's output: for one that did not run, the block says so.
        """
        return {
            "tools": self.tools_table(),
            "findings": self.findings_table(),
            "cost": self.cost_table(),
            "missing": self.missing_table(),
            **{name: code(self.excerpts.get(name, NOT_RUN)) for name in shown},
        }

    def findings_table(self) -> str:
        """One row for each tool and scene."""
        head = ("tool", "service", "found", "names", "bytes, less the ledger's", "false leaks")
        return table(head, [_row(finding) for finding in self.findings])

    def tools_table(self) -> str:
        """One row for each tool, with when to take it, and what it names where packaged software takes the memory."""
        head = ("you have", "take", "because", "names the culprit in packaged software")
        return table(head, [(*each.cells, self._named_by(each.slug)) for each in CHOICES])

    def _named_by(self, slug: str) -> str:
        named = self.packaged.get(slug)
        if named is None:
            return "not run"
        return "yes" if named == PACKAGED_SQLITE.keeper else f"no: {named or 'nothing'}"

    def cost_table(self) -> str:
        """One row for each tool."""
        alone = next((cost.ns for cost in self.costs if not cost.tool), None)
        rows = [
            (cost.tool or "none", f"{cost.ns:,.0f}", f"{cost.ns / alone:,.0f}" if alone else "") for cost in self.costs
        ]
        return table(("tool", "ns a pair", "times the loop alone"), rows)

    def missing_table(self) -> str:
        """One row for each tool that could not run, or the word that there is none."""
        if not self.missing:
            return "None: every tool ran."
        return table(("tool", "why it did not run"), self.missing.items())

    def to_json(self) -> dict[str, Any]:
        """All but the excerpts."""
        return {
            "tools": self.tools_table(),
            "findings": [asdict(finding) for finding in self.findings],
            "packaged": self.packaged,
            "costs": [asdict(cost) for cost in self.costs],
            "missing": self.missing,
        }


def _row(finding: Finding) -> tuple[str, ...]:
    scene = f"{finding.scene.chunk_bytes >> 10} KiB{', container' if finding.scene.container else ''}"
    false = f"{finding.false_bytes / MIB:,.0f} MiB" if finding.false_bytes else "none"
    if finding.bytes_off is None:
        return finding.tool, scene, "no", "", "", false
    names = "the function" if finding.named else f"not the function: {finding.names or 'nothing'}"
    off = f"{finding.bytes_off:+,}" if finding.bytes_off else "exact"
    return finding.tool, scene, "yes", names, off, false
