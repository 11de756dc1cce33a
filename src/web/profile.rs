//! What a profile says, where a page's options say nothing.

use serde_json::Value;
use wasm_bindgen::JsValue;

use super::OpenOptions;
use super::convert::from_js;
use super::errors::{Failed, invalid};
use super::source::name;
use crate::error::Error;
use crate::generate::GenerateOptions;
use crate::managers::Profile;

impl OpenOptions {
    /// `options` for the model of `spec`, with their profile under them.
    pub fn read(options: &JsValue, spec: &JsValue) -> Result<Self, Failed> {
        let mut options: Self = from_js(options, "options")?;
        let Some(json) = options.profile.take().filter(|json| !json.is_null()) else { return Ok(options) };
        options.fill(&json, spec).map_err(|error| invalid("profile", &error.to_string()))?;
        Ok(options)
    }

    fn fill(&mut self, json: &Value, spec: &JsValue) -> Result<(), Error> {
        let mut profile = Profile::from_json(json)?;
        if let Some(model) = name(spec) {
            profile = profile.of_model(&model);
        }
        GenerateOptions::check_settings(&profile.generation)?;
        fill(&mut self.dtype, profile.dtype.map(|dtype| dtype.name().to_owned()));
        fill(&mut self.context, profile.context);
        fill(&mut self.prefill_chunk, profile.prefill_chunk);
        fill(&mut self.cache_dtype, profile.cache_dtype.map(|dtype| dtype.name().to_owned()));
        fill(&mut self.cache_policy, profile.cache_policy.map(|policy| policy.name()));
        fill(&mut self.batch_strategy, profile.batch_strategy.map(|strategy| strategy.to_string()));
        fill(&mut self.memory_limit, profile.max_memory);
        fill(&mut self.gpu_layers, profile.gpu_layers);
        fill(&mut self.source.gguf_file, profile.gguf_file);
        self.source.revision = profile.revision;
        self.generation = profile.generation;
        Ok(())
    }
}

fn fill<T>(option: &mut Option<T>, said: Option<T>) {
    if option.is_none() {
        *option = said;
    }
}
