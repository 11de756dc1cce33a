//! The API: open a model, generate, look inside.

mod features;
mod loading;
mod pool;
mod saved;
mod settings;
mod shared;
mod turns;

use std::rc::Rc;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::device::{Buffer, Device, Ownership};
use crate::error::{ConfigError, DeviceError, Error, GenerateError};
use crate::generate::{
    Engine, Event, GenerateOptions, Generation, Hidden, SequenceId, Settled, TextGeneration, Texts, Timing,
};
use crate::managers::batch::Strategy;
use crate::managers::{
    Architecture, CacheOptions, Dtype, Model, ModelFiles, Offload, Precision, Recommendation, Traffic,
};
use crate::models::ModelConfig;
use crate::preprocess::{ChatOptions, ChatTemplate, Message, Tokenizer};
use crate::quant::Side;
use crate::source::Source;
use crate::weights::{Arrangement, Image, Progress};
use loading::{LoadedFacts, Loading};

pub use features::{FeatureExtractor, Input, SharedExtractor};
pub use pool::{ModelPool, Pooled};
pub use shared::{Shared, SharedText};

/// How to load a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// How weights are stored.
    pub dtype: Dtype,
    /// The most positions of a sequence. `None`: the model's, bounded by 1 GiB of cache and the adapter's largest binding.
    pub context: Option<u32>,
    /// The most tokens of a prompt in one step. `None`: by [`prefill_chunk`](crate::managers::prefill_chunk), 512 for small models, fewer
    /// for large.
    pub prefill_chunk: Option<u32>,
    /// How keys and values are kept.
    pub cache: CacheOptions,
    /// Layers that stay on the GPU, the first ones; the others are kept in the host's memory (in a browser, in a file of the page's own) and
    /// are copied there for every step. `None`: all, or as many as [`DeviceOptions::memory_limit`](crate::device::DeviceOptions::memory_limit)
    /// holds.
    pub gpu_layers: Option<u32>,
    /// Compile the kernels of short prompts and of decoding as soon as the GPU waits for bytes, and not with the first prompt. Where
    /// bytes come faster than they are converted, the first prompt still does.
    pub warm_up: bool,
    /// The safetensors file that has the weights, in place of `model.safetensors`: one that was made of
    /// [`Session::image`], say.
    pub weights_file: Option<String>,
}

/// What is to be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt<'a> {
    /// To be encoded as [`Session::encode`] does.
    Text(&'a str),
    /// As the model takes it.
    Ids(&'a [u32]),
}

impl<'a> From<&'a str> for Prompt<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u32]> for Prompt<'a> {
    fn from(ids: &'a [u32]) -> Self {
        Self::Ids(ids)
    }
}

/// An opened model: weights on the GPU, tokenizer, defaults.
#[derive(Debug)]
pub struct Session {
    engine: Engine,
    texts: Texts,
    tokenizer: Option<Tokenizer>,
    chat_template: ChatTemplate,
    /// what `config.json` says, and what `generation_config.json` says over it
    base: GenerateOptions,
    generation_config: Value,
    /// what was given over them, by the names of that file
    settings: Map<String, Value>,
    defaults: GenerateOptions,
    quantization: Option<&'static str>,
    recommendation: Option<Recommendation>,
    offload: Option<Offload>,
    found_budget: Option<u64>,
    model_type: String,
    architecture: Architecture,
    traffic: Traffic,
    extra: Vec<String>,
    parameters: u64,
    files: Vec<String>,
    place: String,
    /// SHA-256 of `config.json`, and what [`Session::fingerprint`] made of it and the weights, once it was asked for
    config: [u8; 32],
    fingerprint: Option<String>,
    /// whose the buffers are; dropped after them
    _ownership: Ownership,
}

