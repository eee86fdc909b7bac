// Tables: sorting, the trades of a round, models not bought, partners.

/** Fill `place` with a sortable table. A column is {label, value, show, text}; text columns sort A to Z. */
function fill(place, columns, rows, { sort, total = null, empty = "Nothing here.", person = null, limit = 500 }) {
  if (!rows.length) return place.replaceChildren(element("p", { class: "empty" }, empty));
  const order = place.order ?? (place.order = sort);
  const column = columns[order.column];
  const compare = (a, b) => (column.text ? String(a).localeCompare(String(b), "en", { numeric: true }) : (a ?? -Infinity) - (b ?? -Infinity));
  const sorted = [...rows].sort((a, b) => order.direction * compare(column.value(a), column.value(b)));
  const heads = columns.map(({ label, text }, index) => {
    const turn = () => {
      place.order = { column: index, direction: order.column === index ? -order.direction : text ? 1 : -1 };
      fill(place, columns, rows, { sort, total, empty, person, limit });
      place.querySelectorAll("thead button")[index].focus();
    };
    const head = element("th", { scope: "col", class: text ? "" : "num" }, element("button", { type: "button", onclick: turn }, label));
    if (order.column === index) head.setAttribute("aria-sort", order.direction > 0 ? "ascending" : "descending");
    return head;
  });
  const body = sorted.slice(0, limit).map((row) => element("tr", {}, ...columns.map((one, index) => cell(one, row, index))));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...body));
  if (total) table.append(element("tfoot", {}, element("tr", {}, ...total.map((text, index) => element(index ? "td" : "th", { class: columns[index].text ? "" : "num" }, text)))));
  place.replaceChildren(table);
  if (rows.length > limit) place.append(element("p", { class: "empty" }, `and ${rows.length - limit} more: choose a participant to see fewer.`));
}

function cell({ value, show, text, wrap }, row, index) {
  const shown = show ? show(row) : value(row);
  const below = typeof shown === "string" && shown.startsWith("−");
  return element(index ? "td" : "th", { class: `${text ? "" : "num"}${below ? " below" : ""}${wrap ? " reason" : ""}` }, shown);
}

const amount = (label, key) => ({ label, value: (row) => row[key], show: (row) => fine(row[key]) });
const who = (label, key) => ({ label, text: true, value: (row) => idOf(row[key]), show: (row) => personButton(row[key]) });

function personButton(person) {
  return element("button", { type: "button", class: "name", onclick: () => look({ person }) }, idOf(person));
}

/** From the seller's cost to what the model was worth to the buyer, with a tick at the price. */
function span(trade, scale) {
  const worth = trade.adds - trade.friction;
  const [low, high] = [Math.min(trade.cost, worth), Math.max(trade.cost, worth)];
  const range = element("i");
  const tick = element("b");
  const at = (value) => 100 * Math.min(1, Math.max(0, value / scale));
  range.style.left = `${at(low)}%`;
  range.style.width = `${at(high) - at(low)}%`;
  tick.style.left = `${at(trade.payment)}%`;
  const about = `price ${fine(trade.payment)}, between the seller's cost ${fine(trade.cost)} and the worth ${fine(worth)}`;
  return element("span", { class: "span", role: "img", "aria-label": about, title: about }, range, tick);
}

function drawWhy() {
  const rows = tradesOf(state.round).filter(concerns);
  const scale = Math.max(1e-12, ...tradesOf(state.round).map((trade) => Math.max(trade.payment, trade.adds - trade.friction)));
  const subsidised = rows.some((trade) => trade.paid !== trade.payment);
  const columns = [
    who("buyer", "buyer"), who("seller", "seller"),
    { label: "examples", value: (row) => row.examples, show: (row) => fixed(row.examples, 0) },
    amount("distance", "distance"), amount("adds", "adds"), amount("friction", "friction"), amount("seller's cost", "cost"), amount("price", "payment"),
    ...(subsidised ? [amount("buyer pays", "paid")] : []),
    ...(run.market ? [{ label: "cost – price – worth", text: true, value: (row) => row.payment, show: (row) => span(row, scale) }] : []),
    amount("buyer keeps", "buyerKept"), amount("seller keeps", "sellerKept"),
  ];
  const priceColumn = 7;
  const totals = columns.map((column, index) => {
    if (!index) return `${rows.length} ${rows.length === 1 ? "trade" : "trades"}`;
    if (index === priceColumn) return fine(sum(rows.map((row) => row.payment)));
    return subsidised && index === priceColumn + 1 ? fine(sum(rows.map((row) => row.paid))) : "";
  });
  const whose = state.person === null ? "Nobody bought anything" : `${idOf(state.person)} traded with nobody`;
  fill(byId("why"), columns, rows, { sort: { column: priceColumn, direction: -1 }, total: totals, empty: `${whose} in round ${state.round}.` });
}

