//! Errors between text, messages and token ids.

use thiserror::Error;

use super::{CheckpointError, SourceError};

/// What can go wrong between text and token ids.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The bytes could not be fetched.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// `tokenizer.json` is not one.
    #[error("`tokenizer.json` cannot be used: {detail}; fetch it again, or update webweft where it is newer")]
    Parse {
        /// What the parser said.
        detail: String,
    },
    /// A model file whose tokenizer is of a kind that there is no code for.
    #[error(
        "the tokenizer in the model file is of the kind {kind:?}, and only {} are supported: use the repository that the file was \
         made from",
        .supported.join(", ")
    )]
    UnknownKind {
        /// Its name, as in `tokenizer.ggml.model`.
        kind: String,
        /// The names of the kinds that are.
        supported: &'static [&'static str],
    },
    /// A model file whose tokenizer cuts text in an unknown way.
    #[error(
        "the tokenizer in the model file cuts text as {name:?} (`tokenizer.ggml.pre`), which is not known here: update webweft, or use \
         the repository that the file was made from"
    )]
    UnknownPreTokenizer {
        /// The name.
        name: String,
    },
    /// A model file whose vocabulary contradicts itself.
    #[error(
        "`tokenizer.ggml.{key}` in the model file cannot be used: {detail}; fetch the file again, or convert it anew"
    )]
    Vocabulary {
        /// What is wrong, without `tokenizer.ggml.`.
        key: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The text could not be split into tokens.
    #[error("the text ({bytes} bytes) cannot be tokenized: {detail}; the tokenizer may lack an unknown token")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// What the tokenizer said.
        detail: String,
    },
    /// The ids could not be joined to text.
    #[error("{count} token ids cannot be decoded: {detail}; is this the tokenizer of that model?")]
    Decode {
        /// How many ids.
        count: usize,
        /// What the tokenizer said.
        detail: String,
    },
}

/// What can go wrong between messages and a prompt. Lines are counted from 1 in the template's text.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The bytes could not be fetched.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A JSON file that does not parse.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// No template: no chat model.
    #[error(
        "{place} has no chat template (neither `chat_template.jinja` nor `chat_template` in tokenizer_config.json): continue \
         a text with `generate`, choose a model that was trained to chat, or put its template there as `chat_template.jinja`"
    )]
    NoTemplate {
        /// Folder or address.
        place: String,
    },
    /// None of that name.
    #[error("there is no chat template {wanted:?}; there are: {}", .available.join(", "))]
    UnknownTemplate {
        /// The name.
        wanted: String,
        /// The names that there are.
        available: Vec<String>,
    },
    /// `chat_template` holds something else.
    #[error("`{file}`: its `chat_template` is neither a text nor a list of names and texts; mend it or fetch it again")]
    Format {
        /// The file.
        file: &'static str,
    },
    /// A template file that is no text.
    #[error("`{file}` is not UTF-8 (byte {at}): fetch it again")]
    NotUtf8 {
        /// The file.
        file: String,
        /// Offset of the first byte that is wrong.
        at: usize,
    },
    /// The template does not compile, or uses what there is not.
    #[error(
        "the chat template of {template}, line {line}: {detail}; where transformers takes it, please report it, and use \
         `generate` meanwhile"
    )]
    Syntax {
        /// Its file, and its name where it is not the default.
        template: String,
        /// Line, or 0 where it is not known.
        line: usize,
        /// What is wrong.
        detail: String,
    },
    /// The template fails on these messages.
    #[error("the chat template of {template}, line {line}: {detail}; are the messages of the form that it expects?")]
    Render {
        /// Its file, and its name where it is not the default.
        template: String,
        /// Line, or 0 where it is not known.
        line: usize,
        /// What is wrong.
        detail: String,
    },
    /// The template refuses these messages (`raise_exception`).
    #[error("the chat template of {template}, line {line}, refuses these messages: {message}")]
    Refused {
        /// Its file, and its name where it is not the default.
        template: String,
        /// Line, or 0 where it is not known.
        line: usize,
        /// What it says.
        message: String,
    },
    /// The template runs on and on.
    #[error("the chat template of {template}, line {line}, does not come to an end: it is damaged, or means harm")]
    Endless {
        /// Its file, and its name where it is not the default.
        template: String,
        /// Line, or 0 where it is not known.
        line: usize,
    },
}
