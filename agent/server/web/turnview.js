// One turn in the conversation: what was said, what was read from it, the thought, and the reply as it comes.

import { button, h, timeOf } from "./dom.js";
import { evidence, headline, thoughtList, unread } from "./feeling.js";
import { openTurn } from "./turn.js";

export class TurnView {
  constructor(said = "") {
    this.id = null;
    this.said = h("p", { class: "said" });
    this.reading = h("div", { class: "reading" });
    this.reply = h("p", { class: "reply" });
    this.below = h("div", { class: "below" });
    this.element = h(
      "article",
      { class: "turn" },
      h("div", { class: "mine" }, h("span", { class: "visually-hidden" }, "You: "), this.said, this.reading),
      h("div", { class: "theirs" }, h("span", { class: "visually-hidden" }, "emox: "), this.reply, this.below),
    );
    this.say(said);
  }

  say(words) {
    this.said.textContent = words;
    this.said.hidden = !words;
  }

  /** The feeling, and all that is known about it so far. */
  read({ affect, absent, thought, cause, latency }) {
    if (affect) this.affect = affect;
    if (thought) this.thought = thought;
    if (absent) this.absent = absent;
    if (latency) this.latency = latency;
    if (!this.affect) return;
    const left = unread(this.absent ?? this.affect.absent);
    const wasOpen = this.reading.querySelector("details")?.open ?? false;
    const folded =
      this.thought || left || cause
        ? h(
            "details",
            { open: wasOpen, class: "thought" },
            h("summary", {}, "What I thought"),
            this.thought ? thoughtList(this.thought) : null,
            left ? h("p", { class: "muted" }, left) : null,
          )
        : null;
    this.reading.replaceChildren(
      ...[
        headline(this.affect),
        evidence(this.affect),
        h("div", { class: "reading-foot" }, folded, this.latency ? h("p", { class: "latency" }, this.latency) : null),
      ].filter(Boolean),
    );
  }

  /** The reply has begun to be made: something moves until its first word comes. */
  wait() {
    this.below.replaceChildren();
    this.reply.replaceChildren(
      h("span", { class: "waiting", role: "img", "aria-label": "emox is thinking" }, h("i"), h("i"), h("i")),
    );
  }

  append(words) {
    if (this.reply.querySelector(".waiting")) this.reply.replaceChildren();
    this.reply.append(words);
  }

  answered(words, { cutOff = false } = {}) {
    this.reply.textContent = words;
    if (cutOff) this.reply.append(h("span", { class: "cut-off" }, " (you broke in here)"));
  }

  /** From now on it is a turn that is remembered, and can be asked about. */
  link(id) {
    this.id = id;
    this.element.dataset.turn = id;
    const changed = (episode) => this.show(episode);
    this.below.replaceChildren(
      h(
        "div",
        { class: "asides" },
        button("Why did you say that?", () => openTurn(id, { show: "why", changed })),
        button("I feel something else", () => openTurn(id, { show: "correct", changed })),
      ),
    );
  }

  /** A turn as the memory keeps it; null once it is forgotten. */
  show(episode) {
    if (episode === null) {
      this.element.remove();
      return;
    }
    this.say(episode.text);
    this.read({ affect: episode.affect, absent: episode.affect.absent, thought: episode.thought });
    this.answered(episode.reply, { cutOff: episode.cut_off });
    this.link(episode.id);
    this.said.title = timeOf(episode.at);
  }

  failed(why, again) {
    this.reply.replaceChildren();
    this.below.replaceChildren(
      h("p", { class: "problem", role: "alert" }, why, " "),
      again ? button("Try again", again, { class: "quiet" }) : "",
    );
  }
}
