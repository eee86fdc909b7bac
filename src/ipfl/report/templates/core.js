// The run, what is being looked at, and small helpers. Text reaches the page through textContent only.
const run = JSON.parse(document.getElementById("data").textContent);
const people = run.participants;
const roundsShown = Object.keys(run.rounds).map(Number).sort((a, b) => a - b);
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const state = { round: roundsShown.at(-1), person: null, heat: "round", refused: false };
const drawers = [];

/** Change what is being looked at, and draw again whatever depends on it (`keys`). */
function look(change) {
  Object.assign(state, change);
  for (const { keys, draw } of drawers) if (keys.some((key) => key in change)) draw();
}

/** Draw now, and again whenever one of `keys` changes; "theme" always counts. */
function follow(keys, draw) {
  drawers.push({ keys: [...keys, "theme"], draw });
  draw();
}

function choose(person) {
  look({ person: state.person === person ? null : person });
}

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class") made.className = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

const byId = (id) => document.getElementById(id);
const idOf = (person) => people[person].id;
const shortOf = (person) => run.short[person];
const sum = (amounts) => amounts.reduce((total, amount) => total + amount, 0);

function fixed(value, digits) {
  if (value === null || value === undefined) return "–";
  const text = Math.abs(value).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return value < 0 && /[1-9]/.test(text) ? `−${text}` : text;
}
const money = (value) => fixed(value, run.decimals);
const fine = (value) => fixed(value, 3);
const percent = (value) => (value === null || value === undefined ? "–" : `${fixed(100 * value, 1)}%`);
const points = (value) => `${value < 0 ? "−" : "+"}${fixed(Math.abs(100 * value), 1)} points`;

/** The trades of the chosen round as objects. */
function tradesOf(round) {
  return (run.rounds[round] ?? []).map(([buyer, seller, payment, paid, distance, adds, friction, cost]) => ({
    buyer, seller, payment, paid, distance, adds, friction, cost,
    examples: people[seller].num_examples,
    buyerKept: adds - friction - paid,
    sellerKept: payment - cost,
  }));
}

const concerns = (trade) => state.person === null || trade.buyer === state.person || trade.seller === state.person;

/** What a colour variable of the style sheet stands for in the present theme. */
function colour(name) {
  const probe = byId("theme");
  probe.style.color = `var(--${name})`;
  const value = getComputedStyle(probe).color;
  probe.style.color = "";
  return value;
}

function faded(name, alpha) {
  const [red, green, blue] = colour(name).match(/[\d.]+/g);
  return `rgba(${red}, ${green}, ${blue}, ${alpha})`;
}
