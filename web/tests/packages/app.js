import { pipeline } from "webweft";

// what check.mjs reads: what a greedy generation gives, or what went wrong
async function run() {
  const asked = new URLSearchParams(location.search);
  const generator = await pipeline("text-generation", asked.get("model"), {
    dtype: "f32",
    cache: false,
    // in YAML: what reads that has to be found, too
    profile: "max_new_tokens: 12\ndo_sample: false\n",
    wasmUrl: asked.get("wasmUrl") ?? undefined,
    workerUrl: asked.get("workerUrl") ?? undefined,
  });
  const [{ generated_text }] = await generator("Once upon a time");
  const left = await generator.dispose();
  return { generated_text, left: left?.total };
}

globalThis.result = run().catch((error) => ({ error: `${error.name}: ${error.message}` }));
