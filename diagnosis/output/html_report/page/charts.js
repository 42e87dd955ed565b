// Time lines, drawn by d3: an SVG picture, a line that says the values under the pointer, and all values as a table.

const MARGIN = { top: 14, right: 16, bottom: 34, left: 72 };
const PLOT_HEIGHT = 200;
const ROW_HEIGHT = 15;
const LETTER_WIDTH = 7;
const MOST_ROWS = 60;

function unitOf(chart) {
  return chart.unit === "bytes" ? size : (value) => `${Number(value.toPrecision(3))} ${chart.unit}`;
}

// Steps that are round in bytes, and not in thousands.
function ticksOf(chart, low, high) {
  if (chart.unit !== "bytes") return d3.ticks(low, high, 5);
  const rough = (high - low) / 5 || 1;
  let step = 2 ** Math.ceil(Math.log2(rough));
  if (step / 2 * 1.25 >= rough && step > 2) step = step / 2 * 1.25;
  return d3.range(Math.ceil(low / step) * step, high + 1, step);
}

// Words above the picture, each in the first row in which it does not run into the one before.
function placed(chart, x, width) {
  const words = [...chart.marks, ...(chart.band ? [{ at: chart.band.from, text: chart.band.text, band: true }] : [])];
  const ends = [];
  return words.map((word) => {
    const long = word.text.length * LETTER_WIDTH + 12;
    const back = x(word.at) + long > width; // towards the middle, so that no word is cut off
    const from = back ? x(word.at) - long : x(word.at);
    let row = ends.findIndex((end) => end <= from);
    if (row < 0) row = ends.length;
    ends[row] = from + long;
    return { ...word, row, back };
  });
}

function timeline(chart) {
  const say = unitOf(chart);
  const all = chart.series.flatMap((series) => series.values);
  const high = Math.max(1e-9, d3.max(all));
  const low = Math.min(0, d3.min(all));
  const readout = el("p", { class: "readout", role: "status" });
  const holder = el("div", { class: "plot" });
  const legend = el("ul", { class: "legend" }, ...chart.series.map((series) => el("li", {},
    el("span", { class: `swatch ${series.kind}` }), series.name, " ",
    el("b", {}, say(series.values[series.values.length - 1])))));

  function draw() {
    const width = Math.max(320, holder.clientWidth || 800);
    const x = d3.scaleLinear([chart.x[0], chart.x[chart.x.length - 1]], [MARGIN.left, width - MARGIN.right]);
    const words = placed(chart, x, width);
    const top = MARGIN.top + ROW_HEIGHT * (1 + Math.max(-1, ...words.map((word) => word.row)));
    const bottom = top + PLOT_HEIGHT;
    const height = bottom + MARGIN.bottom;
    const y = d3.scaleLinear([low, high * 1.06], [bottom, top]);
    const across = { x1: MARGIN.left, x2: width - MARGIN.right };
    const drawn = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
      "aria-label": `${chart.title}: ${chart.series.map((each) => each.name).join("; ")}. The values are in the table.` });
    if (chart.band) {
      const right = Math.max(x(chart.band.to), x(chart.band.from) + 2);
      drawn.append(svg("rect", { class: "band", x: x(chart.band.from), width: right - x(chart.band.from),
        y: top, height: PLOT_HEIGHT }));
    }
    for (const tick of ticksOf(chart, low, high)) {
      drawn.append(svg("line", { class: "grid", ...across, y1: y(tick), y2: y(tick) }),
        svg("text", { class: "tick", x: MARGIN.left - 8, y: y(tick) + 4, "text-anchor": "end" }, say(tick)));
    }
    for (const tick of x.ticks(Math.min(10, width / 80))) {
      drawn.append(svg("text", { class: "tick", x: x(tick), y: bottom + 16, "text-anchor": "middle" },
        String(tick)));
    }
    drawn.append(svg("text", { class: "tick", x: width - MARGIN.right, y: height - 2, "text-anchor": "end" }, chart.axis));
    for (const word of words) {
      if (!word.band) drawn.append(svg("line", { class: "mark", x1: x(word.at), x2: x(word.at), y1: top, y2: bottom }));
      drawn.append(svg("text", { class: "mark-text", x: x(word.at) + (word.back ? -4 : 4), y: top - 5 - ROW_HEIGHT * word.row,
        "text-anchor": word.back ? "end" : "start" }, word.text));
    }
    const line = d3.line((_, i) => x(chart.x[i]), (value) => y(value));
    for (const series of chart.series) drawn.append(svg("path", { class: `line ${series.kind}`, d: line(series.values) }));
    const cursor = svg("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" });
    drawn.append(cursor);
    drawn.addEventListener("pointermove", (event) => {
      const i = d3.bisectCenter(chart.x, x.invert(d3.pointer(event, drawn)[0]));
      cursor.setAttribute("x1", x(chart.x[i]));
      cursor.setAttribute("x2", x(chart.x[i]));
      cursor.setAttribute("visibility", "visible");
      readout.textContent = `${chart.x[i].toFixed(1)} ${chart.axis}: `
        + chart.series.map((series) => `${say(series.values[i])} ${series.name}`).join("; ");
    });
    drawn.addEventListener("pointerleave", () => {
      cursor.setAttribute("visibility", "hidden");
      readout.textContent = "";
    });
    holder.replaceChildren(drawn);
  }

  redrawn(holder, draw);
  return el("figure", { class: "chart" },
    el("figcaption", {}, el("b", {}, chart.title), chart.note ? el("span", { class: "note" }, ` ${chart.note}`) : null),
    legend, holder, readout, valuesTable(chart, say));
}

function valuesTable(chart, say) {
  const every = Math.ceil(chart.x.length / MOST_ROWS);
  const rows = chart.x.map((x, i) => i).filter((i) => i % every === 0 || i === chart.x.length - 1)
    .map((i) => el("tr", {}, el("th", { scope: "row", class: "number" }, chart.x[i].toFixed(1)),
      ...chart.series.map((series) => cell(say(series.values[i]), true))));
  return el("details", { class: "values" }, el("summary", {}, "The values"),
    table(chart.title, [[chart.axis, true], ...chart.series.map((series) => [series.name, true])], rows));
}

// Draw when the element has a width, and whenever it has another one.
function redrawn(element, draw) {
  let last = 0;
  // In the next frame: what is drawn here changes sizes, which an observer may not wait for.
  new ResizeObserver(() => requestAnimationFrame(() => {
    if (element.clientWidth && element.clientWidth !== last) {
      last = element.clientWidth;
      draw();
    }
  })).observe(element);
}
