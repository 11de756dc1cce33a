//! What a model's files say of it, in whichever container they are: a folder as transformers writes it, or GGUF.

use std::rc::Rc;

use serde_json::Value;

use crate::checkpoint::{Checkpoint, Metadata, find_gguf, read_json};
use crate::error::{CheckpointError, ConfigError, Error, GgufError};
use crate::models::{ModelConfig, gguf};
use crate::preprocess::{ChatTemplate, Tokenizer, Vocabulary};
use crate::quant::Quantization;
use crate::source::Source;

/// Largest `config.json` or `generation_config.json` that is read.
const MAX_CONFIG: u64 = 4 << 20;

/// The files of one model.
#[derive(Debug)]
pub struct ModelFiles<'s> {
    source: &'s Source,
    gguf: Option<Gguf>,
}

/// What a GGUF file holds besides the bytes of its weights.
#[derive(Debug)]
struct Gguf {
    checkpoint: Rc<Checkpoint>,
    metadata: Metadata,
    /// `None` where it has no tokens
    vocabulary: Option<Vocabulary>,
}

impl Gguf {
    fn wrong(checkpoint: &Checkpoint, error: GgufError) -> CheckpointError {
        CheckpointError::Gguf { file: checkpoint.files().first().cloned().unwrap_or_default(), error }
    }
}

/// The task that the model of `source` is for: [`ModelConfig::task`].
///
/// # Errors
/// Those of the files, and of a config that we cannot read.
pub async fn task(source: &Source) -> Result<&'static str, Error> {
    let files = ModelFiles::open(source).await?;
    let json = files.config().await?;
    Ok(files.model_config(&json)?.task())
}

/// Tokens that a text may have, as `tokenizer_config.json` says (`model_max_length`); without bound where it says nothing.
///
/// # Errors
/// What is wrong with the file.
pub async fn max_length(source: &Source) -> Result<usize, Error> {
    let json = read_json(source, "tokenizer_config.json", MAX_CONFIG).await?.unwrap_or(Value::Null);
    // "very large" is written as 1e30
    let most = json["model_max_length"].as_f64().filter(|most| *most >= 1.0);
    Ok(most.map_or(usize::MAX, |most| most as usize))
}

impl<'s> ModelFiles<'s> {
    /// Of `source`: the GGUF file that is meant ([`find_gguf`]), whose headers are read now; else a folder.
    ///
    /// # Errors
    /// Those of GGUF files and of the source.
    pub async fn open(source: &'s Source) -> Result<Self, Error> {
        let gguf = match find_gguf(source).await? {
            Some(file) => {
                let (checkpoint, mut metadata) = Checkpoint::open_gguf(source, &file).await?;
                let vocabulary = Vocabulary::take(&mut metadata).map_err(|error| Gguf::wrong(&checkpoint, error))?;
                let vocabulary = Some(vocabulary).filter(|vocabulary| !vocabulary.tokens.is_empty());
                Some(Gguf { checkpoint: Rc::new(checkpoint), metadata, vocabulary })
            }
            None => None,
        };
        Ok(Self { source, gguf })
    }

    /// `config.json`, or what a GGUF file says in its place.
    ///
    /// # Errors
    /// [`ConfigError::Missing`], and what is wrong with the file.
    pub async fn config(&self) -> Result<Value, Error> {
        match &self.gguf {
            Some(Gguf { checkpoint, metadata, .. }) => gguf::json(self.source, checkpoint, metadata).await,
            None => match read_json(self.source, "config.json", MAX_CONFIG).await? {
                Some(json) => Ok(json),
                None => Err(ConfigError::Missing { place: self.source.describe() }.into()),
            },
        }
    }

    /// The architecture that `json` says, which is of [`config`](Self::config).
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn model_config(&self, json: &Value) -> Result<ModelConfig, ConfigError> {
        match &self.gguf {
            Some(Gguf { checkpoint, .. }) => gguf::config(json, checkpoint),
            None => ModelConfig::from_json(json),
        }
    }

    /// `generation_config.json`, or what a GGUF file says in its place; null where there is none.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub async fn generation_config(&self) -> Result<Value, Error> {
        match &self.gguf {
            Some(Gguf { checkpoint, metadata, vocabulary }) => {
                let mut json = gguf::sampling(metadata).map_err(|error| Gguf::wrong(checkpoint, error))?;
                if let Some(vocabulary) = vocabulary {
                    json.extend(vocabulary.bos_id().map(|bos| ("bos_token_id".to_owned(), bos.into())));
                    json.insert("eos_token_id".to_owned(), vocabulary.stop_ids().into());
                }
                Ok(Value::Object(json))
            }
            None => Ok(read_json(self.source, "generation_config.json", MAX_CONFIG).await?.unwrap_or(Value::Null)),
        }
    }

    /// The tokenizer, if there is one: a GGUF file's own, else `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerError`](crate::error::TokenizerError): that of a GGUF file's vocabulary only where there is no `tokenizer.json` beside it.
    pub async fn tokenizer(&self) -> Result<Option<Tokenizer>, Error> {
        match self.vocabulary().map(Tokenizer::from_vocabulary) {
            Some(Ok(tokenizer)) => Ok(Some(tokenizer)),
            Some(Err(wrong)) => Ok(Some(Tokenizer::load(self.source).await?.ok_or(wrong)?)),
            None => Ok(Tokenizer::load(self.source).await?),
        }
    }

    /// How messages become a prompt.
    ///
    /// # Errors
    /// [`ChatError`](crate::error::ChatError)
    pub async fn chat_template(&self) -> Result<ChatTemplate, Error> {
        match self.vocabulary() {
            // what is wrong with its tokens, the tokenizer tells
            Some(vocabulary) if let Ok(template) = ChatTemplate::from_vocabulary(vocabulary) => Ok(template),
            _ => Ok(ChatTemplate::load(self.source).await?),
        }
    }

    /// The vocabulary of a GGUF file that has one.
    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.gguf.as_ref()?.vocabulary.as_ref()
    }

    /// The tensors: those of `weights_file`, a safetensors file, where one is named.
    ///
    /// # Errors
    /// [`CheckpointError`]
    pub async fn checkpoint(&self, weights_file: Option<&str>) -> Result<Rc<Checkpoint>, CheckpointError> {
        match (weights_file, &self.gguf) {
            (Some(file), _) => Checkpoint::open_file(self.source, file).await.map(Rc::new),
            (None, Some(gguf)) => Ok(Rc::clone(&gguf.checkpoint)),
            (None, None) => Checkpoint::open(self.source).await.map(Rc::new),
        }
    }

    /// How it is quantized.
    ///
    /// # Errors
    /// As [`Quantization::read`].
    pub async fn quantization(&self, json: &Value) -> Result<Quantization, Error> {
        match &self.gguf {
            Some(gguf) => Ok(Quantization::of_gguf(&gguf.checkpoint)),
            None => Quantization::read(self.source, json).await,
        }
    }
}
