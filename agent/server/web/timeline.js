// Valence and arousal over time, drawn by hand: a band for the mood, a point for each turn. It zooms and can be walked
// through by keyboard: one stop of Tab, arrows from point to point, Enter opens, + and - zoom, 0 shows all.

import { LOCALE, signed, timeOf } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const MINUTE = 60_000,
  HOUR = 60 * MINUTE,
  DAY = 24 * HOUR;
const STEPS = [
  MINUTE,
  5 * MINUTE,
  15 * MINUTE,
  HOUR,
  3 * HOUR,
  6 * HOUR,
  12 * HOUR,
  DAY,
  2 * DAY,
  4 * DAY,
  7 * DAY,
  14 * DAY,
  30 * DAY,
  91 * DAY,
  365 * DAY,
];
const CLOSEST = 10 * MINUTE;
const PANELS = [
  { axis: "valence", name: "How pleasant", high: "pleasant", low: "unpleasant" },
  { axis: "arousal", name: "How stirred", high: "stirred", low: "calm" },
];
const PANEL = 140,
  GAP = 40,
  TOP = 24,
  BOTTOM = 26,
  SIDE = 14;
const HEIGHT = TOP + 2 * PANEL + GAP + BOTTOM;

const s = (tag, attributes = {}, ...children) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

export class Timeline {
  #points = [];
  #shown = [];
  #from = 0;
  #to = 1;
  #at = null; // id of the point that Tab reaches
  #drag = null;

