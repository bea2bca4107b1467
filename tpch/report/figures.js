// Draws the report's figures from the data in the page. Each figure is drawn for the width it has and again when that changes, so that text keeps
// its size on a phone.
"use strict";

const report = JSON.parse(document.getElementById("data").textContent);
const HOOKS = ["hash", "schedule_task", "execute_forever", "load", "update_used_memory", "allocate_new_block", "unpin"];
const CONFIGURATIONS = ["stock", "detached", "attached"].filter(name => report.queries.some(query => query[name]));
// H. Y. Grigorova, Online OS reconfiguration for Cloud DBMS, TU Munich, 2025: the system that duckbpf reproduces.
const THESIS = { reload_us: 186, reboot_us: 286585, runtime_bytes: 1190000, program_bytes: 1000 };
const ROW = 12, LEFT = 40, TOP = 24;

// --- small helpers

function html(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function text(x, y, content, attributes = {}) {
  return svg("text", { x, y, "dominant-baseline": "middle", ...attributes }, content);
}

function line(x1, y1, x2, y2, attributes) {
  return svg("line", { x1, y1, x2, y2, ...attributes });
}

/** A shape that stands for one number; `says` is its tooltip. */
function mark(name, attributes, says) {
  return svg(name, { class: "mark", ...attributes }, svg("title", {}, says));
}

const colour = name => `var(--${name})`;
const digits = (value, count) => value.toLocaleString("en", { minimumFractionDigits: count, maximumFractionDigits: count });
const percent = ratio => `${ratio < 0.9995 ? "\u2212" : "+"}${digits(Math.abs(ratio - 1) * 100, 1)}%`;
const whole = value => Math.round(value).toLocaleString("en");

function seconds(value) {
  if (value >= 10) return `${digits(value, 1)} s`;
  if (value >= 1) return `${digits(value, 2)} s`;
  return value >= 0.1 ? `${digits(value * 1e3, 0)} ms` : `${digits(value * 1e3, 1)} ms`;
}

function short(value) {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (value >= size) return `${digits(value / size, value / size < 10 && value % size ? 1 : 0)}${unit}`;
  }
  return whole(value);
}

function bytes(value) {
  if (value >= 1e6) return `${digits(value / 1e6, 2)} MB`;
  return value >= 1e3 ? `${digits(value / 1e3, 1)} kB` : `${value} B`;
}

function time(us) {
  if (us >= 1e5) return `${whole(us / 1e3)} ms`;
  return us >= 1e3 ? `${digits(us / 1e3, 2)} ms` : `${digits(us, us < 10 ? 1 : 0)} \u00b5s`;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Round steps that cover [low, high], about `count` of them. */
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= raw);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) found.push(+tick.toPrecision(12));
  return found;
}

function linear(low, high, from, to) {
  return value => from + (value - low) / (high - low) * (to - from);
}

function logarithmic(low, high, from, to) {
  const scale = linear(Math.log10(low), Math.log10(high), from, to);
  return value => scale(Math.log10(value));
}

/** Powers of ten in [low, high]; every second one where there is little room. */
function powers(low, high, width) {
  const found = [], step = width < 500 ? 2 : 1;
  for (let power = Math.round(Math.log10(low)); 10 ** power <= high * 1.0001; power += step) found.push(10 ** power);
  return found;
}

/** Grid lines with labels above the plot. */
function grid(values, x, bottom, label) {
  return values.flatMap(value => [
    line(x(value), TOP - 6, x(value), bottom, { class: "grid" }),
    text(x(value), TOP - 14, label(value), { class: "soft", "text-anchor": "middle" }),
  ]);
}

// --- figures: a title, what it shows, and a function of the width that returns [height, ...nodes]

const figures = document.getElementById("figures");
const redraws = [];

function figure(id, title, note, draw, legend = [], before = []) {
  const holder = html("div", { class: "figure" });
  const list = html("ul", { class: "legend" }, ...legend.map(([name, paint, shape]) =>
    html("li", {}, html("i", shape ? { class: shape, style: `border-color: ${paint}` } : { style: `background: ${paint}` }), name)));
  const section = html("section", { id }, html("h2", {}, title), html("p", { class: "note" }, note), ...before);
  if (legend.length) section.append(list);
  section.append(holder);
  figures.append(section);
  const redraw = () => {
    const width = Math.max(280, holder.clientWidth);
    const [height, ...nodes] = draw(width);
    holder.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title }, ...nodes));
  };
  redraws.push(redraw);
  redraw();
  return redraw;
}

