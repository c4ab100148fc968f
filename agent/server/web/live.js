// The conversation aloud as it is seen: who speaks, what was heard so far, and which turn each message belongs to.

import { get } from "./api.js";
import { askForCamera, consent } from "./consent.js";
import { $, LOCALE, announce, attempt, notice } from "./dom.js";
import { TurnView } from "./turnview.js";
import { Call } from "./voice.js";

const SAYS = {
  connecting: "Connecting …",
  open: "I am listening",
  hearing: "I hear you",
  thinking: "Thinking …",
  speaking: "Speaking",
  muted: "Your microphone is muted",
};

/**
 * @param place where turns go: `add(turn)`, `greet()` gives an element whose text grows, `thread()` its conversation,
 *   `follow()`, `refresh()`, `remembered(thread)`
 */
export class Live {
  #call = null;
  #current = null; // the turn that the person says, or that is being answered
  #unlinked = []; // turns that are not remembered yet, oldest first
  #greeting = null;
  #muted = false;
  stale = false; // whether the memory was changed meanwhile

  constructor(place) {
    this.place = place;
    $("#call-mute").addEventListener("click", () => this.#mute(!this.#muted));
    $("#call-camera").addEventListener("click", () => attempt(() => this.#toggleCamera()));
    $("#call-end").addEventListener("click", () => this.end());
  }

  get on() {
    return this.#call !== null;
  }

  async start({ camera = false } = {}) {
    const may = (consent.current?.possible ?? []).filter((modality) => consent.may(modality));
    const call = new Call({ thread: this.place.thread(), consent: may, output: $("#call-sound") });
    this.#call = call;
    this.#show(true);
    call.addEventListener("state", ({ detail }) => this.#state(call, detail, camera));
    call.addEventListener("message", ({ detail }) => call === this.#call && this.#message(detail));
    try {
      await call.start();
    } catch (error) {
      if (this.#call === call) this.#ended();
      notice(error.message);
    }
  }

  type(words) {
    this.#begin(words);
    this.#call.type(words);
    this.#say("thinking");
  }

  end() {
    this.#call?.end();
  }

  #state(call, state, camera) {
    if (call !== this.#call) return;
    if (state === "ended") this.#ended();
    else this.#say(state);
    if (state === "open") {
      announce("Connected. I am listening.");
      $("#call-mute").focus();
      if (camera) attempt(() => this.#toggleCamera());
    }
  }

  #ended() {
    this.#call = null;
    this.#current = this.#greeting = null;
    this.#mute(false);
    this.#picture(null);
    this.#show(false);
    announce("The conversation aloud is over.");
    // What was heard before the end is remembered by now.
    if (this.#unlinked.splice(0).length || this.stale) setTimeout(() => this.place.refresh(), 1500);
    this.stale = false;
  }

  #mute(on) {
    this.#muted = on;
    this.#call?.mute(on);
    $("#call-mute").setAttribute("aria-pressed", on);
    if (this.#call) this.#say(on ? "muted" : "open");
  }

  async #toggleCamera() {
    const call = this.#call;
    const shown = $("#call-camera").getAttribute("aria-pressed") === "true";
    if (shown) {
      await call.see(false);
      this.#picture(null);
      return;
    }
    if (!(await askForCamera())) return;
    if (!call.maySee) {
      // What may be read is settled when a conversation begins, so it begins anew.
      call.end();
      await this.start({ camera: true });
      return;
    }
    this.#picture(await call.see(true));
  }

  #picture(stream) {
    const view = $("#call-picture");
    view.srcObject = stream;
    view.hidden = stream === null;
    $("#call-camera").setAttribute("aria-pressed", stream !== null);
  }

  #show(on) {
    $("#call").hidden = !on;
    $("#talk-aloud").hidden = on;
    $("#call-reads").textContent = this.#call ? reads(this.#call.consent) : "";
    if (on) this.#say("connecting");
  }

  #say(state) {
    $("#call").dataset.state = state;
    $("#call-state").textContent = SAYS[state];
  }

  #begin(words = "") {
    this.#greeting = null;
    this.#current = new TurnView(words);
    this.#unlinked.push(this.#current);
    this.place.add(this.#current);
    return this.#current;
  }

  #message({ type, data }) {
    switch (type) {
      case "user-started-speaking":
        this.#say("hearing");
        break;
      case "user-transcription": {
        if (!data.text && consent.may("text")) break; // a sound without words
        // Words after an answer that was heard begin a turn; before that, they are more of the same one.
        if (!this.#current || this.#current.replied) this.#begin();
        this.#current.say(data.text);
        this.#current.element.classList.toggle("unsure", !data.final);
        break;
      }
      case "user-stopped-speaking":
        if (!this.#muted) this.#say("thinking");
        break;
      case "bot-llm-started":
        if (this.#current && !this.#current.replied) this.#current.wait();
        else this.#greeting = this.#current = null;
        break;
      case "bot-llm-text":
        if (this.#current) {
          this.#current.append(data.text);
        } else {
          this.#greeting ??= this.place.greet();
          this.#greeting.append(data.text.replaceAll("`", ""));
        }
        this.place.follow();
        break;
      case "bot-llm-stopped":
        if (this.#current) this.#current.replied = true;
        break;
      case "bot-started-speaking":
        if (this.#current?.reply.textContent) this.#current.replied = true;
        this.#say("speaking");
        break;
      case "bot-stopped-speaking":
        this.#say(this.#muted ? "muted" : "open");
        break;
      case "server-message":
        this.#told(data);
        break;
      case "error":
        notice(data?.error ?? "Something went wrong in the conversation.");
        break;
    }
  }

  #told(data) {
    const turn = this.#current?.replied ? null : this.#current;
    if (data.type === "affect") turn?.read({ affect: data });
    else if (data.type === "plan" && data.thought) turn?.read({ thought: data.thought });
    else if (data.type === "error") notice(data.text);
    else if (data.type === "turn") this.#remembered(data);
  }

  /** A turn is over and kept: from now on it shows what the memory knows. */
  #remembered({ turn_id: id, latency_ms: latency }) {
    attempt(async () => {
      const episode = await get(`memory/show/${encodeURIComponent(id)}`);
      // They end in their order. What lies before the one with these words was the beginning of it.
      const same = this.#unlinked.findIndex((turn) => turn.said.textContent === episode.text);
      const [turn, ...begun] = this.#unlinked.splice(0, Math.max(same, 0) + 1).reverse();
      if (!turn) return;
      for (const one of begun) one.element.remove();
      turn.show(episode);
      if (latency) turn.read({ latency: `you waited ${(latency / 1000).toFixed(1)} s` });
      turn.element.classList.remove("unsure");
      this.place.follow();
      this.place.remembered(episode.thread_id);
    });
  }
}

function reads(modalities) {
  const words = { text: "your words", voice: "your voice", face: "your face while the camera is on" };
  const listed = new Intl.ListFormat(LOCALE).format(modalities.map((one) => words[one]));
  return listed ? `I read ${listed}.` : "I read nothing of you.";
}