  /**
   * @param place an element that becomes the chart
   * @param open told the id of a point that was chosen
   * @param point told a point that is looked at, or null
   */
  constructor(place, { open, point }) {
    this.open = open;
    this.point = point;
    this.svg = s("svg", {
      role: "group",
      "aria-label": "Feelings over time. Arrow keys move between turns, Enter opens one, plus and minus zoom.",
    });
    place.replaceChildren(this.svg);
    this.svg.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.svg.addEventListener("keydown", (event) => this.#key(event));
    this.svg.addEventListener("pointerdown", (event) => this.#grab(event));
    this.svg.addEventListener("pointermove", (event) => this.#pull(event));
    for (const end of ["pointerup", "pointercancel"]) this.svg.addEventListener(end, () => (this.#drag = null));
    new ResizeObserver(() => this.#draw()).observe(place);
  }

  /**
   * @param points of `GET /api/memory/timeline`, oldest first
   * @param wanted which of them have a mark; the mood is that of all
   */
  show(points, wanted = () => true) {
    const same =
      points.length === this.#points.length &&
      points.at(-1)?.id === this.#points.at(-1)?.id &&
      points[0]?.id === this.#points[0]?.id;
    this.#points = points.map((point) => ({ ...point, t: Date.parse(point.at) }));
    this.#shown = this.#points.filter(wanted);
    if (!this.#shown.some((point) => point.id === this.#at)) this.#at = this.#shown.at(-1)?.id ?? null;
    if (same) this.#draw();
    else this.all();
  }

  all() {
    [this.#from, this.#to] = this.#extent();
    this.#draw();
  }

  /** Show less (factor below 1) or more of the time, around a share of the width. */
  zoom(factor, around = 0.5) {
    const [first, last] = this.#extent();
    const span = Math.min(Math.max((this.#to - this.#from) * factor, CLOSEST), last - first);
    this.#move(this.#from + around * (this.#to - this.#from - span), span);
  }

  get whole() {
    const [first, last] = this.#extent();
    return this.#from <= first && this.#to >= last;
  }

  #extent() {
    const first = this.#points[0]?.t ?? Date.now();
    const last = this.#points.at(-1)?.t ?? first;
    const margin = Math.max((last - first) * 0.03, CLOSEST);
    return [first - margin, last + margin];
  }

  #move(from, span = this.#to - this.#from) {
    const [first, last] = this.#extent();
    this.#from = Math.min(Math.max(from, first), last - span);
    this.#to = this.#from + span;
    this.#draw();
  }

  get #width() {
    return Math.max(this.svg.parentElement.clientWidth, 240);
  }

  #x(t) {
    return SIDE + ((t - this.#from) / (this.#to - this.#from)) * (this.#width - 2 * SIDE);
  }

  #y(panel, value) {
    return TOP + panel * (PANEL + GAP) + ((1 - value) / 2) * PANEL;
  }

  #draw() {
    const focused = this.svg.contains(document.activeElement);
    this.svg.setAttribute("viewBox", `0 0 ${this.#width} ${HEIGHT}`);
    this.svg.setAttribute("height", HEIGHT);
    this.svg.replaceChildren(...this.#ticks(), ...PANELS.flatMap((panel, i) => this.#panel(panel, i)));
    if (focused) this.#focus();
  }

  #ticks() {
    const room = Math.max(2, Math.floor(this.#width / 75));
    const span = this.#to - this.#from;
    const step = STEPS.find((one) => span / one <= room) ?? STEPS.at(-1);
    const zone = new Date(this.#from).getTimezoneOffset() * MINUTE;
    const words =
      step >= DAY
        ? { day: "numeric", month: "short", ...(step >= 91 * DAY && { year: "numeric" }) }
        : span > DAY
          ? { weekday: "short", hour: "2-digit" }
          : { hour: "2-digit", minute: "2-digit" };
    const format = new Intl.DateTimeFormat(LOCALE, { ...words, hour12: false });
    const ticks = [];
    for (let t = Math.ceil((this.#from - zone) / step) * step + zone; t <= this.#to; t += step) {
      const x = this.#x(t);
      if (x < SIDE + 18 || x > this.#width - SIDE - 18) continue;
      ticks.push(s("line", { class: "grid", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }));
      ticks.push(s("text", { class: "tick", x, y: HEIGHT - 6, "text-anchor": "middle" }, format.format(t)));
    }
    return ticks;
  }

  #panel({ axis, name, high, low }, i) {
    const left = SIDE,
      right = this.#width - SIDE;
    const middle = this.#y(i, 0),
      top = this.#y(i, 1),
      bottom = this.#y(i, -1);
    const near = this.#points.filter(
      (point, k) =>
        (this.#points[k + 1]?.t ?? point.t) >= this.#from && (this.#points[k - 1]?.t ?? point.t) <= this.#to,
    );
    const clip = (value) => Math.max(-1, Math.min(1, value));
    const mood = near.map((point) => [this.#x(point.t), point.mood[axis], point.mood[`${axis}_sd`]]);
    const path = (points) => points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
    const upper = mood.map(([x, mean, sd]) => [x, this.#y(i, clip(mean + sd))]);
    const lower = mood.map(([x, mean, sd]) => [x, this.#y(i, clip(mean - sd))]).reverse();
    const id = `panel-${axis}`;
    return [
      s("clipPath", { id }, s("rect", { x: 0, y: top - 8, width: this.#width, height: PANEL + 16 })),
      s("text", { class: "panel-name", x: left, y: top - 10 }, name),
      s("text", { class: "tick", x: right, y: top + 4, "text-anchor": "end" }, high),
      s("text", { class: "tick", x: right, y: bottom, "text-anchor": "end" }, low),
      s("line", { class: "axis", x1: left, x2: right, y1: middle, y2: middle }),
      s(
        "g",
        { "clip-path": `url(#${id})` },
        s("polygon", { class: "band", points: path([...upper, ...lower]) }),
        s("polyline", { class: "mood", points: path(mood.map(([x, mean]) => [x, this.#y(i, mean)])) }),
        ...this.#shown
          .filter((point) => point.t >= this.#from && point.t <= this.#to)
          .map((point) => this.#mark(point, axis, i)),
      ),
    ];
  }

  #mark(point, axis, i) {
    const mark = s("circle", {
      class: "point",
      cx: this.#x(point.t),
      cy: this.#y(i, point[axis]),
      r: 5.5,
      "data-emotion": point.emotion,
      "data-id": point.id,
    });
    if (i === 0) {
      mark.setAttribute("role", "button");
      mark.setAttribute("tabindex", point.id === this.#at ? 0 : -1);
      mark.setAttribute("aria-label", said(point));
    } else mark.setAttribute("aria-hidden", "true");
    mark.addEventListener("click", () => this.#choose(point));
    mark.addEventListener("pointerenter", () => this.point(point));
    mark.addEventListener("focus", () => this.point(point));
    return mark;
  }

  #choose(point) {
    this.#at = point.id;
    this.open(point.id);
  }

  #focus() {
    this.svg.querySelector(`[tabindex="0"]`)?.focus({ preventScroll: true });
  }

  #step(to) {
    const point = this.#shown[Math.max(0, Math.min(this.#shown.length - 1, to))];
    if (!point) return;
    this.#at = point.id;
    if (point.t < this.#from || point.t > this.#to) this.#move(point.t - (this.#to - this.#from) / 2);
    else this.#draw();
    this.#focus();
  }

  #key(event) {
    const now = this.#shown.findIndex((point) => point.id === this.#at);
    const around = now < 0 ? 0.5 : (this.#shown[now].t - this.#from) / (this.#to - this.#from);
    const keys = {
      ArrowLeft: () => this.#step(now - 1),
      ArrowRight: () => this.#step(now + 1),
      Home: () => this.#step(0),
      End: () => this.#step(this.#shown.length - 1),
      Enter: () => now >= 0 && this.#choose(this.#shown[now]),
      " ": () => now >= 0 && this.#choose(this.#shown[now]),
      "+": () => this.zoom(0.6, around),
      "=": () => this.zoom(0.6, around),
      "-": () => this.zoom(1 / 0.6, around),
      0: () => this.all(),
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** The wheel zooms; where nothing is left to zoom out of, the page scrolls on. */
  #wheel(event) {
    if (event.deltaY === 0 || (event.deltaY > 0 && this.whole)) return;
    event.preventDefault();
    const box = this.svg.getBoundingClientRect();
    this.zoom(
      Math.exp(Math.sign(event.deltaY) * 0.18),
      Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)),
    );
  }

  #grab(event) {
    if (event.target.matches(".point") || this.whole) return;
    this.#drag = { x: event.clientX, from: this.#from };
    this.svg.setPointerCapture(event.pointerId);
  }

  #pull(event) {
    if (!this.#drag) return;
    const perPixel = (this.#to - this.#from) / (this.#width - 2 * SIDE);
    this.#move(this.#drag.from - (event.clientX - this.#drag.x) * perPixel);
  }
}

export const said = (point) =>
  `${timeOf(point.at)}: ${point.emotion}, pleasant ${signed(point.valence)}, stirred ${signed(point.arousal)}`;
