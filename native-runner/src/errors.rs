//! What can go wrong between the command line and the engine.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Any error of this program; each is told in one line.
#[derive(Debug, Error)]
pub enum CliError {
    /// The engine's.
    #[error(transparent)]
    Engine(#[from] webweft::error::Error),
    /// Neither a folder nor a model of the Hub.
    #[error("there is no folder `{model}`, and no such model on the Hub")]
    NoModel {
        /// What was given.
        model: String,
        /// What the Hub or its rules say of the name.
        source: Box<webweft::error::SourceError>,
    },
    /// Not a folder, and the Hub cannot be asked whether it knows the name.
    #[error("there is no folder `{model}`, and from the Hub it cannot be had")]
    NotFetched {
        /// What was given.
        model: String,
        /// What the network or the cache says.
        source: Box<webweft::error::SourceError>,
    },
    /// A revision of what has none.
    #[error(
        "--revision {revision} goes with a name on the Hub, without an @ in it, but the model is `{model}`: leave one out"
    )]
    Revision {
        /// The revision.
        revision: String,
        /// The model, as it was given.
        model: String,
    },
    /// A profile cannot be read.
    #[error("the profile `{}` cannot be read", .path.display())]
    ProfileFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A profile that says what cannot be.
    #[error("the profile `{}`: {problem}", .path.display())]
    Profile {
        /// The file.
        path: PathBuf,
        /// What is wrong, by the key or the line.
        problem: String,
    },
    /// Nothing to continue.
    #[error(
        "no prompt: give one as an argument, as --prompt-ids, or through standard input (see `native-runner generate --help`)"
    )]
    NoPrompt,
    /// The prompt could not be read.
    #[error("the prompt cannot be read from standard input")]
    Stdin(#[source] io::Error),
    /// The prompt is no text.
    #[error("the prompt on standard input is not UTF-8 (byte {at}): convert it first")]
    PromptNotUtf8 {
        /// Offset of the first byte that is wrong.
        at: usize,
    },
    /// Standard output refuses.
    #[error("standard output cannot be written")]
    Stdout(#[source] io::Error),
    /// Ctrl-C cannot be caught.
    #[error("Ctrl-C cannot be handled")]
    Interrupt(#[from] ctrlc::Error),
    /// The input file cannot be read.
    #[error("the input `{}` cannot be read", .path.display())]
    InputFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The input file is no safetensors file.
    #[error("the input `{}` is no safetensors file, or a damaged one", .path.display())]
    InputFormat {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: safetensors::SafeTensorError,
    },
    /// The tensors of the input are not those that are wanted.
    #[error("the input `{}`: {problem}", .path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong, by the tensor's name.
        problem: String,
    },
    /// The outputs do not fit into this machine's memory.
    #[error("the outputs would have {elements} numbers, more than fit into memory: give fewer or shorter rows")]
    TooLarge {
        /// How many numbers.
        elements: u128,
    },
    /// A benchmark that the context does not hold.
    #[error(
        "{prompt_tokens} tokens of prompt and {new_tokens} new ones do not fit into the context of {context}: give fewer, or \
         raise --context where the model allows it"
    )]
    BeyondContext {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens to generate.
        new_tokens: usize,
        /// Positions.
        context: usize,
    },
    /// Nothing to predict.
    #[error("no text: give --text FILE, or --text - for standard input; only the built-in model has a text of its own")]
    NoText,
    /// A text cannot be read.
    #[error("the text `{}` cannot be read", .path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A text is none.
    #[error("the text `{}` is not UTF-8 (byte {at}): convert it first", .path.display())]
    TextNotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that is wrong.
        at: usize,
    },
    /// A file of prompts without one.
    #[error("the file `{}` has no prompts: give one in each line", .path.display())]
    NoPrompts {
        /// The file.
        path: PathBuf,
    },
    /// `embed` without a model.
    #[error("which model? Give an encoder with --model: sentence-transformers/all-MiniLM-L6-v2, say")]
    NoEncoder,
    /// A line that is no request.
    #[error("line {line} of `{}` is no prompt: {problem}", .path.display())]
    PromptLine {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Some prompts of a file.
    #[error("{failed} of {of} prompts failed")]
    PromptsFailed {
        /// How many.
        failed: usize,
        /// Of how many.
        of: usize,
    },
    /// A text without a token to predict.
    #[error("the text is too short: of {tokens} tokens none can be predicted from those before it")]
    TextTooShort {
        /// Its tokens.
        tokens: usize,
    },
    /// Windows that leave tokens out.
    #[error(
        "--stride {stride} is more than the {most} that a window of {context} positions predicts: give a smaller one"
    )]
    Stride {
        /// From one window to the next.
        stride: usize,
        /// What it may be.
        most: usize,
        /// Positions of a window.
        context: usize,
    },
    /// A window that only the baseline holds.
    #[error(
        "windows of {context} positions do not fit into the context of {most} that the model has: give --context {most}"
    )]
    WindowTooLong {
        /// Positions of a window.
        context: usize,
        /// Positions of the model.
        most: usize,
    },
    /// Logits of different tokens.
    #[error("the model has {model} tokens and the baseline {against}: only models of one vocabulary can be compared")]
    Vocabulary {
        /// Of the model.
        model: usize,
        /// Of the baseline.
        against: usize,
    },
    /// The same number of tokens, and others.
    #[error(
        "the tokenizers of model and baseline take the text for different tokens: only models of one vocabulary can be compared"
    )]
    OtherTokens,
    /// The baseline says nothing.
    #[error("the baseline's outputs are not finite, first in: {at}; take another --against")]
    BaselineNotFinite {
        /// The first state that is not.
        at: String,
    },
    /// No room for what the baseline says.
    #[error("the baseline's outputs cannot be kept in `{}`: make room there, set TMPDIR to another folder, or give fewer --max-tokens",
        .folder.display())]
    Spool {
        /// The folder for temporary files.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The history cannot be read or written.
    #[error("the history `{}` cannot be written: give another --history FILE, or --no-history", .path.display())]
    History {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was measured cannot be remembered.
    #[error("what was measured cannot be kept in `{}`: set XDG_CACHE_HOME to another folder, or give `tune` --no-remember", .path.display())]
    Remember {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing was measured.
    #[error(
        "not even one sequence fits into the memory that is allowed: raise --max-gpu-memory, or give a smaller --dtype"
    )]
    NothingFits,
    /// Ctrl-C.
    #[error("cancelled")]
    Cancelled,
    /// A folder that has other things in it.
    #[error("the folder `{}` is not empty: give another, or --force to write into it", .path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Weights that are not to be written anew.
    #[error("`{file}` is a GGUF file, which runs as it is: its tensors keep the bits that they have")]
    QuantizeGguf {
        /// The file.
        file: String,
    },
    /// Figures that are none.
    #[error("`{}`, {at}: {problem}", .path.display())]
    Figures {
        /// The file.
        path: PathBuf,
        /// Which line.
        at: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Figures cannot be read.
    #[error("the figures `{}` cannot be read", .path.display())]
    FiguresFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The output file cannot be written.
    #[error("the output `{}` cannot be written", .path.display())]
    OutputFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<webweft::error::SourceError> for CliError {
    fn from(error: webweft::error::SourceError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<webweft::error::DeviceError> for CliError {
    fn from(error: webweft::error::DeviceError) -> Self {
        Self::Engine(error.into())
    }
}

impl CliError {
    /// 2 for what is wrong with the command line, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        let wrong = matches!(
            self,
            Self::NoPrompt | Self::NoText | Self::Stride { .. } | Self::Revision { .. } | Self::NotEmpty { .. }
        );
        if wrong { 2 } else { 1 }
    }

    /// The error and its causes, without line breaks; a cause that was told already is left out.
    pub fn in_one_line(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let told = cause.to_string();
            if !text.contains(&told) {
                text = format!("{text}: {told}");
            }
            next = cause.source();
        }
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}
