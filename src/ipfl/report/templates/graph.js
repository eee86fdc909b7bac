// Who bought from whom: the collaboration graph and the heat map of payments.
const SYMBOLS = { trader: "circle", buyer: "diamond", seller: "rect", attacker: "triangle" };
const NUM_EDGES_MAX = 150;
const circleOrder = people.map((_, person) => person).sort((a, b) => run.angle[a] - run.angle[b]);
const largestPayment = Math.max(1e-12, ...Object.values(run.rounds).flatMap((trades) => trades.map((trade) => trade[2])));
const largestSize = Math.max(1, ...people.map((person) => person.num_examples ?? 0));

function tip(title, rows) {
  const lines = rows.map(([key, value]) => element("div", {}, element("span", {}, key), element("span", {}, value)));
  return element("div", { class: "tip" }, element("strong", {}, title), ...lines);
}

function tooltip() {
  return {
    backgroundColor: colour("surface"), borderColor: colour("line"), borderWidth: 1, padding: [10, 13], confine: true,
    transitionDuration: 0, extraCssText: "border-radius:10px;box-shadow:0 6px 24px rgba(0,0,0,.16)",
  };
}

function personTip(person) {
  const { id, kind, num_examples, accuracy, accuracy_alone } = people[person];
  const now = tradesOf(state.round);
  return tip(id, [
    ["kind", kind], ["examples", fixed(num_examples, 0)], ["accuracy", percent(accuracy)], ["alone", percent(accuracy_alone)],
    [`paid in round ${state.round}`, money(sum(now.filter((trade) => trade.buyer === person).map((trade) => trade.paid)))],
    [`received in round ${state.round}`, money(sum(now.filter((trade) => trade.seller === person).map((trade) => trade.payment)))],
  ]);
}

function tradeTip(trade) {
  return tip(`${idOf(trade.buyer)} bought from ${idOf(trade.seller)}`, [
    ["price", fine(trade.payment)], ...(trade.paid === trade.payment ? [] : [["of it paid by the buyer", fine(trade.paid)]]),
    ["adds to the buyer's gain", fine(trade.adds)], ["friction", fine(trade.friction)], ["distance", fine(trade.distance)],
    ["buyer keeps", fine(trade.buyerKept)], ["seller keeps", fine(trade.sellerKept)],
  ]);
}

function labelSide(angle) {
  if (Math.abs(Math.cos(angle)) > 0.35) return Math.cos(angle) > 0 ? "right" : "left";
  return Math.sin(angle) > 0 ? "bottom" : "top";
}

/** Places in pixels round an ellipse that fills the chart, and the frame around them (so that nothing is scaled). */
function circlePlaces({ clientWidth, clientHeight }, many) {
  const side = many ? 22 : Math.min(130, 24 + 7.2 * Math.max(...run.short.map((name) => name.length)));
  const high = clientHeight / 2 - 34;
  const wide = Math.max(20, Math.min(clientWidth / 2 - side, 1.35 * high));
  const places = run.angle.map((turn) => {
    const angle = 2 * Math.PI * turn - Math.PI / 2;
    return { x: clientWidth / 2 + wide * Math.cos(angle), y: clientHeight / 2 + high * Math.sin(angle) };
  });
  const [xs, ys] = [places.map(({ x }) => x), places.map(({ y }) => y)];
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  return { places, frame: { left, top, width: Math.max(1, Math.max(...xs) - left), height: Math.max(1, Math.max(...ys) - top) } };
}

function shownEdges() {
  const all = tradesOf(state.round).sort((a, b) => b.payment - a.payment);
  return state.person === null ? all.slice(0, NUM_EDGES_MAX) : all.filter(concerns).concat(people.length > 60 ? [] : all.filter((trade) => !concerns(trade)));
}

