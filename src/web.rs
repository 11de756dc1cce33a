//! What JavaScript calls: `web/src/worker.ts` is its one caller, and `web/` has the API that pages see. Nothing is decided here:
//! values of JavaScript become those of Rust, and back.
#![cfg(target_arch = "wasm32")]

mod cache;
mod convert;
mod errors;
mod features;
mod generate;
mod kernels;
mod load;
mod opened;
mod profile;
mod saved;
mod source;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use js_sys::{Function, Promise, Uint32Array};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, AddEventListenerOptions};

use crate::device::{AdapterInfo, DeviceOptions, Ledger, find_adapter};
use crate::managers::batch::Strategy;
use crate::managers::blocks::CachePolicy;
use crate::managers::{self, CacheOptions, Dtype, Roofline, Wanted};
use crate::preprocess::{ChatTemplate, Message};
use crate::session::{LoadOptions, Shared};
use crate::source::browser::Keep;
use crate::tensor::CacheDtype;
use convert::{from_js, to_js};
use errors::{Failed, invalid};
use generate::{Done, Request, chat_options};
use kernels::Chosen;
use load::Loaded;
use opened::Opened;

/// `OpenOptions` of `web/src/wasm.ts`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OpenOptions {
    dtype: Option<String>,
    context: Option<u32>,
    prefill_chunk: Option<u32>,
    cache_dtype: Option<String>,
    cache_policy: Option<String>,
    batch_strategy: Option<String>,
    memory_limit: Option<u64>,
    gpu_layers: Option<u32>,
    portable: bool,
    autotune: Option<bool>,
    /// what earlier visits found, of any adapter, each as JSON
    kernels: Vec<String>,
    profile: Option<Value>,
    /// of the profile, by the names of `generation_config.json`
    #[serde(skip)]
    generation: Map<String, Value>,
    #[serde(flatten)]
    source: source::Options,
}

impl OpenOptions {
    /// `None` where none is asked for.
    fn dtype(&self) -> Result<Option<Dtype>, Failed> {
        let Some(name) = self.dtype.as_deref() else { return Ok(None) };
        let wrong = || invalid("dtype", &format!("{name:?} is none of q4, q4a, nf4, q8, f16, f32, auto"));
        Dtype::from_name(name).map(Some).ok_or_else(wrong)
    }

    fn strategy(&self) -> Result<Option<Strategy>, Failed> {
        let Some(text) = self.batch_strategy.as_deref() else { return Ok(None) };
        text.parse().map(Some).map_err(|error| invalid("batch_strategy", &format!("{error}")))
    }

    fn cache(&self) -> Result<CacheOptions, Failed> {
        let dtype = self.cache_dtype.as_deref().map(|name| {
            let wrong = || invalid("cache_dtype", &format!("{name:?} is none of f32, f16, q8, q4"));
            CacheDtype::from_name(name).ok_or_else(wrong)
        });
        let policy = self.cache_policy.as_deref().map(|name| {
            let wrong = || {
                invalid("cache_policy", &format!("{name:?} is none of full, window:N and snapkv:N, N of at least 128"))
            };
            CachePolicy::from_name(name).ok_or_else(wrong)
        });
        Ok(CacheOptions { dtype: dtype.transpose()?, policy: policy.transpose()?.unwrap_or_default() })
    }

    fn device(&self) -> DeviceOptions {
        DeviceOptions { portable: self.portable, memory_limit: self.memory_limit, ..DeviceOptions::default() }
    }
}

/// A model on the GPU.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Model {
    opened: Opened<Shared>,
    chat_template: ChatTemplate,
}

