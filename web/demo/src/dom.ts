// Elements in one line each. No markup from strings, so nothing that a model writes becomes markup.

type Child = Node | string | number | null | undefined | false;
type Props = Record<string, unknown>;

function fill(element: Element, props: Props, children: Child[]): void {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") {
      element.addEventListener(name.slice(2).toLowerCase(), value as EventListener);
    } else if (name in element && !(element instanceof SVGElement) && !name.includes("-") && name !== "list") {
      (element as unknown as Props)[name] = value;
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false).map((child) => (child instanceof Node ? child : String(child))));
}

/** An element: properties, attributes (names with a dash) and listeners (`onclick`). */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  fill(element, props, children);
  return element;
}

/** The same for SVG, attributes only. */
export function svg<K extends keyof SVGElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): SVGElementTagNameMap[K] {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(element, props, children);
  return element;
}

const ICONS = {
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.500v5M9 14.500v5",
  panel: "M4 19V10M10 19V5M16 19v-6M21 19H3",
  sun: "M12 4V2M12 22v-2M4 12H2M22 12h-2M6.300 6.300 4.900 4.900M19.100 19.100l-1.400-1.400M6.300 17.700l-1.400 1.400M19.100 4.900l-1.400 1.400M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8",
  moon: "M20 14.500A8.500 8.500 0 0 1 9.500 4 8.500 8.500 0 1 0 20 14.500",
  system: "M4 5h16v11H4zM9 20h6M12 16v4",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  close: "M6 6l12 12M18 6 6 18",
  chevron: "M7 10l5 5 5-5",
  folder: "M3 7a1 1 0 0 1 1-1h5l2 2h9a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1z",
  trash: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12",
  copy: "M9 9h10v10H9zM15 9V5H5v10h4",
  again: "M19 12a7 7 0 1 1-2-5M19 4v4h-4",
  plus: "M12 5v14M5 12h14",
  check: "M5 13l4 4L19 7",
  warn: "M12 8v5M12 16.500v.5M12 3 2.500 20h19z",
} as const;
export type Icon = keyof typeof ICONS;

/** A drawing that screen readers skip. */
export function icon(name: Icon): SVGSVGElement {
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** A button that is only a drawing, with its name for those who do not see it. */
export function iconButton(name: Icon, label: string, onclick: (event: MouseEvent) => void, className = ""): HTMLButtonElement {
  return h("button", { type: "button", className: `icon-button ${className}`, title: label, "aria-label": label, onclick }, icon(name));
}

/** The brand's mark: three warps, two wefts. */
export function logo(): SVGSVGElement {
  return svg(
    "svg",
    { viewBox: "0 0 32 32", class: "logo", "aria-hidden": "true" },
    svg("rect", { width: 32, height: 32, rx: 8, class: "logo-ground" }),
    svg("path", { class: "logo-warp", d: "M10 7v8M10 21v4M16 7v2M16 15v10M22 7v8M22 21v4" }),
    svg("path", { class: "logo-weft", d: "M7 12h1.500M12.500 12h7M24 12h1M7 18h7M18.500 18h6.500" }),
  );
}
