// Call sites with their source and stacks, the account of memory, what was lost, and what changed between two reports.

function sourceLines(site) {
  const lines = site.source.map(([number, text]) => el("span", { class: number === site.line ? "hit" : null },
    el("span", { class: "number" }, String(number).padStart(5)), ` ${text}\n`));
  return el("figure", { class: "source" },
    el("figcaption", {}, site.file ? `${site.file}:${site.line}` : site.place),
    lines.length ? el("pre", {}, el("code", {}, ...lines)) : null);
}

function stackList(stack) {
  const frames = stack.frames.map((frame) => el("li", {},
    el("span", { class: `swatch flame-${frame.kind}` }), el("code", {}, frame.name), " ",
    el("span", { class: "place" }, frame.place === frame.module ? frame.place : `${frame.place} ${frame.module}`)));
  return el("div", { class: "stack" },
    el("p", {}, `${size(stack.bytes)} in ${count(stack.allocations)} allocations, ${count(stack.frees)} freed`),
    el("ol", {}, ...frames),
    stack.broken ? el("p", { class: "note" }, "The outermost frames are missing: the stack is cut short.") : null);
}

function bar(share, kind = "") {
  const inner = el("span", { class: `fill ${kind}` });
  inner.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return el("span", { class: "bar", "aria-hidden": "true" }, inner);
}

function siteRows(site) {
  const place = site.file && site.line ? site.place : site.place || "";
  return [
    el("tr", { class: site.named ? "named" : null },
      el("th", { scope: "row" }, el("code", {}, site.function),
        site.caller ? el("span", { class: "caller" }, "from ", el("code", {}, site.caller)) : null),
      el("td", {}, el("code", { class: "place" }, place)),
      el("td", { class: "number" }, size(site.bytes), bar(site.share, site.named ? "named" : "")),
      cell(percent(site.share), true), cell(count(site.allocations), true), cell(count(site.frees), true),
      cell(size(site.per_minute), true), cell(duration(site.oldest_seconds), true)),
    el("tr", { class: "more" }, el("td", { colspan: 8 },
      el("details", { open: site.named ? "" : null }, el("summary", {}, site.line ? "Source and call stacks" : "Call stacks"),
        site.line ? sourceLines(site) : null, ...site.stacks.map(stackList),
        site.more_stacks ? el("p", { class: "note" }, `${count(site.more_stacks)} more stacks of this site hold less.`) : null))),
  ];
}

function sitesSection(capture, level) {
  const { rows, more } = capture.sites;
  if (!rows.length) return null;
  return section(level, "Call sites",
    table("What each call site holds at the window's end",
      [["function and caller", false], ["place", false], ["outstanding", true], ["share", true], ["allocations", true],
        ["frees", true], ["a minute", true], ["oldest", true]],
      rows.flatMap(siteRows), "sites"),
    more ? el("p", { class: "note" }, `${count(more)} more call sites hold less.`) : null);
}

function accountSection(account, level) {
  if (!account) return null;
  const most = Math.max(1, ...account.rows.map((row) => Math.abs(row.bytes)));
  const rows = account.rows.map((row) => el("tr", { class: row.depth ? "inner" : null },
    el("th", { scope: "row" }, row.meaning,
      row.remedy && row.bytes >= 2 ** 20 ? el("span", { class: "remedy" }, row.remedy) : null),
    el("td", { class: "number" }, size(row.bytes), bar(Math.abs(row.bytes) / most, row.bytes < 0 ? "shrunk" : ""))));
  return section(level, "Account of memory",
    el("p", { class: "note" }, `Memory grew by ${size(account.growth)} in the window`
      + (account.files ? `, mapped files by ${size(account.files)}` : "") + `; ${size(account.resident)} are resident `
      + `at its end (read to within ${size(account.error)}). The inner rows are the parts of anonymous memory.`),
    table("Where the growth went", [["part", false], ["growth", true]], rows, "account"));
}

function lostSection(lost, level) {
  const rows = lost.counts.map(([kind, number]) => el("tr", {}, el("th", { scope: "row" }, kind), cell(count(number), true)));
  return section(level, "What was lost",
    el("p", {}, lost.complete ? "No event was lost." : "Events are missing from the numbers."),
    rows.length ? table("Events and stacks that are incomplete", [["kind", false], ["number", true]], rows, "small") : null,
    lost.notes.length ? el("ul", { class: "notes" }, ...lost.notes.map((note) => el("li", {}, note))) : null);
}

function changesSection(changes) {
  const most = Math.max(1, ...changes.rows.flatMap((row) => [row.before, row.after]));
  const rows = changes.rows.map((row) => {
    const change = row.after - row.before;
    const tone = Math.abs(change) < most / 100 ? "" : change < 0 ? "better" : "worse";
    return el("tr", {},
      el("th", { scope: "row" }, el("code", {}, row.function),
        row.caller ? el("span", { class: "caller" }, "from ", el("code", {}, row.caller)) : null),
      el("td", { class: "number" }, size(row.before), bar(row.before / most, "named")),
      el("td", { class: "number" }, size(row.after), bar(row.after / most, "named")),
      el("td", { class: `number ${tone}` }, `${change > 0 ? "+" : ""}${size(change)}`));
  });
  return section(2, "What changed",
    el("p", { class: "note" }, `Bytes kept a minute, so that windows of different lengths compare: ${size(changes.before)} before, `
      + `${size(changes.after)} after.`),
    table("Bytes kept a minute, by call site", [["function and caller", false], ["before", true], ["after", true],
      ["change", true]], rows, "changes"),
    changes.more ? el("p", { class: "note" }, `${count(changes.more)} more call sites changed less.`) : null);
}
