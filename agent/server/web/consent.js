// What a person is told and asked: at the first visit, before the camera, and for their token.

import { get, put, token } from "./api.js";
import { attempt, button, dialog, h } from "./dom.js";

const ASKED = {
  text: ["Your words", "What you type and say. Without them I can hardly answer."],
  voice: ["Your voice", "How you sound while you talk. The sound is never saved."],
  face: ["Your face", "Only while you switch the camera on. Pictures are never saved."],
};

export const consent = {
  current: null,
  async load() {
    consent.current = await get("consent");
    return consent.current;
  },
  async change(choice) {
    const { text, voice, face } = { ...consent.current, ...choice };
    consent.current = await put("consent", { text, voice, face });
    document.dispatchEvent(new Event("consent-changed"));
    return consent.current;
  },
  may: (modality) => Boolean(consent.current?.asked && consent.current[modality]),
};

/** A switch for each modality that this server can read. */
export function switches(document, chosen, change = () => {}) {
  return document.possible.map((modality) => {
    const [name, more] = ASKED[modality];
    return h(
      "label",
      { class: "switch-row" },
      h("input", {
        type: "checkbox",
        role: "switch",
        name: modality,
        checked: chosen[modality],
        on: { change: (event) => change(modality, event.target) },
      }),
      h("span", {}, h("strong", {}, name), h("span", { class: "muted" }, more)),
    );
  });
}

/** A text with commands between backquotes. */
export const worded = (text) => text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));

/** Before the first turn: what this is, and what it may read. Resolves once the person has chosen. */
export async function welcome() {
  const told = consent.current;
  const form = h(
    "form",
    { class: "welcome" },
    h("p", { class: "disclosure" }, worded(told.disclosure)),
    h(
      "fieldset",
      {},
      h("legend", {}, "What may I read to guess how you feel?"),
      switches(told, { text: true, voice: false, face: false }),
    ),
    h("div", { class: "actions" }, h("button", { class: "primary" }, "Start talking")),
  );
  const { box, closed } = dialog("What I am, and what I read", form, { stays: true });
  box.classList.add("first-visit");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = new FormData(form);
    const choice = { text: chosen.has("text"), voice: chosen.has("voice"), face: chosen.has("face") };
    attempt(async () => {
      await consent.change(choice);
      box.close("");
    });
  });
  await closed;
}

/** Asked on its own, when somebody switches the camera on for the first time. Resolves to whether they agreed. */
export async function askForCamera() {
  if (consent.may("face")) return true;
  const { box, closed } = dialog("May I look at your face?", [
    h(
      "p",
      {},
      "With the camera on, I also guess how you feel from your face, and I can be wrong. Pictures stay in memory while a turn needs them. They are never saved and never leave the computer I run on.",
    ),
    h("p", { class: "muted" }, "The camera is on only while you say so, and only during a conversation aloud."),
    h(
      "div",
      { class: "actions" },
      button("No, thank you", () => box.close(""), { class: "quiet" }),
      button("Yes, you may", () => box.close("yes"), { class: "primary" }),
    ),
  ]);
  if ((await closed) !== "yes") return false;
  return Boolean(await attempt(() => consent.change({ face: true })));
}

/** Resolves once a token was given. `wrong` if the one there was is not valid. */
export async function askForToken(wrong) {
  const field = h("input", {
    type: "password",
    id: "token",
    name: "token",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
  });
  const form = h(
    "form",
    {},
    h(
      "p",
      { id: "token-why" },
      wrong
        ? "This token is not valid here. Please check it."
        : "This server is for people it knows. Please give the token that you were given.",
    ),
    h("label", { for: "token" }, "Token"),
    field,
    h(
      "label",
      { class: "switch-row" },
      h("input", { type: "checkbox", name: "remember" }),
      h(
        "span",
        {},
        h("strong", {}, "Remember it on this device"),
        h("span", { class: "muted" }, "Otherwise it is forgotten when this tab is closed."),
      ),
    ),
    h("div", { class: "actions" }, h("button", { class: "primary" }, "Go on")),
  );
  const { box, closed } = dialog("Who are you?", form, { stays: true });
  field.focus();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = new FormData(form);
    if (!given.get("token").trim()) return;
    token.keep(given.get("token").trim(), given.has("remember"));
    box.close("");
  });
  await closed;
}
