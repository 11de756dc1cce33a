//! Runs the binary and reads what it and the fixtures say.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Tensors of a file: shape, and elements as f64.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// A folder of the shared fixtures, or `None` after a line that says so.
pub fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("WEBWEFT_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = root.join(name);
    if path.is_dir() {
        return Some(path);
    }
    println!("SKIPPED: there is no {}", path.display());
    None
}

/// The trained model, or `None` after a line that says so.
pub fn stories() -> Option<PathBuf> {
    shared("models/stories260K")
}

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The binary, to be given arguments. Its kernels are those of any run: what is measured while other tests run may differ.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_native-runner"));
    command.arg("--no-autotune");
    command
}

/// Runs the binary on `arguments` with nothing on standard input.
pub fn run<S: AsRef<OsStr>>(arguments: &[S]) -> Run {
    run_with(arguments, b"")
}

/// Runs the binary on `arguments` with `stdin` on standard input.
pub fn run_with<S: AsRef<OsStr>>(arguments: &[S], stdin: &[u8]) -> Run {
    let mut command = binary();
    command.args(arguments);
    finish(command, stdin)
}

/// Runs a command to its end.
pub fn finish(mut command: Command, stdin: &[u8]) -> Run {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary was built");
    // one that does not read its input closes it
    let _ = child.stdin.take().expect("piped").write_all(stdin);
    let output = child.wait_with_output().expect("the binary ends");
    Run::of(output.status.code(), output.stdout, output.stderr)
}

impl Run {
    /// Checks what must hold however a run ends.
    pub fn of(code: Option<i32>, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        let stdout = String::from_utf8(stdout).expect("standard output is UTF-8");
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        assert!(!stderr.contains("panicked"), "{stderr}");
        Self { code, stdout, stderr }
    }

    /// Standard output of a run that went well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Checks that it failed with one line on standard error that says `words`, and nothing on standard output.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        if code == 1 {
            assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        }
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:?}");
        }
    }

    /// The lines of `--json`: ids and texts of the tokens, and the last line.
    #[track_caller]
    pub fn json(&self) -> (Vec<u64>, String, Value) {
        let mut lines: Vec<Value> =
            self.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
        let done = lines.pop().unwrap_or_else(|| panic!("no line at all: {self:?}"));
        assert_eq!(done["type"], "done", "{self:?}");
        assert!(lines.iter().all(|line| line["type"] == "token"), "{self:?}");
        let ids = lines.iter().map(|line| line["id"].as_u64().expect("an id")).collect();
        let mut text: String = lines.iter().map(|line| line["text"].as_str().expect("a text")).collect();
        text += done["tail"].as_str().unwrap_or("");
        (ids, text, done)
    }
}

/// `generate --json` with these flags: the new ids and the last line.
#[track_caller]
pub fn generate(model: &Path, flags: &[&str]) -> (Vec<u64>, Value) {
    let run = run(&[&["generate", "--json", "--model", text(model)], flags].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    let (ids, _, done) = run.json();
    (ids, done)
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A copy of a model's files, but for those that `leave_out` names.
pub fn copy(model: &Path, leave_out: &[&str]) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("a temporary folder");
    for name in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        if !leave_out.contains(&name) && model.join(name).exists() {
            // the copy of a read-only file is read-only, so not `fs::copy`
            let bytes = std::fs::read(model.join(name)).expect("the file can be read");
            std::fs::write(to.path().join(name), bytes).expect("the copy can be written");
        }
    }
    to
}

/// All tensors of a file.
pub fn read_tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).expect("the file can be read");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let of = |(name, view): (String, TensorView<'_>)| {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
            Dtype::I64 => data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
            other => panic!("{name} is {other:?}"),
        };
        (name, (view.shape().to_vec(), values))
    };
    file.tensors().into_iter().map(of).collect()
}

/// Writes a file of tensors: name, type, shape, bytes.
pub fn write_tensors(path: &Path, tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.to_vec(), bytes).expect("as many bytes as the shape says"))
    });
    safetensors::serialize_to_file(views, None, path).expect("the file can be written");
}

/// Numbers as I64.
pub fn i64s(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|&v| (v as i64).to_le_bytes()).collect()
}
