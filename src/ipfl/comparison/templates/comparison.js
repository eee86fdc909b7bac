// The charts of a comparison. Text reaches the page through textContent only.
const data = JSON.parse(document.getElementById("data").textContent);
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const state = { variant: 0, protocol: "paper", theme: "auto" };
const byId = (id) => document.getElementById(id);
const SYMBOLS = ["circle", "rect", "triangle", "diamond", "roundRect", "emptyDiamond", "emptyCircle", "emptyRect", "emptyTriangle"];
const DASHES = ["solid", [8, 3], [3, 3], [10, 3, 2, 3], [14, 4], [2, 2], [6, 2, 2, 2, 2, 2], [1, 3], [5, 5]];
const ORDER = [...new Set(["ipfl", "local", "fedavg", "fedprox", "cfl", "ditto", "fedamp", "fedfomo", "pfedgraph", ...data.methods])];
const placeOf = (name) => ORDER.indexOf(name);
const shade = (name) => colour(`m${placeOf(name) % 9}`);
const symbolOf = (name) => SYMBOLS[placeOf(name) % 9];
const methods = () => data.variants[state.variant].methods;

function element(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) made.setAttribute(key, value);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

function fixed(value, digits) {
  if (value === null || value === undefined) return "–";
  const text = Math.abs(value).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return value < 0 && /[1-9]/.test(text) ? `−${text}` : text;
}
const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : `${fixed(100 * value, digits)} %`);
const inPercent = ({ min, max }) => ({ min: Math.max(0, min), max: Math.min(100, max) });
const within = ([mean, half], scale, digits, unit) => `${fixed(scale * mean, digits)}${half === null ? "" : ` ± ${fixed(scale * half, digits)}`}${unit}`;

/** What a colour variable of the style sheet stands for in the present theme. */
function colour(name) {
  const probe = byId("theme");
  probe.style.color = `var(--${name})`;
  const value = getComputedStyle(probe).color;
  probe.style.color = "";
  return value;
}

function tip(title, rows) {
  const lines = rows.map(([key, value]) => element("div", {}, element("span", {}, key), element("span", {}, value)));
  return element("div", { class: "tip" }, element("strong", {}, title), ...lines);
}

function tooltip(formatter, extra = {}) {
  return {
    backgroundColor: colour("surface"), borderColor: colour("line"), borderWidth: 1, padding: [10, 13], confine: true, transitionDuration: 0,
    extraCssText: "border-radius:10px;box-shadow:0 6px 24px rgba(0,0,0,.16)", trigger: "item", formatter, ...extra,
  };
}

const charts = new Map();

/** Draw `option` into the element `id`; `about` says in words what it shows. */
function plot(id, option, about) {
  const place = byId(id);
  if (!charts.has(id)) {
    const made = echarts.init(place, null, { renderer: "svg" });
    charts.set(id, made);
    new ResizeObserver(() => made.resize()).observe(place);
  }
  place.setAttribute("aria-label", about);
  charts.get(id).setOption({ animation: !calm, animationDuration: 250, textStyle: { fontFamily: getComputedStyle(document.body).fontFamily }, ...option }, { notMerge: true });
}

const narrow = () => byId("scatter").clientWidth < 520;

function valueAxis(name, formatter, extra = {}) {
  return {
    type: "value", name, nameLocation: "middle", nameTextStyle: { color: colour("muted"), fontSize: 12 }, scale: true, splitNumber: narrow() ? 4 : 6,
    axisLabel: { color: colour("muted"), fontSize: 11, formatter, hideOverlap: true, showMinLabel: !extra.loose, showMaxLabel: !extra.loose }, splitLine: { lineStyle: { color: colour("line") } },
    axisLine: { show: false }, axisTick: { show: false }, ...extra,
  };
}

const tidy = (value) => (Math.abs(value) >= 1e7 ? value.toExponential(1).replace("e+", "e").replace("-", "−") : fixed(value, 3).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, ""));

