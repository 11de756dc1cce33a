// The conversation: what was said, what is being said, and where to say more.

import { h, icon, iconButton } from "./dom.ts";
import { rate } from "./format.ts";
import { STARTERS } from "./models.ts";

export type Message = { role: "system" | "user" | "assistant"; content: string };

/** What kind of conversation a model has: the built-in one's stories, chats, or texts that it continues. */
export type Mode = keyof typeof STARTERS;

const HERO: Record<Mode, [string, string]> = {
  builtIn: ["A language model, in this tab", "It runs on your own GPU, and nothing you write leaves the page. The model that came with it is small and knows one thing: little stories."],
  chat: ["Ask it anything", "It runs on your own GPU, and nothing you write leaves the page."],
  text: ["Begin a text", "This model continues what you write. It was not trained to answer questions."],
};

/** An answer that is being written. */
export class Answer {
  readonly element: HTMLElement;
  #text = h("div", { className: "message-text" });
  #foot = h("div", { className: "message-foot" });
  #node = document.createTextNode("");
  #thoughts: HTMLDetailsElement | null = null;
  content = "";

  constructor(readonly prefix = "") {
    if (prefix) this.#text.append(h("span", { className: "message-prompt" }, prefix));
    this.#text.append(this.#node);
    this.element = h("article", { className: "message is-assistant is-streaming", "aria-busy": "true", "aria-label": "Answer" }, this.#text, this.#foot);
  }

  append(piece: string): void {
    this.content += piece;
    // what a model thinks before its answer stands apart
    const thought = /^\s*<think>([\s\S]*?)(<\/think>|$)/.exec(this.content);
    if (!thought) {
      this.#node.data = this.content;
      return;
    }
    if (!this.#thoughts) {
      this.#thoughts = h("details", { className: "thoughts" }, h("summary", {}, "Thoughts"), h("div", { className: "thoughts-text" }));
      this.element.prepend(this.#thoughts);
    }
    this.#thoughts.lastElementChild!.textContent = thought[1]!.trim();
    this.#node.data = this.content.slice(thought[0].length).trimStart();
  }

  /** Ends it; `speed` in tokens per second. */
  end({ tokens, speed, stopped }: { tokens?: number; speed?: number; stopped?: boolean }, again: (() => void) | null): void {
    this.element.classList.remove("is-streaming");
    this.element.removeAttribute("aria-busy");
    const notes = [stopped ? "stopped" : "", tokens ? `${tokens} tokens` : "", speed ? `${rate(speed)} tokens/s` : ""].filter(Boolean).join(" · ");
    const copy = iconButton("copy", "Copy this answer", async () => {
      await navigator.clipboard?.writeText(this.prefix + this.content).catch(() => undefined);
      copy.replaceChildren(icon("check"));
      setTimeout(() => copy.replaceChildren(icon("copy")), 1200);
    });
    this.#foot.replaceChildren(h("span", {}, notes), copy);
    if (again) this.#foot.append(iconButton("again", "Answer again", again, "again"));
  }
}

export interface ChatEvents {
  send(text: string): void;
  stop(): void;
  again(): void;
  fresh(): void;
}

export class Chat {
  readonly element: HTMLElement;
  messages: Message[] = [];
  #events: ChatEvents;
  #mode: Mode = "builtIn";
  #stage = h("div", { className: "stage" });
  #log = h("div", { className: "log", role: "log", "aria-live": "polite", "aria-label": "Conversation" });
  #hero = h("section", { className: "hero" });
  #input: HTMLTextAreaElement;
  #send: HTMLButtonElement;
  #fresh: HTMLButtonElement;
  #scroller: HTMLElement;
  #busy = false;
  #ready = false;

  constructor(events: ChatEvents) {
    this.#events = events;
    this.#input = h("textarea", { id: "prompt", rows: 1, placeholder: "Write a message", "aria-label": "Message", autocomplete: "off", oninput: () => this.#grow(), onkeydown: (event: KeyboardEvent) => this.#key(event) });
    this.#send = h("button", { type: "submit", className: "send", "aria-label": "Send", title: "Send (Enter)" }, icon("send"));
    this.#fresh = iconButton("plus", "New conversation", () => events.fresh(), "fresh");
    const composer = h(
      "form",
      {
        className: "composer",
        onsubmit: (event: Event) => {
          event.preventDefault();
          if (this.#busy) events.stop();
          else this.submit(this.#input.value);
        },
      },
      this.#fresh,
      this.#input,
      this.#send,
    );
    this.#scroller = h("div", { className: "scroller", tabIndex: -1 }, this.#stage, this.#hero, this.#log);
    this.element = h("main", { className: "chat" }, this.#scroller, h("div", { className: "composer-dock" }, composer, h("p", { className: "hint" }, "Enter sends, Shift + Enter begins a line, Escape stops.")));
    this.#update();
  }

  /** A card above the conversation: loading, a problem. None takes it away. */
  show(card: HTMLElement | null): void {
    this.#stage.replaceChildren(...(card ? [card] : []));
    this.#update();
    if (card) this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  /** Whether a model is there, and of what kind. */
  ready(mode: Mode | null): void {
    this.#ready = mode !== null;
    if (mode) this.#mode = mode;
    const [title, text] = HERO[this.#mode];
    this.#hero.replaceChildren(
      h("h1", {}, title),
      h("p", {}, text),
      h("div", { className: "starters" }, ...STARTERS[this.#mode].map((starter) => h("button", { type: "button", className: "starter", onclick: () => this.submit(starter) }, starter))),
    );
    this.#input.placeholder = this.#mode === "text" ? "Begin a text" : "Write a message";
    this.#update();
  }

  submit(text: string): void {
    if (!this.#ready || this.#busy || text.trim() === "") return;
    this.#input.value = "";
    this.#grow();
    this.#events.send(text.trim());
  }

  /** What the user said. */
  said(text: string): void {
    this.#log.append(h("article", { className: "message is-user", "aria-label": "You" }, h("div", { className: "message-text" }, text)));
    this.#update();
    this.bottom();
  }

  begin(prefix = ""): Answer {
    this.#log.querySelector(".again")?.remove();
    const answer = new Answer(prefix);
    this.#log.append(answer.element);
    this.#update();
    this.bottom();
    return answer;
  }

  busy(busy: boolean): void {
    this.#busy = busy;
    this.#send.replaceChildren(icon(busy ? "stop" : "send"));
    this.#send.setAttribute("aria-label", busy ? "Stop" : "Send");
    this.#send.title = busy ? "Stop (Escape)" : "Send (Enter)";
    this.#send.classList.toggle("is-stop", busy);
    this.#update();
  }

  clear(): void {
    this.messages = [];
    this.#log.replaceChildren();
    this.#update();
  }

  /** Takes the last answer, and the card of its problem, away. */
  dropLast(): void {
    this.#log.lastElementChild?.remove();
  }

  /** Shows a card as the latest in the conversation. */
  append(card: HTMLElement): void {
    this.#log.append(card);
    this.#update();
    this.bottom();
  }

  focus(): void {
    // a phone's keyboard would cover what was just loaded
    if (matchMedia("(pointer: fine)").matches) this.#input.focus({ preventScroll: true });
  }

  /** Follows the text, unless the reader went up. */
  follow(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    if (scrollHeight - scrollTop - clientHeight < 120) this.bottom();
  }

  bottom(): void {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  #update(): void {
    const empty = this.#log.childElementCount === 0;
    this.#hero.hidden = !empty || this.#stage.childElementCount > 0 || !this.#ready;
    this.#fresh.hidden = empty;
    this.#input.disabled = !this.#ready;
    this.#send.disabled = !this.#ready;
    this.element.classList.toggle("is-empty", empty);
  }

  #grow(): void {
    this.#input.style.height = "auto";
    this.#input.style.height = `${Math.min(this.#input.scrollHeight, 200)}px`;
  }

  #key(event: KeyboardEvent): void {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.submit(this.#input.value);
    }
  }
}
