// Settings: what may be read, how the page looks and sounds, what is kept, and what this is.

import { token } from "./api.js";
import { consent, switches, worded } from "./consent.js";
import { $, attempt, notice } from "./dom.js";
import { forget, takeAlong } from "./keeping.js";
import { readAloud, readsAloud } from "./player.js";

const THEME = "emox-theme";

export function startSettings() {
  drawConsent();
  document.addEventListener("consent-changed", drawConsent);
  $("#read-aloud").checked = readsAloud();
  $("#read-aloud").addEventListener("change", (event) => readAloud(event.target.checked));
  $("#settings-export").addEventListener("click", takeAlong);
  $("#settings-forget").addEventListener("click", () => forget({ all: true }));
  $("#sign-out").addEventListener("click", () => {
    token.drop();
    location.reload();
  });
}

function drawConsent() {
  const current = consent.current;
  const save = (modality, control) =>
    attempt(async () => {
      try {
        await consent.change({ [modality]: control.checked });
        notice("Saved. It holds from your next turn on.");
        $(`#consent-switches [name=${modality}]`)?.focus();
      } catch (error) {
        control.checked = !control.checked;
        throw error;
      }
    });
  $("#consent-switches").replaceChildren(...switches(current, current, save));
  $("#disclosure").replaceChildren(...worded(current.disclosure));
  $("#signed-in").hidden = token.get() === null;
}

/** The theme: that of the system, unless somebody chose one; the button in the header and the setting agree. */
export function startTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => localStorage.getItem(THEME) ?? "system";
  const draw = () => {
    const dark = chosen() === "dark" || (chosen() === "system" && system.matches);
    if (chosen() === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen();
    $("#theme").setAttribute("aria-pressed", dark);
    for (const choice of document.querySelectorAll("[name=theme]")) choice.checked = choice.value === chosen();
    return dark;
  };
  const choose = (theme) => {
    if (theme === "system") localStorage.removeItem(THEME);
    else localStorage.setItem(THEME, theme);
    draw();
  };
  $("#theme").addEventListener("click", () => choose(draw() ? "light" : "dark"));
  for (const choice of document.querySelectorAll("[name=theme]"))
    choice.addEventListener("change", () => choose(choice.value));
  system.addEventListener("change", draw);
  draw();
}