/** Ratios with their intervals, one row each: {label, points: [{name, ratio, interval}]}. */
function forest(rows, width) {
  const values = rows.flatMap(row => row.points.flatMap(point => [point.ratio, ...(point.interval ?? [])]));
  // A disturbed run may stretch one interval; it is cut off rather than let all others shrink.
  const low = Math.max(0.8, Math.min(0.97, ...values)), high = Math.min(1.5, Math.max(1.03, ...values));
  const left = Math.max(LEFT, 8 + 7 * Math.max(...rows.map(row => row.label.length)));
  const x = linear(low, high, left, width - 58), inside = value => x(Math.min(high, Math.max(low, value)));
  const pitch = rows.some(row => row.points.length > 1) ? 32 : 26, bottom = TOP + rows.length * pitch;
  const nodes = grid(ticks(low, high, width < 500 ? 4 : 8), x, bottom, value => value === 1 ? "stock" : percent(value));
  nodes.push(line(x(1), TOP - 6, x(1), bottom, { class: "axis" }));
  rows.forEach((row, index) => {
    const top = TOP + index * pitch;
    nodes.push(text(0, top + pitch / 2, row.label, row.label === "all" ? { "font-weight": 700 } : {}));
    row.points.forEach((point, place) => {
      const y = top + pitch / 2 + ROW * (place + .5 - row.points.length / 2), paint = colour(point.name);
      if (point.interval) nodes.push(line(inside(point.interval[0]), y, inside(point.interval[1]), y, { stroke: paint, "stroke-width": 2, opacity: .55 }));
      const interval = point.interval ? `, 95% ${percent(point.interval[0])} to ${percent(point.interval[1])}` : "";
      nodes.push(mark("circle", { cx: inside(point.ratio), cy: y, r: 4, fill: paint }, `${row.label} ${point.name}: ${percent(point.ratio)}${interval}`));
      nodes.push(text(width, y, percent(point.ratio), { "text-anchor": "end", fill: paint, style: `fill: ${paint}` }));
    });
  });
  return [bottom, ...nodes];
}

function drawRatios() {
  const { summary } = report;
  const others = CONFIGURATIONS.filter(name => name !== "stock");
  if (!others.length) return;
  const rows = [{ label: "all", points: others.map(name => ({ name, ratio: summary[`geomean_${name}`], interval: summary[`interval_${name}`] })) }];
  for (const query of report.queries) rows.push({ label: `Q${query.query}`, points: others.map(name => ({ name, ...query[name] })) });
  figure("ratios", "Cost against stock",
    "Hot. Of each query the mean of the runs' own ratios without the outer fifths, with the 95% interval of a bootstrap over runs. The first row is the geometric mean of all 22 queries.",
    width => forest(rows.map(row => ({ ...row, points: row.points.filter(point => point.ratio) })), width), others.map(name => [name, colour(name)]));
}

