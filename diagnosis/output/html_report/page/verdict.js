// The verdict of a report, where it comes from, and what the service claimed.

const ANSWERS = { "leak": "Leak", "growing": "Growing", "no leak": "No leak" };

function verdictCard(capture, level) {
  const { answer, function: name, caller, summary } = capture.verdict;
  const named = name
    ? el(`h${level}`, { class: "headline" },
      el("code", {}, name), caller ? [el("span", { class: "by" }, " called from "), el("code", {}, caller)] : [])
    : el(`h${level}`, { class: "headline" }, answer === "no leak" ? "Nothing keeps growing" : "No function to name");
  const figures = capture.figures.map(([label, value]) => el("div", {}, el("dt", {}, label), el("dd", {}, value)));
  return el("section", { class: `card verdict ${answer.replace(" ", "-")}` },
    el("p", { class: "answer" },
      capture.label ? el("span", { class: "label" }, `${capture.label}: `) : null,
      el("strong", {}, ANSWERS[answer] || answer)),
    named,
    sourceOfNamed(capture),
    el("p", { class: "summary" }, summary),
    el("dl", { class: "figures" }, ...figures),
    gradeLine(capture.grade));
}

function sourceOfNamed(capture) {
  const site = capture.sites.rows.find((row) => row.named && row.caller === capture.verdict.caller)
    || capture.sites.rows.find((row) => row.named);
  return site && site.line ? sourceLines(site) : null;
}

function gradeLine(grade) {
  if (!grade) return null;
  const tone = grade.right ? "right" : grade.available ? "wrong" : "unknown";
  return el("p", { class: `grade ${tone}` }, grade.text);
}

function aboutList(pairs) {
  const rows = pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  return el("dl", { class: "about" }, ...rows);
}

function againstTable(against) {
  if (!against) return null;
  const rows = against.rows.map(([what, claimed, known]) => el("tr", {},
    el("th", { scope: "row" }, what), el("td", { class: "claimed" }, claimed), el("td", { class: "known" }, known)));
  return table("At the end of the traced window", against.headings.map((name) => [name || "what", false]), rows, "against");
}