/** Bounds that hold every interval with a little room. */
function bounds(intervals) {
  const low = Math.min(...intervals.map(([mean, half]) => mean - (half ?? 0)));
  const high = Math.max(...intervals.map(([mean, half]) => mean + (half ?? 0)));
  const room = Math.max(1e-6, (high - low) * 0.08, Math.abs(high) * 0.002);
  return { min: low - room, max: high + room };
}

/** The intervals of very few seeds may run out of the picture: none counts for more than the means are apart. */
function kept(intervals, least) {
  const means = intervals.map(([mean]) => mean);
  const room = Math.max(least, Math.max(...means) - Math.min(...means));
  return intervals.map(([mean, half]) => [mean, half === null ? null : Math.min(half, room)]);
}

/** Axis bounds on round numbers. */
function roundBounds(intervals) {
  const { min, max } = bounds(intervals);
  const step = 10 ** Math.floor(Math.log10((max - min) / 2)) / 2;
  return { min: Math.floor(min / step) * step, max: Math.ceil(max / step) * step };
}

function scatterOption() {
  const known = methods().filter((one) => one[state.protocol] && one.utility);
  if (!known.length) return { title: { text: "This protocol was not measured.", left: "center", top: "middle", textStyle: { color: colour("muted"), fontSize: 14, fontWeight: 400 } } };
  const across = roundBounds(kept(known.map((one) => one.utility), 1e-9));
  const up = inPercent(roundBounds(kept(known.map((one) => one[state.protocol].map((part) => (part === null ? null : 100 * part))), 3)));
  const wide = (byId("scatter").clientWidth - 150) / (across.max - across.min);
  const near = (a, b) => Math.abs(known[a].utility[0] - known[b].utility[0]) * wide < 82;
  const shifts = apart(heightsIn("scatter", known.map((one) => 100 * one[state.protocol][0]), up), near);
  const points = known.map((one, index) => ({
    name: one.name, value: [one.utility[0], 100 * one[state.protocol][0]], symbol: symbolOf(one.name), one,
    itemStyle: { color: shade(one.name), borderColor: shade(one.name), borderWidth: 1.5 }, label: { color: shade(one.name), offset: [0, shifts.get(index)] },
  }));
  const bars = known.map((one) => [one.utility[0], 100 * one[state.protocol][0], one.utility[1] ?? 0, 100 * (one[state.protocol][1] ?? 0), placeOf(one.name)]);
  return {
    grid: { left: 30, right: narrow() ? 64 : 90, top: 16, bottom: 30, containLabel: true },
    xAxis: valueAxis("utility, gain units", tidy, { nameGap: 26, loose: true, ...across }),
    yAxis: valueAxis("accuracy", (value) => `${tidy(value)} %`, { nameGap: 46, ...up }),
    tooltip: tooltip(({ data: { one } }) => tip(one.name, [
      ["accuracy, paper", one.paper ? within(one.paper, 100, 1, " %") : "–"], ["accuracy, held out", one.held_out ? within(one.held_out, 100, 1, " %") : "–"],
      ["utility", within(one.utility, 1, 1, "")], ["better off", percent(one.better_off, 0)], ["seeds", one.seeds],
    ])),
    series: [
      {
        type: "custom", silent: true, clip: true, data: bars, encode: { x: 0, y: 1 },
        renderItem: (_, api) => {
          const [x, y, dx, dy] = [0, 1, 2, 3].map((index) => api.value(index));
          const style = { stroke: colour(`m${api.value(4) % 9}`), lineWidth: 1.6, opacity: 0.5 };
          const cross = [[[x - dx, y], [x + dx, y]], [[x, y - dy], [x, y + dy]]].map((ends) => ends.map((end) => api.coord(end)));
          return { type: "group", children: cross.map(([[x1, y1], [x2, y2]]) => ({ type: "line", shape: { x1, y1, x2, y2 }, style })) };
        },
      },
      {
        type: "scatter", symbolSize: 13, data: points, z: 3, emphasis: { scale: 1.2 },
        label: { show: true, formatter: ({ name }) => name, position: "right", distance: 7, fontSize: 12.5, fontWeight: 600, textBorderColor: colour("surface"), textBorderWidth: 3 },
      },
    ],
  };
}

