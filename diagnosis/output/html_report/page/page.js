// Puts the page together from its data.

function sections(capture, level) {
  const charts = (list) => el("div", { class: list.length === 2 ? "charts two" : "charts" }, ...list.map(timeline));
  return [
    capture.story.length || capture.against
      ? section(level, "Claims against truth", charts(capture.story), againstTable(capture.against)) : null,
    flameSection(capture, level),
    sitesSection(capture, level),
    capture.window.length ? section(level, "The window", charts(capture.window)) : null,
    accountSection(capture.account, level),
    lostSection(capture.lost, level),
    section(level, "About this report", aboutList(capture.origin)),
  ];
}

const data = JSON.parse(document.getElementById("data").textContent);
document.title = `${data.title}: memleak-lab`;
const main = document.getElementById("report");
main.append(el("header", {},
  el("p", { class: "brand" }, "memleak-lab"),
  el("h1", {}, data.title),
  data.changes ? null : aboutList(data.captures[0].about)));
if (data.changes) {
  main.append(
    el("div", { class: "pair" }, ...data.captures.map((capture) => verdictCard(capture, 2))),
    changesSection(data.changes),
    ...data.captures.map((capture) => el("section", { class: "capture" },
      el("h2", {}, capture.label), aboutList(capture.about), ...sections(capture, 3))));
} else {
  const [capture] = data.captures;
  main.append(verdictCard(capture, 2), ...sections(capture, 2).filter(Boolean));
}
