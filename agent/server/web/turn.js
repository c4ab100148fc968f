// A turn, whole, in a dialog: what was said and read, why it was answered so, and what can be done about it.

import { get, post } from "./api.js";
import { announce, attempt, button, dialog, h, percent, signed, timeOf } from "./dom.js";
import { EMOTIONS, RECALLS, STRATEGIES, chip, evidence, headline, terms, thoughtList, unread } from "./feeling.js";
import { forget } from "./keeping.js";

/**
 * Open a turn.
 * @param show "why" or "correct" to begin there
 * @param changed told the episode after it was corrected, null after it was forgotten
 */
export async function openTurn(id, { show = null, changed = () => {} } = {}) {
  const episode = await attempt(() => get(`memory/show/${encodeURIComponent(id)}`));
  if (!episode) return;
  const body = h("div", { class: "turn-whole" });
  const extra = h("div", { class: "extra" });
  const { box } = dialog(timeOf(episode.at), [body, extra], { wide: true });

  const draw = (one) => body.replaceChildren(...whole(one));
  const actions = {
    why: () => attempt(async () => reveal(extra, await why(id))),
    correct: () =>
      reveal(
        extra,
        correction(episode, async (emotion) => {
          const corrected = await post(`memory/correct/${encodeURIComponent(id)}`, { emotion });
          const shown = await get(`memory/show/${encodeURIComponent(id)}`);
          draw(shown);
          changed({ ...corrected, ...shown });
          reveal(
            extra,
            h("p", { class: "done", tabindex: "-1" }, `Thank you. This turn now says that you felt ${emotion}.`),
          );
          announce(`Corrected to ${emotion}.`);
        }),
      ),
    forget: async () => {
      if (await forget({ ids: [id] })) {
        box.close("");
        changed(null);
      }
    },
  };
  draw(episode);
  extra.before(
    h(
      "div",
      { class: "actions start" },
      button("Why did you say that?", actions.why, { class: "quiet" }),
      button("Correct the feeling", actions.correct, { class: "quiet" }),
      button("Forget this turn", actions.forget, { class: "quiet danger-words" }),
    ),
  );
  if (show) await actions[show]();
}

function reveal(place, content) {
  place.replaceChildren(content);
  const first = content.matches("[tabindex]") ? content : content.querySelector("h3, legend, [tabindex]");
  first?.setAttribute("tabindex", "-1");
  first?.focus({ preventScroll: true });
  place.scrollIntoView({ block: "nearest" });
}

function whole(episode) {
  const { affect } = episode;
  const corrections = episode.revisions.filter((revision) => revision.affect);
  return [
    h("blockquote", { class: "said" }, episode.text || "(no words)"),
    headline(affect),
    corrections.length
      ? h(
          "p",
          { class: "muted" },
          `You corrected this; I had read ${corrections.map((one) => one.affect.emotion).join(", then ")}.`,
        )
      : null,
    evidence(affect),
    h(
      "blockquote",
      { class: "reply" },
      episode.reply,
      episode.cut_off ? h("span", { class: "cut-off" }, " (you broke in here)") : null,
    ),
    h(
      "details",
      {},
      h("summary", {}, "All that is kept of this turn"),
      terms([
        ["Pleasant to unpleasant", `${signed(affect.valence)} of ±1 (valence)`],
        ["Stirred to calm", `${signed(affect.arousal)} of ±1 (arousal)`],
        ["Why you felt it", episode.understanding?.cause],
        ["What you wanted", episode.understanding?.intent],
        ["What I aimed at", STRATEGIES[episode.strategy] ?? episode.strategy],
        ["How it went on", episode.after.map((felt) => felt.emotion).join(", then ")],
        ["Read from", episode.modalities.join(", ")],
        ["Left unread", unread(affect.absent)?.replace("Not read: ", "")],
        ["Conversation", episode.thread_id],
        ["Model", episode.model_version],
      ]),
      episode.thought ? [h("h3", {}, "What I thought"), thoughtList(episode.thought)] : null,
    ),
  ].filter(Boolean);
}

/** The way from what was said to what was answered. */
async function why(id) {
  const found = await get(`memory/why/${encodeURIComponent(id)}`);
  const step = (title, ...content) => h("li", {}, h("h4", {}, title), ...content);
  const recalled = found.recalled.map((one) =>
    h(
      "li",
      {},
      h("span", {}, one.text ?? "something that you have since asked me to forget"),
      h(
        "span",
        { class: "muted score" },
        ` ${Object.entries(one.parts)
          .map(([name, part]) => `${name} ${signed(part)}`)
          .join(" · ")}`,
      ),
    ),
  );
  return h(
    "section",
    { class: "why", "aria-label": "Why I said that" },
    h("h3", {}, "Why I said that"),
    h(
      "ol",
      { class: "steps" },
      step(
        "What I read",
        h("p", {}, chip(found.affect.emotion), ` ${percent(found.affect.confidence)}`),
        evidence(found.affect),
      ),
      found.cause ? step("The cause I saw", h("p", {}, found.cause)) : null,
      step(
        `What I looked for in my memory: ${RECALLS[found.plan.recall_policy] ?? found.plan.recall_policy}`,
        recalled.length ? h("ul", { class: "recalled" }, recalled) : h("p", { class: "muted" }, "Nothing came back."),
      ),
      step(
        "What I wanted to do",
        h(
          "p",
          {},
          found.plan.route === "crisis"
            ? "give the fixed answer of care, with helplines"
            : (STRATEGIES[found.plan.strategy] ?? found.plan.strategy),
        ),
        found.thought ? h("details", {}, h("summary", {}, "The whole thought"), thoughtList(found.thought)) : null,
      ),
      step("What I said", h("p", { class: "reply" }, found.reply)),
    ),
  );
}

function correction(episode, save) {
  const choices = EMOTIONS.map((emotion) =>
    h(
      "label",
      { class: "choice" },
      h("input", { type: "radio", name: "emotion", value: emotion, checked: emotion === episode.affect.emotion }),
      chip(emotion),
    ),
  );
  const form = h(
    "form",
    { class: "correction" },
    h("fieldset", {}, h("legend", {}, "What did you really feel?"), h("div", { class: "choices" }, choices)),
    h("div", { class: "actions start" }, h("button", { class: "primary" }, "Save")),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(() => save(new FormData(form).get("emotion")));
  });
  return form;
}
