// What is remembered: feelings over time, the turns themselves, what follows from them, and how to have them forgotten.

import { get } from "./api.js";
import { $, attempt, button, counted, dayOf, h, percent, timeOf } from "./dom.js";
import { EMOTIONS, chip } from "./feeling.js";
import { bringBack, forget, takeAlong } from "./keeping.js";
import { Timeline, said } from "./timeline.js";
import { openTurn } from "./turn.js";

const POINTS = 2000;
const PAGE = 20;
const KINDS = {
  person: "People",
  event: "Events",
  preference: "Likes and dislikes",
  life: "Your life",
  trigger: "What brings a feeling",
  helped: "What helped",
};

const HINT = "Each point is a turn; choose one to see it whole. The band is your mood, as wide as I am unsure of it.";

const state = { points: [], episodes: [], complete: false, found: null, facts: [], stale: true };
let chart;

export function startMemory() {
  chart = new Timeline($("#chart"), {
    open: (id) => openTurn(id, { changed: () => attempt(load) }),
    point: (point) => ($("#readout").textContent = said(point)),
  });
  $("#emotion").append(
    h("option", { value: "" }, "every feeling"),
    ...EMOTIONS.map((emotion) => h("option", { value: emotion }, emotion)),
  );
  $("#emotion").addEventListener("change", draw);
  $("#in-thread").addEventListener("change", () => attempt(load));
  $("#zoom-in").addEventListener("click", () => chart.zoom(0.6));
  $("#zoom-out").addEventListener("click", () => chart.zoom(1 / 0.6));
  $("#zoom-all").addEventListener("click", () => chart.all());
  $("#search").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(search);
  });
  $("#search").addEventListener("reset", () => {
    state.found = null;
    draw();
  });
  $("#more").addEventListener("click", () => attempt(more));
  $("#old-facts").addEventListener("change", () => attempt(loadFacts));
  $("#forget-form").addEventListener("submit", forgetSome);
  $("#forget-all").addEventListener("click", () => forget({ all: true }));
  $("#export").addEventListener("click", takeAlong);
  $("#import").addEventListener("change", async (event) => {
    const [chosen] = event.target.files;
    if (chosen) await bringBack(chosen);
    event.target.value = "";
  });
  document.addEventListener("memory-changed", () => {
    state.stale = true;
    if (!$("#memory").hidden) attempt(load);
  });
}

/** The view was opened: turns may have come since it was last looked at. */
export const showMemory = () => attempt(load);

const thread = () => $("#in-thread").value;

async function load() {
  const [timeline, list, { threads }] = await Promise.all([
    get("memory/timeline", { limit: POINTS, thread: thread() }),
    get("memory/list", { limit: PAGE, thread: thread() }),
    get("threads"),
    loadFacts(),
  ]);
  Object.assign(state, { points: timeline.points, episodes: list.episodes, complete: list.episodes.length < PAGE });
  const chosen = thread();
  $("#in-thread").replaceChildren(
    h("option", { value: "" }, "every conversation"),
    ...threads.map((one) => h("option", { value: one.thread }, `${dayOf(one.last_at)} · ${one.begins.slice(0, 32)}`)),
  );
  $("#in-thread").value = chosen;
  $("#summary").textContent = summary(list.total, timeline);
  if (state.found) await search();
  else draw();
}

async function loadFacts() {
  ({ facts: state.facts } = await get("memory/facts", { history: $("#old-facts").checked }));
  drawFacts();
}

async function search() {
  const query = $("#query").value.trim();
  state.found = query ? await get("memory/search", { query, limit: 20 }) : null;
  draw();
}

async function more() {
  const { episodes } = await get("memory/list", { limit: PAGE, offset: state.episodes.length, thread: thread() });
  state.episodes.push(...episodes);
  state.complete = episodes.length < PAGE;
  drawTurns();
}