#[wasm_bindgen]
impl Model {
    /// Opens a model: `ModelSpec`, `OpenOptions`, a listener of `LoadEvent`s.
    ///
    /// # Errors
    /// Errors of JavaScript, whose `name` is that of a class of `web/src/errors.ts`.
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
        let mut options = OpenOptions::read(options, spec)?;
        tell(json!({ "type": "stage", "stage": "config" }));
        let dtype = options.dtype()?;
        let (device, kernels) = Chosen::open(&options, &tell).await?;
        let source = source::open(spec, &options.source, Some(on_event)).await?;
        let keep = options.source.keep()? == Keep::Quantized;
        let dtype = match dtype {
            Some(dtype) => dtype,
            None => managers::default_of_pages(&source).await?,
        };
        let load = LoadOptions {
            dtype,
            context: options.context,
            prefill_chunk: options.prefill_chunk,
            cache: options.cache()?,
            gpu_layers: options.gpu_layers,
            warm_up: true,
            weights_file: None,
        };
        let strategy = options.strategy()?;
        let Loaded { mut session, bytes, weights_ms, from } = Loaded::of(&device, &source, &load, keep, &tell).await?;
        session.set_settings(std::mem::take(&mut options.generation))?;
        if let Some(strategy) = strategy {
            session.set_strategy(strategy);
        }
        tell(json!({ "type": "stage", "stage": "ready" }));
        let precision = session.precision();
        let mut defaults = session.generation_config().as_object().cloned().unwrap_or_default();
        defaults.extend(session.settings().clone());
        let info = json!({
            "model_type": session.model_type(),
            "architecture": session.architecture(),
            "dtype": precision.dtype.name(),
            "quantization": session.quantization(),
            "dtype_reason": session.recommendation().map(|told| &told.reason),
            "activations": precision.activations.to_string(),
            "cache_dtype": precision.cache.name(),
            "cache_policy": load.cache.policy.name(),
            "context": session.engine().context(),
            "offload": session.offload(),
            "found_budget": session.found_budget(),
            "has_tokenizer": session.tokenizer().is_ok(),
            "has_chat_template": session.chat_template().names().len() > 0,
            "extra_tensors": session.extra_tensors(),
            "generation_defaults": defaults,
            "adapter": report(device.info()),
            "parameters": session.parameters(),
            "traffic": {
                "weights": session.traffic().weights,
                "cache_per_token": session.traffic().cache(1),
                "operations_per_token": 2 * session.traffic().parameters,
            },
            "load": {
                "ms": started.elapsed().as_secs_f64() * 1e3, "weights_ms": weights_ms, "bytes": bytes,
                "verified_bytes": source.verified(), "from": from,
            },
            "wasm_memory": wasm_memory(),
        });
        let tokenizer = session.tokenizer().ok().cloned();
        let (chat_template, place) = (session.chat_template().clone(), source.describe());
        Ok(Self { opened: Opened::new(device, kernels, Shared::new(session), tokenizer, place, info), chat_template })
    }

    /// `ModelInfo`.
    #[must_use]
    pub fn info(&self) -> JsValue {
        self.opened.info()
    }

    /// `MemoryUse`.
    #[must_use]
    pub fn memory(&self) -> JsValue {
        self.opened.memory()
    }

    /// `MemoryReport`.
    #[must_use]
    pub fn memory_report(&self) -> JsValue {
        self.opened.memory_report()
    }

    /// `PrecisionReport`, once no step runs.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub async fn precision(&self) -> Result<JsValue, JsValue> {
        let shared = self.opened.model()?;
        let told = shared.lock().await.engine().precision_report();
        Ok(to_js(&told.to_json()))
    }

    /// `KernelReport`, or `null`: which kernels the model takes, and why.
    #[must_use]
    pub fn kernels(&self) -> JsValue {
        self.opened.kernels()
    }

    /// The same, once it was measured what is fastest, where that was not yet. Aborted, nothing changes.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub async fn measure_kernels(&self, signal: AbortSignal) -> Result<JsValue, JsValue> {
        Ok(self.opened.measure_kernels(&signal).await?)
    }

    /// `Roofline` of the model's GPU, measured while no step runs.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub async fn roofline(&self) -> Result<JsValue, JsValue> {
        // in a box, so that its states are not copied into what is made for JavaScript
        let measuring: Pin<Box<dyn Future<Output = _>>> = Box::pin(Roofline::measure(self.opened.device()));
        Ok(to_js(&measuring.await.map_err(Failed::from)?))
    }

    /// Token ids of a text.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Uint32Array, JsValue> {
        Ok(self.opened.encode(text, add_special_tokens)?)
    }

    /// The text of token ids.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, JsValue> {
        Ok(self.opened.decode(ids, skip_special_tokens)?)
    }

    /// What the model's template makes of messages.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn chat_prompt(&self, messages: JsValue, options: JsValue) -> Result<String, JsValue> {
        let messages: Vec<Message> = from_js(&messages, "messages")?;
        let options = chat_options(from_js(&options, "chat")?)?;
        Ok(self.chat_template.render(&messages, &options).map_err(Failed::from)?)
    }

    /// Generates; `on_piece` hears of every token. Several calls may be under way at once: they run in the same steps. Aborted, it gives
    /// what there is, as `abort`.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub async fn generate(
        &self,
        request: JsValue,
        on_piece: Function,
        signal: AbortSignal,
    ) -> Result<JsValue, JsValue> {
        let request: Request = from_js(&request, "request")?;
        let shared = self.opened.model()?;
        let mut done = Done::default();
        let work = generate::generate(&shared, &request, &on_piece, &mut done);
        match until_aborted(&signal, work).await {
            None => done.finish_reason = "abort",
            Some(result) => result?,
        }
        Ok(to_js(&done.to_json()))
    }

    /// Forgets what ended generations left in the cache.
    ///
    /// # Errors
    /// `BusyError` while a step runs.
    pub fn reset(&self) -> Result<(), JsValue> {
        self.opened.model()?.try_lock().ok_or_else(errors::busy)?.engine_mut().reset();
        Ok(())
    }

    /// Destroys the device, as a driver's reset does: what comes next fails with `DeviceLostError`. For tests of recovery.
    pub fn lose_device(&self) {
        self.opened.lose_device();
    }

    /// Gives all memory of the GPU back: `MemoryUse` of what is left, which is nothing.
    ///
    /// # Errors
    /// `BusyError` while a generation is under way.
    pub fn close(&self) -> Result<JsValue, JsValue> {
        Ok(self.opened.close()?)
    }
}

