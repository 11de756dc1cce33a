// What a server of the real world does wrong, on demand.
//
// A rule says which requests it is for and what happens to their answers:
//
//   { path?: RegExp | string,   // of the URL's path; a string is a part of it; all paths where it is missing
//     kind: one of KINDS,
//     at?: number,              // cut, stall: bytes of the body before it happens; alter, truncate: byte of the file; random if missing
//     times?: number,           // how many answers it spoils; all where it is missing
//     after?: number,           // how many requests it lets pass first
//     only?: "range" | "whole", // only requests with a Range header, or only those without
//     status?, retryAfter?,     // status: 429, 503, ...; seconds of Retry-After, none where missing
//     by?: number,              // length, range: by how many bytes the header lies (default 7)
//     bytes?, ms? }             // drip: so many bytes every so many milliseconds; delay: milliseconds before the answer

export const KINDS = {
  cut: "the connection breaks in the body",
  stall: "the body stops, the connection stays",
  reset: "the connection breaks before any answer",
  status: "another status in place of the file",
  norange: "ranges are not understood: 200 and the whole file",
  length: "Content-Length is not what comes",
  range: "Content-Range is not what comes",
  alter: "one byte is another one",
  truncate: "the file ends early, and all headers agree with that",
  drip: "bytes come slowly",
  delay: "the answer comes late",
  html: "a page of HTML with status 200 in place of the file, as captive portals send it",
  etag: "an entity tag that changes with every answer",
  noetag: "neither entity tag nor date",
};

/** Numbers from a seed, so that a failing run can be repeated (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 4294967296;
  };
}

const NUMBERS = ["at", "times", "after", "status", "retryAfter", "by", "bytes", "ms"];

/** A rule from text: `cut`, `cut:at=1000,times=2`, `status:status=503,retryAfter=1`. */
export function parseFault(text) {
  const [kind, rest = ""] = text.split(":");
  const rule = { kind };
  for (const part of rest.split(",").filter(Boolean)) {
    const [name, value] = part.split("=");
    rule[name] = NUMBERS.includes(name) ? Number(value) : value;
  }
  return checked(rule);
}

function checked(rule) {
  if (!Object.hasOwn(KINDS, rule.kind)) throw new Error(`no such fault: ${rule.kind} (there are ${Object.keys(KINDS).join(", ")})`);
  for (const name of NUMBERS) {
    if (rule[name] !== undefined && !(Number.isInteger(rule[name]) && (rule[name] >= 0 || name === "by"))) {
      throw new Error(`${rule.kind}: ${name} is ${rule[name]}`);
    }
  }
  if (rule.kind === "status" && !rule.status) throw new Error("status: which one?");
  return rule;
}

/** The rules of one server. */
export class Faults {
  #rules = [];
  #random;

  constructor(seed = 1) {
    this.#random = random(seed);
  }

  /** Adds a rule (an object or text) and gives it back: `rule.hits` counts the answers that it spoiled. */
  add(rule, path) {
    const added = { ...checked(typeof rule === "string" ? parseFault(rule) : { ...rule }), hits: 0, seen: 0 };
    if (path !== undefined) added.path = path;
    this.#rules.push(added);
    return added;
  }

  clear() {
    this.#rules = [];
  }

  /** The rule that spoils this request, counted, or null. */
  match(pathname, hasRange) {
    for (const rule of this.#rules) {
      const named =
        rule.path === undefined || (rule.path instanceof RegExp ? rule.path.test(pathname) : pathname.includes(rule.path));
      if (!named || (rule.only === "range" && !hasRange) || (rule.only === "whole" && hasRange)) continue;
      rule.seen += 1;
      if (rule.seen <= (rule.after ?? 0) || rule.hits >= (rule.times ?? Infinity)) continue;
      rule.hits += 1;
      return rule;
    }
    return null;
  }

  /** `rule.at`, or a random number from 0 to below `end`. */
  at(rule, end) {
    return Math.min(rule.at ?? Math.floor(this.#random() * end), Math.max(0, end - 1));
  }
}