function draw() {
  const emotion = $("#emotion").value;
  const among = state.found && new Set(state.found.found.map((one) => one.episode.id));
  chart.show(state.points, (point) => (!emotion || point.emotion === emotion) && (!among || among.has(point.id)));
  $("#chart").hidden = $("#chart-tools").hidden = state.points.length === 0;
  $("#readout").textContent = state.points.length ? HINT : "Nothing is remembered yet. What you say will appear here.";
  drawTurns();
}

function drawTurns() {
  const emotion = $("#emotion").value;
  const from = state.found ? state.found.found.map((one) => ({ ...one.episode, score: one.score })) : state.episodes;
  const shown = from.filter(
    (one) => (!emotion || one.affect.emotion === emotion) && (!thread() || one.thread_id === thread()),
  );
  $("#turns-title").textContent = state.found ? `Found for “${state.found.query}”` : "Turns";
  $("#turns").replaceChildren(
    ...shown.map((one) =>
      h(
        "li",
        {},
        button(
          [
            h(
              "span",
              { class: "when" },
              timeOf(one.at),
              one.score === undefined ? null : h("span", {}, ` · ${percent(one.score)} alike`),
            ),
            h("span", { class: "what" }, one.text || "(no words)"),
            chip(one.affect.emotion),
          ],
          () => openTurn(one.id, { changed: () => attempt(load) }),
          { class: "row", data: { turn: one.id } },
        ),
      ),
    ),
  );
  $("#no-turns").hidden = shown.length > 0;
  $("#more").hidden = state.found !== null || state.complete;
  if (state.found) drawFacts(state.found.facts.map((one) => one.fact));
  else drawFacts();
}

function drawFacts(facts = state.facts) {
  const kinds = Object.entries(KINDS).filter(([kind]) => facts.some((fact) => fact.kind === kind));
  $("#facts").replaceChildren(
    ...kinds.map(([kind, name]) =>
      h(
        "section",
        {},
        h("h3", {}, name),
        h(
          "ul",
          {},
          facts
            .filter((fact) => fact.kind === kind)
            .map((fact) =>
              h(
                "li",
                { class: fact.valid_to ? "past" : null },
                fact.text,
                fact.valid_to ? h("span", { class: "muted" }, ` (until ${dayOf(fact.valid_to)})`) : null,
                fact.episodes.length
                  ? button("from this turn", () => openTurn(fact.episodes.at(-1), { changed: () => attempt(load) }), {
                      class: "link",
                      "aria-label": `The turn from which I know: ${fact.text}`,
                    })
                  : null,
              ),
            ),
        ),
      ),
    ),
  );
  $("#no-facts").hidden = kinds.length > 0;
}

/** How it stands, in a sentence. */
function summary(total, { mood, points }) {
  if (!total) return "";
  const since = points.length ? ` since ${dayOf(points[0].at)}` : "";
  const turns = `${counted(total, "turn")}${since}.`;
  if (!mood) return turns;
  const level =
    mood.valence > 0.25
      ? "bright"
      : mood.valence > 0.05
        ? "fairly bright"
        : mood.valence > -0.05
          ? "even"
          : mood.valence > -0.25
            ? "a little low"
            : "low";
  const rising =
    mood.trend && mood.trend.low > 0 ? ", and rising" : mood.trend && mood.trend.high < 0 ? ", and falling" : "";
  return `${turns} As far as I can tell, your mood is ${level} now${rising}.`;
}

function forgetSome(event) {
  event.preventDefault();
  const given = new FormData(event.target);
  const wish = Object.fromEntries(
    [...given].filter(([, value]) => value.trim()).map(([name, value]) => [name, value.trim()]),
  );
  if (wish.until) wish.until = dayAfter(wish.until); // the last day is meant, too
  if (Object.keys(wish).length) forget(wish).then((done) => done && event.target.reset());
  else $("#forget-form input").focus();
}

function dayAfter(day) {
  const [year, month, date] = day.split("-").map(Number);
  const next = new Date(year, month - 1, date + 1);
  return [next.getFullYear(), next.getMonth() + 1, next.getDate()]
    .map((part) => String(part).padStart(2, "0"))
    .join("-");
}
