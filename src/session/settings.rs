//! Settings of generations, by the names of `generation_config.json`: of that file, of the session, of a request.

use serde_json::{Map, Value};

use super::Session;
use crate::error::{Error, GenerateError};
use crate::generate::GenerateOptions;

impl Session {
    /// What goes over `generation_config.json` from now on: what [`set_settings`](Self::set_settings) was given.
    #[must_use]
    pub fn settings(&self) -> &Map<String, Value> {
        &self.settings
    }

    /// Settings of all generations to come, over what `generation_config.json` says; what a request says goes over them.
    ///
    /// # Errors
    /// [`GenerateError::Setting`] for a value that cannot be.
    pub fn set_settings(&mut self, settings: Map<String, Value>) -> Result<(), Error> {
        GenerateOptions::check_settings(&settings)?;
        self.defaults = merged(&self.base, &self.generation_config, &settings)?;
        self.settings = settings;
        Ok(())
    }

    /// The settings of a request, by the names of `generation_config.json`, over [`settings`](Self::settings) and those of that file.
    /// `chat`: over [`chat_defaults`](Self::chat_defaults).
    ///
    /// # Errors
    /// [`GenerateError::Setting`] for a value of the request that cannot be.
    pub fn options(&self, request: &Map<String, Value>, chat: bool) -> Result<GenerateOptions, Error> {
        let request = over(&self.settings, request);
        let options = merged(&self.base, &self.generation_config, &request)?;
        Ok(if chat { self.for_answers(options, &request) } else { options })
    }

    /// [`defaults`](Self::defaults) for answers: the tokenizer's `eos_token` ends them, too, which is what many templates write
    /// after a turn, and many configurations forget. But not where [`settings`](Self::settings) say what ends them.
    #[must_use]
    pub fn chat_defaults(&self) -> GenerateOptions {
        self.for_answers(self.defaults.clone(), &self.settings)
    }

    fn for_answers(&self, mut options: GenerateOptions, given: &Map<String, Value>) -> GenerateOptions {
        if given.contains_key("eos_token_id") {
            return options;
        }
        let tokenizer = self.tokenizer.as_ref().zip(self.chat_template.token("eos_token"));
        let eos = tokenizer.and_then(|(tokenizer, eos)| tokenizer.token_to_id(eos));
        let eos = eos.filter(|eos| !options.eos_token_id.contains(eos));
        options.eos_token_id.extend(eos);
        options
    }
}

/// `request` over `settings`; `null` says nothing.
fn over(settings: &Map<String, Value>, request: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = settings.clone();
    // two names of one limit
    if ["max_new_tokens", "max_length"].iter().any(|name| request.contains_key(*name)) {
        merged.remove("max_new_tokens");
        merged.remove("max_length");
    }
    merged.extend(request.iter().filter(|(_, v)| !v.is_null()).map(|(name, v)| (name.clone(), v.clone())));
    merged
}

/// `settings` over `config`, a `generation_config.json`, over `base`.
fn merged(
    base: &GenerateOptions,
    config: &Value,
    settings: &Map<String, Value>,
) -> Result<GenerateOptions, GenerateError> {
    let file = config.as_object().cloned().unwrap_or_default();
    let json = Value::Object(over(&file, settings));
    let mut options = base.clone().with_config(&json).map_err(|error| match error {
        GenerateError::Config { field, .. } if settings.contains_key(field) => error.of_request(),
        other => other,
    })?;
    if let (Some(most), None) = (settings.get("max_length").and_then(Value::as_u64), settings.get("max_new_tokens")) {
        // in a file, transformers' default of 20 says nothing; in a request it does
        (options.max_length, options.max_new_tokens) = (usize::try_from(most).ok(), usize::MAX);
    }
    Ok(options)
}
