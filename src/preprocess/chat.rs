//! What is said in a chat, and how it becomes a prompt.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One message, as OpenAI's API and transformers have it. In JSON, fields that are not named here stay beside those that are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or whatever else the model's template knows.
    pub role: String,
    /// A text, or a list of parts (`{"type": "text", "text": ...}`); null where a message has none, as one that only calls tools.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub content: Value,
    /// `tool_calls`, `name`, `reasoning_content`, ...: for the template, untouched.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Message {
    /// A text that `role` said.
    pub fn new(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self { role: role.into(), content: Value::String(text.into()), extra: Map::new() }
    }

    /// What the model is to be.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new("system", text)
    }

    /// What the model is asked.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new("user", text)
    }

    /// What the model answered.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new("assistant", text)
    }

    /// The text, where the content is one and no list of parts.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.content.as_str()
    }

    /// As the template sees it: without nulls, which many templates would print, and with what the model thought under every
    /// name that templates know it by. transformers does both.
    pub(super) fn for_template(&self) -> Map<String, Value> {
        const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
        let mut fields = Map::new();
        fields.insert("role".to_owned(), Value::String(self.role.clone()));
        fields.insert("content".to_owned(), self.content.clone());
        fields.extend(self.extra.iter().map(|(name, value)| (name.clone(), value.clone())));
        fields.retain(|_, value| !value.is_null());
        if let Some(thought) = REASONING.iter().find_map(|name| fields.get(*name).cloned()) {
            fields.entry("thinking").or_insert_with(|| thought.clone());
            fields.insert(REASONING[0].to_owned(), thought);
        }
        fields
    }
}

/// How messages become a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatOptions {
    /// End with what begins an answer. transformers' default is `false`; here it is `true`, since a prompt is to be answered.
    pub add_generation_prompt: bool,
    /// JSON schemas of the functions that the model may call.
    pub tools: Vec<Value>,
    /// Texts that the model may refer to: objects with `title` and `text`.
    pub documents: Vec<Value>,
    /// Which template, where the model has several. `None`: `tool_use` where there are tools and it exists, else `default`.
    pub template: Option<String>,
    /// More variables for the template, such as `enable_thinking` or `date_string`. They go over all others but the messages.
    pub variables: Map<String, Value>,
    /// The time that `strftime_now` tells, in seconds since 1970. `None`: now, in UTC.
    pub now: Option<u64>,
}

impl Default for ChatOptions {
    fn default() -> Self {
        Self {
            add_generation_prompt: true,
            tools: Vec::new(),
            documents: Vec::new(),
            template: None,
            variables: Map::new(),
            now: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_pass_through() {
        let said = json!({"role": "assistant", "content": null, "tool_calls": [{"id": 7}], "name": "x"});
        let message: Message = serde_json::from_value(said).expect("a message");
        assert_eq!((message.role.as_str(), message.text(), message.extra.len()), ("assistant", None, 2));
        let back = serde_json::to_string(&message).expect("JSON");
        assert_eq!(back, r#"{"role":"assistant","tool_calls":[{"id":7}],"name":"x"}"#);
        assert_eq!(serde_json::to_string(&Message::user("Hi")).expect("JSON"), r#"{"role":"user","content":"Hi"}"#);
    }

    #[test]
    fn templates_see_no_nulls_and_every_name_of_a_thought() {
        let said = json!({"role": "assistant", "content": null, "tool_calls": null, "reasoning": "hm"});
        let message: Message = serde_json::from_value(said).expect("a message");
        let seen = Value::Object(message.for_template());
        assert_eq!(seen, json!({"role": "assistant", "reasoning": "hm", "thinking": "hm", "reasoning_content": "hm"}));
    }
}
