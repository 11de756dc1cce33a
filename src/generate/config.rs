//! `generation_config.json`, as transformers writes it.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::GenerateOptions;
use crate::error::GenerateError;

/// transformers writes this where nothing was chosen.
const DEFAULT_MAX_LENGTH: usize = 20;

impl GenerateOptions {
    /// What `json`, a `generation_config.json`, says over these options, as transformers understands it: without `do_sample`,
    /// temperature and cut-offs count for nothing; with it, temperature is 1 and top-k 50 where they are absent;
    /// `max_new_tokens` goes before `max_length`, whose default of 20 counts for nothing. Unknown keys are ignored, `null` is
    /// absent. `presence_penalty`, `frequency_penalty`, `seed`, `logprobs` and `lookahead` are understood, too.
    ///
    /// # Errors
    /// [`GenerateError::Config`], by the field's name, for anything of the wrong type or out of its range.
    pub fn with_config(mut self, json: &Value) -> Result<Self, GenerateError> {
        if json.is_null() {
            return Ok(self);
        }
        let c = Config(json);
        if !json.is_object() {
            return Err(c.wrong("generation_config", json, "an object"));
        }
        if c.flag("do_sample")? {
            self.temperature = c.number("temperature", 1.0)?;
            self.top_k = c.whole("top_k", 50)?;
            // some files write 0, which keeps one token in transformers
            self.top_p = c.number("top_p", 1.0)?.max(f32::MIN_POSITIVE);
            self.min_p = c.number("min_p", 0.0)?;
            self.typical_p = c.number("typical_p", 1.0)?;
            self.epsilon_cutoff = c.number("epsilon_cutoff", 0.0)?;
            self.eta_cutoff = c.number("eta_cutoff", 0.0)?;
        }
        self.repetition_penalty = c.number("repetition_penalty", self.repetition_penalty)?;
        self.no_repeat_ngram_size = c.whole("no_repeat_ngram_size", self.no_repeat_ngram_size)?;
        self.presence_penalty = c.number("presence_penalty", self.presence_penalty)?;
        self.frequency_penalty = c.number("frequency_penalty", self.frequency_penalty)?;
        self.min_new_tokens = c.whole("min_new_tokens", self.min_new_tokens as u32)? as usize;
        self.min_length = c.whole("min_length", self.min_length as u32)? as usize;
        if let Some(most) = c.at_least_1("max_new_tokens")? {
            self.max_new_tokens = most;
        } else if let Some(most) = c.at_least_1("max_length")?.filter(|&n| n != DEFAULT_MAX_LENGTH) {
            (self.max_length, self.max_new_tokens) = (Some(most), usize::MAX);
        }
        self.bos_token_id = c.ids("bos_token_id")?.first().copied().or(self.bos_token_id);
        self.pad_token_id = c.ids("pad_token_id")?.first().copied().or(self.pad_token_id);
        let eos = c.ids("eos_token_id")?;
        // an empty list says that none ends
        if !eos.is_empty() || json["eos_token_id"].is_array() {
            self.eos_token_id = eos;
        }
        self.suppress_tokens = c.ids("suppress_tokens")?;
        self.bad_words_ids = c.list("bad_words_ids", "a list of lists of token ids", ids)?;
        self.sequence_bias = c.list("sequence_bias", "a list of [[token ids], bias]", |pair| {
            let [sequence, bias] = pair.as_array()?.as_slice() else { return None };
            Some((ids(sequence)?, bias.as_f64()? as f32))
        })?;
        self.stop_strings = match &json["stop_strings"] {
            Value::String(one) => vec![one.clone()],
            _ => c.list("stop_strings", "a text, or a list of texts", |v| v.as_str().map(String::from))?,
        };
        self.prompt_lookup_num_tokens = c.whole("prompt_lookup_num_tokens", self.prompt_lookup_num_tokens)?;
        self.num_assistant_tokens = c.whole("num_assistant_tokens", self.num_assistant_tokens)?;
        self.max_matching_ngram_size = c.whole("max_matching_ngram_size", self.max_matching_ngram_size)?;
        self.seed = c.get("seed", "a whole number of at most 64 bits", Value::as_u64)?.unwrap_or(self.seed);
        self.logprobs = c.whole_in("logprobs", 0..=u64::from(u32::MAX))?.map(|n| n as usize).or(self.logprobs);
        self.lookahead = c.whole("lookahead", self.lookahead as u32)? as usize;
        match self.check() {
            Err(GenerateError::Setting { name: field, got, expected }) => {
                Err(GenerateError::Config { field, got, expected })
            }
            checked => checked.map(|()| self),
        }
    }

