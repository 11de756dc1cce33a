// Numbers as people read them.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** Bytes in decimal units: 2 399 864 -> "2.4 MB". */
export function bytes(count: number): string {
  let [value, unit] = [count, 0];
  while (value >= 999.5 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
  const digits = unit === 0 || value >= 99.5 ? 0 : value >= 9.95 ? 1 : 2;
  return `${trim(value.toFixed(digits))} ${UNITS[unit]}`;
}

/** A count in words: 1 180 000 -> "1.2 M". */
export function count(value: number): string {
  for (const [size, name] of [[1e9, "B"], [1e6, "M"], [1e3, "K"]] as const) {
    if (value >= size) return `${trim((value / size).toFixed(value >= 100 * size ? 0 : 1))} ${name}`;
  }
  return String(value);
}

/** Milliseconds as time that is left: "8 s", "2 min". */
export function duration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 1) return `${Math.round(ms)} ms`;
  if (seconds < 90) return `${seconds < 10 ? trim(seconds.toFixed(1)) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${trim((minutes / 60).toFixed(1))} h`;
}

/** Tokens per second. */
export function rate(value: number): string {
  return value >= 100 ? String(Math.round(value)) : trim(value.toFixed(1));
}

const trim = (text: string) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
