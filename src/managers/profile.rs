//! Profiles: how a model is opened and how it generates, in one mapping, by the names of transformers' `from_pretrained` and `generate`.

mod names;

use serde_json::{Map, Value};

use super::batch::Strategy;
use super::blocks::CachePolicy;
use super::{Dtype, parse_size};
use crate::error::ProfileError;
use crate::tensor::CacheDtype;

/// How a model is opened and how it generates; `None` where the profile says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// What to open: a name on the Hub, a folder, an address.
    pub model: Option<String>,
    /// Branch, tag or commit on the Hub.
    pub revision: Option<String>,
    /// Which GGUF file is meant.
    pub gguf_file: Option<String>,
    /// How weights are stored: what `torch_dtype` and `quantization` come to.
    pub dtype: Option<Dtype>,
    /// The most bytes of GPU memory.
    pub max_memory: Option<u64>,
    /// Layers that stay on the GPU.
    pub gpu_layers: Option<u32>,
    /// The most positions of a sequence.
    pub context: Option<u32>,
    /// The most tokens of a prompt in one step.
    pub prefill_chunk: Option<u32>,
    /// How keys and values are stored.
    pub cache_dtype: Option<CacheDtype>,
    /// What is kept of long sequences.
    pub cache_policy: Option<CachePolicy>,
    /// When waiting sequences begin.
    pub batch_strategy: Option<Strategy>,
    /// Settings of generations, by the names of `generation_config.json`, as
    /// [`Session::set_settings`](crate::session::Session::set_settings) takes them; their values are looked at there.
    pub generation: Map<String, Value>,
}

/// A mapping, of which `null` says nothing, and where it lies.
struct Keys<'a> {
    map: &'a Map<String, Value>,
    /// `outer.`, or nothing
    within: &'static str,
}

const DTYPES: &str = "auto, float32, float16 or bfloat16, or one of f32, f16, q8, q4a, q4, nf4";

impl Profile {
    /// Reads what a file of YAML or JSON came to.
    ///
    /// # Errors
    /// [`ProfileError::Unknown`] names every key that means nothing; the others name the first that is wrong.
    pub fn from_json(json: &Value) -> Result<Self, ProfileError> {
        let all = Keys::of("", "the profile", json)?;
        let generation = match all.map.get("generation_config") {
            None | Some(Value::Null) => None,
            Some(inner) => Some(Keys::of("generation_config.", "generation_config", inner)?),
        };
        let mut unknown = all.unknown(&names::is_known);
        unknown.extend(generation.iter().flat_map(|inner| inner.unknown(&names::is_generation)));
        if !unknown.is_empty() {
            return Err(ProfileError::Unknown { keys: unknown });
        }
        all.refuse_unsupported()?;
        generation.iter().try_for_each(Keys::refuse_unsupported)?;
        let dtype = dtype(&all)?;
        // what is said outside goes over what is said inside, as arguments of `generate` do
        let settings = generation.iter().chain([&all]).flat_map(|keys| keys.map);
        let settings = settings.filter(|(key, value)| names::GENERATION.contains(&key.as_str()) && !value.is_null());
        Ok(Self {
            model: all.text("model")?,
            revision: all.text("revision")?,
            gguf_file: all.text("gguf_file")?,
            dtype,
            max_memory: all.get("max_memory", "a size such as 3.8GB, or {0: 3.8GB}: there is one GPU, 0", memory)?,
            gpu_layers: all.whole("gpu_layers", 0)?,
            context: all.whole("context", 1)?,
            prefill_chunk: all.whole("prefill_chunk_size", 1)?,
            cache_dtype: all.named("cache_dtype", "f32, f16, q8 or q4", CacheDtype::from_name)?,
            cache_policy: all.named("cache_policy", "full, window:N or snapkv:N, N at least 128", |name| {
                CachePolicy::from_name(name)
            })?,
            batch_strategy: all.named(
                "batch_strategy",
                "fixed:N, timeout:N:TIME, memory-aware or latency-aware:TIME",
                |name| name.parse().ok(),
            )?,
            generation: settings.map(|(key, value)| (key.clone(), value.clone())).collect(),
        })
    }

    /// Without its revision and its file, where it names another model than `model`: they are that one's.
    #[must_use]
    pub fn of_model(mut self, model: &str) -> Self {
        if self.model.as_deref().is_some_and(|own| own != model) {
            (self.revision, self.gguf_file) = (None, None);
        }
        self
    }

    /// Every key that a profile may have.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        names::LOADING.into_iter().chain(names::GENERATION)
    }
}

impl<'a> Keys<'a> {
    fn of(within: &'static str, name: &str, json: &'a Value) -> Result<Self, ProfileError> {
        let map = json.as_object().ok_or_else(|| wrong(name.to_owned(), json, "a mapping of keys and values"))?;
        Ok(Self { map, within })
    }

    /// Keys that neither mean something here nor are known to mean something elsewhere.
    fn unknown(&self, is_known: &dyn Fn(&str) -> bool) -> Vec<(String, Option<&'static str>)> {
        let unknown = self.map.keys().filter(|key| !is_known(key) && names::unsupported(key).is_none());
        unknown.map(|key| (format!("{}{key}", self.within), names::nearest(key, is_known))).collect()
    }