impl Session {
    /// Opens the folder `source` (a Hugging Face checkpoint) on `device`. `progress` hears of every chunk.
    ///
    /// # Errors
    /// Whatever is wrong with the files, by name; what the device refuses.
    pub async fn open(
        device: &Device,
        source: &Source,
        options: &LoadOptions,
        mut progress: impl FnMut(Progress<'_>),
    ) -> Result<Self, Error> {
        let place = source.describe();
        let (device, ownership) = device.owned_by(&place);
        let device = &device;
        let files = ModelFiles::open(source).await?;
        let json = files.config().await?;
        let config = match files.model_config(&json)? {
            ModelConfig::Decoder(config) => config,
            other => return Err(ConfigError::OtherTask { asked: "text-generation", task: other.task() }.into()),
        };
        let model_type = json["model_type"].as_str().unwrap_or_default().to_owned();
        let digest = Sha256::digest(json.to_string()).into();
        let (bos_token_id, eos_token_id) = (config.bos_token_id, config.eos_token_id.clone());
        let generation_config = files.generation_config().await?;
        let base = GenerateOptions { bos_token_id, eos_token_id, ..GenerateOptions::default() };
        let defaults = base.clone().with_config(&generation_config)?;
        let tokenizer = files.tokenizer().await?;
        if let Some(tokenizer) = &tokenizer
            && tokenizer.base_vocab_size() > config.vocab_size as usize
        {
            let max_id = tokenizer.id_bound().saturating_sub(1);
            return Err(GenerateError::TokenizerMismatch { max_id, vocab: config.vocab_size }.into());
        }
        let chat_template = files.chat_template().await?;

        let checkpoint = files.checkpoint(options.weights_file.as_deref()).await?;
        let quantization = files.quantization(&json).await?;
        // a vocabulary of text takes tens of megabytes, and is not needed while weights come
        drop(files);
        let side = Side::read(source, &checkpoint, &quantization).await?;
        let model = Model { config: &config, checkpoint: &checkpoint, quantization: &quantization };
        let others = device.ledger().snapshot().total;
        let mut found_budget = None;
        let mut loading = Loading::plan(device, model, options, None)?;
        let made = loop {
            let mut held = 0;
            let short = match loading.load(device, source, model, &side, options, &mut progress, &mut held).await {
                Err(Error::Device(short @ DeviceError::OutOfMemory { .. }))
                    if device.memory_limit().is_none() && options.gpu_layers.is_none() && held > others =>
                {
                    short
                }
                made => break made?,
            };
            // what it gave before it refused is all that is known of its memory
            let found = (held - others).min(found_budget.map_or(u64::MAX, |before: u64| before / 10 * 9));
            tracing::warn!(bytes = found, "the adapter gave no more memory");
            found_budget = Some(found);
            loading = Loading::plan(device, model, options, found_budget).map_err(|error| match (error, short) {
                (
                    Error::Device(DeviceError::NothingFits { reason: why }),
                    DeviceError::OutOfMemory { label, size, reason },
                ) => DeviceError::OutOfMemory { label, size, reason: format!("{reason}; {why}") }.into(),
                (error, _) => error,
            })?;
        };
        let Loading { recommendation, offload, .. } = loading;
        let (mut engine, offloaded, asked, facts) = made;
        let (quantized, files) = (quantization.name(), checkpoint.files().to_vec());
        let settled = Settled {
            cache: options.cache.dtype.is_some(),
            context: options.context.is_some(),
            layers: options.gpu_layers.is_some(),
        };
        let arrangement = Arrangement::new(Rc::unwrap_or_clone(checkpoint), quantization, side, asked);
        engine.set_loaded(offloaded, arrangement, settled);
        let LoadedFacts { extra, architecture, traffic, parameters } = facts;
        Ok(Self {
            engine,
            texts: Texts::default(),
            tokenizer,
            chat_template,
            base,
            generation_config,
            settings: Map::new(),
            defaults,
            quantization: quantized,
            recommendation,
            offload,
            found_budget,
            model_type,
            architecture,
            traffic,
            extra,
            parameters,
            files,
            place,
            config: digest,
            fingerprint: None,
            _ownership: ownership,
        })
    }

    /// Bytes that the adapter was found to give, where it refused more while the model was loaded and no limit had been set: what was
    /// chosen fits into that.
    #[must_use]
    pub fn found_budget(&self) -> Option<u64> {
        self.found_budget
    }

    /// What runs.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What runs, to change its settings.
    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Has `assistant`, a smaller model with the same tokenizer that was opened on the same device, guess the next tokens (assisted generation):
    /// [`num_assistant_tokens`](GenerateOptions::num_assistant_tokens) at each step. They are looked at in one step of this model, and its tokens
    /// stay the same. `None`: no more.
    ///
    /// # Errors
    /// [`GenerateError::Setting`] for one that does not fit, and while sequences run.
    pub fn set_assistant(&mut self, assistant: Option<Self>) -> Result<(), Error> {
        let Some(Self { engine, tokenizer, model_type, _ownership, .. }) = assistant else {
            return self.engine.set_assistant(None);
        };
        if let (Some(own), Some(other)) = (&self.tokenizer, &tokenizer) {
            let same = |id| own.id_to_token(id) == other.id_to_token(id);
            if !(0..own.id_bound().max(other.id_bound())).all(same) {
                let (name, expected) = ("assistant_model", "one with the same tokenizer");
                return Err(GenerateError::Setting { name, got: model_type, expected }.into());
            }
        }
        self.engine.set_assistant(Some((engine, _ownership)))
    }

    /// The types that were chosen, but for what was given up since ([`Engine::concessions`]).
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.engine.precision()
    }

