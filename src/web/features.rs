//! An encoder, as JavaScript sees it.

use js_sys::{Float32Array, Function, Object, Reflect, Uint32Array};
use serde::Deserialize;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;
use web_sys::AbortSignal;

use super::convert::{from_js, to_js};
use super::errors::{self, Failed, invalid};
use super::kernels::Chosen;
use super::opened::Opened;
use super::source::Files;
use super::{OpenOptions, report, source, until_aborted, wasm_memory};
use crate::encode::{FeatureOptions, Pooling, Tokens};
use crate::error::Error;
use crate::managers::Dtype;
use crate::session::{FeatureExtractor, Input, LoadOptions, SharedExtractor};
use crate::source::browser::Keep;

/// A text, or two that belong together.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Text {
    One(String),
    Two(String, String),
}

/// `FeaturesRequest` of `web/src/wasm.ts`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Request {
    texts: Vec<Text>,
    pooling: Option<String>,
    normalize: bool,
}

/// An encoder on the GPU.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Extractor(Opened<SharedExtractor>);

#[wasm_bindgen]
impl Extractor {
    /// Opens an encoder: `ModelSpec`, `OpenOptions`, a listener of `LoadEvent`s.
    ///
    /// # Errors
    /// As [`Model::open`](super::Model::open).
    pub async fn open(
        spec: JsValue,
        options: JsValue,
        on_event: Function,
        signal: AbortSignal,
    ) -> Result<Self, JsValue> {
        let work = Self::opened(&spec, &options, &on_event);
        until_aborted(&signal, work).await.unwrap_or_else(|| Err(errors::aborted())).map_err(Failed::into)
    }

    async fn opened(spec: &JsValue, options: &JsValue, on_event: &Function) -> Result<Self, Failed> {
        let tell = |event: Value| {
            // A listener that throws is the page's own affair.
            let _ = on_event.call1(&JsValue::NULL, &to_js(&event));
        };
        let started = web_time::Instant::now();
        let options = OpenOptions::read(options, spec)?;
        options.check_encoder()?;
        tell(json!({ "type": "stage", "stage": "config" }));
        let (device, kernels) = Chosen::open(&options, &tell).await?;
        let source = source::open(spec, &options.source, Some(on_event)).await?;
        let load = LoadOptions {
            // encoders are small, and a vector shows every bit
            dtype: options.dtype()?.unwrap_or(Dtype::Auto),
            context: options.context,
            prefill_chunk: options.prefill_chunk,
            ..LoadOptions::default()
        };
        let mut files = Files::new(&source, &tell);
        files.announce_small().await?;
        let (mut bytes, mut began) = (0, None);
        let extractor = FeatureExtractor::open(&device, &source, &load, |at| {
            began.get_or_insert_with(web_time::Instant::now);
            bytes = at.total;
            files.progress(&at);
        });
        let extractor = extractor.await?;
        let weights_ms = began.map_or(0.0, |began| began.elapsed().as_secs_f64() * 1e3);
        let from = files.finish();
        tell(json!({ "type": "stage", "stage": "ready" }));
        let precision = extractor.engine().precision();
        let info = json!({
            "model_type": extractor.model_type(),
            "architecture": extractor.architecture(),
            "dtype": precision.dtype.name(),
            "quantization": extractor.quantization(),
            "activations": precision.activations.to_string(),
            "cache_dtype": precision.cache.name(),
            "cache_policy": "full",
            "context": extractor.max_length(),
            "has_tokenizer": extractor.tokenizer().is_ok(),
            "has_chat_template": false,
            "extra_tensors": extractor.extra_tensors(),
            "generation_defaults": {},
            "adapter": report(device.info()),
            "parameters": extractor.parameters(),
            "load": {
                "ms": started.elapsed().as_secs_f64() * 1e3, "weights_ms": weights_ms, "bytes": bytes,
                "verified_bytes": source.verified(), "from": from,
            },
            "wasm_memory": wasm_memory(),
        });
        let tokenizer = extractor.tokenizer().ok().cloned();
        let place = source.describe();
        Ok(Self(Opened::new(device, kernels, SharedExtractor::new(extractor), tokenizer, place, info)))
    }

    /// `ModelInfo`.
    #[must_use]
    pub fn info(&self) -> JsValue {
        self.0.info()
    }

    /// `MemoryUse`.
    #[must_use]
    pub fn memory(&self) -> JsValue {
        self.0.memory()
    }

    /// `MemoryReport`.
    #[must_use]
    pub fn memory_report(&self) -> JsValue {
        self.0.memory_report()
    }

