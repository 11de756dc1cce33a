//! Opening an encoder, and vectors of texts.

use super::LoadOptions;
use super::loading::wanted;
use super::turns::{Turn, Turns};
use crate::device::{Device, Ownership};
use crate::encode::{Encoded, EncoderEngine, FeatureOptions, Tokens};
use crate::error::{ConfigError, Error, GenerateError};
use crate::managers::{self, Architecture, Dtype, ModelFiles};
use crate::models::{Encoder, ModelConfig};
use crate::preprocess::Tokenizer;
use crate::quant::Side;
use crate::source::Source;
use crate::weights::{Progress, Weights};

/// An opened encoder: weights on the GPU, tokenizer.
#[derive(Debug)]
pub struct FeatureExtractor {
    engine: EncoderEngine,
    tokenizer: Option<Tokenizer>,
    /// tokens that the tokenizer's texts have at most
    max_length: usize,
    model_type: String,
    architecture: Architecture,
    quantization: Option<&'static str>,
    extra: Vec<String>,
    parameters: u64,
    place: String,
    /// whose the buffers are; dropped after them
    _ownership: Ownership,
}

/// A text, or two that belong together (a question and a passage, say).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// One text.
    Text(&'a str),
    /// Two of them.
    Pair(&'a str, &'a str),
}

impl<'a> From<&'a str> for Input<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl FeatureExtractor {
    /// Opens the folder `source` (a Hugging Face checkpoint) on `device`. Of the options those of weights count: a text has no cache that
    /// stays, and all layers are on the GPU. `progress` hears of every chunk.
    ///
    /// # Errors
    /// [`ConfigError::OtherTask`] for a model that is no encoder; else whatever is wrong with the files, by name; what the device refuses.
    pub async fn open(
        device: &Device,
        source: &Source,
        options: &LoadOptions,
        progress: impl FnMut(Progress<'_>),
    ) -> Result<Self, Error> {
        let place = source.describe();
        let (device, ownership) = device.owned_by(&place);
        let files = ModelFiles::open(source).await?;
        let json = files.config().await?;
        let whole = files.model_config(&json)?;
        let ModelConfig::Encoder(config) = &whole else {
            return Err(ConfigError::OtherTask { asked: "feature-extraction", task: whole.task() }.into());
        };
        if options.gpu_layers.is_some_and(|layers| layers < config.num_hidden_layers) {
            let (name, expected) = ("gpu_layers", "all of them: an encoder's stay on the GPU");
            let got = options.gpu_layers.unwrap_or_default().to_string();
            return Err(GenerateError::Setting { name, got, expected }.into());
        }
        let tokenizer = files.tokenizer().await?;
        if let Some(tokenizer) = &tokenizer
            && tokenizer.base_vocab_size() > config.vocab_size as usize
        {
            let max_id = tokenizer.id_bound().saturating_sub(1);
            return Err(GenerateError::TokenizerMismatch { max_id, vocab: config.vocab_size }.into());
        }
        let positions = config.max_position_embeddings.min(options.context.unwrap_or(u32::MAX));
        let max_length = managers::max_length(source).await?.min(positions as usize);

        let checkpoint = files.checkpoint(options.weights_file.as_deref()).await?;
        let quantization = files.quantization(&json).await?;
        drop(files);
        let side = Side::read(source, &checkpoint, &quantization).await?;
        let (adapter, wanted) = wanted(&device, options, None);
        let dtype = match options.dtype {
            Dtype::Auto if wanted.budget.is_some() => {
                managers::encoder_on_gpu(&whole, &checkpoint, &quantization, Some(&adapter), wanted)?.0
            }
            dtype => dtype,
        };
        let precision = managers::choose(dtype, &whole, &checkpoint, &quantization)?;
        let mut weights = Weights::new(&device, &checkpoint).quantized_by(&quantization, Some(&side));
        let model = Encoder::load(&mut weights, config, precision.weights)?;
        let (extra, parameters) = (weights.extra(), weights.parameters());
        let chunk = options.prefill_chunk.unwrap_or_else(|| managers::prefill_chunk(parameters));
        let engine = EncoderEngine::new(&device, model, config.clone(), precision, chunk);
        weights.stream(source, progress, || Ok(())).await?;
        Ok(Self {
            engine,
            tokenizer,
            max_length,
            model_type: json["model_type"].as_str().unwrap_or_default().to_owned(),
            architecture: Architecture::of(&whole),
            quantization: quantization.name(),
            extra,
            parameters,
            place,
            _ownership: ownership,
        })
    }

    /// What runs.
    #[must_use]
    pub fn engine(&self) -> &EncoderEngine {
        &self.engine
    }

    /// `model_type`, as `config.json` says.
    #[must_use]
    pub fn model_type(&self) -> &str {
        &self.model_type
    }

    /// The model's sizes.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The number of its weights.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// How another tool quantized the checkpoint, if one did.
    #[must_use]
    pub fn quantization(&self) -> Option<&'static str> {
        self.quantization
    }