function drawTimes() {
  let kind = "hot";
  const series = (query, name) => query[kind === "hot" ? `${name}_s` : `cold_${name}_s`];
  const draw = width => {
    const rows = report.queries.map(query => CONFIGURATIONS.map(name => [name, series(query, name)]).filter(([, times]) => times.length)
      .map(([name, times]) => [name, median(times)]));
    const bar = 9, pitch = CONFIGURATIONS.length * bar + 9, bottom = TOP + rows.length * pitch;
    const high = Math.max(...rows.flat().map(([, value]) => value));
    const x = linear(0, high, LEFT, width - 112);
    const nodes = grid(ticks(0, high, width < 500 ? 3 : 6), x, bottom, value => value ? seconds(value) : "0");
    rows.forEach((row, index) => {
      const top = TOP + index * pitch, stock = row[0]?.[1];
      nodes.push(text(0, top + pitch / 2 - 4, `Q${report.queries[index].query}`));
      row.forEach(([name, value], place) => {
        const y = top + place * bar;
        const cost = name === "stock" ? "" : `, ${percent(value / stock)}`;
        nodes.push(mark("rect", { x: LEFT, y, width: Math.max(1, x(value) - LEFT), height: bar - 1.5, rx: 1.5, fill: colour(name) },
          `Q${report.queries[index].query} ${name}: ${seconds(value)}${cost}`));
      });
      const end = Math.max(...row.map(([, value]) => x(value))) + 6;
      const last = row.at(-1);
      nodes.push(text(end, top + (row.length * bar - 1.5) / 2, seconds(stock), { class: "soft" }));
      if (row.length > 1) nodes.push(text(width, top + (row.length * bar - 1.5) / 2, percent(last[1] / stock), { "text-anchor": "end", style: `fill: ${colour(last[0])}` }));
    });
    return [bottom, ...nodes];
  };
  const choice = html("div", { class: "switch" });
  const redraw = figure("times", "Times of the 22 queries, side by side",
    "Medians. Beside the bars: stock's time, and what the last configuration's median adds to it.",
    draw, CONFIGURATIONS.map(name => [name, colour(name)]), report.cold_runs ? [choice] : []);
  for (const name of ["hot", "cold"]) {
    const button = html("button", { type: "button", "aria-pressed": String(name === kind) }, name);
    button.addEventListener("click", () => {
      kind = name;
      for (const other of choice.children) other.setAttribute("aria-pressed", String(other === button));
      redraw();
    });
    choice.append(button);
  }
}

function drawCalls() {
  const counted = report.queries.filter(query => Object.keys(query.calls).length);
  if (!counted.length) return;
  const paints = Object.fromEntries(HOOKS.map((hook, index) => [hook, colour(`h${index}`)]));
  const draw = width => {
    const high = 10 ** Math.ceil(Math.log10(Math.max(10, ...counted.flatMap(query => Object.values(query.calls)))));
    const x = logarithmic(1, high, LEFT + 26, width - 12), zero = LEFT + 6;
    const pitch = 26, bottom = TOP + counted.length * pitch;
    const nodes = grid(powers(1, high, width), x, bottom, short);
    nodes.push(text(zero, TOP - 14, "0", { class: "soft", "text-anchor": "middle" }));
    counted.forEach((query, index) => {
      const y = TOP + (index + .5) * pitch;
      nodes.push(text(0, y, `Q${query.query}`), line(zero - 6, y, width, y, { class: "grid" }));
      const keys = query.calls.hash_keys ?? 0;
      if (keys) nodes.push(mark("circle", { cx: x(keys), cy: y, r: 4.5, fill: "none", stroke: paints.hash, "stroke-width": 2 }, `Q${query.query}: ${whole(keys)} keys hashed`));
      // Slightly apart, so that hooks with equally many calls (every load has its unpin) are all seen.
      HOOKS.forEach((hook, place) => {
        const calls = query.calls[hook] ?? 0;
        nodes.push(mark("circle", { cx: calls ? x(calls) : zero, cy: y + (place - 3) * 2.2, r: 4.5, fill: paints[hook], "fill-opacity": .85, stroke: "var(--card)" },
          `Q${query.query} ${hook}: ${whole(calls)}`));
      });
    });
    return [bottom, ...nodes];
  };
  figure("calls", "Hook calls per query", "One warm run with the programs attached, on a logarithmic scale. A call of hash is one vector; the ring counts its keys.",
    draw, [...HOOKS.map(hook => [hook, paints[hook]]), ["hash keys", paints.hash, "ring"]]);
}

/** Horizontal bars: {label, value, name, reference}. */
function bars(rows, x, labelWidth, width, show) {
  const pitch = 34;
  const nodes = rows.flatMap((row, index) => {
    const y = TOP + index * pitch;
    return [
      text(0, y + 5, row.label, { class: row.reference ? "reference" : "" }),
      mark("rect", { x: labelWidth, y: y + 13, width: Math.max(2, x(row.value) - labelWidth), height: 10, rx: 2,
        fill: row.reference ? colour("reference") : colour(row.name), "fill-opacity": row.reference ? .5 : 1 }, `${row.label}: ${show(row.value)}`),
      text(Math.max(2, x(row.value)) + 6, y + 18, show(row.value)),
    ];
  });
  return [TOP + rows.length * pitch, nodes];
}