    /// `PrecisionReport`, once no step runs.
    ///
    /// # Errors
    /// As [`Extractor::open`].
    pub async fn precision(&self) -> Result<JsValue, JsValue> {
        let shared = self.0.model()?;
        let told = shared.lock().await.engine().precision_report();
        Ok(to_js(&told.to_json()))
    }

    /// As [`Model::kernels`](super::Model::kernels).
    #[must_use]
    pub fn kernels(&self) -> JsValue {
        self.0.kernels()
    }

    /// As [`Model::measure_kernels`](super::Model::measure_kernels).
    ///
    /// # Errors
    /// As [`Extractor::open`].
    pub async fn measure_kernels(&self, signal: AbortSignal) -> Result<JsValue, JsValue> {
        Ok(self.0.measure_kernels(&signal).await?)
    }

    /// Token ids of a text.
    ///
    /// # Errors
    /// As [`Extractor::open`].
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Uint32Array, JsValue> {
        Ok(self.0.encode(text, add_special_tokens)?)
    }

    /// The text of token ids.
    ///
    /// # Errors
    /// As [`Extractor::open`].
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, JsValue> {
        Ok(self.0.decode(ids, skip_special_tokens)?)
    }

    /// `Features` of a `FeaturesRequest`. Calls run one after another.
    ///
    /// # Errors
    /// As [`Extractor::open`].
    pub async fn features(&self, request: JsValue, signal: AbortSignal) -> Result<JsValue, JsValue> {
        let request: Request = from_js(&request, "request")?;
        let work = self.extracted(&request);
        until_aborted(&signal, work).await.unwrap_or_else(|| Err(errors::aborted())).map_err(Failed::into)
    }

    async fn extracted(&self, request: &Request) -> Result<JsValue, Failed> {
        let wrong = |name: &str| invalid("pooling", &format!("{name:?} is none of none, mean, cls"));
        let pooling = request.pooling.as_deref().map(|name| Pooling::from_name(name).ok_or_else(|| wrong(name)));
        let options =
            FeatureOptions { pooling: pooling.transpose()?.unwrap_or_default(), normalize: request.normalize };
        let shared = self.0.model()?;
        let mut extractor = shared.lock().await;
        let texts = request.texts.iter().map(|text| match text {
            Text::One(text) => extractor.encode(text.as_str()),
            Text::Two(first, second) => extractor.encode(Input::Pair(first, second)),
        });
        let texts = texts.collect::<Result<Vec<Tokens>, Error>>()?;
        let made = extractor.features_of(&texts, options).await?;
        let dim = extractor.dim();
        let longest = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
        let (dims, each) = match options.pooling {
            Pooling::None => (vec![made.len(), longest, dim], longest * dim),
            Pooling::Mean | Pooling::Cls => (vec![made.len(), dim], dim),
        };
        // zeros pad texts that are shorter
        let data = Float32Array::new_with_length((made.len() * each) as u32);
        for (text, values) in made.iter().enumerate() {
            let begin = (text * each) as u32;
            data.subarray(begin, begin + values.len() as u32).copy_from(values);
        }
        let tokens: Vec<u32> = texts.iter().map(|text| text.ids.len() as u32).collect();
        let features = Object::new();
        // an object that was just made takes any property
        let set = |name: &str, value: &JsValue| drop(Reflect::set(&features, &name.into(), value));
        set("data", &data);
        set("dims", &to_js(&json!(dims)));
        set("tokens", &to_js(&json!(tokens)));
        Ok(features.into())
    }

    /// As [`Model::lose_device`](super::Model::lose_device).
    pub fn lose_device(&self) {
        self.0.lose_device();
    }

    /// As [`Model::close`](super::Model::close).
    ///
    /// # Errors
    /// `BusyError` while a call is under way.
    pub fn close(&self) -> Result<JsValue, JsValue> {
        Ok(self.0.close()?)
    }
}

impl OpenOptions {
    /// Refuses what says how texts are generated.
    fn check_encoder(&self) -> Result<(), Failed> {
        let given = [
            ("cache_dtype", self.cache_dtype.is_some()),
            ("cache_policy", self.cache_policy.is_some()),
            ("batch_strategy", self.batch_strategy.is_some()),
            ("gpuLayers", self.gpu_layers.is_some()),
        ];
        if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
            return Err(invalid(name, "feature extraction has no such option"));
        }
        if self.source.keep()? == Keep::Quantized {
            return Err(invalid("cache", "the files of an encoder are kept as they are: give true"));
        }
        Ok(())
    }
}
