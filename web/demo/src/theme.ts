// Light, dark, or as the system has it.

import { icon, type Icon } from "./dom.ts";
import { read, write } from "./store.ts";

type Theme = "system" | "light" | "dark";
const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const ICON: Record<Theme, Icon> = { system: "system", light: "sun", dark: "moon" };

function apply(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

/** The switch; each press goes to the next of the three. */
export function themeSwitch(): HTMLButtonElement {
  let { theme } = read("theme", { theme: "system" as Theme });
  const button = document.createElement("button");
  button.type = "button";
  button.className = "icon-button";
  const show = () => {
    apply(theme);
    button.replaceChildren(icon(ICON[theme]));
    button.title = `Colours: ${theme}`;
    button.setAttribute("aria-label", `Colours: ${theme}. Change to ${NEXT[theme]}`);
  };
  button.addEventListener("click", () => {
    theme = NEXT[theme];
    write("theme", { theme });
    show();
  });
  show();
  return button;
}