function drawSizes() {
  const { sizes } = report;
  const programs = Object.entries(sizes.programs).map(([label, value]) => ({ label, value, name: "attached" }));
  const rows = [
    { label: "DuckDB's library in the wheel, untouched", value: sizes.wheel_library, name: "stock" },
    { label: "libduckdb.so of the stock engine", value: sizes.stock_library, name: "stock" },
    { label: "libduckdb.so of the hooked engine", value: sizes.hooked_library, name: "detached" },
    { label: "duckbpf extension, the graft inside", value: sizes.extension, name: "detached" },
    { label: "the graft: DuckDB's patched units", value: sizes.graft, name: "detached" },
    { label: "thesis: runtime added to DuckDB", value: THESIS.runtime_bytes, reference: true },
    ...programs,
    { label: "thesis: one program, about", value: THESIS.program_bytes, reference: true },
  ].filter(row => row.value);
  const high = Math.max(...rows.map(row => row.value));
  figure("sizes", "Sizes", "On a logarithmic scale. Programs are the objects as compiled, with debug information and types.", width => {
    const x = logarithmic(100, high, 0, width - 84);
    const [bottom, nodes] = bars(rows, x, 0, width, bytes);
    return [bottom, ...grid(powers(100, high, width), x, bottom, value => bytes(value).replace(/\.0+ /, " ")), ...nodes];
  });
}

const PHASES = [["read", "h1"], ["parse", "h2"], ["check", "h3"], ["compile", "h0"], ["quality", "h5"], ["publish", "h4"]];

function drawReload() {
  const rows = report.reload;
  if (!rows.length) return;
  const mean = of => rows.reduce((sum, row) => sum + row[of], 0) / rows.length;
  const draw = width => {
    // A disturbed reload may take long; its whisker is cut off rather than let the bars shrink.
    const high = Math.max(1.2 * THESIS.reload_us, Math.min(Math.max(...rows.map(row => row.p99_us)), 2 * Math.max(...rows.map(row => row.p50_us))));
    const x = linear(0, high, 0, width - 4), pitch = 40, top = TOP + 20, bottom = top + rows.length * pitch;
    const nodes = grid(ticks(0, high, width < 500 ? 3 : 6).slice(1), x, bottom, time);
    const mine = x(THESIS.reload_us);
    nodes.push(line(mine, TOP, mine, bottom, { class: "reference" }));
    const fits = mine < width / 2;
    nodes.push(text(mine + (fits ? 6 : -6), TOP + 6, `thesis ${THESIS.reload_us} \u00b5s`, { class: "reference", "text-anchor": fits ? "start" : "end" }));
    rows.forEach((row, index) => {
      const y = top + index * pitch, end = x(Math.min(high, row.p99_us));
      nodes.push(text(0, y + 7, row.program));
      nodes.push(text(width, y + 7, `${time(row.phases_us)} in ${time(row.p50_us)}, p99 ${time(row.p99_us)}`, { "text-anchor": "end", class: "soft" }));
      const says = `${row.program}: median ${time(row.p50_us)}, 99th percentile ${time(row.p99_us)}`;
      nodes.push(mark("rect", { x: 0, y: y + 16, width: x(row.p50_us), height: 11, rx: 2, fill: colour("stock"), "fill-opacity": .6 }, says));
      let gone = 0;
      for (const [phase, paint] of PHASES) {
        const value = row[`${phase}_us`];
        if (value) nodes.push(mark("rect", { x: x(gone), y: y + 16, width: x(value), height: 11, fill: colour(paint) }, `${row.program}, ${phase}: ${time(value)}`));
        gone += value;
      }
      nodes.push(line(x(row.p50_us), y + 21.5, end, y + 21.5, { class: "axis" }));
      if (row.p99_us <= high) nodes.push(line(end, y + 17, end, y + 26, { class: "axis" }));
    });
    return [bottom, ...nodes];
  };
  const phases = PHASES.filter(([phase]) => rows.some(row => row[`${phase}_us`])).map(([phase, paint]) => [phase, colour(paint)]);
  figure("reload", `Reloading a program: ${time(mean("phases_us"))}`,
    `The coloured phases, mean of the medians over the programs; the file is read anew and checked, the other programs stay attached. The grey bar is the whole SQL statement at its Python client, ` +
    `${time(mean("p50_us"))} (an empty SELECT takes ${time(report.statement_us)}); the whisker ends at its 99th percentile. ` +
    `The thesis: ${THESIS.reload_us} \u00b5s for unload, load and JIT without any checks, against a reboot of its image in ${time(THESIS.reboot_us)}.`,
    draw, [...phases, ["the rest of the statement", colour("stock")]]);
}

