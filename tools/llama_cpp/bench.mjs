// llama.cpp's speed on its Vulkan backend, as a line of JSON: prompts of 64 and of 512 tokens, and decoding after each, in tokens per
// second. The first run is not counted.
//
//     npm install node-llama-cpp
//     GGML_VK_VISIBLE_DEVICES=0 node bench.mjs /tmp/26M.gguf [RUNS] [NEW_TOKENS]
//
// Without GGML_VK_VISIBLE_DEVICES it leaves adapters out that are processors.
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [modelPath, runs = 3, newTokens = 16] = process.argv.slice(2);
const llama = await getLlama({ gpu: "vulkan", build: "never", progressLogs: false, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath, gpuLayers: "max" });
const told = { model: modelPath, adapters: await llama.getGpuDeviceNames(), layers: model.gpuLayers, prefill: {}, decode: {} };
for (const prompt of [64, 512]) {
  const context = await model.createContext({ contextSize: 1024, batchSize: 512 });
  const [prefill, decode] = [[], []];
  for (let run = 0; run <= runs; run++) {
    const sequence = context.getSequence();
    // no run's prompt has the beginning of another's
    const tokens = Array.from({ length: prompt }, (_, i) => 300 + ((37 * (i + 1000 * run) + 11) % 31000));
    const begun = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(0, -1));
    let [count, first, last] = [0, 0, 0];
    for await (const _ of sequence.evaluate([tokens.at(-1)], { temperature: 0, yieldEogToken: true })) {
      last = performance.now();
      if (count === 0) first = last;
      if (++count > newTokens) break;
    }
    if (run > 0) {
      prefill.push((prompt / (first - begun)) * 1e3);
      decode.push((newTokens / (last - first)) * 1e3);
    }
    sequence.dispose();
  }
  await context.dispose();
  const rounded = (speeds) => speeds.map((speed) => Math.round(speed * 10) / 10);
  told.prefill[prompt] = rounded(prefill);
  told.decode[prompt] = rounded(decode);
}
console.log(JSON.stringify(told));
process.exit(0);
