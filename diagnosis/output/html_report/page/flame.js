// The flame graph, by d3-flame-graph: zoom by click or Enter, search by a part of a name.

const KINDS = [
  ["named", "the function that the verdict names"],
  ["native", "native code"],
  ["python", "Python"],
  ["passed", "allocators, standard libraries, runtimes"],
];
const FRAME_HEIGHT = 20;
const SHADES = 3;
const ZOOM_MILLISECONDS = 250;

function shade(name) {
  let hash = 0;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 9973;
  return hash % SHADES;
}

function frameColor(node) {
  if (node.highlight) return "var(--flame-found)";
  return node.data.kind === "named" || node.data.kind === "none"
    ? `var(--flame-${node.data.kind})`
    : `var(--flame-${node.data.kind}-${shade(node.data.name)})`;
}

// The data have each frame after its caller, with the caller's number.
function nested(frames) {
  for (const frame of frames) frame.children = [];
  for (const frame of frames.slice(1)) frames[frame.parent].children.push(frame);
  return frames[0];
}

function flameSection(capture, level) {
  const root = nested(capture.flame);
  const total = root.value;
  if (!total) return section(level, "Flame graph", el("p", {}, "No stack holds a byte of what was taken in the window."));
  const label = ({ data }) => {
    const where = data.places ? ` at ${data.places.join(", ")}` : "";
    const module = data.module && !(data.places || []).includes(data.module) ? ` in ${data.module}` : "";
    return `${data.name}: ${size(data.value)}, ${percent(data.value / total)}${where}${module}`;
  };
  const found = el("output", { class: "found" });
  const search = el("input", { type: "search", placeholder: "part of a name, file or module", "aria-label": "Search the flame graph",
    spellcheck: "false", autocomplete: "off" });
  const reset = el("button", { type: "button", class: "reset" }, "Reset zoom");
  const details = el("p", { class: "details" }, "\u00a0");
  const holder = el("div", { class: "flame" });
  const kinds = new Set(capture.flame.map((frame) => frame.kind));
  const legend = el("ul", { class: "legend" }, ...KINDS.filter(([kind]) => kinds.has(kind))
    .map(([kind, text]) => el("li", {}, el("span", { class: `swatch flame-${kind}` }), text)));

  const chart = flamegraph.default()
    .cellHeight(FRAME_HEIGHT).minFrameSize(1).transitionDuration(0)
    .setColorMapper(frameColor).setLabelHandler(label)
    .setSearchMatch((node, term) => [node.data.name, node.data.module, ...(node.data.places || [])]
      .some((text) => text && text.toLowerCase().includes(term.toLowerCase())))
    .setSearchHandler((results, sum) => {
      found.textContent = results.length ? `${count(results.length)} found: ${size(sum)}, ${percent(sum / total)}` : "nothing found";
    })
    .setDetailsHandler((text) => { details.textContent = text || "\u00a0"; })
    .onClick((node) => {
      reset.hidden = !node.parent;
      if (still) settle();
      reachable();
    });

  // The library lets new frames grow; where nothing was before, or may move, they are there at once.
  function settle() {
    d3.select(holder).selectAll("g.frame").each(function (node) {
      d3.select(this).select("rect").interrupt().attr("width", this.getAttribute("width"));
      d3.select(this).select("div").interrupt().text(node.data.name);
    });
  }

  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

  // The library draws for pointers; keys and screen readers need a name, and an order.
  function reachable() {
    d3.select(holder).selectAll("g.frame").attr("tabindex", 0).attr("role", "button").attr("aria-label", label);
  }
  holder.addEventListener("keydown", (event) => {
    const frame = event.target.closest("g.frame");
    if (frame && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      frame.dispatchEvent(new MouseEvent("click", { bubbles: true }));
    }
  });
  holder.addEventListener("focusin", (event) => {
    const frame = event.target.closest("g.frame");
    if (frame) details.textContent = frame.getAttribute("aria-label");
  });
  search.addEventListener("input", () => {
    const term = search.value.trim();
    if (term) chart.search(term);
    else {
      found.textContent = "";
      chart.clear();
    }
    reachable();
  });
  reset.hidden = true;
  reset.addEventListener("click", () => chart.resetZoom());

  let drawn = false;
  redrawn(holder, () => {
    chart.width(holder.clientWidth).transitionDuration(0);
    if (drawn) chart.update();
    else d3.select(holder).datum(root).call(chart);
    drawn = true;
    settle();
    if (!still) chart.transitionDuration(ZOOM_MILLISECONDS);
    reachable();
  });
  return section(level, "Flame graph",
    el("p", { class: "note" }, `${size(total)} outstanding at the window's end, by whole call stack: a frame is as wide as what `
      + "it and its callees hold, callers are below. Click a frame to zoom in."),
    el("div", { class: "tools" }, search, found, reset),
    holder, details, legend);
}
