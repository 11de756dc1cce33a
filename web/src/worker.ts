/** The worker's script: the wasm, and the host that answers the page. */
import init, * as wasm from "./webweft.js";
import type { Facade } from "./wasm.js";
import { Host } from "./host.js";
import type { Port } from "./rpc.js";

async function load(wasmUrl: string | undefined): Promise<Facade> {
  // without an address the glue takes the file beside it, in a form that bundlers recognize
  await (wasmUrl === undefined ? init() : init({ module_or_path: wasmUrl }));
  return {
    open: (spec, options, onEvent, signal) => wasm.Model.open(spec, options, onEvent, signal),
    open_extractor: (spec, options, onEvent, signal) => wasm.Extractor.open(spec, options, onEvent, signal),
    inspect: wasm.inspect,
    adapter: wasm.adapter,
    cache_list: wasm.cache_list,
    cache_delete: wasm.cache_delete,
    cache_clear: wasm.cache_clear,
  };
}

new Host(globalThis as unknown as Port, load);
