// Puts the page together: header, conversation, details, dialogs.

import type { Engine } from "webweft";
import { Chat, type Mode } from "./chat.ts";
import { h, icon, iconButton, logo } from "./dom.ts";
import { count } from "./format.ts";
import { LoadingCard } from "./loading.ts";
import { builtInUrl } from "./models.ts";
import { Panel } from "./panel.ts";
import { Picker, shortName, type Choice } from "./picker.ts";
import { problem, type Way } from "./problem.ts";
import * as runtime from "./runtime.ts";
import { SettingsDialog } from "./settings.ts";
import { DEFAULTS, read } from "./store.ts";
import { themeSwitch } from "./theme.ts";

const settings = read("settings", DEFAULTS);
const query = new URLSearchParams(location.search);

let engine: Engine | null = null;
let mode: Mode | null = null;
let current: Choice = builtIn();
let loading: AbortController | null = null;
let answering: AbortController | null = null;
let answered = Promise.resolve();

function builtIn(): Choice {
  return { model: builtInUrl(), name: "Stories", builtIn: true };
}

// --- The frame ---------------------------------------------------------------------------------------------------

const chat = new Chat({ send, stop: () => answering?.abort(), again, fresh });
const panel = new Panel(() => showPanel(false));
const settingsDialog = new SettingsDialog(settings, () => void open(current));
const picker = new Picker(
  {
    check: (choice, signal) => runtime.check(choice, settings, signal),
    choose: (dtype, context) => Object.assign(settings, { dtype, context }),
    load: (choice) => void open(choice),
    builtIn,
  },
  query.get("host") ?? "",
);

const modelName = h("span", { className: "model-name" }, "Stories");
const modelNote = h("span", { className: "model-note" }, "");
const modelButton = h("button", { type: "button", className: "model-button", "aria-haspopup": "dialog", title: "Choose a model", onclick: () => picker.open() }, h("span", { className: "model-dot" }), modelName, modelNote, icon("chevron"));
const banners = h("div", { className: "banners", role: "status", "aria-live": "polite" });
const panelButton = iconButton("panel", "Details", () => showPanel(!document.body.classList.contains("with-panel")), "panel-button");
panelButton.setAttribute("aria-controls", "panel");

document.querySelector("#app")!.append(
  h(
    "header",
    { className: "top" },
    h("a", { className: "brand", href: "./", "aria-label": "webweft, start page" }, logo(), h("span", {}, "webweft")),
    modelButton,
    h("div", { className: "top-tools" }, iconButton("settings", "Settings", () => settingsDialog.open()), themeSwitch(), panelButton),
  ),
  banners,
  h("div", { className: "middle" }, chat.element, panel.element),
  picker.element,
  settingsDialog.element,
  h("div", { className: "drop-veil", "aria-hidden": "true" }, h("div", {}, icon("folder"), h("strong", {}, "Drop a model's folder"), h("span", {}, "config.json, tokenizer.json and *.safetensors, or a .gguf"))),
);

function showPanel(show: boolean): void {
  document.body.classList.toggle("with-panel", show);
  panelButton.setAttribute("aria-expanded", String(show));
}
showPanel(matchMedia("(min-width: 1000px)").matches);

function banner(kind: "warn" | "good" | "note", text: string, lasting = 8000): HTMLElement {
  const element = h("div", { className: `banner is-${kind}` }, icon(kind === "good" ? "check" : "warn"), h("span", {}, text), iconButton("close", "Dismiss", () => element.remove()));
  banners.append(element);
  if (lasting > 0) setTimeout(() => element.remove(), lasting);
  return element;
}

function state(name: "loading" | "ready" | "busy" | "failed" | "lost"): void {
  document.body.dataset.state = name;
}

// --- Loading -----------------------------------------------------------------------------------------------------

async function open(choice: Choice): Promise<void> {
  loading?.abort();
  answering?.abort();
  const mine = (loading = new AbortController());
  current = choice;
  modelName.textContent = choice.name;
  modelNote.textContent = "";
  state("loading");
  chat.ready(null);
  chat.clear();
  const card = new LoadingCard(choice.name, () => mine.abort());
  chat.show(card.element);
  let lost: HTMLElement | null = null;
  try {
    await answered;
    await letGo();
    if (mine.signal.aborted) throw mine.signal.reason;
    const opened = await runtime.load(
      choice,
      settings,
      {
        stage: (stage) => card.stage(stage),
        progress: (loaded, total) => card.progress(loaded, total),
        notice: (message) => banner("note", message),
        lost() {
          lost ??= banner("warn", "The graphics processor went away. Bringing the model back …", 0);
          state("lost");
        },
        recovered() {
          lost?.remove();
          lost = null;
          banner("good", "Back again: the conversation goes on where it stopped.");
          state(answering ? "busy" : "ready");
        },
      },
      mine.signal,
    );
    if (mine.signal.aborted) {
      await opened.dispose();
      return;
    }
    engine = opened;
    const { info } = opened;
    mode = choice.builtIn ? "builtIn" : info.has_chat_template ? "chat" : "text";
    modelNote.textContent = [info.parameters ? count(info.parameters) : "", info.dtype].filter(Boolean).join(" · ");
    panel.loaded(info);
    chat.show(null);
    chat.ready(mode);
    state("ready");
    chat.focus();
    watchMemory(opened);
  } catch (error) {
    if (loading !== mine) return; // another model is wanted by now
    failed(error, mine.signal.aborted);
  } finally {
    if (loading === mine) loading = null;
    void showKept();
  }
}

async function letGo(): Promise<void> {
  const old = engine;
  engine = null;
  mode = null;
  panel.memory.show(null);
  await old?.dispose();
}

