/** What the types promise. Compiled, not run. */
import {
  ModelPool,
  canRun,
  createEngine,
  pipeline,
  type ChatCompletion,
  type ChatCompletionChunk,
  type CanRunReport,
  type Engine,
  type KernelReport,
  type FeatureExtractionPipeline,
  type MemoryReport,
  type MemoryUse,
  type Message,
  type ProgressInfo,
  type SavedCache,
  type Tensor,
  type supportedFields,
  type ChatCompletionRequest,
  type TextGenerationPipeline,
  type TextGenerationSingle,
  type TextGenerationSingleChat,
} from "webweft";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function expectType<Expected>() {
  return <Actual>(_value: Actual, _same: Equal<Expected, Actual>): void => {};
}

export async function ofPipelines(handle: FileSystemDirectoryHandle, list: FileList, items: DataTransferItemList): Promise<void> {
  const generator = await pipeline("text-generation", "org/name", {
    dtype: "q4",
    cache: "quantized",
    progress_callback(info) {
      expectType<ProgressInfo>()(info, true);
      if (info.status === "progress") expectType<number>()(info.progress, true);
      // @ts-expect-error: the file is known only where there is one
      info.file;
    },
    on: { stage: ({ stage }) => expectType<"config" | "compile" | "weights" | "verify" | "keep" | "ready">()(stage, true) },
  });
  expectType<[TextGenerationSingle]>()(await generator("Once", { max_new_tokens: 1 }), true);
  expectType<[TextGenerationSingleChat]>()(await generator([{ role: "user", content: "Hi" }]), true);
  expectType<[TextGenerationSingle][]>()(await generator(["a", "b"]), true);
  expectType<[TextGenerationSingle][]>()(await generator(["a", "b"], { batch_size: 2 }), true);
  expectType<[TextGenerationSingleChat][]>()(await generator([[{ role: "user", content: "Hi" }]]), true);
  const extractor = await pipeline("feature-extraction", "org/name", { dtype: "auto" });
  expectType<FeatureExtractionPipeline>()(extractor, true);
  const vectors = await extractor(["a", { text: "b", text_pair: "c" }], { pooling: "mean", normalize: true });
  expectType<Tensor>()(vectors, true);
  expectType<Float32Array<ArrayBuffer>>()(vectors.data, true);
  // @ts-expect-error: another pooling
  await extractor("a", { pooling: "max" });
  for await (const text of generator.stream("Once", { signal: AbortSignal.timeout(1) })) expectType<string>()(text, true);
  expectType<MemoryReport>()(await generator.memory(), true);
  expectType<MemoryUse | null>()(await generator.dispose(), true);

  const pool = new ModelPool({ idleTimeout: 1000, lowMemory: true });
  expectType<TextGenerationPipeline>()(await pool.pipeline("text-generation", new URL("https://host/m"), { dtype: "q4" }), true);
  // @ts-expect-error: files have no name that would tell that they are the same
  await pool.pipeline("text-generation", list);

  await pipeline("text-generation", handle);
  await pipeline("text-generation", list);
  await pipeline("text-generation", items);
  await pipeline("text-generation", new URL("https://host/m"));
  await pipeline("text-generation", { "config.json": new Uint8Array(), "model.safetensors": new Blob() });
  // @ts-expect-error: another task
  await pipeline("translation", "org/name");
  // @ts-expect-error: no such type
  await pipeline("text-generation", "org/name", { dtype: "q3" });
  await pipeline("text-generation", "org/name", { cache_dtype: "q8", cache_policy: "window:512", batch_strategy: "fixed:8" });
  // @ts-expect-error: the cache has no such type
  await pipeline("text-generation", "org/name", { cache_dtype: "nf4" });
  // @ts-expect-error: no such option
  await pipeline("text-generation", "org/name", { contxt: 1 });
  const profile = { torch_dtype: "bfloat16", quantization_config: { load_in_4bit: true }, max_memory: { 0: "3.8GB" }, top_k: 5 } as const;
  await pipeline("text-generation", "org/name", { profile });
  await pipeline("text-generation", "org/name", { profile: new URL("https://host/profile.json") });
  // @ts-expect-error: no such key
  await pipeline("text-generation", "org/name", { profile: { max_new_token: 5 } });
  // @ts-expect-error: a stream has one input
  generator.stream("Once", { batch_size: 2 });
  // @ts-expect-error: beams are not supported
  await generator("Once", { num_beams: 2 });
}

export async function ofChats(engine: Engine): Promise<void> {
  const messages: Message[] = [{ role: "user", content: "Hi" }];
  const { completions } = engine.chat;
  const user = { messages: [{ role: "user", content: "Hi" }] };
  expectType<ChatCompletion>()(await completions.create(user), true);
  expectType<ChatCompletion>()(await completions.create({ ...user, stream: false, temperature: null }), true);
  const stream = await completions.create({ ...user, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) expectType<ChatCompletionChunk>()(chunk, true);
  const either = await completions.create({ ...user, stream: Math.random() < 0.5 });
  expectType<ChatCompletion | AsyncIterableIterator<ChatCompletionChunk>>()(either, true);
  // @ts-expect-error: not supported
  await completions.create({ ...user, tools: [] });
  expectType<ChatCompletion>()(await completions.create({ ...user, n: 2 }), true);

  const leave = engine.on("devicelost", (event) => expectType<{ message: string; attempt: number }>()(event, true));
  expectType<() => void>()(leave, true);
  // @ts-expect-error: no such event
  engine.on("lost", () => {});
  expectType<number[]>()((await engine.generate({ messages, options: { top_k: 1 } })).ids, true);
  const { blob, tokens }: SavedCache = await engine.saveCache({ ids: [1, 2] });
  expectType<number>()(await engine.restoreCache(blob ?? "a story"), true);
  expectType<number>()(tokens, true);
  const kernels = await engine.kernels();
  expectType<KernelReport | null>()(kernels, true);
  engine.on("kernels", (report) => expectType<KernelReport>()(report, true));
  await createEngine("org/name", { autotune: false, on: { kernels: ({ measured }) => measured.map(({ what }) => what) } });
}

export async function ofReports(): Promise<void> {
  expectType<CanRunReport>()(await canRun("org/name", { dtype: "auto" }), true);
  expectType<Engine>()(await createEngine("org/name"), true);
}

// every supported field is a field of the request, and every field is supported
type Listed = (typeof supportedFields)[number];
expectType<true>()(true as Equal<Listed, keyof ChatCompletionRequest>, true);
