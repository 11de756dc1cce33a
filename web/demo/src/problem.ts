// An error as the page tells it: what happened, what to do now, and the technical words for whoever wants them.

import { h, icon } from "./dom.ts";

export interface Way {
  label: string;
  run: () => void;
}

/** What is known of any thrown value. */
export function describe(error: unknown): { name: string; text: string; detail: string } {
  const given = error as { name?: string; userMessage?: string; message?: string; code?: string; status?: number; url?: string };
  const name = given?.name ?? "Error";
  const text = given?.userMessage ?? "Something went wrong. Try again, or reload the page.";
  const more = [given?.message ?? String(error), given?.code && `code: ${given.code}`, given?.status && `status: ${given.status}`, given?.url && `address: ${given.url}`];
  return { name, text, detail: [`${name}: ${more[0]}`, ...more.slice(1).filter(Boolean)].join("\n") };
}

/** The card of an error, with ways on; the first one is the best. */
export function problem(error: unknown, ways: Way[]): HTMLElement {
  const { name, text, detail } = describe(error);
  return h(
    "div",
    { className: "problem", role: "alert", "data-error": name },
    h("div", { className: "problem-sign" }, icon("warn")),
    h(
      "div",
      { className: "problem-body" },
      h("p", { className: "problem-text" }, text),
      h("div", { className: "row" }, ...ways.map((way, index) => h("button", { type: "button", className: index === 0 ? "button is-primary" : "button", onclick: way.run }, way.label))),
      h("details", {}, h("summary", {}, "Details"), h("pre", {}, detail)),
    ),
  );
}
