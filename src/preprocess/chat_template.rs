//! Chat templates: the Jinja programs of a repository that write messages the way its model was trained on them, rendered as
//! transformers' `apply_chat_template` does.

use std::collections::BTreeMap;

use minijinja::value::Serde;
use serde_json::{Map, Value};
use web_time::{SystemTime, UNIX_EPOCH};

use super::jinja::{Raised, environment, without_generation_tags};
use super::{ChatOptions, Message, Vocabulary};
use crate::checkpoint::read_json;
use crate::error::{ChatError, TokenizerError};
use crate::source::Source;

const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
const JINJA: &str = "chat_template.jinja";
const JSON: &str = "chat_template.json";
/// What a template of a model file is called in messages.
const KEY: &str = "tokenizer.chat_template";
/// Templates beside the default one: the names that are looked for, since a source need not list its files.
const ADDITIONAL: [&str; 2] = ["tool_use", "rag"];
/// The largest `tokenizer_config.json` in use have some MB, the largest templates 20 kB.
const MAX_CONFIG: u64 = 64 << 20;
const MAX_TEMPLATE: u64 = 1 << 20;
const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";
/// Special tokens that templates see by these names.
const TOKENS: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The chat templates of a repository, and the special tokens that they may write. They are compiled when they are used: one that
/// cannot be does not keep its model from generating.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatTemplate {
    /// By name: the file that it is of, and its text.
    templates: BTreeMap<String, (String, String)>,
    tokens: BTreeMap<&'static str, String>,
    place: String,
}

impl ChatTemplate {
    /// Reads `chat_template.jinja`, or else `chat_template.json`, or else what `tokenizer_config.json` has, and the special
    /// tokens. A repository without any template is no error; rendering is.
    ///
    /// # Errors
    /// [`ChatError::Checkpoint`], [`ChatError::Source`] for files that cannot be read, [`ChatError::Format`] for what is no template.
    pub async fn load(source: &Source) -> Result<Self, ChatError> {
        let config = read_json(source, CONFIG, MAX_CONFIG).await?.unwrap_or(Value::Null);
        let special = read_json(source, SPECIAL, MAX_CONFIG).await?.unwrap_or(Value::Null);
        let mut this = Self { place: source.describe(), ..Self::default() };
        for name in TOKENS {
            let token = [&config, &special].into_iter().find_map(|file| {
                let token = &file[name];
                token.as_str().or_else(|| token["content"].as_str())
            });
            this.tokens.extend(token.map(|token| (name, token.to_owned())));
        }
        if let Some(text) = read_text(source, JINJA).await? {
            this.add(DEFAULT, JINJA, text);
            for name in ADDITIONAL {
                let file = format!("additional_chat_templates/{name}.jinja");
                if let Some(text) = read_text(source, &file).await? {
                    this.add(name, &file, text);
                }
            }
            return Ok(this);
        }
        let json = read_json(source, JSON, MAX_CONFIG).await?.unwrap_or(Value::Null);
        for (file, value) in [(JSON, &json["chat_template"]), (CONFIG, &config["chat_template"])] {
            this.add_json(file, value)?;
            if !this.templates.is_empty() {
                break;
            }
        }
        Ok(this)
    }

    /// One template by itself, under the name `default`, for a model that `place` describes; tokens as `bos_token`, `<s>`.
    #[must_use]
    pub fn from_text(place: &str, template: &str, tokens: &[(&str, &str)]) -> Self {
        let mut this = Self { place: place.to_owned(), ..Self::default() };
        this.add(DEFAULT, JINJA, template.to_owned());
        for (name, token) in tokens {
            let known = TOKENS.into_iter().find(|known| known == name);
            this.tokens.extend(known.map(|known| (known, (*token).to_owned())));
        }
        this
    }