/** A load that did not end well: what happened, and ways on. */
function failed(error: unknown, cancelled: boolean): void {
  const name = (error as Error)?.name;
  state("failed");
  const again: Way = { label: "Try again", run: () => void open(current) };
  const other: Way = { label: "Choose a model", run: () => picker.open() };
  const stories: Way[] = current.builtIn ? [] : [{ label: "Use the built-in model", run: () => void open(builtIn()) }];
  if (cancelled) {
    const note = Object.assign(new Error("the load was cancelled"), { name: "AbortError", userMessage: `Loading ${current.name} was cancelled.` });
    chat.show(problem(note, [again, other, ...stories]));
    return;
  }
  const ways: Record<string, Way[]> = {
    OutOfMemoryError: [{ label: "Open settings", run: () => settingsDialog.open() }, other, ...stories],
    AccessDeniedError: [{ label: "Enter a token", run: () => picker.open(true) }, ...stories],
    ModelNotFoundError: [other, ...stories],
    UnsupportedModelError: [other, ...stories],
    CheckpointError: [other, ...stories],
    WebGPUUnavailableError: [again],
  };
  chat.show(problem(error, ways[name] ?? [again, ...stories]));
}

/** Draws memory, twice a second while something happens. */
function watchMemory(watched: Engine): void {
  let before = -1;
  const look = async () => {
    if (engine !== watched) return;
    try {
      const report = await watched.memory();
      if (engine !== watched) return;
      // while nothing happens, only time would pass
      if (answering || report.total !== before) panel.memory.show(report);
      before = report.total;
    } catch {
      // the device is away, or the model was let go: the next look tells
    }
    setTimeout(look, 500);
  };
  void look();
}

async function showKept(): Promise<void> {
  try {
    panel.kept(
      await runtime.kept(),
      (key) => void runtime.forget(key).then(showKept),
      () => void runtime.forgetAll().then(showKept),
    );
  } catch {
    panel.kept([], () => undefined, () => undefined);
  }
}

// --- Talking -----------------------------------------------------------------------------------------------------

function send(text: string): void {
  chat.said(text);
  chat.messages.push({ role: "user", content: text });
  answered = reply();
}

async function reply(): Promise<void> {
  const asked = engine;
  if (!asked) return;
  const mine = (answering = new AbortController());
  chat.busy(true);
  state("busy");
  const last = chat.messages.at(-1)!.content;
  const text = chat.begin(mode === "text" ? last : "");
  panel.speed.start();
  const system = settings.system.trim();
  const input = mode === "text" ? { prompt: last } : { messages: [...(system ? [{ role: "system" as const, content: system }] : []), ...chat.messages] };
  const done = (outcome: { tokens?: number; speed?: number; stopped?: boolean }) => {
    text.end(outcome, again);
    chat.messages.push({ role: "assistant", content: text.content });
  };
  try {
    const outcome = await runtime.answer(
      asked,
      input,
      settings,
      (piece) => {
        text.append(piece);
        panel.speed.token();
        chat.follow();
      },
      mine.signal,
    );
    const speed = outcome.speed > 0 ? outcome.speed : panel.speed.end();
    panel.speed.end(outcome.tokens, (outcome.tokens * 1000) / speed);
    done({ tokens: outcome.tokens, speed });
  } catch (error) {
    const speed = panel.speed.end();
    if (mine.signal.aborted) done({ speed, stopped: true });
    else {
      chat.dropLast();
      chat.append(answerFailed(error));
    }
  } finally {
    if (answering === mine) answering = null;
    chat.busy(false);
    if (engine === asked) {
      if (document.body.dataset.state === "busy") state("ready");
      chat.follow();
      chat.focus();
    }
  }
}

function answerFailed(error: unknown): HTMLElement {
  const name = (error as Error)?.name;
  const retry: Way = {
    label: "Try again",
    run: () => {
      chat.dropLast();
      answered = reply();
    },
  };
  const begin: Way = { label: "New conversation", run: fresh };
  const reload: Way = { label: "Load the model again", run: () => void open(current) };
  const ways: Record<string, Way[]> = {
    ContextLengthError: [begin],
    ChatTemplateError: [begin, { label: "Choose a model", run: () => picker.open() }],
    DeviceLostError: [reload],
    DisposedError: [reload],
    WorkerError: [reload],
  };
  return problem(error, ways[name] ?? [retry, begin]);
}

/** Another answer to what was said last. */
function again(): void {
  if (answering || chat.messages.at(-1)?.role !== "assistant") return;
  chat.messages.pop();
  chat.dropLast();
  answered = reply();
}

function fresh(): void {
  answering?.abort();
  void answered.then(() => {
    chat.clear();
    void engine?.reset().catch(() => undefined);
    chat.focus();
  });
}

// --- Keys, drops -------------------------------------------------------------------------------------------------

addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (answering) answering.abort();
  else if (loading) loading.abort();
  else if (matchMedia("(max-width: 999px)").matches) showPanel(false);
});

let inside = 0;
const carriesFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
addEventListener("dragenter", (event) => {
  if (!carriesFiles(event)) return;
  inside += 1;
  document.body.classList.add("is-dropping");
});
addEventListener("dragleave", (event) => {
  if (carriesFiles(event) && --inside <= 0) document.body.classList.remove("is-dropping");
});
addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
addEventListener("drop", (event) => {
  inside = 0;
  document.body.classList.remove("is-dropping");
  if (!event.dataTransfer || !carriesFiles(event)) return;
  event.preventDefault();
  // the list can only be read within the event
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (entries.length > 0) picker.entries(entries);
});

const [wanted, host] = [query.get("model"), query.get("host")];
void open(wanted ? { model: wanted, name: shortName(wanted), ...(host ? { host } : {}) } : builtIn());