    /// Unless they say what is so anyway.
    fn refuse_unsupported(&self) -> Result<(), ProfileError> {
        for (key, value) in self.map.iter().filter(|(_, value)| !value.is_null()) {
            let said = value.to_string();
            match names::unsupported(key) {
                Some((neutral, instead)) if said != neutral => {
                    return Err(ProfileError::Unsupported { key: format!("{}{key}", self.within), instead });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn get<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ProfileError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| wrong(format!("{}{key}", self.within), value, expected)),
        }
    }

    fn named<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ProfileError> {
        self.get(key, expected, |value| read(value.as_str()?))
    }

    fn text(&self, key: &str) -> Result<Option<String>, ProfileError> {
        self.named(key, "a text", |text| (!text.is_empty()).then(|| text.to_owned()))
    }

    fn whole(&self, key: &str, least: u64) -> Result<Option<u32>, ProfileError> {
        let expected = if least == 0 { "a whole number" } else { "a whole number of at least 1" };
        self.get(key, expected, |value| u32::try_from(value.as_u64().filter(|n| *n >= least)?).ok())
    }

    fn flag(&self, key: &str) -> Result<bool, ProfileError> {
        Ok(self.get(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }
}

fn wrong(key: String, value: &Value, expected: &str) -> ProfileError {
    let mut got = value.to_string();
    if got.len() > 60 {
        got = got.chars().take(60).chain("...".chars()).collect();
    }
    ProfileError::Value { key, got, expected: expected.to_owned() }
}

/// A size, or that of device 0.
fn memory(value: &Value) -> Option<u64> {
    match value {
        Value::Object(devices) if devices.len() == 1 => memory(devices.get("0")?),
        Value::String(text) => parse_size(text).ok(),
        number => number.as_u64().filter(|&bytes| bytes > 0),
    }
}

/// How weights are stored, where one of four keys says it.
fn dtype(all: &Keys<'_>) -> Result<Option<Dtype>, ProfileError> {
    let given = |key: &str| all.map.get(key).is_some_and(|value| !value.is_null());
    for (first, second) in [("torch_dtype", "dtype"), ("quantization", "quantization_config")] {
        if given(first) && given(second) {
            return Err(ProfileError::Twice { first, second });
        }
    }
    let key = if given("dtype") { "dtype" } else { "torch_dtype" };
    let stored = all.named(key, DTYPES, |name| match name.strip_prefix("torch.").unwrap_or(name) {
        "float32" => Some(Dtype::F32),
        "float16" | "bfloat16" => Some(Dtype::F16),
        name => Dtype::from_name(name),
    })?;
    let blocks = |dtype: &Dtype| dtype.blocks().is_some();
    let quantization = all.named("quantization", "q8, q4a, q4, nf4 or none", |name| match name {
        "none" => Some(Dtype::F16),
        name => Dtype::from_name(name).filter(blocks),
    })?;
    let quantization = match all.map.get("quantization_config") {
        None | Some(Value::Null) => quantization,
        Some(inner) => bitsandbytes(&Keys::of("quantization_config.", "quantization_config", inner)?)?,
    };
    match (stored, quantization) {
        (stored, None) => Ok(stored),
        (None | Some(Dtype::Auto), quantized) => Ok(quantized),
        (Some(stored), Some(quantized)) if stored == quantized => Ok(Some(stored)),
        // 16 bits are what layers compute in that are stored in fewer
        (Some(Dtype::F16), quantized) => Ok(quantized),
        // of `none`
        (Some(Dtype::F32), Some(Dtype::F16)) => Ok(stored),
        (_, Some(_)) => {
            let expected = "auto, float16 or bfloat16 beside a quantization, which computes in 16 bits";
            Err(wrong(key.to_owned(), all.map.get(key).unwrap_or(&Value::Null), expected))
        }
    }
}

/// `BitsAndBytesConfig` of transformers.
fn bitsandbytes(config: &Keys<'_>) -> Result<Option<Dtype>, ProfileError> {
    let unknown = config.unknown(&|key| names::BITSANDBYTES.contains(&key));
    if !unknown.is_empty() {
        return Err(ProfileError::Unknown { keys: unknown });
    }
    config.named("quant_method", "bitsandbytes", |name| (name == "bitsandbytes").then_some(()))?;
    config.named("bnb_4bit_compute_dtype", "float16 or bfloat16: sums are in float32 anyway", |name| {
        ["float16", "bfloat16"].contains(&name.strip_prefix("torch.").unwrap_or(name)).then_some(())
    })?;
    config.get("bnb_4bit_use_double_quant", "false: scales keep 16 bits", |value| (value == false).then_some(()))?;
    let kind = config.named("bnb_4bit_quant_type", "nf4", |name| (name == "nf4").then_some(Dtype::Nf4))?;
    match (config.flag("load_in_4bit")?, config.flag("load_in_8bit")?) {
        (true, true) => Err(ProfileError::Twice { first: "load_in_4bit", second: "load_in_8bit" }),
        (true, false) => Ok(Some(kind.unwrap_or(Dtype::Q4))),
        (false, true) => Ok(Some(Dtype::Q8)),
        (false, false) => Ok(None),
    }
}
