// What the server is asked. The token travels in a header, never in an address.

const KEY = "emox-token";

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY),
  remembered: () => localStorage.getItem(KEY) !== null,
  keep(value, remember) {
    token.drop();
    (remember ? localStorage : sessionStorage).setItem(KEY, value);
  },
  drop() {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
  },
};

/** Something the server does not do; the message says why and what to do. Status 0: it cannot be reached. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

let askForToken = () => Promise.reject(new Problem(401, "This needs a token."));
let asking = null;

/** `ask` resolves once a token is there. Whoever needs one meanwhile waits for the same answer. */
export function whenTokenIsMissing(ask) {
  askForToken = ask;
}

async function request(path, { method = "GET", body, headers = {}, signal } = {}) {
  for (let tries = 0; ; tries++) {
    const used = token.get();
    let response;
    try {
      response = await fetch(path, {
        method,
        body,
        signal,
        cache: "no-store",
        headers: used ? { ...headers, Authorization: `Bearer ${used}` } : headers,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "I cannot reach the server. Is it still running?");
    }
    if (response.ok) return response;
    if (response.status === 401) {
      if (used === token.get()) {
        asking ??= askForToken(used !== null).finally(() => (asking = null));
        await asking;
      }
      continue;
    }
    const wait = Number(response.headers.get("Retry-After"));
    if (response.status === 429 && method === "GET" && wait <= 5 && tries < 2) {
      await new Promise((resolve) => setTimeout(resolve, 1000 * (wait || 1)));
      continue;
    }
    const document = await response.json().catch(() => ({}));
    throw new Problem(response.status, document.detail ?? `The server answered ${response.status}.`);
  }
}

const asJson = (document) => ({ body: JSON.stringify(document), headers: { "Content-Type": "application/json" } });

export async function get(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const end = given.length ? `?${new URLSearchParams(given)}` : "";
  return (await request(`api/${path}${end}`)).json();
}

export const put = async (path, document) =>
  (await request(`api/${path}`, { method: "PUT", ...asJson(document) })).json();

export const post = async (path, document, signal) =>
  (await request(`api/${path}`, { method: "POST", ...asJson(document), signal })).json();

export const file = async (path) => (await request(`api/${path}`)).blob();

export const upload = async (path, content) => (await request(`api/${path}`, { method: "POST", body: content })).json();

/** Server-sent events of a request, as [name, document], while they come. */
export async function* stream(path, document, signal) {
  const response = await request(`api/${path}`, { method: "POST", ...asJson(document), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += value;
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = { event: "message", data: "" };
        for (const line of block.split(/\r?\n/)) {
          const [, name, content] = /^(\w+): ?(.*)$/s.exec(line) ?? [];
          if (name === "data") fields.data += content;
          else if (name) fields[name] = content;
        }
        if (fields.data) yield [fields.event, JSON.parse(fields.data)];
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof SyntaxError) throw error;
    throw new Problem(0, "The connection broke off before the answer was whole.");
  } finally {
    reader.cancel().catch(() => {});
  }
}
