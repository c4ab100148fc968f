// The page begins here: who asks, what they agreed to, and which of the three views they look at.

import { whenTokenIsMissing } from "./api.js";
import { askForToken, consent, welcome } from "./consent.js";
import { $, button } from "./dom.js";
import { showMemory, startMemory } from "./memory.js";
import { startSettings, startTheme } from "./settings.js";
import { startTalk } from "./talk.js";

const VIEWS = { talk: "Talk", memory: "Memory", settings: "Settings" };

const wanted = () => (Object.hasOwn(VIEWS, location.hash.slice(1)) ? location.hash.slice(1) : "talk");

function show(view) {
  for (const name of Object.keys(VIEWS)) {
    $(`#${name}`).hidden = name !== view;
    const link = $(`nav a[href="#${name}"]`);
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${VIEWS[view]} · emox`;
  if (view === "memory") showMemory();
  if (view === "talk") $("#log").scrollTo({ top: $("#log").scrollHeight });
}

async function start() {
  startTheme();
  whenTokenIsMissing(askForToken);
  await consent.load();
  if (!consent.current.asked) await welcome();
  startSettings();
  startMemory();
  await startTalk();
  $("#loading").hidden = true;
  show(wanted());
  addEventListener("hashchange", () => {
    if (location.hash === "#main") return; // the link that skips the header
    $("#notice").hidden = true;
    show(wanted());
    $("main").focus();
  });
  if (wanted() === "talk") $("#words").focus();
}

start().catch((error) => {
  $("#loading").hidden = false;
  $("#loading").replaceChildren(
    error.message,
    " ",
    button("Try again", () => location.reload(), { class: "quiet" }),
  );
});
