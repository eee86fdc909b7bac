// Follows the run: asks how far it is, and loads the page again when that has changed, leaving the reader in place.
const note = document.getElementById("live");
const shown = { rounds: Number(note.dataset.rounds), state: note.dataset.state, digest: note.dataset.digest };
const isReport = document.getElementById("data") !== null;
const EVERY_MS = 2500;
const SLOWEST_MS = 30000;
const AT_REST_MS = 1500;
const LIST_OPEN_MS = 10000; // what happens in an open list is not told; it keeps the focus long after, too
const PLACE = `ipfl-place:${location.pathname}`;
let wait = EVERY_MS;
let lastTouch = -Infinity;
for (const event of ["pointerdown", "pointermove", "keydown", "wheel", "touchmove", "scroll"]) {
  addEventListener(event, () => { lastTouch = performance.now(); }, { capture: true, passive: true });
}

function say(text, state) {
  if (note.textContent !== text) note.textContent = text;
  note.dataset.state = state;
  note.hidden = false;
}

/** Nobody is in the middle of something: no text is marked, no list is open, nothing was touched just now. */
function atRest() {
  const pause = document.activeElement?.tagName === "SELECT" ? LIST_OPEN_MS : AT_REST_MS;
  return !document.hidden && performance.now() - lastTouch > pause && (getSelection()?.isCollapsed ?? true);
}

const roundsOfPage = () => Object.keys(JSON.parse(document.getElementById("data").textContent).rounds).map(Number).sort((a, b) => a - b);
const value = (id) => document.getElementById(id)?.value ?? null;

/** What the reader has chosen, and where: the section at the top and how far it is scrolled, as the rest may grow. */
function place() {
  const sections = [...document.querySelectorAll("main > section[id]")];
  const top = sections.filter((each) => each.getBoundingClientRect().top <= 1).at(-1);
  const rounds = isReport ? roundsOfPage() : [];
  const round = rounds[Number(value("round"))];
  return {
    y: scrollY,
    section: top?.id ?? null,
    offset: top?.getBoundingClientRect().top ?? 0,
    round: round === rounds.at(-1) ? null : round,
    person: value("person"),
    heat: document.getElementById("heat-all")?.getAttribute("aria-pressed") === "true",
    refused: document.getElementById("refused-toggle")?.getAttribute("aria-expanded") === "true",
    open: [...document.querySelectorAll("details")].map((each) => each.open),
    scrolled: [...document.querySelectorAll(".scroll, .rows")].map((each) => [each.scrollLeft, each.scrollTop]),
    focus: document.activeElement?.id || null,
  };
}

function change(id, to) {
  const control = document.getElementById(id);
  if (!control || to === null || to === undefined || control.value === String(to)) return;
  control.value = to;
  for (const event of ["input", "change"]) control.dispatchEvent(new Event(event));
}

function goBack(to) {
  if (to.round !== null && to.round !== undefined) {
    const at = roundsOfPage().indexOf(to.round);
    if (at >= 0) change("round", at);
  }
  change("person", to.person);
  if (to.heat) document.getElementById("heat-all")?.click();
  if (to.refused) document.getElementById("refused-toggle")?.click();
  document.querySelectorAll("details").forEach((each, index) => { each.open = to.open[index] ?? each.open; });
  document.querySelectorAll(".scroll, .rows").forEach((each, index) => {
    [each.scrollLeft, each.scrollTop] = to.scrolled[index] ?? [0, 0];
  });
  if (to.focus) document.getElementById(to.focus)?.focus({ preventScroll: true });
  const section = to.section && document.getElementById(to.section);
  const y = section ? scrollY + section.getBoundingClientRect().top - to.offset : to.y;
  scrollTo({ top: y, behavior: "instant" });
}

function loadAgain() {
  if (!atRest()) {
    setTimeout(loadAgain, 300);
    return;
  }
  try { sessionStorage.setItem(PLACE, JSON.stringify(place())); } catch { /* then the page begins at its top */ }
  history.scrollRestoration = "manual";
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  location.reload();
}

/** Whether the page shows something else than there is; a run that follows another in its folder has another digest. */
function isOld({ state, rounds, digest }) {
  if (rounds !== shown.rounds || (digest ?? "") !== shown.digest) return true;
  return isReport ? state === "finished" : state !== shown.state;
}

function found(now) {
  const of = now.rounds_in_all === null ? "" : `round ${now.rounds} of ${now.rounds_in_all}, `;
  say(of + (now.state === "running" ? "live" : now.state), now.state);
  if (isOld(now)) loadAgain();
  return isOld(now) || now.state === "finished";
}

/** True when there is nothing more to ask. */
async function ask() {
  let answer;
  try {
    answer = await fetch("./api/state", { cache: "no-store", credentials: "same-origin" });
  } catch {
    say("ipfl serve does not answer; this page is as it was", "away");
    wait = Math.min(2 * wait, SLOWEST_MS);
    return false;
  }
  if (answer.status === 401) {
    say("the token is no longer taken: open the address with ?token= again", "away");
    return true;
  }
  if (!answer.ok) {
    say((await answer.json().catch(() => ({}))).detail ?? `error ${answer.status}`, "away");
    wait = Math.min(2 * wait, SLOWEST_MS);
    return false;
  }
  wait = EVERY_MS;
  return found(await answer.json());
}

async function follow() {
  if (!document.hidden && await ask()) return;
  setTimeout(follow, wait);
}

function begin() {
  let kept = null;
  try {
    kept = sessionStorage.getItem(PLACE);
    sessionStorage.removeItem(PLACE);
  } catch { /* nothing is kept */ }
  if (kept) goBack(JSON.parse(kept));
  if (shown.state === "finished") say(`${shown.rounds} rounds, finished`, "finished");
  else follow();
}

begin();
