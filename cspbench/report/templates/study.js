"use strict";
// Draws the figures from the JSON in #data: no library, since the ones that Python packages ship are megabytes.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  // The namespace of SVG, without a web address in the page.
  const svgs = Object.assign(document.createElement("div"), { innerHTML: "<svg></svg>" }).firstChild.namespaceURI;
  const root = document.documentElement, tip = document.getElementById("tip"), hidden = new Set();
  const shapes = {  // by marker name, about 10 pixels wide
    o: "M5 0A5 5 0 1 1-5 0A5 5 0 1 1 5 0Z", s: "M-4.5-4.5h9v9h-9Z", D: "M0-6L6 0L0 6L-6 0Z", "^": "M0-6L5.5 4.5H-5.5Z",
    v: "M0 6L5.5-4.5H-5.5Z", P: "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4Z", X: "M-6-3L-3-6L0-3L3-6L6-3L3 0L6 3L3 6L0 3L-3 6L-6 3L-3 0Z",
    p: "M0-6L6-1.5L3.7 5.5H-3.7L-6-1.5Z", h: "M0-6L5.2-3V3L0 6L-5.2 3V-3Z", "<": "M-6 0L4.5-5.5V5.5Z", ">": "M6 0L-4.5-5.5V5.5Z",
    d: "M0-7L4 0L0 7L-4 0Z", "*": "M0-8L2-2.5H8L3.2 1.2L5 7.5L0 3.7L-5 7.5L-3.2 1.2L-8-2.5H-2Z" };
  const look = method => data.looks[method] || ["currentColor", "*"];
  const percent = value => value == null ? "–" : (100 * value).toFixed(1);
  const plain = value => `${+(+value).toPrecision(3)}`;
  const time = ms => !ms ? "0" : ms < 1 ? `${plain(1000 * ms)} µs` : `${plain(ms)} ms`;
  const size = bytes => !bytes ? "0" : bytes < 1e6 ? `${plain(bytes / 1e3)} kB` : `${plain(bytes / 1e6)} MB`;

  function make(tag, attributes, parent, text) {
    const node = document.createElementNS(svgs, tag);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  }

  // Scales: a place between 0 and 1 for a value, ticks, and their texts.
  const halvings = value => -Math.log2(1 - Math.min(value, 0.9999));
  const nice = step => { const ten = 10 ** Math.floor(Math.log10(step)); return ten * [1, 2, 5, 10].find(n => n * ten >= step * 0.999); };
  function linear(values, text) {
    const top = Math.max(...values, 1e-9) * 1.06, step = nice(top / 5), ticks = [];
    for (let tick = 0; tick <= top; tick += step) ticks.push(tick);
    return { at: value => value / top, ticks, text };
  }
  function logarithmic(values, text) {
    const known = values.filter(value => value > 0), low = Math.min(...known) / 1.15, high = Math.max(...known) * 1.15;
    const span = Math.log(high / low), ticks = [];
    for (let ten = 10 ** Math.floor(Math.log10(low)); ten <= high; ten *= 10)
      for (const digit of high / low > 300 ? [1] : [1, 2, 5])
        if (digit * ten >= low && digit * ten <= high) ticks.push(digit * ten);
    if (ticks.length < 3) {  // less than a decade
      const step = nice((high - low) / 4);
      ticks.length = 0;
      for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) ticks.push(tick);
    }
    return { at: value => Math.log(Math.max(value, low) / low) / span, ticks, text };
  }
  function scaleOf(values, text) {
    const known = values.filter(value => value > 0);
    return known.length && Math.max(...known) >= 10 * Math.min(...known) ? logarithmic(known, text) : linear(values, text);
  }
  function sparsityScale(values) {
    const top = Math.max(halvings(Math.max(...values)) * 1.05, 0.2), drawn = [...new Set(values)].sort((a, b) => a - b);
    const ticks = drawn.length <= 9 ? drawn : [0, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99].filter(tick => halvings(tick) <= top);
    const kept = ticks.filter((tick, i) => !i || halvings(tick) - halvings(ticks[i - 1]) > top / 14);
    return { at: value => halvings(value) / top, ticks: kept, text: value => `${+(100 * value).toFixed(2)}` };
  }
  const axes = {
    asked: ["sparsity (%), spaced by weights left", values => sparsityScale(values)],
    wer: ["test WER (%)", values => scaleOf(values, value => plain(100 * value))],
    latency: ["latency a model step", values => scaleOf(values, time)],
    size: ["size of the packed file", values => scaleOf(values, size)],
    loss: ["training loss", values => logarithmic(values, plain)],
    dev: ["dev WER (%)", values => scaleOf(values, value => plain(100 * value))],
    magnitude: ["magnitude", () => logarithmic([1.15e-4, 10 / 1.15], plain)],
    volume: ["hypervolume (%)", values => linear(values, value => plain(100 * value))],
    value: ["value", values => scaleOf(values, plain)],
    trial: ["trial of its method", values => linear(values, plain)],
    step: ["step", values => linear(values, value => value >= 1e4 ? `${value / 1000}k` : plain(value))],
  };

  function frame(box, across, upwards, xs, ys) {
    box.querySelector("svg")?.remove();
    const width = Math.max(box.clientWidth - 20, 240), height = Math.round(Math.min(340, Math.max(240, width * 0.72)));
    const area = { left: 46, right: width - 10, top: 12, bottom: height - 38 };
    const svg = make("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": box.querySelector("b").textContent });
    box.querySelector("b").after(svg);
    const x = axes[across][1](xs), y = axes[upwards][1](ys);
    if (across === "asked") area.inner = 14;  // room for the marks at 0
    const px = value => area.left + (area.inner || 0) + x.at(value) * (area.right - area.left - (area.inner || 0)), py = value => area.bottom - y.at(value) * (area.bottom - area.top);
    for (const tick of y.ticks) {
      make("line", { class: "grid", x1: area.left, x2: area.right, y1: py(tick), y2: py(tick) }, svg);
      make("text", { x: area.left - 5, y: py(tick) + 4, "text-anchor": "end" }, svg, y.text(tick));
    }
    let end = -1e9;  // texts below the axis must not run into each other
    for (const tick of x.ticks) {
      make("line", { class: "grid", x1: px(tick), x2: px(tick), y1: area.top, y2: area.bottom }, svg);
      const text = x.text(tick), half = 3.2 * text.length;
      if (px(tick) - half < end + 4) continue;
      make("text", { x: px(tick), y: area.bottom + 15, "text-anchor": "middle" }, svg, text);
      end = px(tick) + half;
    }
    make("text", { class: "name", x: (area.left + area.right) / 2, y: height - 6, "text-anchor": "middle" }, svg, axes[across][0]);
    make("text", { class: "name", x: 0, y: 0, "text-anchor": "middle", transform: `translate(9 ${(area.top + area.bottom) / 2}) rotate(-90)` }, svg, axes[upwards][0]);
    return { svg, px, py, area };
  }

  function describe(point) {
    const lines = [`${point.method}${point.asked ? ` at ${+(100 * point.asked).toFixed(2)} % sparsity` : ""}`];
    const interval = point.low == null ? "" : ` [${percent(point.low)}, ${percent(point.high)}]`;
    const change = point.change == null ? "" : `, ${point.change >= 0 ? "+" : ""}${(100 * point.change).toFixed(0)} % to dense`;
    lines.push(`test WER ${percent(point.wer)} %${interval}${change}`);
    if (point.latency != null) lines.push(`latency ${time(point.latency)} a step${point.quiet === 0 ? " (noisy machine)" : ""}`);
    if (point.size != null) lines.push(`size ${size(point.size)}`);
    if (point.seeds > 1) lines.push(`mean of ${point.seeds} seeds`);
    if (point.params) lines.push(point.params);
    if (point.front) lines.push(`on the front of ${[...point.front].map(c => ({ S: "WER and sparsity", L: "WER and latency", B: "WER and size" })[c]).join("; ")}`);
    if (point.violated) lines.push(`violates ${point.violated}`);
    return lines.join("\n");
  }
  // Marks of one cell are lit together, in whichever figure one of them is pointed at.
  function light(node, on) {
    if (node.dataset.cell === undefined) return;
    for (const mark of document.querySelectorAll(".mark[data-cell]"))
      if (mark.dataset.cell === node.dataset.cell) mark.classList.toggle("linked", on);
  }
  // Shows a text beside a mark. Where the page knows the run in MLflow, a click opens it; a touch only shows the text.
  function hover(node, text, run) {
    if (run) {
      const open = () => window.open(run, "_blank", "noopener");
      text += "\nclick: the run in MLflow";
      node.setAttribute("role", "link");
      node.addEventListener("click", event => { if (event.pointerType !== "touch") open(); });
      node.addEventListener("keydown", event => { if (event.key === "Enter") open(); });
    }
    const show = event => {
      light(node, true);
      tip.textContent = text; tip.hidden = false;
      const box = node.getBoundingClientRect(), mine = tip.getBoundingClientRect();
      tip.style.left = `${Math.max(6, Math.min(box.right + 8, innerWidth - mine.width - 6))}px`;
      tip.style.top = `${Math.max(6, Math.min(box.top - mine.height - 6, innerHeight - mine.height - 6))}px`;
    };
    node.setAttribute("tabindex", "0"); node.setAttribute("aria-label", text.replaceAll("\n", ", "));
    for (const kind of ["pointerenter", "focus", "click"]) node.addEventListener(kind, show);
    for (const kind of ["pointerleave", "blur"]) node.addEventListener(kind, () => { tip.hidden = true; light(node, false); });
  }

  function scatter(box, place, across, upwards, letter) {
    const there = point => point[across] != null && point[upwards] != null;
    const known = place.cells.filter(cell => there(cell) && (cell.method === "dense" || !hidden.has(cell.method)));
    const dots = place.trials.filter(trial => there(trial) && !hidden.has(trial.method));
    if (!known.length) { box.hidden = true; return; }
    const all = [...known, ...dots];
    const intervals = upwards === "wer" ? known.map(p => p.high) : [];
    const { svg, px, py, area } = frame(box, across, upwards, all.map(p => p[across]), [...all.map(p => p[upwards]), ...intervals]);
    const dense = known.find(cell => cell.method === "dense");
    if (dense) make("line", { x1: area.left, x2: area.right, y1: py(dense[upwards]), y2: py(dense[upwards]), stroke: "var(--soft)", "stroke-dasharray": "5 4" }, svg);
    for (const dot of dots)
      make("circle", { class: "tint", cx: px(dot[across]), cy: py(dot[upwards]), r: 2, fill: look(dot.method)[0], opacity: 0.45 }, svg);
    const labels = [];
    for (const method of new Set(known.map(cell => cell.method))) {
      const own = known.filter(cell => cell.method === method).sort((a, b) => a.asked - b.asked), [colour] = look(method);
      if (across === "asked" && own.length > 1 && own.length <= 8)
        make("polyline", { class: "tint", points: own.map(p => `${px(p[across])},${py(p[upwards])}`).join(" "), fill: "none", stroke: colour, "stroke-width": 1.5 }, svg);
      for (const cell of own) {
        const x = px(cell[across]), y = py(cell[upwards]);
        if (upwards === "wer" && cell.low != null && own.length <= 8)
          make("line", { class: "tint", x1: x, x2: x, y1: py(cell.low), y2: py(cell.high), stroke: colour, opacity: 0.55 }, svg);
        if (letter && cell.front.includes(letter)) make("circle", { cx: x, cy: y, r: 10, fill: "none", stroke: "var(--text)", "stroke-width": 1.2 }, svg);
        const style = { class: "mark tint", d: shapes[look(method)[1]] || shapes.o, transform: `translate(${x} ${y})`, fill: colour };
        if (cell.violated) Object.assign(style, { fill: "var(--panel)", stroke: colour, "stroke-width": 1.5 });
        style["data-cell"] = `${box.dataset.place} ${method} ${cell.asked}`;
        hover(make("path", style, svg), describe(cell), cell.run);
        if (across !== "asked" && cell.asked && own.length <= 8 && !labels.some(([a, b]) => Math.abs(a - x) < 22 && Math.abs(b - y) < 11)) {
          make("text", { x: x + 9, y: y - 6 }, svg, `${+(100 * cell.asked).toFixed(1)}`);
          labels.push([x, y]);
        }
      }
    }
  }

  function curves(box, place, kind) {
    const search = kind === "volume", own = (search ? place.search : place.curves).filter(curve => !hidden.has(curve.method) && curve[kind].some(point => point[1] != null));
    if (!own.length) { box.hidden = true; return; }
    const values = own.flatMap(curve => curve[kind].map(point => point[1])).filter(value => value != null && value >= 0);
    const sorted = [...values].sort((a, b) => a - b), limit = 20 * sorted[Math.floor(sorted.length / 2)] || Infinity;
    const shown = values.filter(value => value <= limit && (kind !== "loss" || value > 0));
    const { svg, px, py, area } = frame(box, search ? "trial" : "step", kind, own.flatMap(curve => curve[kind].map(point => point[0])), shown);
    let clipped = 0;
    for (const curve of own) {
      const outside = curve[kind].filter(point => point[1] == null || point[1] > limit).length;
      clipped += outside > 0;
      const points = curve[kind].map(([step, value]) => `${px(step)},${value == null || value > limit ? area.top : py(value)}`);
      const last = curve[kind].at(-1)[1];
      const line = make("polyline", { class: "mark tint", points: points.join(" "), fill: "none", stroke: look(curve.method)[0], "stroke-width": 1.6, opacity: 0.85 }, svg);
      const at = search ? `: ${curve[kind].at(-1)[0]} trials` : ` at ${+(100 * curve.asked).toFixed(2)} %`;
      hover(line, `${curve.method}${at}\nends at ${kind === "loss" ? plain(last ?? NaN) : `${percent(last)} %`}`, curve.run);
    }
    box.querySelector("figcaption").textContent = clipped ? `${clipped} of ${own.length} curves leave the figure: values above ${plain(kind === "loss" ? limit : 100 * limit)}, or no numbers, are drawn at its top.` : "";
  }

  function response(box, place) {
    const choice = document.querySelector(`select[data-response="${box.dataset.place}"]`), { method, name, points } = place.responses[choice.value];
    if (hidden.has(method)) { box.hidden = true; box.querySelector("svg")?.remove(); return; }
    const { svg, px, py } = frame(box, "value", "dev", points.map(p => p[0]), points.map(p => p[1])), top = Math.max(...points.map(p => p[2]));
    for (const [value, wer, asked] of points) {
      const style = { class: "mark tint", d: shapes[look(method)[1]] || shapes.o, transform: `translate(${px(value)} ${py(wer)}) scale(.8)`, fill: look(method)[0] };
      hover(make("path", { ...style, opacity: 0.25 + 0.75 * (asked / top) ** 4 }, svg), `${method} at ${+(100 * asked).toFixed(2)} % sparsity\n${name} ${plain(value)}\ndev WER ${percent(wer)} %`);
    }
  }

  // Counts of weights by magnitude, a column a step; the stronger the colour, the more.
  function weights(box, place, kind) {
    const select = document.querySelector(`select[data-weights="${box.dataset.place}"]`), rows = place.curves[select.value].weights;
    const { svg, px, py, area } = frame(box, "step", "magnitude", rows.map(row => row.step), []);
    const bins = rows[0].kept.length, most = Math.max(...rows.flatMap(row => [...row.kept, ...row.removed]));
    const edge = bin => 10 ** (-4 + 5 * bin / bins), sum = counts => counts.reduce((a, b) => a + b, 0);
    let left = area.left;
    for (const row of rows) {
      const column = make("g", { class: "column" }, svg), right = px(row.step), all = sum(row[kind]);
      make("rect", { class: "mark", x: left, width: right - left, y: area.top, height: area.bottom - area.top, fill: "transparent" }, column);
      row[kind].forEach((count, bin) => {
        if (count) make("rect", { x: left, width: right - left - 0.5, y: py(edge(bin + 1)), height: py(edge(bin)) - py(edge(bin + 1)),
          fill: kind === "kept" ? "#0072b2" : "#d55e00", opacity: Math.sqrt(count / most) }, column);
      });
      let half = 0, seen = 0;
      while (half < bins && (seen += row[kind][half]) < all / 2) half++;
      const part = 100 * all / (sum(row.kept) + sum(row.removed));
      hover(column, `step ${row.step}: ${part.toFixed(1)} % of the weights ${kind}${all ? `\nhalf of them below ${plain(edge(half + 1))}` : ""}`);
      left = right;
    }
  }

  function draw() {
    for (const box of document.querySelectorAll("figure[data-figure]")) {
      const place = data.places[box.dataset.place], [kind, name, upwards, letter] = box.dataset.figure.split(" ");
      box.hidden = false;
      if (kind === "scatter") scatter(box, place, name, upwards, letter);
      else if (kind === "weights") weights(box, place, name);
      else if (kind === "response") response(box, place);
      else curves(box, place, name);
    }
  }

  function dark() {
    const chosen = root.dataset.theme, now = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.toggleAttribute("data-dark", now);
    return now;
  }
  document.getElementById("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; dark(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dark);

  const keys = document.querySelector(".keys");
  for (const [method, [colour, marker]] of Object.entries(data.looks)) {
    const button = document.createElement("button"), icon = make("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14" });
    make("path", { class: "tint", d: shapes[marker] || shapes.o, fill: colour }, icon);
    button.append(icon, method);
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      hidden.has(method) ? hidden.delete(method) : hidden.add(method);
      button.setAttribute("aria-pressed", String(!hidden.has(method)));
      draw();
    });
    keys.append(button);
  }

  const worth = cell => { const text = cell.dataset.v ?? cell.textContent.trim(), number = parseFloat(text.replace(/^[~+]/, "")); return Number.isNaN(number) ? text : number; };
  for (const table of document.querySelectorAll("table.sort")) {
    for (const head of table.tHead.rows[0].cells) {
      const sort = () => {
        const falling = head.getAttribute("aria-sort") === "ascending", sign = falling ? -1 : 1, body = table.tBodies[0], rank = value => typeof value === "number" ? 0 : 1;
        for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const rows = [...body.rows].map(row => [worth(row.cells[head.cellIndex]), row]);
        // Texts, such as a dash for a missing number, come last either way.
        rows.sort(([a], [b]) => rank(a) - rank(b) || sign * (typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0));
        body.append(...rows.map(([, row]) => row));
      };
      head.tabIndex = 0;
      head.addEventListener("click", sort);
      head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
    }
  }
  for (const input of document.querySelectorAll("input[data-filter]")) {
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/);
      for (const row of document.getElementById(input.dataset.filter).tBodies[0].rows)
        row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
    });
  }
  const select = document.getElementById("errors-of");
  const choose = () => { for (const block of document.querySelectorAll(".errors")) block.hidden = block.id !== select.value; };
  if (select) { select.addEventListener("change", choose); choose(); }

  for (const choice of document.querySelectorAll("select[data-weights], select[data-response]")) choice.addEventListener("change", draw);

  const clips = JSON.parse(document.getElementById("clips").textContent), player = new Audio(), plays = [...document.querySelectorAll("[data-clip]")];
  for (const button of plays) {
    const press = on => button.setAttribute("aria-pressed", String(on));
    button.addEventListener("click", () => {
      const playing = button.getAttribute("aria-pressed") === "true";
      player.pause();
      for (const other of plays) other.setAttribute("aria-pressed", "false");
      if (playing) return;
      player.src = `data:audio/mpeg;base64,${clips[button.dataset.clip]}`;
      player.onplaying = () => press(true);
      player.onended = () => press(false);
      player.play();
    });
  }

  let width = 0;
  new ResizeObserver(() => { if (width !== innerWidth) { width = innerWidth; draw(); } }).observe(document.body);
  dark();
  draw();
})();
