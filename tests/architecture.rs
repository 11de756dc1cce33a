//! The order of the modules, where platforms may be told apart, and one name in four places.
#![cfg(not(target_arch = "wasm32"))]
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// Each imports only from those before it.
const ORDER: [&str; 21] = [
    "site",
    "error",
    "shaders",
    "source",
    "checkpoint",
    "quant",
    "reference",
    "device",
    "tensor",
    "step",
    "graph",
    "weights",
    "ops",
    "nn",
    "models",
    "preprocess",
    "managers",
    "generate",
    "encode",
    "session",
    "web",
];

/// `(module, module that it imports from, why)`
const EXCEPTIONS: [(&str, &str, &str); 1] = [(
    "error",
    "device",
    "an error says for which `Backend` no adapter was found, and the adapter code owns that type",
)];

/// Where `cfg(target_arch)` may stand.
const PLATFORMS: [&str; 3] = ["source", "device", "web"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, with its text.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("a text");
            all.push((path, text));
        }
    }
    all
}

/// The source files: module, path below `src`, text without comments.
fn sources() -> Vec<(String, String, String)> {
    let src = root().join("src");
    files(&src)
        .into_iter()
        .map(|(path, text)| {
            let path = path.strip_prefix(&src).expect("it is below src").to_string_lossy().replace('\\', "/");
            let module = path.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
            let code = text.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
            (module, path, code)
        })
        .collect()
}

/// The modules that `crate::` paths of a text name: `crate::a::..`, and `crate::{a, b::..}`.
fn imports(code: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut all = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + found.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            all.push(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    all.push(name(&list[i..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    all
}

#[test]
fn imports_are_found() {
    let code =
        "use crate::a::B; use crate::{c::{d, e}, f,\n    self_g::h};\n fn x() { crate::i::y(); other_crate::j::z() }";
    assert_eq!(imports(code), ["a", "c", "f", "self_g", "i"]);
}

#[test]
fn modules_import_from_those_before_them() {
    let rank = |module: &str| ORDER.iter().position(|m| *m == module);
    let mut wrong = Vec::new();
    for (module, path, code) in sources().into_iter().filter(|(module, ..)| module != "lib") {
        let Some(own) = rank(&module) else {
            wrong.push(format!("src/{path}: the module `{module}` has no place in ORDER"));
            continue;
        };
        // macros and re-exports of the crate's root have no rank; they are checked where they are defined
        for import in imports(&code) {
            let excused = EXCEPTIONS.iter().any(|(m, i, _)| (*m, *i) == (module.as_str(), import.as_str()));
            if rank(&import).is_some_and(|other| other > own) && !excused {
                wrong.push(format!("src/{path}: `{module}` imports from `{import}`, which comes after it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn platforms_are_told_apart_in_few_places() {
    let mut wrong = Vec::new();
    for (module, path, code) in sources() {
        let code = code.split_whitespace().collect::<String>();
        // also within all(..), not(..) and cfg_attr(..)
        if code.contains("target_arch") && !PLATFORMS.contains(&module.as_str()) {
            wrong.push(format!("src/{path}"));
        }
    }
    assert!(wrong.is_empty(), "cfg(target_arch) stands in {}", wrong.join(", "));
}

#[test]
fn one_name_in_four_places() {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(root().join("shaders")).expect("shaders") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "wgsl") {
            continue;
        }
        let shader = path.file_stem().expect("a name").to_string_lossy().into_owned();
        // one op, one reference and one test for all kernels of an operation
        let name = match shader.as_str() {
            "matmul_few" | "matmul_many" | "matmul_matrices" | "matmul_alone" | "matmul_int8_few"
            | "matmul_int8_many" => "matmul",
            "attention_merge" | "attention_alone" => "attention",
            "convert_dense" => "convert",
            "adopt" => "draft",
            other => other,
        };
        // these run while weights are loaded
        let loads = ["convert", "repack_codes", "repack_ggml", "repack_scales"].contains(&name);
        let op = if loads { "src/weights/request.rs".to_owned() } else { format!("src/ops/{name}.rs") };
        for file in [op, format!("src/reference/{name}.rs"), format!("tests/ops/{name}.rs")] {
            if !root().join(&file).is_file() {
                wrong.push(format!("shaders/{shader}.wgsl has no {file}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Shaders live in files.
#[test]
fn no_shader_stands_in_rust() {
    let wgsl = ["@compute", "@group("];
    let wrong: Vec<_> =
        sources().into_iter().filter(|(.., code)| wgsl.iter().any(|w| code.contains(w))).map(|s| s.1).collect();
    assert!(wrong.is_empty(), "WGSL in {}", wrong.join(", "));
}