    /// What `auto` became, and why; `None` where a dtype was given.
    #[must_use]
    pub fn recommendation(&self) -> Option<&Recommendation> {
        self.recommendation.as_ref()
    }

    /// Which layers do not stay on the GPU, where some do not.
    #[must_use]
    pub fn offload(&self) -> Option<&Offload> {
        self.offload.as_ref()
    }

    /// How another tool quantized the checkpoint (`gptq`, `awq`, ...), if one did.
    #[must_use]
    pub fn quantization(&self) -> Option<&'static str> {
        self.quantization
    }

    /// `model_type`, as `config.json` says.
    #[must_use]
    pub fn model_type(&self) -> &str {
        &self.model_type
    }

    /// `generation_config.json` as it is; null where there is none.
    #[must_use]
    pub fn generation_config(&self) -> &Value {
        &self.generation_config
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

    /// What it moves and computes for a token.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Tensors of the checkpoint that the architecture does not use.
    #[must_use]
    pub fn extra_tensors(&self) -> &[String] {
        &self.extra
    }

    /// The files that the weights were read from.
    #[must_use]
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// The weights as a file that [`LoadOptions::weights_file`] takes, at the same dtype: converted already, so that q4 is a quarter
    /// of the checkpoint's bytes.
    #[must_use]
    pub fn image(&mut self) -> Image<'_> {
        self.engine.image()
    }

    /// What `generation_config.json` says ([`GenerateOptions::with_config`]), with [`settings`](Self::settings) over it, over the first and
    /// end tokens of `config.json`; greedy where they do not sample.
    #[must_use]
    pub fn defaults(&self) -> &GenerateOptions {
        &self.defaults
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`GenerateError::NoTokenizer`] where the folder has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        self.tokenizer.as_ref().ok_or_else(|| GenerateError::NoTokenizer { place: self.place.clone() }.into())
    }

    /// A prompt's token ids, with what the tokenizer adds of its own: its post-processor decides, as in transformers 5 (which
    /// no longer heeds `add_bos_token` beside a `tokenizer.json`). A text that already begins with the first token's name, as
    /// chat templates write it, is not given a second one. An empty text is that token alone.
    ///
    /// # Errors
    /// [`GenerateError::NoTokenizer`], [`GenerateError::EmptyPrompt`], those of the tokenizer.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let tokenizer = self.tokenizer()?;
        let mut ids = tokenizer.encode(text, true)?;
        // what the tokenizer puts before a text
        if let Some(&bos) = ids.first()
            && ids.get(1) == Some(&bos)
            && tokenizer.id_to_token(bos).is_some_and(|name| text.starts_with(&name))
        {
            ids.remove(0);
        }
        if ids.is_empty() {
            ids.extend(self.defaults.bos_token_id);
        }
        if ids.is_empty() { Err(GenerateError::EmptyPrompt.into()) } else { Ok(ids) }
    }

    /// How messages become a prompt.
    #[must_use]
    pub fn chat_template(&self) -> &ChatTemplate {
        &self.chat_template
    }

    /// The prompt of a chat, as transformers' `apply_chat_template` has it: the template writes every special token itself, so
    /// the tokenizer adds none.
    ///
    /// # Errors
    /// [`ChatError`](crate::error::ChatError) where there is no template, or it fails; [`GenerateError::NoTokenizer`],
    /// [`GenerateError::EmptyPrompt`].
    pub fn chat_prompt(&self, messages: &[Message], options: &ChatOptions) -> Result<Vec<u32>, Error> {
        let text = self.chat_template.render(messages, options)?;
        let ids = self.tokenizer()?.encode(&text, false)?;
        if ids.is_empty() { Err(GenerateError::EmptyPrompt.into()) } else { Ok(ids) }
    }

    /// How its weights are stored: format, weights and bytes of each buffer's worth of rows.
    pub fn formats(&self) -> impl Iterator<Item = (String, usize, u64)> {
        let parts = self.engine.made().iter().flat_map(|made| &made.weight.parts);
        parts.map(|part| {
            let others = part.scales.iter().chain(part.order.as_ref().map(|order| &order.inputs));
            (part.storage.name(), 1, part.data.size() + others.map(Buffer::size).sum::<u64>())
        })
    }

    /// Begins to generate after `prompt`. An empty one is `options.bos_token_id`.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub async fn generate(&mut self, prompt: &[u32], options: GenerateOptions) -> Result<Generation<'_>, Error> {
        let bos = options.bos_token_id;
        self.engine.generate(if prompt.is_empty() { bos.as_slice() } else { prompt }, options).await
    }

    /// Begins to generate text after `prompt`, a text or token ids; an empty one is `options.bos_token_id`. Without a
    /// tokenizer (and with ids), the texts are empty.
    ///
    /// # Errors
    /// As [`Engine::generate_text`] and [`encode`](Self::encode).
    pub async fn generate_text(
        &mut self,
        prompt: impl Into<Prompt<'_>>,
        options: GenerateOptions,
    ) -> Result<TextGeneration<'_>, Error> {
        self.resume_text(prompt, &[], options).await
    }

    /// As [`generate_text`](Self::generate_text), of a text that has already given out the tokens `given`, on a device that is
    /// now lost, say: what comes is what would have come after them.
    ///
    /// # Errors
    /// As [`generate_text`](Self::generate_text).
    pub async fn resume_text(
        &mut self,
        prompt: impl Into<Prompt<'_>>,
        given: &[u32],
        options: GenerateOptions,
    ) -> Result<TextGeneration<'_>, Error> {
        let ids = self.prompt_ids(prompt.into(), &options)?;
        self.engine.generate_text(self.tokenizer.as_ref(), &ids, given, options).await
    }

    fn prompt_ids(&self, prompt: Prompt<'_>, options: &GenerateOptions) -> Result<Vec<u32>, Error> {
        Ok(match prompt {
            Prompt::Text(text) => self.encode(text)?,
            Prompt::Ids([]) => options.bos_token_id.into_iter().collect(),
            Prompt::Ids(ids) => ids.to_vec(),
        })
    }

    /// Asks for a text beside others: they run together, each with settings of its own, and [`step`](Self::step) tells what becomes of
    /// them. A text whose tokens come with log-probabilities, or whose `lookahead` is 0, runs alone.
    ///
    /// # Errors
    /// What is wrong with the request, as [`generate_text`](Self::generate_text) says.
    pub fn add<'a>(&mut self, prompt: impl Into<Prompt<'a>>, options: GenerateOptions) -> Result<SequenceId, Error> {
        self.add_resumed(prompt, &[], options)
    }

    /// As [`add`](Self::add), of a text that has already given out the tokens `given`.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_resumed<'a>(
        &mut self,
        prompt: impl Into<Prompt<'a>>,
        given: &[u32],
        options: GenerateOptions,
    ) -> Result<SequenceId, Error> {
        let ids = self.prompt_ids(prompt.into(), &options)?;
        self.texts.add(&mut self.engine, self.tokenizer.as_ref(), &ids, given, options)
    }

    /// Runs the texts that were asked for until there is something to tell. Nothing at all: all of them have ended.
    ///
    /// # Errors
    /// Those of the device, which fail all. What is wrong with one text is its [`Event::Failed`].
    pub async fn step(&mut self) -> Result<Vec<(SequenceId, Event)>, Error> {
        self.texts.step(&mut self.engine).await
    }

    /// Sets how many texts run at once, and when those that wait begin.
    pub fn set_strategy(&mut self, strategy: Strategy) {
        self.engine.set_strategy(strategy);
    }

    /// How long a text took so far.
    #[must_use]
    pub fn timing(&self, id: SequenceId) -> Timing {
        self.engine.timing(id)
    }

    /// Ends a text after the token that was told last. What was computed beyond it is rolled back.
    pub fn remove(&mut self, id: SequenceId) {
        self.texts.remove(&mut self.engine, id);
    }

    /// The model once over `ids`: every position's hidden state and logits.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub async fn forward(&mut self, ids: &[u32]) -> Result<Hidden, Error> {
        self.engine.forward(ids).await
    }

    /// As [`forward`](Self::forward), with the residual stream before the first layer and after every one.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub async fn forward_with_hidden_states(&mut self, ids: &[u32]) -> Result<Hidden, Error> {
        self.engine.forward_with_hidden_states(ids).await
    }

    /// As [`forward_with_hidden_states`](Self::forward_with_hidden_states), of a text whose first `prompt` tokens are a prompt.
    ///
    /// # Errors
    /// As [`Engine::forward_after_prompt`].
    pub async fn forward_after_prompt(&mut self, ids: &[u32], prompt: usize) -> Result<Hidden, Error> {
        self.engine.forward_after_prompt(ids, prompt).await
    }
}
