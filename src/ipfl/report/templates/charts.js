// Charts of participants and of rounds.
const charts = new Map();

/** Draw `option` into the element `id`; `about` says in words what it shows. */
function plot(id, option, about, { onclick, onresize } = {}) {
  const place = byId(id);
  if (!charts.has(id)) {
    const made = echarts.init(place, null, { renderer: "svg" });
    charts.set(id, made);
    if (onclick) made.on("click", onclick);
    new ResizeObserver(() => { made.resize(); onresize?.(); }).observe(place);
  }
  place.setAttribute("aria-label", about);
  charts.get(id).setOption({ animation: !calm, animationDuration: 250, textStyle: { fontFamily: getComputedStyle(document.body).fontFamily }, ...option }, { notMerge: true });
}

const byImprovement = people.map((_, person) => person).sort((a, b) => improvement(b) - improvement(a) || a - b);

function improvement(person) {
  const { accuracy, accuracy_alone } = people[person];
  return accuracy === null || accuracy_alone === null ? -Infinity : accuracy - accuracy_alone;
}

function rowHeight() {
  return people.length > 40 ? 17 : 26;
}

function rowAxis() {
  return {
    type: "category", inverse: true, data: byImprovement.map(String), axisTick: { show: false }, axisLine: { show: false }, triggerEvent: true,
    axisLabel: { interval: 0, fontSize: people.length > 40 ? 10 : 12, color: colour("ink"), formatter: (person) => shortOf(Number(person)), width: 110, overflow: "truncate" },
  };
}

function valueAxis(formatter, extra) {
  return {
    type: "value", axisLabel: { color: colour("muted"), fontSize: 11, formatter, hideOverlap: true }, splitNumber: 4,
    splitLine: { lineStyle: { color: colour("line") } }, axisLine: { show: false }, axisTick: { show: false }, ...extra,
  };
}

const dimmed = (person) => (state.person === null || state.person === person ? 1 : 0.25);
const rowGrid = { left: 4, right: 28, top: 8, bottom: 4, containLabel: true };
const rowPerson = (event) => choose(event.componentType === "yAxis" ? Number(event.value) : event.data.person);

function accuracyOption() {
  const rows = byImprovement.map((person, row) => ({ person, row, ...people[person] }));
  const known = rows.filter((row) => row.accuracy !== null && row.accuracy_alone !== null);
  const values = known.flatMap((row) => [row.accuracy, row.accuracy_alone]);
  const dots = (key, hollow) => rows.filter((row) => row[key] !== null).map((row) => ({
    value: [row[key], row.row], person: row.person,
    itemStyle: { color: colour(hollow ? "surface" : row.kind), borderColor: colour(row.kind), borderWidth: 2, opacity: dimmed(row.person) },
  }));
  return {
    grid: rowGrid, yAxis: rowAxis(),
    tooltip: {
      ...tooltip(), trigger: "item",
      formatter: ({ data }) => tip(idOf(data.person), [["in the market", percent(people[data.person].accuracy)], ["alone", percent(people[data.person].accuracy_alone)], ["difference", points(improvement(data.person))]]),
    },
    xAxis: valueAxis((value) => `${Math.round(100 * value)}%`, {
      min: Math.max(0, Math.floor(20 * Math.min(1, ...values) - 0.2) / 20), max: Math.min(1, Math.ceil(20 * Math.max(0, ...values) + 0.2) / 20),
    }),
    series: [
      {
        type: "custom", silent: true, data: known.map((row) => [row.accuracy_alone, row.accuracy, row.row, row.person]), encode: { x: [0, 1], y: 2 },
        renderItem: (_, api) => {
          const [x1, y] = api.coord([api.value(0), api.value(2)]);
          const [x2] = api.coord([api.value(1), api.value(2)]);
          const person = api.value(3);
          return { type: "line", shape: { x1, x2, y1: y, y2: y }, style: { stroke: colour(people[person].kind), lineWidth: 3, opacity: 0.4 * dimmed(person) } };
        },
      },
      { type: "scatter", symbolSize: 10, data: dots("accuracy_alone", true), z: 3 },
      { type: "scatter", symbolSize: 11, data: dots("accuracy", false), z: 4 },
    ],
  };
}

function utilityOption() {
  return {
    grid: { ...rowGrid, right: 56 }, yAxis: rowAxis(), xAxis: valueAxis((value) => fixed(value, Math.abs(value) < 10 && value % 1 ? 1 : 0)),
    tooltip: {
      ...tooltip(), trigger: "item",
      formatter: ({ data }) => {
        const one = people[data.person];
        return tip(one.id, [["gain", money(one.gain)], ["cost", money(-one.cost)], ["paid", money(-one.paid)], ["received", money(one.received)], ["utility", money(one.utility)]]);
      },
    },
    series: [{
      type: "bar", barWidth: "52%", label: { show: true, position: "right", color: colour("muted"), fontSize: 11, formatter: ({ value }) => money(value) },
      data: byImprovement.map((person) => ({
        value: people[person].utility, person,
        itemStyle: { color: colour(people[person].utility < 0 ? "bad" : people[person].kind), opacity: 0.85 * dimmed(person), borderRadius: people[person].utility < 0 ? [3, 0, 0, 3] : [0, 3, 3, 0] },
      })),
    }],
  };
}

