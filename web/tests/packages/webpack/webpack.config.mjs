// what webpack wants to know of any app, and nothing about webweft; it finds every wasm too large for a page
export default { mode: "production", entry: "./main.js", output: { filename: "main.js", clean: true }, performance: { hints: false } };
