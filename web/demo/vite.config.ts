import { execFileSync } from "node:child_process";
import { createReadStream } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const STORIES = here("../../assets/stories/");

/** What code this is: as the environment says, or git; null where neither does. */
function commit(): string | null {
  try {
    const told = process.env["WEBWEFT_COMMIT"] ?? execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8", cwd: here(".") });
    return told.trim() || null;
  } catch {
    return null;
  }
}

/** The model that the page opens with comes from the repository's assets: served in development, copied at a build. */
function builtInModel(): Plugin {
  return {
    name: "built-in-model",
    configureServer(server) {
      server.middlewares.use("/models/stories/", (request, response, next) => {
        const name = (request.url ?? "").slice(1).split("?")[0] ?? "";
        if (!/^[a-z_]+\.(json|safetensors)$/.test(name)) return next();
        createReadStream(STORIES + name).on("error", () => next()).pipe(response);
      });
    },
    async generateBundle() {
      for (const name of await readdir(STORIES)) {
        this.emitFile({ type: "asset", fileName: `models/stories/${name}`, source: await readFile(STORIES + name) });
      }
    },
  };
}

export default defineConfig({
  base: "./", // works from any folder of a static host
  resolve: { alias: { webweft: here("../dist/index.js") } },
  worker: { format: "es" },
  define: { __COMMIT__: JSON.stringify(commit()) },
  server: { fs: { allow: [here("../..")] } },
  // Browsers with WebGPU know all that is used here. No preload polyfill and no data: URLs, for the sake of strict policies.
  build: {
    target: "es2022",
    cssTarget: "chrome123",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 1000,
    rollupOptions: { input: ["index.html", "bench.html", "first-token.html"].map(here) },
  },
  plugins: [builtInModel()],
});