function roundAxis(rounds) {
  return {
    type: "value", min: rounds[0], max: Math.max(rounds.at(-1), rounds[0] + 1), minInterval: 1, axisTick: { show: false }, splitLine: { show: false },
    axisLine: { lineStyle: { color: colour("line") } }, axisLabel: { color: colour("muted"), fontSize: 11, hideOverlap: true, showMaxLabel: false }, name: "round", nameLocation: "middle", nameGap: 24,
    nameTextStyle: { color: colour("muted"), fontSize: 12 }, axisPointer: { label: { show: false }, lineStyle: { color: colour("muted"), type: "solid", opacity: 0.5 } },
  };
}

function line(name, rounds, values, shade, extra = {}) {
  return {
    type: "line", name, data: rounds.map((round, index) => [round, values[index]]), showSymbol: rounds.length < 3, symbolSize: 6, connectNulls: false,
    lineStyle: { width: 2.4, color: colour(shade), ...extra.lineStyle }, itemStyle: { color: colour(shade) }, emphasis: { disabled: true },
    endLabel: { show: true, formatter: name, color: colour(shade), fontSize: 12, distance: 6 }, labelLayout: { moveOverlap: "shiftY" }, ...extra.series,
  };
}

function roundTip(format) {
  return {
    ...tooltip(), trigger: "axis",
    formatter: (series) => tip(`round ${series[0].value[0]}`, series.map(({ seriesName, value }) => [seriesName, format(value[1])])),
  };
}

function curveOption(rounds, lines, format, extra = {}) {
  const longest = Math.max(...lines.map(({ name }) => name.length));
  return {
    grid: { left: 4, right: lines[0].endLabel.show ? 16 + Math.min(130, 6.6 * longest) : 16, top: 14, bottom: 26, containLabel: true },
    xAxis: roundAxis(rounds), yAxis: valueAxis(format, { scale: true }), tooltip: roundTip(format), series: lines, ...extra,
  };
}

const axisPercent = (value) => percent(value).replace(".0%", "%");

const DASHED = { lineStyle: { width: 1.8, type: [5, 4] } };

function meanCurve() {
  const { round, accuracy, alone } = run.curve;
  const lines = [line("market", round, accuracy, "accent"), line("alone", round, alone, "muted", DASHED)];
  if (state.person === null) return curveOption(round, lines, axisPercent);
  const name = shortOf(state.person);
  lines.push(line(name, run.series.round, run.series.accuracy[state.person], "ink", { lineStyle: { width: 1.6 } }));
  lines.push(line(`${name} alone`, run.series.round, run.series.accuracy_alone[state.person], "ink", { lineStyle: { width: 1.2, type: [2, 3] } }));
  for (const one of lines) one.endLabel.show = false;
  const legend = { top: 0, left: 0, itemWidth: 22, itemGap: 18, selectedMode: false, textStyle: { color: colour("muted"), fontSize: 12 } };
  return curveOption(round, lines, axisPercent, { legend, grid: { left: 4, right: 16, top: 36, bottom: 26, containLabel: true } });
}

function welfareCurve() {
  const { round, welfare } = run.curve;
  const area = { areaStyle: { color: faded("accent", 0.1) }, endLabel: { show: false } };
  return curveOption(round, [line("welfare", round, welfare, "accent", { series: area })], (value) => fixed(value, run.decimals > 2 ? 2 : 1));
}

function myAccuracy(me) {
  const { round, accuracy, accuracy_alone } = run.series;
  return curveOption(round, [line("market", round, accuracy[me], "accent"), line("alone", round, accuracy_alone[me], "muted", DASHED)], axisPercent);
}

function myMoney(me) {
  const { round, paid, received } = run.series;
  const bar = (name, values, shade) => ({
    type: "bar", name, stack: "money", barMaxWidth: 14, itemStyle: { color: colour(shade), opacity: 0.8 }, emphasis: { disabled: true },
    data: round.map((at, index) => [at, values[index]]),
  });
  const plain = roundAxis(round);
  const whole = (value) => (Number.isInteger(value) ? value : "");
  return {
    grid: { left: 4, right: 16, top: 34, bottom: 26, containLabel: true },
    xAxis: { ...plain, min: round[0] - 0.6, max: round.at(-1) + 0.6, axisLabel: { ...plain.axisLabel, formatter: whole }, axisLine: { onZero: false, lineStyle: { color: colour("line") } } },
    yAxis: valueAxis((value) => fixed(value, Math.abs(value) < 10 && value % 1 ? 1 : 0)),
    legend: { top: 0, left: 0, selectedMode: false, itemWidth: 10, itemHeight: 10, itemGap: 18, icon: "roundRect", textStyle: { color: colour("muted"), fontSize: 12 } },
    tooltip: {
      ...tooltip(), trigger: "axis",
      formatter: ([{ dataIndex: index }]) => tip(`round ${round[index]}`, [["received", money(received[me][index])], ["paid", money(paid[me][index])], ["balance", money(received[me][index] - paid[me][index])]]),
    },
    series: [bar("received", received[me], "accent"), bar("paid", paid[me].map((amount) => -amount), "edge")],
  };
}