/** Where a dot stands within its row: the same for the same place in the list, spread by the golden ratio. */
const jitter = (index) => ((index * 0.6180339887) % 1) * 0.56 - 0.28;

function dotsOption() {
  const rows = [...methods()].filter((one) => one.dots.length).sort((a, b) => b.better_off - a.better_off || placeOf(a.name) - placeOf(b.name));
  const all = rows.flatMap((one, row) => one.dots.map(([who, seed, value], index) => ({
    value: [100 * value, row + jitter(index)], who, seed, method: one.name,
    itemStyle: { color: colour(value > 1e-12 ? "good" : value < -1e-12 ? "bad" : "muted"), opacity: 0.62 },
  })));
  const means = rows.map((one, row) => [(100 * one.dots.reduce((total, dot) => total + dot[2], 0)) / one.dots.length, row]);
  const extreme = Math.max(1, ...all.map(({ value }) => Math.abs(value[0])));
  const labels = (side) => ({
    type: "value", inverse: true, min: -0.5, max: Math.max(0.5, rows.length - 0.5), interval: 0.5, position: side, axisLine: { show: false }, axisTick: { show: false }, splitLine: { show: false },
    axisLabel: {
      color: colour(side === "left" ? "ink" : "muted"), fontSize: side === "left" ? 12.5 : 12,
      formatter: (value) => { const one = Number.isInteger(value) ? rows[value] : undefined; return one ? (side === "left" ? one.name : percent(one.better_off, 0)) : ""; },
    },
  });
  return {
    grid: { left: 14, right: 8, top: 8, bottom: 28, containLabel: true },
    xAxis: valueAxis("points against training alone", (value) => (value > 0 ? `+${tidy(value)}` : tidy(value)), { nameGap: 26, loose: true, min: -Math.ceil(extreme * 1.05), max: Math.ceil(extreme * 1.05), scale: false }),
    yAxis: [labels("left"), labels("right")],
    tooltip: tooltip(({ data: dot }) => tip(dot.who ?? "", [["method", dot.method], ["seed", dot.seed ?? "mean of all"], ["difference", `${fixed(dot.value[0], 1)} points`]])),
    series: [
      { type: "scatter", symbolSize: all.length > 500 ? 5 : 7, data: all, markLine: { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: colour("muted"), type: "solid", width: 1.2 }, data: [{ xAxis: 0 }] } },
      {
        type: "custom", silent: true, data: means, encode: { x: 0, y: 1 }, z: 4,
        renderItem: (_, api) => {
          const [x, y1] = api.coord([api.value(0), api.value(1) - 0.36]);
          const [, y2] = api.coord([api.value(0), api.value(1) + 0.36]);
          return { type: "line", shape: { x1: x, x2: x, y1, y2 }, style: { stroke: colour("ink"), lineWidth: 2.2 } };
        },
      },
      { type: "scatter", yAxisIndex: 1, data: [], silent: true },
    ],
  };
}

/** How far labels at these heights move up or down so that no two cover each other, if they are as near as `near` says. */
function apart(heights, near = () => true) {
  const sorted = heights.map((y, index) => ({ index, y, at: y })).sort((a, b) => a.y - b.y || a.index - b.index);
  for (let turn = 0; turn < 200; turn += 1) {
    for (let upper = 0; upper < sorted.length; upper += 1) {
      for (let lower = upper + 1; lower < sorted.length; lower += 1) {
        const lack = near(sorted[upper].index, sorted[lower].index) ? 15 - (sorted[lower].at - sorted[upper].at) : 0;
        if (lack > 0.1) { sorted[lower].at += lack / 2; sorted[upper].at -= lack / 2; }
      }
    }
  }
  const lift = Math.max(0, -4 - Math.min(...sorted.map(({ at }) => at)));  // none may stand above the picture
  return new Map(sorted.map(({ index, y, at }) => [index, at - y + lift]));
}

/** Heights in pixels, from the top, of values between `min` and `max` in the chart `id`. */
function heightsIn(id, values, { min, max }) {
  const height = byId(id).clientHeight - 64;
  return values.map((value) => height * (1 - (value - min) / (max - min)));
}