    /// Names the first of `settings` that makes no sense: keys of `generation_config.json` that somebody gave. What counts only with
    /// `do_sample` is looked at without it, too.
    ///
    /// # Errors
    /// [`GenerateError::Setting`]
    pub fn check_settings(settings: &Map<String, Value>) -> Result<(), GenerateError> {
        let as_given = Value::Object(settings.clone());
        let mut sampling = as_given.clone();
        sampling["do_sample"] = true.into();
        for json in [as_given, sampling] {
            Self::default().with_config(&json).map_err(GenerateError::of_request)?;
        }
        Ok(())
    }
}

/// A token id.
fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|v| u32::try_from(v).ok())
}

fn ids(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(id).collect()
}

struct Config<'a>(&'a Value);

impl Config<'_> {
    fn wrong(&self, field: &'static str, value: &Value, expected: &'static str) -> GenerateError {
        let mut got = value.to_string();
        if got.len() > 60 {
            got = got.chars().take(60).chain("...".chars()).collect();
        }
        GenerateError::Config { field, got, expected }
    }

    /// `read` of what is under `field`; `None` where there is nothing.
    fn get<T>(
        &self,
        field: &'static str,
        expected: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, GenerateError> {
        match &self.0[field] {
            Value::Null => Ok(None),
            value => read(value).map(Some).ok_or_else(|| self.wrong(field, value, expected)),
        }
    }

    fn flag(&self, field: &'static str) -> Result<bool, GenerateError> {
        Ok(self.get(field, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    fn number(&self, field: &'static str, default: f32) -> Result<f32, GenerateError> {
        let finite = |v: &Value| v.as_f64().map(|v| v as f32).filter(|v| v.is_finite());
        Ok(self.get(field, "a number", finite)?.unwrap_or(default))
    }

    fn whole_in(&self, field: &'static str, range: RangeInclusive<u64>) -> Result<Option<u32>, GenerateError> {
        let expected = if *range.start() == 0 { "a whole number" } else { "a whole number of at least 1" };
        self.get(field, expected, |v| v.as_u64().filter(|v| range.contains(v)).and_then(|v| u32::try_from(v).ok()))
    }

    fn whole(&self, field: &'static str, default: u32) -> Result<u32, GenerateError> {
        Ok(self.whole_in(field, 0..=u64::from(u32::MAX))?.unwrap_or(default))
    }

    fn at_least_1(&self, field: &'static str) -> Result<Option<usize>, GenerateError> {
        Ok(self.whole_in(field, 1..=u64::from(u32::MAX))?.map(|v| v as usize))
    }

    /// Absent, one id, or a list of them; below 0 means none.
    fn ids(&self, field: &'static str) -> Result<Vec<u32>, GenerateError> {
        let found = self.get(field, "a token id, or a list of them", |value| match value {
            Value::Number(n) if n.as_i64().is_some_and(|n| n < 0) => Some(Vec::new()),
            Value::Array(_) => ids(value),
            one => id(one).map(|id| vec![id]),
        })?;
        Ok(found.unwrap_or_default())
    }

    fn list<T>(
        &self,
        field: &'static str,
        expected: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, GenerateError> {
        let all = self.get(field, expected, |v| v.as_array()?.iter().map(read).collect::<Option<_>>())?;
        Ok(all.unwrap_or_default())
    }
}
