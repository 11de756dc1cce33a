// Small models of the Hub whose families the engine runs, and the one that comes with the page.

export interface Suggestion {
  id: string;
  title: string;
  /** Bytes to download. */
  size: number;
  note: string;
}

export const SUGGESTIONS: Suggestion[] = [
  { id: "HuggingFaceTB/SmolLM2-135M-Instruct", title: "SmolLM2 135M", size: 269e6, note: "quick to load, short answers" },
  { id: "HuggingFaceTB/SmolLM2-360M-Instruct", title: "SmolLM2 360M", size: 724e6, note: "small and steady" },
  { id: "Qwen/Qwen2.5-0.5B-Instruct", title: "Qwen2.5 0.5B", size: 988e6, note: "many languages" },
  { id: "Qwen/Qwen3-0.6B", title: "Qwen3 0.6B", size: 1503e6, note: "thinks before it answers" },
];

/** Where the built-in model lies: beside the page. */
export const builtInUrl = () => new URL("models/stories/", document.baseURI).href;

/** What to click at, by whether the model is the built-in one, one that chats, or one that continues texts. */
export const STARTERS = {
  builtIn: [
    "Tell me a story about a cat named Tom.",
    "Tell me a story about a lost key.",
    "Tell me a story about a girl named Mia.",
    "Tell me a story about a scary night.",
  ],
  chat: ["What can you help me with?", "Explain how a rainbow forms.", "Write a short poem about rain.", "Give me three names for a cat."],
  text: ["Once upon a time", "The most important thing about", "In the beginning"],
};