function curveOption() {
  const shown = methods().filter((one) => one.curve.some((value) => value !== null));
  const rounds = Math.max(1, ...shown.map((one) => one.curve.length));
  const longest = Math.max(4, ...shown.map((one) => one.name.length));
  const early = rounds < 10 ? 0 : Math.floor(rounds / 10);  // the steep start would press the rest together
  const range = inPercent(roundBounds(shown.flatMap((one) => one.curve.slice(early).filter((value) => value !== null).map((value) => [100 * value, null]))));
  const shifts = apart(heightsIn("curve", shown.map((one) => 100 * one.curve.findLast((value) => value !== null)), range));
  return {
    grid: { left: 4, right: 18 + 7 * longest, top: 14, bottom: 28, containLabel: true },
    xAxis: valueAxis("round", tidy, { nameGap: 24, min: 0, max: Math.max(1, rounds - 1), minInterval: 1, scale: false, splitLine: { show: false } }),
    yAxis: valueAxis("", (value) => `${tidy(value)} %`, range),
    tooltip: tooltip(
      (series) => tip(`round ${series[0].value[0]}`, [...series].sort((a, b) => (b.value[1] ?? 0) - (a.value[1] ?? 0)).map(({ seriesName, value }) => [seriesName, value[1] === null ? "–" : `${fixed(value[1], 1)} %`])),
      { trigger: "axis", axisPointer: { label: { show: false }, lineStyle: { color: colour("muted"), type: "solid", opacity: 0.5 } } },
    ),
    series: shown.map((one, index) => ({
      type: "line", name: one.name, data: one.curve.map((value, round) => [round, value === null ? null : 100 * value]), showSymbol: rounds < 3, symbol: symbolOf(one.name), symbolSize: 7,
      lineStyle: { width: 2.2, color: shade(one.name), type: DASHES[placeOf(one.name) % 9] }, itemStyle: { color: shade(one.name) }, emphasis: { disabled: true },
      endLabel: { show: true, formatter: one.name, color: shade(one.name), fontSize: 12, distance: 6, offset: [0, shifts.get(index)] },
    })),
  };
}

function draw() {
  byId("dots").style.height = `${60 + 44 * Math.max(1, methods().filter((one) => one.dots.length).length)}px`;
  charts.get("dots")?.resize();
  const averaged = methods().some((one) => one.dots.some((dot) => dot[1] === null));
  byId("dots-note").textContent = averaged ? "as a mean over seeds" : "in one run";
  plot("scatter", scatterOption(), "Accuracy against utility of each method; the table holds the numbers");
  plot("dots", dotsOption(), "Held-out accuracy of each buyer less that of training alone, by method");
  plot("curve", curveOption(), "Mean accuracy over the rounds by method");
}

function wakeTheme() {
  const modes = ["auto", "light", "dark"];
  const button = byId("theme");
  const stored = () => { try { return localStorage.getItem("ipfl-theme"); } catch { return null; } };
  const apply = (mode) => {
    state.theme = mode;
    button.textContent = `Theme: ${mode}`;
    if (mode === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = mode;
    try { localStorage.setItem("ipfl-theme", mode); } catch { /* a page opened from a file may not store */ }
  };
  button.hidden = false;
  apply(modes.includes(stored()) ? stored() : "auto");
  button.addEventListener("click", () => { apply(modes[(modes.indexOf(state.theme) + 1) % modes.length]); draw(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

function start() {
  wakeTheme();
  byId("variant").addEventListener("change", ({ target }) => { state.variant = Number(target.value); draw(); });
  const protocols = ["paper", "held_out"];
  for (const protocol of protocols) {
    byId(`protocol-${protocol}`).addEventListener("click", () => {
      state.protocol = protocol;
      for (const one of protocols) byId(`protocol-${one}`).setAttribute("aria-pressed", String(one === protocol));
      draw();
    });
  }
  if (data.variants.length) draw();
  document.documentElement.dataset.ready = "yes";
}

start();
