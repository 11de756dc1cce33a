import { WebGPUUnavailableError } from "./errors.js";

/** Throws where there is certainly no WebGPU, so that nothing is fetched in vain. An adapter is only asked for in the worker. */
export function requireWebGPU(): void {
  if (typeof Worker === "undefined") {
    throw new WebGPUUnavailableError("webweft runs in browsers: there are no workers here", { code: "no_worker" });
  }
  if (globalThis.isSecureContext === false) {
    throw new WebGPUUnavailableError("WebGPU needs a secure page: https:// or localhost", { code: "insecure_context" });
  }
  if (!("gpu" in globalThis.navigator)) {
    throw new WebGPUUnavailableError("this browser has no WebGPU, or has it switched off");
  }
}
