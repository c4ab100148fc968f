// How a feeling looks: always a colour and a word; what each modality showed; the thought behind a reply.

import { h, percent } from "./dom.js";

export const EMOTIONS = ["neutral", "happy", "sad", "angry", "fear", "disgust", "surprise"];

const SOURCES = { text: "words", voice: "voice", face: "face", fusion: "together" };

export const STRATEGIES = {
  explore: "ask gently and learn more about what happened",
  reflect: "show that I understand, and name the feeling",
  comfort: "comfort, and say that the feeling is all right",
  celebrate: "share the joy and ask about it",
  suggest: "offer one small step that may help",
  inform: "answer the question, plainly and kindly",
  clarify: "say what I may have misread, and ask how you really feel",
};

export const RECALLS = {
  congruent: "times that felt alike",
  counter: "brighter times, and what helped",
  factual: "what was said about it",
  none: "nothing",
};

export const chip = (emotion) =>
  h("span", { class: "chip", data: { emotion } }, h("span", { class: "dot", "aria-hidden": "true" }), emotion);

/** One thin bar of all emotions that a modality showed, and its likeliest in words. */
function bar(source, shares) {
  const ordered = Object.entries(shares).sort(([, a], [, b]) => b - a);
  const [likeliest, most] = ordered[0];
  const all = ordered.filter(([, share]) => share >= 0.01).map(([emotion, share]) => `${emotion} ${percent(share)}`);
  const strip = h("span", {
    class: "strip",
    role: "img",
    "aria-label": `${SOURCES[source]}: ${all.join(", ")}`,
    title: all.join(", "),
  });
  for (const [emotion, share] of ordered) {
    const part = h("span", { data: { emotion } });
    part.style.flexGrow = share;
    strip.append(part);
  }
  return h(
    "li",
    {},
    h("span", { class: "source" }, SOURCES[source]),
    strip,
    h("span", { class: "likeliest" }, `${likeliest} ${percent(most)}`),
  );
}

/** What was read from what: one bar for each modality that was read. */
export function evidence(affect) {
  const read = Object.keys(SOURCES).filter((source) => affect.evidence?.[source]);
  if (read.length === 2 && read.includes("fusion")) read.pop(); // one source alone is all there is to put together
  return read.length
    ? h(
        "ul",
        { class: "evidence", "aria-label": "What each source showed" },
        read.map((source) => bar(source, affect.evidence[source])),
      )
    : null;
}

/** The feeling in a line. */
export function headline(affect) {
  const open = (affect.open ?? []).filter((word) => word !== affect.emotion);
  return h(
    "p",
    { class: "felt" },
    h("span", { class: "visually-hidden" }, "I read: "),
    chip(affect.emotion),
    h("span", { class: "muted" }, percent(affect.confidence)),
    open.length ? h("span", { class: "open-words" }, open.join(", ")) : null,
  );
}

/** What was not read, and why; null where everything was. */
export function unread(absent) {
  const parts = Object.entries(absent ?? {})
    .filter(([, why]) => why !== "not given")
    .map(([source, why]) => `${SOURCES[source]} (${why})`);
  return parts.length ? `Not read: ${parts.join(", ")}.` : null;
}

/** The chain of thought, as a list of terms. */
export function thoughtList(thought) {
  const lines = [
    ["What happened", thought.scenario],
    ["What you feel", thought.emotion],
    ["Why", thought.cause],
    ["What I want to do", thought.goal],
  ];
  return terms(lines);
}

export const terms = (lines) =>
  h(
    "dl",
    {},
    lines
      .filter(([, words]) => words !== null && words !== undefined && words !== "")
      .map(([name, words]) => [h("dt", {}, name), h("dd", {}, words)]),
  );