function drawSets() {
  if (!report.sets.length) return;
  const attached = { name: `all ${report.programs.length}`, geomean: report.summary.geomean_attached, interval: report.summary.interval_attached };
  const rows = [...report.sets, attached].map(set => ({ label: set.name, points: [{ name: "attached", ratio: set.geomean, interval: set.interval }] }));
  figure("sets", "Cost by the number of programs", "Geometric mean over the 22 queries of the runs' own ratios, without the outer fifths of each query, with its 95% interval.", width => forest(rows, width));
}

function drawOthers() {
  if (!report.others.length) return;
  const rows = report.others.map(other => ({ label: other.name, points: [{ name: "stock", ratio: other.geomean, interval: other.interval }] }));
  figure("others", "Other builds of DuckDB, for information",
    "Without hooks, geometric mean of the ratios to the stock engine, with its 95% interval. Compilers, allocators and optimisation differ: no cost of hooks is in these.",
    width => forest(rows, width));
}

function drawBoot() {
  if (!report.boot) return;
  const { starts, plain_us, hooked_us } = report.boot;
  const reload = report.reload.reduce((sum, row) => sum + row.p50_us, 0) / report.reload.length;
  const rows = [
    { label: "a process, from its start to its first result", value: plain_us, name: "stock" },
    { label: `the same, with the extension loaded and ${report.programs.length} programs set`, value: hooked_us, name: "attached" },
    { label: "a live reload of one program, the whole SQL statement", value: reload, name: "detached" },
    { label: "thesis: reboot of its image", value: THESIS.reboot_us, reference: true },
  ].filter(row => row.value);
  const high = Math.max(...rows.map(row => row.value));
  figure("boot", "Boot against reload", `On a logarithmic scale. Medians of ${starts} starts of a C program on the hooked engine that opens the data and counts the rows of a table. ` +
    "This is a process, not yet a reboot of an image.", width => {
    const x = logarithmic(10, high, 0, width - 84);
    const [bottom, nodes] = bars(rows, x, 0, width, time);
    return [bottom, ...grid(powers(10, high, width), x, bottom, time), ...nodes];
  });
}

function drawCarriers() {
  if (report.carriers.length < 2) return;
  const ratio = (value, interval) => value ? `${digits(value, 4)}${interval ? ` [${interval.map(bound => digits(bound, 3)).join(", ")}]` : ""}` : "-";
  const rows = report.carriers.map(carrier => html("tr", {}, ...[carrier.carrier, whole(carrier.runs), seconds(carrier.stock_s), ratio(carrier.detached, carrier.interval_detached),
    ratio(carrier.attached, carrier.interval_attached), whole(carrier.calls)].map(cell => html("td", {}, cell))));
  const head = ["carrier", "runs", "its stock, sum of medians", "detached / stock", "attached / stock", "hook calls in one pass"];
  figures.append(html("section", { id: "carriers" }, html("h2", {}, "Both carriers"), html("p", { class: "note" }, "Each against its own stock: the official wheel for the graft, the stock twin for the engine."),
    html("div", { class: "scroll" }, html("table", {}, html("thead", {}, html("tr", {}, ...head.map(name => html("th", {}, name)))), html("tbody", {}, ...rows)))));
}

