// Elements and dialogs. Words only ever become text nodes: what somebody says is never HTML.

export const $ = (selector, root = document) => root.querySelector(selector);

/** An element. `on` holds listeners, `data` its dataset; null and false leave an attribute out. */
export function h(tag, { on = {}, data = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (["checked", "value", "hidden", "disabled", "open"].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  Object.assign(element.dataset, data);
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

export const button = (words, press, attributes = {}) =>
  h("button", { type: "button", on: { click: press }, ...attributes }, words);

/** Where announcements and notices stand: in the dialog on top, as the rest of the page is inert below it. */
function live() {
  const place = $("#live");
  const top = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  if (place.parentElement !== top) top.append(place);
  return place;
}

/** Say something to who listens to the page instead of seeing it. */
export function announce(words) {
  $("#announcer", live()).textContent = words;
}

/** A line of its own at the bottom, which goes away again. */
export function notice(words) {
  const line = $("#notice", live());
  line.textContent = words;
  line.hidden = false;
  clearTimeout(notice.timer);
  notice.timer = setTimeout(() => (line.hidden = true), 8000);
}

/** Run something that a person asked for; what goes wrong becomes a line they can read. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    notice(error.message);
    return undefined;
  }
}

let n_dialogs = 0;

/**
 * A dialog made of elements, gone once it is closed; resolves to its return value ("" if it was dismissed).
 * The browser keeps the focus inside, and gives it back to where it was.
 */
export function dialog(title, content, { stays = false, wide = false } = {}) {
  const id = `dialog-${++n_dialogs}`;
  const box = h("dialog", { class: wide ? "wide" : null, "aria-labelledby": id });
  const heading = h("h2", { id, tabindex: "-1" }, title);
  const close = button("×", () => box.close(""), { class: "close", "aria-label": "Close" });
  box.append(h("div", { class: "dialog-head" }, heading, stays ? null : close), ...[content].flat(Infinity));
  if (stays) box.addEventListener("cancel", (event) => event.preventDefault());
  else box.addEventListener("click", (event) => event.target === box && box.close(""));
  document.body.append(box);
  const before = document.activeElement;
  const closed = new Promise((resolve) =>
    box.addEventListener("close", () => {
      if (box.contains($("#live"))) document.body.append($("#live"));
      box.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(box.returnValue);
    }),
  );
  box.showModal();
  heading.focus();
  return { box, closed };
}

/** Ask before something that cannot be undone. */
export async function confirmed(title, words, yes) {
  const { box, closed } = dialog(title, [
    h("p", {}, words),
    h(
      "div",
      { class: "actions" },
      button("Keep it", () => box.close(""), { class: "quiet" }),
      button(yes, () => box.close("yes"), { class: "danger" }),
    ),
  ]);
  return (await closed) === "yes";
}

/** English, in the manner of the person's country. */
export const LOCALE = navigator.languages.find((one) => one.startsWith("en")) ?? "en-GB";

const TIME = new Intl.DateTimeFormat(LOCALE, {
  weekday: "short",
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  hour12: false,
});
const DAY = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "long", year: "numeric" });

export const timeOf = (at) => TIME.format(new Date(at));
export const dayOf = (at) => DAY.format(new Date(at));
export const percent = (share) => `${Math.round(100 * share)} %`;
export const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
export const counted = (n, one, many = `${one}s`) => `${n.toLocaleString(LOCALE)} ${n === 1 ? one : many}`;