function drawRefused() {
  byId("refused-panel").hidden = !state.refused;
  const toggle = byId("refused-toggle");
  toggle.hidden = !run.market;
  toggle.setAttribute("aria-expanded", String(state.refused));
  toggle.textContent = state.refused ? "Hide models not bought" : "Show models not bought, and why";
  if (!state.refused) return;
  const kept = run.not_bought[state.round];
  const rows = (kept ?? []).map(([buyer, seller, reason, distance, adds, least]) => ({ buyer, seller, reason: run.reasons[reason], distance, adds, least })).filter(concerns);
  const columns = [
    who("buyer", "buyer"), who("seller", "seller"), amount("distance", "distance"), amount("would add", "adds"), amount("would cost at least", "least"),
    { label: "not bought, because", text: true, wrap: true, value: (row) => row.reason },
  ];
  const empty = kept ? "Everyone bought from everyone." : `The reasons of round ${state.round} are not kept in this page.`;
  fill(byId("refused"), columns, rows, { sort: { column: 3, direction: -1 }, empty, limit: 300 });
}

function drawHeatTable() {
  const cells = heatCells();
  const columns = [who("buyer", "buyer"), who("seller", "seller"), { label: "payment", value: (row) => row.payment, show: (row) => fine(row.payment) }];
  const total = ["total", "", fine(sum(cells.map((one) => one.payment)))];
  fill(byId("heat-table"), columns, cells, { sort: { column: 2, direction: -1 }, total, empty: "No payments." });
}

function drawCurveTable() {
  const { round, accuracy, alone, welfare } = run.curve;
  const rows = round.map((at, index) => ({ at, accuracy: accuracy[index], alone: alone[index], welfare: welfare[index] }));
  const columns = [
    { label: "round", value: (row) => row.at },
    { label: "mean accuracy", value: (row) => row.accuracy, show: (row) => percent(row.accuracy) },
    { label: "alone", value: (row) => row.alone, show: (row) => percent(row.alone) }, amount("welfare", "welfare"),
  ];
  fill(byId("curve-table"), columns, rows, { sort: { column: 0, direction: 1 } });
}

function drawPartners(me) {
  const partners = new Map();
  const partner = (person) => partners.get(person) ?? partners.set(person, { person, bought: 0, paid: 0, sold: 0, received: 0 }).get(person);
  for (const [buyer, seller, count, received, paid] of run.pairs) {
    if (buyer === me) Object.assign(partner(seller), { bought: count, paid });
    if (seller === me) Object.assign(partner(buyer), { sold: count, received });
  }
  const rows = [...partners.values()].map((row) => ({ ...row, balance: row.received - row.paid }));
  const count = (label, key) => ({ label, value: (row) => row[key], show: (row) => fixed(row[key], 0) });
  const columns = [who("partner", "person"), count("models bought", "bought"), amount("paid", "paid"), count("models sold", "sold"), amount("received", "received"), amount("balance", "balance")];
  const all = (key) => sum(rows.map((row) => row[key]));
  const total = ["total", fixed(all("bought"), 0), fine(all("paid")), fixed(all("sold"), 0), fine(all("received")), fine(all("balance"))];
  fill(byId("partners"), columns, rows, { sort: { column: 4, direction: -1 }, total, empty: `${idOf(me)} traded with nobody.` });
}

/** The bill is written by the template; here it only learns to be sorted and to follow the choice. */
function wakeBill() {
  const table = byId("bill");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => head.firstChild.addEventListener("click", () => {
    const direction = head.getAttribute("aria-sort") === "descending" ? 1 : head.hasAttribute("aria-sort") ? -1 : index < 2 ? 1 : -1;
    const read = (row) => row.cells[index].dataset.value ?? row.cells[index].textContent;
    const compare = (a, b) => (index < 2 ? read(a).localeCompare(read(b), "en", { numeric: true }) : (parseFloat(read(a)) || 0) - (parseFloat(read(b)) || 0));
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    body.append(...[...body.rows].sort((a, b) => direction * compare(a, b)));
  }));
  for (const row of body.rows) row.querySelector(".name").addEventListener("click", () => choose(Number(row.dataset.participant)));
  follow(["person"], () => { for (const row of body.rows) row.classList.toggle("chosen", Number(row.dataset.participant) === state.person); });
}
