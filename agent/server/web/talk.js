// The conversation: which one, its log, and what is typed into it.

import { Problem, get, stream } from "./api.js";
import { consent, worded } from "./consent.js";
import { $, announce, attempt, dayOf, h } from "./dom.js";
import { Live } from "./live.js";
import { player, readsAloud } from "./player.js";
import { TurnView } from "./turnview.js";

const THREAD = "emox-thread";
const log = $("#log");
let thread = sessionStorage.getItem(THREAD);
let threads = [];

const place = {
  thread: () => thread,
  add(turn) {
    $(".empty", log)?.remove();
    log.append(turn.element);
    place.follow();
  },
  greet() {
    $(".empty", log)?.remove();
    const words = h("p", { class: "reply hello" });
    log.append(h("article", { class: "turn" }, h("div", { class: "theirs" }, words)));
    place.follow();
    return words;
  },
  follow: () => log.scrollTo({ top: log.scrollHeight }),
  refresh: () => attempt(load),
  /** A turn of a conversation is kept, perhaps its first. */
  remembered(name) {
    if (threads.some((one) => one.thread === name)) return;
    attempt(async () => {
      ({ threads } = await get("threads"));
      drawThreads();
    });
  },
};

export const live = new Live(place);

export async function startTalk() {
  $("#composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  const field = $("#words");
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  field.addEventListener("input", grow);
  $("#talk-aloud").addEventListener("click", () => {
    player.stop();
    live.start();
  });
  $("#thread").addEventListener("change", (event) => choose(event.target.value));
  $("#new-thread").addEventListener("click", () => {
    choose(newThread());
    field.focus();
  });
  document.addEventListener("memory-changed", () => {
    if (live.on) live.stale = true;
    else attempt(load);
  });
  document.addEventListener("consent-changed", explain);
  explain();
  await load();
}

async function load() {
  ({ threads } = await get("threads"));
  thread ??= threads[0]?.thread ?? "main";
  drawThreads();
  await showThread();
}

function choose(name) {
  live.end();
  thread = name;
  sessionStorage.setItem(THREAD, name);
  drawThreads();
  attempt(showThread);
}

const newThread = () =>
  `page-${new Date().toISOString().slice(0, 16).replace(/\D/g, "")}-${crypto.randomUUID().slice(0, 4)}`;

function drawThreads() {
  const known = threads.map((one) =>
    h("option", { value: one.thread }, `${dayOf(one.last_at)} · ${shortened(one.begins)}`),
  );
  if (!threads.some((one) => one.thread === thread))
    known.unshift(h("option", { value: thread }, "A new conversation"));
  $("#thread").replaceChildren(...known);
  $("#thread").value = thread;
}

const shortened = (words) => (words.length > 40 ? `${words.slice(0, 39).trimEnd()}…` : words || "(no words)");

async function showThread() {
  const shown = thread;
  log.setAttribute("aria-busy", "true");
  const { episodes } = await get(`threads/${encodeURIComponent(shown)}`);
  if (shown !== thread) return;
  log.replaceChildren();
  if (!episodes.length) log.append(empty());
  for (const episode of episodes.reverse()) {
    const turn = new TurnView();
    turn.show(episode);
    log.append(turn.element);
  }
  log.setAttribute("aria-busy", "false");
  place.follow();
}

const empty = () =>
  h(
    "div",
    { class: "empty" },
    h("p", { class: "greeting" }, "How are you today?"),
    h(
      "p",
      { class: "muted" },
      "Write a few words, or talk aloud. I listen, guess how you feel, and say what I read and why.",
    ),
  );

/** Without consent to words there is nothing that a typed line could be answered from. */
function explain() {
  const may = consent.may("text");
  $("#words").disabled = $("#send").disabled = !may;
  $("#words").placeholder = may ? "What is on your mind?" : "You do not let me read your words (Settings)";
}

function grow() {
  const field = $("#words");
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, 200)}px`;
}

function send() {
  const field = $("#words");
  const words = field.value.trim();
  if (!words) return;
  field.value = "";
  grow();
  if (live.on) {
    live.type(words);
    return;
  }
  const turn = new TurnView(words);
  place.add(turn);
  answer(turn, { text: words, thread, id: crypto.randomUUID() });
}

/** Ask for an answer. Tried again it has the same id, so that it is never answered twice. */
async function answer(turn, message) {
  const aloud = readsAloud();
  player.stop();
  turn.wait();
  place.follow();
  try {
    let whole = false;
    for await (const [event, data] of stream("turns", { ...message, speak: aloud })) {
      if (event === "error") throw new Problem(500, data.detail);
      whole ||= event === "finished";
      happened(turn, event, data);
      place.follow();
    }
    if (!whole) throw new Problem(0, "The connection broke off before the answer was whole.");
  } catch (error) {
    turn.failed(error.message, () => answer(turn, message));
    return;
  }
  place.remembered(message.thread);
}

function happened(turn, event, data) {
  switch (event) {
    case "started":
      if (data.disclosure) turn.element.before(disclosed(data.disclosure));
      break;
    case "heard":
      turn.say(data.text);
      break;
    case "perceived":
      turn.read({ affect: data.affect });
      break;
    case "understood":
      turn.read({ affect: data.affect });
      break;
    case "planned":
      turn.read({ thought: data.thought });
      break;
    case "reply_text":
      turn.append(data.text);
      break;
    case "spoken":
      player.add(data.wav);
      break;
    case "unspoken":
      turn.below.append(h("p", { class: "muted" }, "My voice failed; this reply is in words only."));
      break;
    case "finished": {
      const first = data.timings_ms.first_text;
      turn.read({
        affect: data.affect,
        absent: data.absent,
        thought: data.thought,
        latency: first ? `first word after ${(first / 1000).toFixed(1)} s` : null,
      });
      turn.answered(data.reply);
      turn.link(data.turn_id);
      announce(`I read ${data.affect.emotion}. ${data.reply}`);
      break;
    }
  }
}

const disclosed = (words) =>
  h(
    "details",
    { class: "note" },
    h("summary", {}, "I am a program, not a human and not a therapist"),
    h("p", {}, worded(words)),
  );
