// A page that does nothing but load the built-in model and have a token of it: how long that takes from where the page's load began.

import { createEngine } from "webweft";
import { builtInUrl } from "../models.ts";

const told = document.querySelector("#told")!;
try {
  const engine = await createEngine(builtInUrl());
  let ms = 0;
  await engine.generate({ prompt: "Once upon a time", options: { max_new_tokens: 1, do_sample: false } }, { onPiece: () => (ms ||= performance.now()) });
  await engine.dispose();
  document.body.dataset.ms = String(ms);
  told.textContent = `The first token was there ${Math.round(ms)} ms after this page began to load.`;
  parent.postMessage({ firstTokenMs: ms }, location.origin);
} catch (error) {
  document.body.dataset.error = (error as Error).name;
  told.textContent = String((error as Error).message);
  parent.postMessage({ firstTokenError: String((error as Error).message) }, location.origin);
}