    /// The templates of a model file, and its special tokens.
    ///
    /// # Errors
    /// [`TokenizerError::Vocabulary`], where a special token is none of its tokens.
    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        vocabulary.check()?;
        let mut this = Self { place: "the model file".to_owned(), ..Self::default() };
        let named = vocabulary.chat_templates.iter().map(|(name, text)| (name.as_str(), text));
        for (name, text) in named.chain(vocabulary.chat_template.as_ref().map(|text| (DEFAULT, text))) {
            this.add(name, KEY, text.clone());
        }
        let ids = [
            vocabulary.bos_id(),
            vocabulary.eos_id(),
            vocabulary.unk_id(),
            vocabulary.sep,
            vocabulary.pad,
            vocabulary.cls,
            vocabulary.mask,
        ];
        let token = |(name, id): (_, Option<u32>)| Some((name, vocabulary.tokens[id? as usize].clone()));
        this.tokens = TOKENS.into_iter().zip(ids).filter_map(token).collect();
        Ok(this)
    }

    fn add(&mut self, name: &str, file: &str, text: String) {
        self.templates.insert(name.to_owned(), (file.to_owned(), text));
    }

    /// A text, or a list of `{"name", "template"}`, or an object of names and texts.
    fn add_json(&mut self, file: &'static str, value: &Value) -> Result<(), ChatError> {
        let bad = || ChatError::Format { file };
        match value {
            Value::Null => {}
            Value::String(text) => self.add(DEFAULT, file, text.clone()),
            Value::Array(list) => {
                for entry in list {
                    let (name, text) = entry["name"].as_str().zip(entry["template"].as_str()).ok_or_else(bad)?;
                    self.add(name, file, text.to_owned());
                }
            }
            Value::Object(named) => {
                for (name, text) in named {
                    self.add(name, file, text.as_str().ok_or_else(bad)?.to_owned());
                }
            }
            _ => return Err(bad()),
        }
        Ok(())
    }

    /// The names of the templates: none where the model is no chat model.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.templates.keys().map(String::as_str)
    }

    /// Whether there is any template, and the default one compiles.
    ///
    /// # Errors
    /// [`ChatError::NoTemplate`], [`ChatError::UnknownTemplate`], [`ChatError::Syntax`].
    pub fn check(&self) -> Result<(), ChatError> {
        let (title, text) = self.choose(&ChatOptions::default())?;
        let source = without_generation_tags(text);
        environment(0).template_from_named_str(&title, &source).map(|_| ()).map_err(|error| tell(&title, &error))
    }

    /// The special token of that name, such as `eos_token`.
    #[must_use]
    pub fn token(&self, name: &str) -> Option<&str> {
        self.tokens.get(name).map(String::as_str)
    }

    /// The template that `options` choose: what to call it, and its text.
    fn choose(&self, options: &ChatOptions) -> Result<(String, &str), ChatError> {
        if self.templates.is_empty() {
            return Err(ChatError::NoTemplate { place: self.place.clone() });
        }
        let wanted = match &options.template {
            Some(name) => name,
            None if !options.tools.is_empty() && self.templates.contains_key(TOOL_USE) => TOOL_USE,
            None => DEFAULT,
        };
        match self.templates.get_key_value(wanted) {
            Some((name, (file, text))) if name == DEFAULT => Ok((file.clone(), text)),
            Some((name, (file, text))) => Ok((format!("{file} ({name})"), text)),
            None => {
                let available = self.names().map(str::to_owned).collect();
                Err(ChatError::UnknownTemplate { wanted: wanted.to_owned(), available })
            }
        }
    }

    /// The prompt of `messages`, as text. Its special tokens are written out: encode it without adding others.
    ///
    /// # Errors
    /// [`ChatError`]: no template, a template that does not compile, fails, refuses the messages, or does not end.
    pub fn render(&self, messages: &[Message], options: &ChatOptions) -> Result<String, ChatError> {
        let (title, text) = self.choose(options)?;
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let env = environment(options.now.unwrap_or_else(clock));
        let source = without_generation_tags(text);
        let template = env.template_from_named_str(&title, &source).map_err(|error| tell(&title, &error))?;

        let list = |values: &[Value]| if values.is_empty() { Value::Null } else { Value::from(values.to_vec()) };
        let mut context: Map<String, Value> =
            self.tokens.iter().map(|(name, token)| ((*name).to_owned(), Value::from(token.as_str()))).collect();
        context.insert("tools".into(), list(&options.tools));
        context.insert("documents".into(), list(&options.documents));
        context.insert("add_generation_prompt".into(), options.add_generation_prompt.into());
        context.extend(options.variables.clone());
        let messages = messages.iter().map(|message| Value::Object(message.for_template()));
        context.insert("messages".into(), messages.collect());
        template.render(minijinja::Value::from(Serde(context))).map_err(|error| tell(&title, &error))
    }
}

async fn read_text(source: &Source, file: &str) -> Result<Option<String>, ChatError> {
    let Some(bytes) = source.read_all(file, MAX_TEMPLATE).await? else { return Ok(None) };
    match String::from_utf8(bytes.into_owned()) {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(ChatError::NotUtf8 { file: file.to_owned(), at: error.utf8_error().valid_up_to() }),
    }
}

