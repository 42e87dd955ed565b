// Elements and figures. Whatever is shown becomes a text node: no text is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

// As diagnosis/base/units.py writes them: three figures and a unit, exact below 1 KiB.
function size(bytes) {
  const sign = bytes < 0 ? "-" : "";
  const count = Math.abs(bytes);
  for (const [unit, scale] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    const value = count / scale;
    if (value >= 1 - 0.5 / 1024) {
      const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
      return `${sign}${value.toFixed(digits)} ${unit}`;
    }
  }
  return `${sign}${count.toFixed(0)} B`;
}

function duration(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return seconds < 10 ? `${seconds.toFixed(1)}s` : `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h ${two(Math.floor((whole % 3600) / 60))}m`;
}

function percent(share) {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;
}

function count(number) {
  return number.toLocaleString("en");
}

// A section with its heading, which the contents of a page of two reports are one level lower in.
function section(level, title, ...children) {
  return el("section", {}, el(`h${level}`, {}, title), ...children);
}

// A table that scrolls on its own where the page is narrow. Columns: [heading, is it a number].
function table(caption, columns, rows, classes = "") {
  const heads = columns.map(([name, number]) => el("th", { scope: "col", class: number ? "number" : null }, name));
  return el("div", { class: "scroll" },
    el("table", { class: classes || null },
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, ...heads)),
      el("tbody", {}, ...rows)));
}

function cell(text, number = false) {
  return el("td", { class: number ? "number" : null }, text);
}