function graphOption() {
  const edges = shownEdges();
  const near = new Set(edges.filter(concerns).flatMap((trade) => [trade.buyer, trade.seller]).concat(state.person ?? []));
  const many = people.length > 40;
  const { places, frame } = circlePlaces(byId("graph"), many);
  const nodes = people.map((person, index) => {
    const angle = 2 * Math.PI * run.angle[index] - Math.PI / 2;
    const lit = state.person === null || near.has(index);
    return {
      name: String(index), ...places[index], symbol: SYMBOLS[person.kind], cursor: "pointer",
      symbolSize: (many ? 5 : 11) + (many ? 9 : 17) * Math.sqrt((person.num_examples ?? 0) / largestSize),
      itemStyle: { color: colour(person.kind), opacity: lit ? 1 : 0.22, borderColor: colour(index === state.person ? "ink" : "surface"), borderWidth: 2 },
      label: { show: !many || index === state.person, position: labelSide(angle), distance: 7, color: colour(lit ? "ink" : "muted"), fontSize: 12, fontWeight: index === state.person ? 650 : 400 },
    };
  });
  const links = edges.map((trade) => ({
    source: trade.buyer, target: trade.seller, trade,
    lineStyle: {
      width: 1 + 5 * (trade.payment / largestPayment), curveness: 0.16,
      color: colour(people[trade.seller].kind === "attacker" ? "attacker" : state.person !== null && concerns(trade) ? "accent" : "edge"),
      opacity: concerns(trade) ? (state.person === null ? 0.62 : 0.9) : 0.08,
    },
  }));
  return {
    animation: false,
    tooltip: { ...tooltip(), formatter: ({ dataType, data }) => (dataType === "edge" ? tradeTip(data.trade) : personTip(Number(data.name))) },
    series: [{
      type: "graph", layout: "none", ...frame, data: nodes, links,
      edgeSymbol: ["none", "arrow"], edgeSymbolSize: [0, many ? 4 : 8], label: { formatter: ({ name }) => shortOf(Number(name)) },
      emphasis: state.person === null ? { focus: "adjacency", lineStyle: { opacity: 0.95 } } : {}, blur: { itemStyle: { opacity: 0.2 }, lineStyle: { opacity: 0.06 } },
    }],
  };
}

function graphSentence() {
  const all = tradesOf(state.round);
  const hidden = all.length - shownEdges().length;
  const about = `Round ${state.round}: ${all.length} trades, ${money(sum(all.map((trade) => trade.payment)))} received by sellers.`;
  return hidden > 0 && state.person === null ? `${about} The graph draws the ${NUM_EDGES_MAX} dearest; choose a participant to see all of its own.` : about;
}

function heatCells() {
  if (state.heat === "all") return run.pairs.map(([buyer, seller, count, received]) => ({ buyer, seller, count, payment: received }));
  return tradesOf(state.round);
}

function heatTip(cell) {
  if (state.heat === "round") return tradeTip(cell);
  return tip(`${idOf(cell.buyer)} bought from ${idOf(cell.seller)}`, [["in rounds", fixed(cell.count, 0)], ["payments in all", money(cell.payment)]]);
}

function heatOption() {
  const place = new Map(circleOrder.map((person, index) => [person, index]));
  const cells = heatCells();
  const top = Math.max(1e-12, ...cells.map((cell) => cell.payment));
  const labels = circleOrder.map(shortOf);
  const crowded = people.length > 30;
  const axis = (name, extra) => ({
    type: "category", data: labels, name, nameLocation: "middle", nameTextStyle: { color: colour("muted"), fontSize: 12 }, splitArea: { show: false },
    axisTick: { show: false }, axisLine: { show: false }, splitLine: { show: !crowded, lineStyle: { color: colour("line") } },
    axisLabel: { color: colour("muted"), fontSize: 11, hideOverlap: true, ...extra },
  });
  const longest = Math.max(...labels.map((label) => label.length));
  const tilt = longest > 4 && people.length > 6 ? 50 : 0;
  return {
    animation: false,
    tooltip: { ...tooltip(), formatter: ({ data }) => heatTip(data.cell) },
    grid: { left: 34 + Math.min(90, 6.6 * longest), right: 10, top: 10, bottom: 74 + (tilt ? Math.min(60, 5 * longest) : 0) },
    xAxis: { ...axis("seller", { rotate: tilt }), nameGap: 24 + (tilt ? Math.min(60, 5 * longest) : 0) },
    yAxis: { ...axis("buyer"), inverse: true, nameGap: 18 + Math.min(90, 6.6 * longest) },
    visualMap: {
      type: "continuous", min: 0, max: top, orient: "horizontal", left: "center", bottom: 0, itemWidth: 10, itemHeight: 130, calculable: false,
      text: [money(top), "0"], textStyle: { color: colour("muted"), fontSize: 11 }, inRange: { color: [colour("heat-low"), colour("heat-high")] }, hoverLink: false,
    },
    series: [{
      type: "heatmap",
      data: cells.map((cell) => ({
        value: [place.get(cell.seller), place.get(cell.buyer), cell.payment], cell,
        itemStyle: { opacity: concerns(cell) ? 1 : 0.15, borderColor: colour("surface"), borderWidth: crowded ? 0 : 2, borderRadius: crowded ? 0 : 4 },
      })),
      emphasis: { itemStyle: { borderColor: colour("ink"), borderWidth: 1.5 } },
    }],
  };
}
