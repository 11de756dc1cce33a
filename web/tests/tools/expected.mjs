// What the native runner generates, to hold browsers against: writes web/tests/e2e/expected.json.
//
//   cargo build -p native-runner && node web/tests/tools/expected.mjs [--runner target/debug/native-runner] [--models ../shared/models]
//
// Per model, type of weights and prompt: ids of the prompt, greedy ids, text, and for each step how much likelier the first token was
// than the second (difference of log-probabilities, natural). Where that is small, another order of sums may choose the other one.

import { execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const { values } = parseArgs({
  options: { runner: { type: "string", default: "target/debug/native-runner" }, models: { type: "string", default: "../shared/models" } },
});

const CHAT = "<|user|>Tell me a story about a cat named Tom.<|end|><|assistant|>";
const CASES = {
  stories: { folder: "assets/stories", prompts: ["Once upon a time", CHAT, "One sunny day, a little duck"], tokens: 120 },
  stories260K: { folder: join(values.models, "stories260K"), prompts: ["Once upon a time", "The little dog was very"], tokens: 100 },
};

function runner(...args) {
  const out = execFileSync(join(root, values.runner), args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  return out.trim().split("\n").map((line) => JSON.parse(line));
}

const result = { command: "cargo build -p native-runner && node web/tests/tools/expected.mjs", adapter: "", models: {} };
for (const [name, { folder, prompts, tokens }] of Object.entries(CASES)) {
  if (!existsSync(join(root, folder))) {
    console.error(`${folder} is not here; ${name} is left out`);
    continue;
  }
  const dtypes = {};
  for (const dtype of ["f32", "f16", "q4"]) {
    dtypes[dtype] = prompts.map((prompt) => {
      const options = ["--model", folder, "--dtype", dtype, "--temperature", "0", "--max-new-tokens", String(tokens), "--json"];
      const lines = runner("generate", prompt, ...options, "--logprobs=2");
      const done = lines.at(-1);
      result.adapter = done.stats.adapter;
      const steps = lines.filter((line) => line.type === "token");
      const margins = steps.map(({ top_logprobs: [first, second] }) => Number((first.logprob - second.logprob).toFixed(4)));
      return { prompt, prompt_tokens: done.stats.prompt_tokens, ids: done.ids, text: done.text, finish_reason: done.finish_reason, margins };
    });
  }
  result.models[name] = { dtypes };
}
// arrays of numbers on one line each
const text = JSON.stringify(result, null, 1).replace(/\[[\s\d.,eE+-]+\]/g, (list) => list.replace(/\s+/g, ""));
writeFileSync(fileURLToPath(new URL("../e2e/expected.json", import.meta.url)), `${text}\n`);
