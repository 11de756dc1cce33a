//! Errors as JavaScript sees them: `name` is a class of `web/src/errors.ts`, `code` the variant in Rust.

use js_sys::Reflect;
use wasm_bindgen::JsValue;

use crate::error::{
    CacheError, ChatError, CheckpointError, ConfigError, DeviceError, Error, GenerateError, SourceError, TokenizerError,
};

/// An error on its way to JavaScript.
#[derive(Debug)]
pub struct Failed {
    name: &'static str,
    code: String,
    message: String,
    status: Option<u16>,
    url: Option<String>,
    retry_after: Option<u64>,
    param: Option<String>,
}

impl Failed {
    fn new(name: &'static str, code: &str, message: &str) -> Self {
        let (status, url, retry_after, param) = (None, None, None, None);
        Self { name, code: code.to_owned(), message: message.to_owned(), status, url, retry_after, param }
    }
}

/// A request or option that cannot be.
pub fn invalid(param: &str, problem: &str) -> Failed {
    Failed {
        param: Some(param.to_owned()),
        ..Failed::new("InvalidRequestError", "invalid", &format!("{param}: {problem}"))
    }
}

/// The caller's signal.
pub fn aborted() -> Failed {
    Failed::new("AbortError", "aborted", "aborted")
}

/// One thing at a time.
pub fn busy() -> Failed {
    Failed::new("BusyError", "busy", "a generation is under way")
}

/// Nothing is left.
pub fn closed() -> Failed {
    Failed::new("DisposedError", "disposed", "the model was closed")
}

impl<E: Into<Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        let error = innermost(error.into());
        let mut this = Self::new(name(&error), &code(&error), &error.to_string());
        match &error {
            Error::Source(error) => this.of_source(error),
            Error::Config(ConfigError::Missing { place }) => this.url = Some(place.clone()),
            Error::Generate(GenerateError::Setting { name, .. }) => this.param = Some((*name).to_owned()),
            _ => {}
        }
        this
    }
}

impl Failed {
    fn of_source(&mut self, error: &SourceError) {
        use SourceError as S;
        match error {
            S::Refused { url, status } | S::Status { url, status } => {
                (self.url, self.status) = (Some(url.clone()), Some(*status));
            }
            S::RateLimited { url, status, after } => {
                (self.url, self.status, self.retry_after) = (Some(url.clone()), Some(*status), *after);
            }
            S::Unreachable { url, .. } | S::Changed { url, .. } | S::WrongRange { url, .. } => {
                self.url = Some(url.clone());
            }
            _ => {}
        }
    }
}

/// What a layer only passes on, as what it is: bytes that never arrived are no damaged checkpoint.
fn innermost(error: Error) -> Error {
    match error {
        Error::Checkpoint(CheckpointError::Source(source))
        | Error::Cache(CacheError::File(CheckpointError::Source(source)))
        | Error::Tokenizer(TokenizerError::Source(source))
        | Error::Chat(ChatError::Source(source) | ChatError::Checkpoint(CheckpointError::Source(source))) => {
            Error::Source(source)
        }
        Error::Chat(ChatError::Checkpoint(checkpoint)) => Error::Checkpoint(checkpoint),
        other => other,
    }
}

fn name(error: &Error) -> &'static str {
    use SourceError as S;
    match error {
        Error::Source(error) => match error {
            S::Refused { .. } | S::Gated { .. } | S::TokenRefused { .. } => "AccessDeniedError",
            S::RateLimited { .. } => "RateLimitedError",
            S::RepoNotFound { .. } | S::RevisionNotFound { .. } | S::EntryNotFound { .. } => "ModelNotFoundError",
            S::NoSafetensors { .. } | S::GgufChoice { .. } => "UnsupportedModelError",
            S::Corrupt { .. } => "ChecksumError",
            S::Storage { .. } => "StorageError",
            S::BadUrl { .. } | S::BadDigest { .. } | S::BadRepo { .. } | S::BadRevision { .. } | S::BadName { .. } => {
                "InvalidRequestError"
            }
            S::FileMissing { .. } | S::OutOfRange { .. } | S::TooLarge { .. } | S::Io { .. } => "CheckpointError",
            _ => "NetworkError",
        },
        Error::Config(
            ConfigError::UnsupportedModel { .. } | ConfigError::Unsupported { .. } | ConfigError::OtherTask { .. },
        ) => "UnsupportedModelError",
        Error::Config(ConfigError::Missing { .. }) => "ModelNotFoundError",
        Error::Config(_) | Error::Checkpoint(_) | Error::Weights(_) | Error::Quant(_) | Error::Tokenizer(_) => {
            "CheckpointError"
        }
        Error::Chat(_) => "ChatTemplateError",
        Error::Device(error) => match error {
            DeviceError::NoAdapter { .. } | DeviceError::AdapterNotFound { .. } | DeviceError::Open { .. } => {
                "WebGPUUnavailableError"
            }
            DeviceError::OutOfMemory { .. } | DeviceError::NothingFits { .. } | DeviceError::BufferTooLarge { .. } => {
                "OutOfMemoryError"
            }
            DeviceError::Lost { .. } | DeviceError::Readback => "DeviceLostError",
            DeviceError::NoTimestamps { .. } => "InvalidRequestError",
            DeviceError::Validation { .. } => "InternalError",
        },
        Error::Op(_) => "InternalError",
        Error::Cache(_) => "SavedCacheError",
        Error::Profile(_) => "InvalidRequestError",
        Error::Generate(error) => match error {
            GenerateError::PromptTooLong { .. } | GenerateError::TextTooLong { .. } => "ContextLengthError",
            GenerateError::NotANumber { .. } | GenerateError::NotFinite { .. } => "InternalError",
            GenerateError::TokenizerMismatch { .. } | GenerateError::Config { .. } => "CheckpointError",
            _ => "InvalidRequestError",
        },
    }
}

/// `out_of_memory` of `Device(OutOfMemory { .. })`: the names of the enums are what `Debug` begins with.
fn code(error: &Error) -> String {
    let shown = format!("{error:?}");
    let inner = shown.split_once('(').map_or(shown.as_str(), |(_, inner)| inner);
    let variant = inner.chars().take_while(char::is_ascii_alphanumeric);
    let mut code = String::new();
    for c in variant {
        if c.is_ascii_uppercase() && !code.is_empty() {
            code.push('_');
        }
        code.push(c.to_ascii_lowercase());
    }
    code
}

impl From<Failed> for JsValue {
    fn from(failed: Failed) -> Self {
        let error = js_sys::Error::new(&failed.message);
        error.set_name(failed.name);
        // An error that was just made takes any property.
        let set = |name: &str, value: JsValue| drop(Reflect::set(&error, &name.into(), &value));
        set("code", failed.code.into());
        if let Some(status) = failed.status {
            set("status", status.into());
        }
        if let Some(url) = failed.url {
            set("url", url.into());
        }
        if let Some(seconds) = failed.retry_after {
            set("retry_after", (seconds as f64).into());
        }
        if let Some(param) = failed.param {
            set("param", param.into());
        }
        error.into()
    }
}
