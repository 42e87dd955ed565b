"""`make guide`: every tool on the same leak, and the results in docs/EBPF_GUIDE.md. Needs root."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from comparison.guide import ig
from comparison.guide.claims import claims_and_truth
from comparison.guide.document import fill, shape
from comparison.guide.measure import run_on_loop, run_on_packaged, run_on_service
from comparison.guide.results import Results
from comparison.guide.service import Scene, build_image
from comparison.tools.bcc import LaunchedBcc
from comparison.tools.bpftrace import Bpftrace
from comparison.tools.gadget import Gadget
from comparison.tools.lab_trace import LabTrace
from comparison.tools.perf import Perf
from diagnosis.base.errors import LabError
from diagnosis.lab.child import PROJECT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comparison.tools.tool import Tool

DOCUMENT = PROJECT / "docs/EBPF_GUIDE.md"
KIB = 1024
MIB = 1024 * KIB
TOOLS: tuple[Tool, ...] = (LabTrace(), Gadget(), Bpftrace(), LaunchedBcc(), Perf())
SCENES = tuple(
    Scene(container, chunk_bytes) for container, chunk_bytes in itertools.product((False, True), (64 * KIB, MIB))
)
# The blocks of the guide with a tool's output, and the scene that each is from: the first, and for BCC also the one in
# which tools with one slot a thread lose the function.
OUTPUTS = {f"output of {tool.slug}": (tool.slug, SCENES[0]) for tool in TOOLS} | {
    "output of bcc at 1 MiB": (LaunchedBcc.slug, SCENES[1])
}
IG_OUTPUT, CLAIMS = "output of ig", "claims"
# A verdict needs to see the leak go on; 2000 MiB last for more than four minutes at this speed.
LIVE = Scene(container=False, chunk_bytes=64 * KIB, cap_bytes=2000 * MIB)
LIVE_SECONDS = 25.0
IG_FIELDS = "proc.comm,proc.pid,function,outstanding,blocks,allocations,frees,leak_percent,age"


def _say(text: str) -> None:
    sys.stderr.write(f"guide: {text}\n")


def measure(tools: Sequence[Tool]) -> Results:
    """Run everything that can run here; what cannot is named with its reason."""
    results = Results()
    able = []
    for tool in tools:
        if reason := tool.missing():
            results.missing[tool.name] = reason
        else:
            able.append(tool)
    scenes = list(SCENES)
    try:
        build_image()
    except LabError as error:
        scenes = [scene for scene in scenes if not scene.container]
        results.missing["all, in a container"] = str(error)
    for scene, tool in itertools.product(scenes, able):
        _say(f"{tool.name}, {scene}")
        try:
            outcome = run_on_service(tool, scene)
        except LabError as error:
            results.missing[f"{tool.name}, {scene}"] = str(error).splitlines()[0]
            continue
        results.findings.append(outcome.finding)
        results.excerpts |= {name: outcome.excerpt for name, source in OUTPUTS.items() if source == (tool.slug, scene)}
    for tool in able:
        _say(f"{tool.name}, packaged software")
        try:
            results.packaged[tool.slug] = run_on_packaged(tool)
        except LabError as error:
            results.missing[f"{tool.name}, packaged software"] = str(error).splitlines()[0]
    if any(isinstance(tool, LabTrace) for tool in able):
        shown = LabTrace(for_people=True)
        _say(f"{shown.name}, for people")
        results.excerpts[f"output of {shown.slug}"] = run_on_service(shown, LIVE, live_seconds=LIVE_SECONDS).excerpt
    _run_ig(results)
    _say("claims")
    results.excerpts[CLAIMS] = claims_and_truth(SCENES[0])
    _say("cost")
    results.costs = run_on_loop(able)
    return results


def _run_ig(results: Results) -> None:
    """The gadget in Inspektor Gadget, for its output; by itself it can do nothing without kprobes."""
    _say("ig")
    try:
        ig.build_image()
        output, _ = ig.run_gadget(SCENES[0], "--sort", "-outstanding_raw", "--fields", IG_FIELDS)
    except LabError as error:
        results.missing[ig.NAME] = str(error)
        return
    results.excerpts[IG_OUTPUT] = ig.excerpt(output)
    if reason := ig.without_kprobes():
        results.missing[ig.NAME] = reason


def main() -> int:
    """Exit status 0 when the results were written, 1 when nothing could be run."""
    parser = argparse.ArgumentParser(description="Every tool on the same leak, compared with the ledger.")
    parser.add_argument("--only", help="tools, by the names in the guide's marks, with commas, such as bpftrace,bcc")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    parser.add_argument("--no-document", action="store_true", help="leave docs/EBPF_GUIDE.md as it is")
    options = parser.parse_args()
    known = {tool.slug: tool for tool in TOOLS}
    wanted = options.only.split(",") if options.only else list(known)
    if unknown := sorted(set(wanted) - set(known)):
        parser.error(f"--only {','.join(unknown)}: there is no such tool; there are {', '.join(known)}")
    results = measure([known[slug] for slug in wanted])
    if not results.findings:
        _say(f"nothing could be run: {results.missing}")
        return 1
    sys.stdout.write(
        f"{results.tools_table()}\n\n{results.findings_table()}\n\n{results.cost_table()}\n\n{results.missing_table()}\n"
    )
    if options.json:
        options.json.write_text(json.dumps(results.to_json(), indent=2) + "\n")
    if not options.no_document and not options.only:
        _write(results)
    return 0


def _write(results: Results) -> None:
    before = DOCUMENT.read_text()
    after = fill(before, results.blocks((*OUTPUTS, IG_OUTPUT, CLAIMS)))
    DOCUMENT.write_text(after)
    _say(
        f"{DOCUMENT.relative_to(PROJECT)} is written; "
        + ("only numbers changed" if shape(before) == shape(after) else "more than numbers changed: see git diff")
    )


if __name__ == "__main__":
    sys.exit(main())