/// `Inspection`: what a model is and takes, from its config and headers alone.
///
/// # Errors
/// As [`Model::open`].
#[wasm_bindgen]
pub async fn inspect(spec: JsValue, options: JsValue, signal: AbortSignal) -> Result<JsValue, JsValue> {
    let work = async {
        let options = OpenOptions::read(&options, &spec)?;
        let adapter = find_adapter(&options.device()).await?;
        let source = source::open(&spec, &options.source.keeping_nothing_new(), None).await?;
        let cache = options.cache()?;
        let OpenOptions { memory_limit: budget, context, prefill_chunk, gpu_layers, .. } = options;
        let wanted = Wanted { budget, context, prefill_chunk, cache, gpu_layers, bytes_per_second: None };
        let seen = managers::inspect_weights(&source, Some(&adapter), wanted).await?;
        let mut seen = serde_json::to_value(seen).unwrap_or_default();
        seen["adapter"] = report(&adapter);
        seen["wanted"] = json!({ "dtype": options.dtype, "context": context });
        Ok::<_, Failed>(to_js(&seen))
    };
    until_aborted(&signal, work).await.unwrap_or_else(|| Err(errors::aborted())).map_err(Failed::into)
}

/// `AdapterReport` of the GPU that this browser gives.
///
/// # Errors
/// `WebGPUUnavailableError`.
#[wasm_bindgen]
pub async fn adapter() -> Result<JsValue, JsValue> {
    let adapter = find_adapter(&DeviceOptions::default()).await;
    adapter.map(|adapter| to_js(&report(&adapter))).map_err(|error| Failed::from(error).into())
}

fn report(adapter: &AdapterInfo) -> Value {
    let has = |feature: &str| adapter.features.contains(&feature);
    json!({
        "name": adapter.name,
        "kind": adapter.kind,
        "backend": adapter.backend,
        "features": { "shader_f16": has("f16"), "subgroups": has("subgroups"), "timestamps": has("timestamps") },
        "limits": { "max_binding": adapter.max_binding, "max_buffer": adapter.max_buffer },
    })
}

/// What `MemoryUse` has of a `MemoryReport`.
const USE: [&str; 5] = ["total", "peak", "categories", "peak_categories", "wasm"];

fn memory_report(ledger: &Ledger) -> Value {
    let mut report = serde_json::to_value(ledger.report()).unwrap_or_default();
    report["wasm"] = wasm_memory().into();
    report
}

/// Bytes of the module's own memory: it never shrinks.
fn wasm_memory() -> u64 {
    core::arch::wasm32::memory_size(0) as u64 * 65_536
}

/// The result of `work`; `None` where the signal came first: then `work` is dropped, which ends its requests.
async fn until_aborted<T>(signal: &AbortSignal, work: impl Future<Output = T>) -> Option<T> {
    if signal.aborted() {
        return None;
    }
    let once = AddEventListenerOptions::new();
    once.set_once(true);
    let mut listener = None;
    let aborted = Promise::new(&mut |resolve, _| {
        let _ = signal.add_event_listener_with_callback_and_add_event_listener_options("abort", &resolve, &once);
        listener = Some(resolve);
    });
    let (mut work, mut aborted) = (pin!(work), pin!(JsFuture::from(aborted)));
    let result = poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => aborted.as_mut().poll(context).map(|_| None),
    });
    let result = result.await;
    if let Some(listener) = listener {
        let _ = signal.remove_event_listener_with_callback("abort", &listener);
    }
    result
}

/// Tells the console of a panic, which is a mistake of ours: JavaScript only sees a trap.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| {
        web_sys::console::error_1(&format!("webweft: internal error, please report it: {panic}").into());
    }));
}