/// What minijinja says, in our words, with the line of the template.
fn tell(template: &str, error: &minijinja::Error) -> ChatError {
    use minijinja::ErrorKind;
    let (template, line) = (template.to_owned(), error.line().unwrap_or(0));
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut kind = error.kind();
    while let Some(now) = cause {
        if let Some(Raised(message)) = now.downcast_ref() {
            return ChatError::Refused { template, line, message: message.clone() };
        }
        kind = now.downcast_ref().map_or(kind, minijinja::Error::kind);
        cause = now.source();
    }
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match kind {
        ErrorKind::OutOfFuel => ChatError::Endless { template, line },
        ErrorKind::SyntaxError | ErrorKind::UnknownFilter | ErrorKind::UnknownFunction | ErrorKind::UnknownTest => {
            ChatError::Syntax { template, line, detail }
        }
        _ => ChatError::Render { template, line, detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(template: &str) -> ChatTemplate {
        ChatTemplate::from_text("here", template, &[("bos_token", "<s>")])
    }

    fn render(template: &str) -> Result<String, ChatError> {
        of(template).render(&[Message::user("Hi")], &ChatOptions::default())
    }

    #[test]
    fn errors_name_template_and_line() {
        let lines = |wrong: &str| format!("{{{{ bos_token }}}}\n\n{wrong}\n");
        let check = |wrong: &str, word: &str| {
            let error = render(&lines(wrong)).expect_err("it is wrong");
            let text = error.to_string();
            assert!(text.contains("chat_template.jinja, line 3") && text.contains(word), "{text}");
            error
        };
        assert!(matches!(check("{% fro x in messages %}", "fro"), ChatError::Syntax { line: 3, .. }));
        assert!(matches!(check("{{ messages | nonsense }}", "nonsense"), ChatError::Syntax { .. }));
        assert!(matches!(check("{{ nonsense() }}", "nonsense"), ChatError::Syntax { .. }));
        assert!(matches!(check("{{ 'a' + 1 }}", "+"), ChatError::Render { .. }));
        assert!(matches!(check("{{ x.y.z }}", "undefined"), ChatError::Render { .. }));
        let refused = check("{{ raise_exception('roles must alternate') }}", "roles must alternate");
        assert!(matches!(refused, ChatError::Refused { line: 3, .. }));
        let endless = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
        assert!(matches!(check(endless, "end"), ChatError::Endless { .. }));
        let inside = "{% macro m(x) %}{{ raise_exception('deep') }}{% endmacro %}{{ m(1) }}";
        assert!(matches!(check(inside, "deep"), ChatError::Refused { .. }));
    }

    #[test]
    fn the_template_is_chosen_as_transformers_does() {
        let mut both = of("plain");
        both.add(TOOL_USE, CONFIG, "tools: {{ tools | tojson }}".to_owned());
        let with = |template: Option<&str>, tools: Vec<Value>| {
            let options = ChatOptions { template: template.map(str::to_owned), tools, ..ChatOptions::default() };
            both.render(&[], &options)
        };
        assert_eq!(with(None, vec![]).expect("a text"), "plain");
        assert_eq!(with(None, vec![json!({"name": "f"})]).expect("a text"), r#"tools: [{"name": "f"}]"#);
        assert_eq!(with(Some("default"), vec![json!(1)]).expect("a text"), "plain");
        let unknown = with(Some("rag"), vec![]).expect_err("there is none").to_string();
        assert!(unknown.contains("rag") && unknown.contains("default, tool_use"), "{unknown}");
        let none = ChatTemplate { place: "here".into(), ..ChatTemplate::default() };
        let error = none.render(&[], &ChatOptions::default()).expect_err("no template").to_string();
        assert!(error.contains("here") && error.contains("generate"), "{error}");
    }

    #[test]
    fn variables_go_over_all_but_the_messages() {
        let template = of("{{ bos_token }}{{ x }}{{ messages | length }}{{ tools is none }}");
        let variables = json!({"bos_token": "B", "x": 7, "messages": []});
        let options =
            ChatOptions { variables: variables.as_object().expect("an object").clone(), ..ChatOptions::default() };
        assert_eq!(template.render(&[Message::user("Hi")], &options).expect("a text"), "B71True");
        let options = ChatOptions { now: Some(0), ..ChatOptions::default() };
        let dated = of("{{ strftime_now('%d %b %Y') }}").render(&[], &options);
        assert_eq!(dated.expect("a text"), "01 Jan 1970");
        assert_eq!(render("{{ bos_token }}{{ eos_token }}!").expect("a text"), "<s>!", "what is not there is nothing");
    }
}
