// What the page remembers between visits. A browser that keeps nothing (private windows, blocked storage) still works.

export interface Settings {
  temperature: number;
  topP: number;
  maxTokens: number;
  /** Empty: another one each time. */
  seed: string;
  system: string;
  dtype: "q4" | "q4a" | "nf4" | "q8" | "f16" | "f32" | "auto";
  /** Empty: as the activations are. */
  cacheDtype: "" | "f16" | "q8" | "q4";
  /** Positions, 0: what the model has, as far as memory allows. */
  context: number;
  keep: boolean;
}

export const DEFAULTS: Settings = { temperature: 0.8, topP: 0.95, maxTokens: 400, seed: "", system: "", dtype: "q4", cacheDtype: "", context: 0, keep: true };

export function read<T extends object>(key: string, fallback: T): T {
  try {
    const text = localStorage.getItem(`webweft.${key}`);
    return text === null ? { ...fallback } : { ...fallback, ...(JSON.parse(text) as T) };
  } catch {
    return { ...fallback };
  }
}

export function write(key: string, value: object): void {
  try {
    localStorage.setItem(`webweft.${key}`, JSON.stringify(value));
  } catch {
    // not remembered, then
  }
}
