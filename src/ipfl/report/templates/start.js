// Put everything together: theme, controls, sections.
function wakeTheme() {
  const modes = ["auto", "light", "dark"];
  const button = byId("theme");
  const stored = () => { try { return localStorage.getItem("ipfl-theme"); } catch { return null; } };
  const apply = (mode) => {
    button.textContent = `Theme: ${mode}`;
    if (mode === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = mode;
    try { localStorage.setItem("ipfl-theme", mode); } catch { /* a page opened from a file may not store */ }
    look({ theme: mode });
  };
  button.hidden = false;
  apply(modes.includes(stored()) ? stored() : "auto");
  button.addEventListener("click", () => apply(modes[(modes.indexOf(state.theme) + 1) % modes.length]));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => look({ theme: state.theme }));
}

function wakeControls() {
  const slider = byId("round");
  slider.max = roundsShown.length - 1;
  const at = () => roundsShown.indexOf(state.round);
  const go = (position) => look({ round: roundsShown[Math.max(0, Math.min(roundsShown.length - 1, position))] });
  slider.addEventListener("input", () => go(Number(slider.value)));
  byId("earlier").addEventListener("click", () => go(at() - 1));
  byId("later").addEventListener("click", () => go(at() + 1));
  follow(["round"], () => {
    slider.value = at();
    slider.setAttribute("aria-valuetext", `round ${state.round}`);
    byId("round-shown").textContent = state.round;
    byId("earlier").disabled = at() === 0;
    byId("later").disabled = at() === roundsShown.length - 1;
  });
  const options = () => people.map(({ id }, person) => element("option", { value: person }, id));
  byId("person").append(...options());
  byId("me").append(...options());
  byId("person").addEventListener("change", ({ target }) => look({ person: target.value === "" ? null : Number(target.value) }));
  byId("me").addEventListener("change", ({ target }) => look({ person: Number(target.value) }));
  follow(["person"], () => { byId("person").value = state.person ?? ""; byId("me").value = state.person ?? 0; });
  for (const [id, heat] of [["heat-round", "round"], ["heat-all", "all"]]) {
    byId(id).addEventListener("click", () => look({ heat }));
    follow(["heat"], () => byId(id).setAttribute("aria-pressed", String(state.heat === heat)));
  }
  byId("refused-toggle").addEventListener("click", () => look({ refused: !state.refused }));
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && state.person !== null) look({ person: null }); });
}

function drawKinds() {
  const kinds = [...new Set(people.map(({ kind }) => kind))];
  byId("kinds").replaceChildren(...kinds.map((kind) => element("li", {}, element("span", { class: `kind ${kind}` }, kind))));
}

function drawTiles(me) {
  const one = people[me];
  const tiles = [
    ["Accuracy", percent(one.accuracy), one.accuracy === null || one.accuracy_alone === null ? "not known" : `${points(improvement(me))} against ${percent(one.accuracy_alone)} alone`],
    ["Bill", money(one.paid), `for ${fixed(one.imports, 0)} models bought`],
    ["Income", money(one.received), `for ${fixed(one.exports, 0)} models sold`],
    ["Balance", money(one.received - one.paid), "received less paid"],
    ["Utility", money(one.utility), `gain ${money(one.gain)}, cost ${money(one.cost)}`],
  ];
  byId("tiles").replaceChildren(...tiles.map(([title, figure, note]) => element("div", {}, element("dt", {}, title), element("dd", { class: figure.startsWith("−") && title === "Utility" ? "below" : "" }, figure, element("small", {}, note)))));
}

function drawMine() {
  const me = state.person ?? 0;
  drawTiles(me);
  plot("my-accuracy", myAccuracy(me), `Accuracy of ${idOf(me)} in the market and alone, by round`);
  plot("my-money", myMoney(me), `Money received and paid by ${idOf(me)}, by round`);
  drawPartners(me);
}

function start() {
  wakeTheme();
  wakeBill();
  if (!roundsShown.length) return;
  wakeControls();
  drawKinds();
  for (const id of ["accuracy", "utility"]) byId(id).style.height = `${44 + rowHeight() * people.length}px`;
  const pick = ({ dataType, data }) => { if (dataType === "node") choose(Number(data.name)); };
  const drawGraph = () => plot("graph", graphOption(), `Collaboration graph. ${graphSentence()}`, { onclick: pick, onresize: drawGraph });
  follow(["round", "person"], drawGraph);
  follow(["round", "person", "heat"], () => plot("heat", heatOption(), `Payments from buyers to sellers. ${graphSentence()}`));
  follow(["round", "heat"], drawHeatTable);
  follow(["round", "person"], drawWhy);
  follow(["round", "person", "refused"], drawRefused);
  follow(["person"], () => plot("accuracy", accuracyOption(), "Accuracy of each participant in the market and alone; the bill below holds the numbers", { onclick: rowPerson }));
  follow(["person"], () => plot("utility", utilityOption(), "Utility of each participant; the bill below holds the numbers", { onclick: rowPerson }));
  follow(["person"], () => plot("curve", meanCurve(), "Mean accuracy in the market and alone, by round; a table follows"));
  follow([], () => plot("welfare", welfareCurve(), "Welfare by round; a table follows"));
  drawCurveTable();
  follow(["person"], drawMine);
  document.documentElement.dataset.ready = "yes";
}

start();
