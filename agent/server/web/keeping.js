// What a person does with all that is kept: forget it with proof, take it along, bring it back.

import { file, post, upload } from "./api.js";
import { LOCALE, announce, attempt, confirmed, counted, dialog, h, notice } from "./dom.js";
import { terms } from "./feeling.js";

/**
 * Forget what a wish names, after saying how much that is. Resolves to whether something was forgotten.
 * @param wish as `POST /api/memory/forget` takes it
 */
export async function forget(wish) {
  const done = await attempt(async () => {
    const { n } = await post("memory/forget/preview", wish);
    if (n === 0) {
      notice("There is nothing like that in my memory.");
      return false;
    }
    const what = wish.all ? `all ${counted(n, "turn")}, and every fact drawn from them` : counted(n, "turn");
    const sure = await confirmed(
      `Forget ${counted(n, "turn")}?`,
      `I would forget ${what}, for good. It cannot be undone. Afterwards I search every file for what was said, to prove that it is gone.`,
      `Forget ${counted(n, "turn")}`,
    );
    return sure ? proved(await post("memory/forget", wish)) : false;
  });
  if (done) document.dispatchEvent(new Event("memory-changed"));
  return Boolean(done);
}

function proved({ forgotten, proof }) {
  const clean = proof.traces.length === 0;
  const words = clean
    ? "No file holds any of it."
    : `${counted(proof.traces.length, "file")} still hold something of it. Please report this as a fault.`;
  dialog(clean ? "Forgotten" : "Not everything is gone", [
    h("p", { class: clean ? "done" : "problem" }, `${counted(forgotten, "turn")} forgotten. ${words}`),
    terms([
      ["Searched", `${counted(proof.files, "file")}, ${counted(proof.bytes, "byte")}`],
      ["Looked for", counted(proof.looked_for, "sentence")],
      [
        "Not looked for",
        proof.not_looked_for ? `${counted(proof.not_looked_for, "sentence")}, too short or also said elsewhere` : null,
      ],
      ["Still there", proof.traces.map((trace) => trace.path).join(", ")],
    ]),
  ]);
  announce(`${counted(forgotten, "turn")} forgotten. ${words}`);
  return true;
}

/** The whole memory as a file of this person's. */
export const takeAlong = () =>
  attempt(async () => {
    const address = URL.createObjectURL(await file("memory/export"));
    const link = h("a", { href: address, download: `emox-memory-${new Date().toISOString().slice(0, 10)}.jsonl` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    announce("Your memory was saved as a file.");
  });

/** A file that `takeAlong` made, read back. */
export const bringBack = (chosen) =>
  attempt(async () => {
    const { n_new: fresh, n_episodes: all } = await upload("memory/import", chosen);
    notice(`${counted(all, "turn")} in the file, ${fresh.toLocaleString(LOCALE)} of them new here.`);
    document.dispatchEvent(new Event("memory-changed"));
  });
