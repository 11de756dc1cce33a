//! Prompts of a file: one in each line.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::errors::CliError;
use crate::prompt::Prompt;
use crate::sampling::Sampling;

/// A prompt, and how to go on after it.
#[derive(Debug)]
pub struct Request {
    /// What to continue.
    pub prompt: Prompt,
    /// The flags, and over them what the line says.
    pub sampling: Sampling,
}

/// The lines of the file at `path` (`-`: of standard input), empty ones left out: texts, or with `jsonl` objects with a `prompt`, a text
/// or token ids, and settings by the names of the flags (`max_new_tokens`).
pub fn read(path: &Path, jsonl: bool, flags: &Sampling) -> Result<Vec<Request>, CliError> {
    let text = read_text(path)?;
    let request = |(number, line): (usize, &str)| {
        if !jsonl {
            return Ok(Request { prompt: Prompt::Text(line.to_owned()), sampling: flags.clone() });
        }
        object(line, flags).map_err(|problem| CliError::PromptLine { path: path.into(), line: number + 1, problem })
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let requests = lines.map(request).collect::<Result<Vec<_>, _>>()?;
    if requests.is_empty() { Err(CliError::NoPrompts { path: path.into() }) } else { Ok(requests) }
}

/// The text of the file at `path` (`-`: of standard input).
pub fn read_text(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::Text { path: path.into(), source };
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().read_to_end(&mut bytes).map_err(failed)?;
    } else {
        bytes = fs::read(path).map_err(failed)?;
    }
    String::from_utf8(bytes)
        .map_err(|error| CliError::TextNotUtf8 { path: path.into(), at: error.utf8_error().valid_up_to() })
}

/// One line of JSON.
fn object(line: &str, flags: &Sampling) -> Result<Request, String> {
    let told = |error: serde_json::Error| error.to_string();
    let mut object: Map<String, Value> = serde_json::from_str(line).map_err(told)?;
    let prompt = match object.remove("prompt") {
        Some(Value::String(text)) => Prompt::Text(text),
        Some(ids @ Value::Array(_)) => Prompt::Ids(serde_json::from_value(ids).map_err(told)?),
        _ => return Err("it has no `prompt` that is a text or a list of token ids".to_owned()),
    };
    let mut settings = serde_json::to_value(flags).map_err(told)?;
    for (name, value) in object {
        settings[name] = value;
    }
    Ok(Request { prompt, sampling: serde_json::from_value(settings).map_err(told)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(text: &str, jsonl: bool) -> Result<Vec<Request>, CliError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("prompts");
        fs::write(&path, text).expect("written");
        read(&path, jsonl, &Sampling { max_new_tokens: Some(7), seed: Some(u64::MAX), ..Sampling::default() })
    }

    #[test]
    fn lines_are_prompts() {
        let prompts: Vec<_> =
            requests("a b\r\n\n  c\n \nd", false).expect("three").into_iter().map(|r| r.prompt).collect();
        assert_eq!(prompts, ["a b", "  c", "d"].map(|text| Prompt::Text(text.to_owned())));
        for none in ["", "\n \n"] {
            assert!(matches!(requests(none, false), Err(CliError::NoPrompts { .. })));
        }
    }

    #[test]
    fn lines_of_json_go_over_flags() {
        let text = r#"{"prompt": "a"}
            {"prompt": [1, 2], "max_new_tokens": 3, "temperature": 0.1, "stop": ["x"], "eos_token_id": [5], "ignore_eos": true}"#;
        let requests = requests(text, true).expect("two");
        let (first, second) = (&requests[0], &requests[1]);
        assert_eq!((&first.prompt, first.sampling.max_new_tokens), (&Prompt::Text("a".to_owned()), Some(7)));
        assert_eq!((&second.prompt, second.sampling.max_new_tokens), (&Prompt::Ids(vec![1, 2]), Some(3)));
        assert_eq!((second.sampling.temperature, second.sampling.seed), (Some(0.1), Some(u64::MAX)));
        assert_eq!((&second.sampling.stop[..], second.sampling.ignore_eos), (&["x".to_owned()][..], true));
        assert_eq!(second.sampling.eos_token_id.as_ref().map(|ids| &ids.0[..]), Some(&[5][..]));
    }

    #[test]
    fn what_is_wrong_is_told_by_line() {
        for (line, words) in [
            ("{", "line 2"),
            ("[1]", "line 2"),
            ("{\"text\": \"a\"}", "no `prompt`"),
            ("{\"prompt\": [-1]}", "line 2"),
            ("{\"prompt\": \"a\", \"max_tokens\": 3}", "unknown field `max_tokens`"),
            ("{\"prompt\": \"a\", \"max_new_tokens\": \"3\"}", "line 2"),
        ] {
            let error = requests(&format!("{{\"prompt\": \"a\"}}\n{line}"), true).expect_err(line).in_one_line();
            assert!(error.contains(words) && error.contains("line 2"), "{error}");
        }
    }
}
