// Replies to typed words, read aloud one sentence after the other.

const KEY = "emox-read-aloud";

export const readsAloud = () => localStorage.getItem(KEY) === "yes";
export const readAloud = (on) => localStorage.setItem(KEY, on ? "yes" : "no");

class Player {
  #waiting = [];
  #now = null;

  /** @param wav a WAV file in base64 */
  add(wav) {
    const bytes = Uint8Array.from(atob(wav), (letter) => letter.charCodeAt(0));
    this.#waiting.push(URL.createObjectURL(new Blob([bytes], { type: "audio/wav" })));
    if (!this.#now) this.#next();
  }

  stop() {
    this.#now?.pause();
    for (const address of this.#waiting.splice(0)) URL.revokeObjectURL(address);
    this.#now = null;
  }

  #next() {
    const address = this.#waiting.shift();
    this.#now = address ? new Audio(address) : null;
    if (!this.#now) return;
    const sound = this.#now;
    const over = () => {
      URL.revokeObjectURL(address);
      if (sound === this.#now) this.#next();
    };
    sound.addEventListener("ended", over);
    sound.addEventListener("error", over);
    sound.play().catch(over);
  }
}

export const player = new Player();
