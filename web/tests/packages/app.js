import { pipeline } from "webweft";

// what check.mjs reads: what a greedy generation gives, or what went wrong
async function run() {
  const asked = new URLSearchParams(location.search);
  const generator = await pipeline("text-generation", asked.get("model"), {
    dtype: "f32",
    cache: false,
    wasmUrl: asked.get("wasmUrl") ?? undefined,
    workerUrl: asked.get("workerUrl") ?? undefined,
  });
  const [{ generated_text }] = await generator("Once upon a time", { max_new_tokens: 12, do_sample: false });
  const left = await generator.dispose();
  return { generated_text, left: left?.total };
}

globalThis.result = run().catch((error) => ({ error: `${error.name}: ${error.message}` }));