function drawTable() {
  const others = CONFIGURATIONS.filter(name => name !== "stock");
  const head = ["query", ...CONFIGURATIONS.flatMap(name => [`${name}, median`, `${name}, mean`]), ...others.map(name => `${name} / stock`), "results"];
  const rows = report.queries.map(query => html("tr", {},
    html("td", {}, `Q${query.query}`),
    ...CONFIGURATIONS.flatMap(name => [html("td", {}, seconds(query[name].median_s)), html("td", {}, seconds(query[name].mean_s))]),
    ...others.map(name => html("td", {}, `${digits(query[name].ratio, 3)}${query[name].interval ? ` [${query[name].interval.map(value => digits(value, 3)).join(", ")}]` : ""}`)),
    html("td", { class: query.equal ? "good" : "bad" }, query.equal ? "equal" : "different")));
  figures.append(html("section", { id: "numbers" }, html("h2", {}, "The numbers, hot"),
    html("div", { class: "scroll" }, html("table", {}, html("thead", {}, html("tr", {}, ...head.map(name => html("th", {}, name)))), html("tbody", {}, ...rows)))));
}

// --- the head and the foot

function drawHead() {
  const { summary, swap, machine } = report;
  document.getElementById("title").textContent = `What hooks cost: TPC-H, scale factor ${report.sf}`;
  document.getElementById("lead").textContent = `${report.carrier === "engine" ? "A libduckdb of DuckDB 2.0.0 as it came; its twin with hooks, duckbpf loaded" : "The official DuckDB 2.0.0 wheel, untouched; with duckbpf loaded"} and nothing attached; with ${report.programs.length || "no"} programs attached. ` +
    `${report.runs} interleaved runs of each, every one in a process of its own, ${report.threads} threads.`;
  const tiles = [];
  const range = interval => interval ? `95%: ${percent(interval[0])} to ${percent(interval[1])}` : "";
  for (const name of ["detached", "attached"]) {
    const ratio = summary[`geomean_${name}`];
    if (ratio) tiles.push([percent(ratio), `${name}, geometric mean of 22 queries`, range(summary[`interval_${name}`])]);
  }
  if (summary.worst_attached) tiles.push([percent(summary.worst_attached.ratio), `worst query attached, Q${summary.worst_attached.query}`]);
  const equal = report.queries.filter(query => query.equal).length;
  tiles.push([`${equal} of ${report.queries.length}`, "queries with equal results in every run"]);
  if (swap) tiles.push([time(swap.p50_us), `a swap of all programs under load; ${whole(swap.swaps)} swaps, ${whole(swap.results)} results, ${swap.wrong + swap.failed} wrong`]);
  document.getElementById("tiles").append(...tiles.map(([value, ...notes]) => html("div", { class: "tile" }, html("b", {}, value), ...notes.map(note => html("span", {}, note)))));
  const facts = [
    ["Machine", `${machine.processor}, ${machine.cores} cores, ${digits(machine.memory / 2 ** 30, 0)} GiB, ${machine.system}, Linux ${machine.kernel}`],
    ["DuckDB", `${report.threads} threads, memory limit ${report.memory ?? "DuckDB's default"}, unsigned extensions allowed in all configurations, hooks by ${report.carrier}`],
    ["Programs", report.programs.join(", ") || "none"],
    ["Hot", `After one execution that warms up: the median of ${report.repeats}${report.repeat_s ? ` (fewer where they take longer than ${report.repeat_s} s)` : ""} from execute to the last row fetched, of the time that its process was running.`],
    ["Cold", report.cold_runs ? `${report.cold} Measured in ${report.cold_runs} of the runs.` : "Not measured."],
    ["Ratios", "In a run the configurations run each query in turns of 20 ms, in an order that changes; the others stand still meanwhile. A query's ratio is the geometric mean of the runs' ratios without the lowest and the highest fifth; intervals are 95% bootstraps over runs."],
  ];
  document.getElementById("method").append(html("dl", {}, ...facts.flatMap(([name, fact]) => [html("dt", {}, name), html("dd", {}, fact)])));
}

drawHead();
drawRatios();
drawTimes();
drawCalls();
drawSets();
drawReload();
drawBoot();
drawSizes();
drawOthers();
drawCarriers();
drawTable();

let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  for (const redraw of redraws) redraw();
});
