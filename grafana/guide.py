"""The guide to the eBPF tools as a dashboard, so that panels can link to its pages without internet.

A page is a second-level section of the guide's Markdown: one text panel, which Grafana shows alone, as large as the
window, under a link of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from grafana.rendering import TAG, link, page_url
from grafana.sdk import dashboard, text, text_model

UID: Final = "memleak-lab-guide"
FENCES: Final = ("```", "~~~")
_TO_A_SECTION: Final = re.compile(r"\]\(#([\w-]+)\)")
_TO_A_FILE: Final = re.compile(r"\[([^\]]*)\]\((?!https?://|/|#)([^)]+)\)")


@dataclass(frozen=True)
class Page:
    """One section: its heading and its Markdown."""

    title: str
    markdown: str

    @property
    def anchor(self) -> str:
        """The heading as links within the document write it."""
        return re.sub(r"[^\w-]", "", self.title.lower().replace(" ", "-"))


def pages(guide: str) -> list[Page]:
    """The guide's sections. What stands before the first of them is a page under the guide's own title."""
    found: list[tuple[str, list[str]]] = [("eBPF guide", [])]
    fenced = False
    for line in guide.splitlines():
        fenced ^= line.startswith(FENCES)
        if line.startswith("## ") and not fenced:
            found.append((line.removeprefix("## ").strip(), []))
        elif line.startswith("# ") and not fenced and len(found) == 1:
            found[0] = (line.removeprefix("# ").strip(), found[0][1])
        else:
            found[-1][1].append(line)
    return [Page(title, body) for title, lines in found if (body := "\n".join(lines).strip())]


def links(guide: str, title: str, *words: str) -> list[dashboard.DashboardLink]:
    """A link to the first page whose heading has one of ``words``, or to the guide as a whole; none without a guide."""
    if not guide:
        return []
    for word in words:
        for at, page in enumerate(pages(guide), start=1):
            if word.casefold() in page.title.casefold():
                return [link(title, UID, at)]
    return [link(title, UID)]


def guide_dashboard(guide: str) -> dashboard.Dashboard:
    """The pages, one below the other, with links that lead from page to page.

    Raises:
        ValueError: the guide links to a section that it does not have.
    """
    sections = {page.anchor: at for at, page in enumerate(pages(guide), start=1)}

    def to_a_page(match: re.Match[str]) -> str:
        if match[1] not in sections:
            raise ValueError(f"the guide links to #{match[1]}; its sections are {', '.join(sections)}")
        return f"]({page_url(UID, sections[match[1]])})"

    def linked(markdown: str) -> str:
        # A file of the repository is nothing that Grafana serves: its name is told instead.
        return _TO_A_FILE.sub(r"\1 (`docs/\2`)", _TO_A_SECTION.sub(to_a_page, markdown))

    built = dashboard.Dashboard("eBPF guide").uid(UID).tags([TAG]).description("How to find the leak, tool by tool.")
    for at, page in enumerate(pages(guide), start=1):
        built.with_panel(
            text.Panel()
            .id(at)
            .title(page.title)
            .description("A page of the guide to the eBPF tools.")
            .mode(text_model.TextMode.MARKDOWN)
            .content(linked(page.markdown))
            .span(24)
            .height(16)
        )
    return built