    /// Tensors of the checkpoint that the architecture does not use.
    #[must_use]
    pub fn extra_tensors(&self) -> &[String] {
        &self.extra
    }

    /// D, the width of its vectors.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.engine.config().hidden_size as usize
    }

    /// The most tokens of a text: what is beyond is cut off, as transformers' `truncation=True` does.
    #[must_use]
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`GenerateError::NoTokenizer`] where the folder has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        self.tokenizer.as_ref().ok_or_else(|| GenerateError::NoTokenizer { place: self.place.clone() }.into())
    }

    /// The tokens of a text, with those that the tokenizer puts around it, [`max_length`](Self::max_length) at most.
    ///
    /// # Errors
    /// [`GenerateError::NoTokenizer`], those of the tokenizer.
    pub fn encode<'a>(&self, input: impl Into<Input<'a>>) -> Result<Tokens, Error> {
        let (text, pair) = match input.into() {
            Input::Text(text) => (text, None),
            Input::Pair(first, second) => (first, Some(second)),
        };
        let (ids, type_ids) = self.tokenizer()?.encode_input(text, pair, self.max_length)?;
        Ok(Tokens { ids, type_ids })
    }

    /// Of each text a vector `[D]`, or without pooling the hidden states of its tokens, `[T, D]`.
    ///
    /// # Errors
    /// As [`EncoderEngine::features`] and [`encode`](Self::encode).
    pub async fn features<'a, I: Into<Input<'a>>>(
        &mut self,
        inputs: impl IntoIterator<Item = I>,
        options: FeatureOptions,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let texts = inputs.into_iter().map(|input| self.encode(input)).collect::<Result<Vec<_>, Error>>()?;
        self.features_of(&texts, options).await
    }

    /// As [`features`](Self::features), of tokens.
    ///
    /// # Errors
    /// As [`EncoderEngine::features`].
    pub async fn features_of(&mut self, texts: &[Tokens], options: FeatureOptions) -> Result<Vec<Vec<f32>>, Error> {
        self.engine.features(texts, options).await
    }

    /// The model once over a text: what every layer makes of it, and the pooler.
    ///
    /// # Errors
    /// As [`EncoderEngine::forward`].
    pub async fn forward(&mut self, text: &Tokens) -> Result<Encoded, Error> {
        self.engine.forward(text).await
    }
}

/// A [`FeatureExtractor`] that several tasks of one thread use, one after another, in the order in which they came.
#[derive(Debug)]
pub struct SharedExtractor(Turns<FeatureExtractor>);

impl SharedExtractor {
    /// Shares it.
    #[must_use]
    pub fn new(extractor: FeatureExtractor) -> Self {
        Self(Turns::new(extractor))
    }

    /// The extractor, once nobody else runs it.
    pub async fn lock(&self) -> Turn<'_, FeatureExtractor> {
        self.0.wait().await
    }
}
