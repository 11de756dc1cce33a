//! One generation: the request, its pieces, its result.

use js_sys::Function;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wasm_bindgen::JsValue;

use super::convert::to_js;
use super::errors::{Failed, invalid};
use crate::generate::{FinishReason, Piece, SequenceId, Timing};
use crate::managers::Concession;
use crate::preprocess::{ChatOptions, Message, Tokenizer};
use crate::session::{Session, Shared};

/// `GenerateRequest` of `web/src/wasm.ts`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    prompt: Option<String>,
    ids: Option<Vec<u32>>,
    messages: Option<Vec<Message>>,
    chat: Map<String, Value>,
    options: Map<String, Value>,
    given: Vec<u32>,
}

/// What a generation has given out so far.
#[derive(Debug, Default)]
pub struct Done {
    text: String,
    ids: Vec<u32>,
    prompt_tokens: usize,
    timing: Timing,
    pub finish_reason: &'static str,
    /// all that the model gave up so far
    concessions: Vec<Concession>,
}

impl Done {
    /// `GenerateResult`.
    pub fn to_json(&self) -> Value {
        let timing = self.timing;
        let computed = timing.prefill_tokens;
        json!({
            "text": self.text,
            "ids": self.ids,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.prompt_tokens.saturating_sub(computed),
            "finish_reason": self.finish_reason,
            "concessions": self.concessions.iter().map(Concession::to_string).collect::<Vec<_>>(),
            "timing": {
                "prefill_tokens": computed,
                "prefill_ms": timing.prefill_ms,
                "decode_tokens": timing.decode_tokens,
                "decode_ms": timing.decode_ms,
                "drafted": timing.drafted,
                "accepted": timing.accepted,
            },
        })
    }
}

/// Generates; `on_piece` hears of every token, and `done` has what was given out, also when this is dropped.
pub async fn generate(shared: &Shared, request: &Request, on_piece: &Function, done: &mut Done) -> Result<(), Failed> {
    let mut tokens = None;
    let add = |session: &mut Session| -> Result<SequenceId, Failed> {
        let prompt = match (&request.prompt, &request.ids, &request.messages) {
            (Some(text), None, None) => session.encode(text)?,
            (None, Some(ids), None) => ids.clone(),
            (None, None, Some(messages)) => session.chat_prompt(messages, &chat_options(request.chat.clone())?)?,
            _ => return Err(invalid("prompt", "one of prompt, ids and messages is needed")),
        };
        let mut options = session.options(&request.options, request.messages.is_some())?;
        let said = [Some(&request.options), Some(session.settings()), session.generation_config().as_object()];
        if !said.into_iter().flatten().any(|settings| settings.contains_key("seed")) {
            options.seed = (js_sys::Math::random() * f64::from(u32::MAX)) as u64;
        }
        done.prompt_tokens = prompt.len();
        tokens = session.tokenizer().ok().cloned();
        Ok(session.add_resumed(prompt.as_slice(), &request.given, options)?)
    };
    let mut text = shared.text(add).await?;
    while let Some(piece) = text.next().await? {
        done.text += &piece.text;
        done.ids.push(piece.id);
        done.timing = text.timing();
        // A listener that throws is the page's own affair.
        let _ = on_piece.call1(&JsValue::NULL, &to_js(&of_piece(&piece, tokens.as_ref())));
    }
    done.finish_reason = text.finish_reason().map_or("stop", FinishReason::name);
    done.timing = text.timing();
    drop(text);
    done.concessions = shared.lock().await.engine().concessions().to_vec();
    Ok(())
}

/// `Piece`.
fn of_piece(piece: &Piece, tokenizer: Option<&Tokenizer>) -> Value {
    let Some(logprobs) = &piece.logprobs else { return json!({ "id": piece.id, "text": piece.text }) };
    let token = |id: u32| {
        let bytes = tokenizer.map(|tokenizer| tokenizer.token_bytes(id)).unwrap_or_default();
        (String::from_utf8_lossy(&bytes).into_owned(), bytes)
    };
    let top = logprobs.top.iter().map(|&(id, logprob)| {
        let (text, bytes) = token(id);
        json!({ "id": id, "text": text, "bytes": bytes, "logprob": logprob })
    });
    let (token, bytes) = token(piece.id);
    json!({
        "id": piece.id, "text": piece.text, "token": token, "bytes": bytes,
        "logprob": logprobs.logprob, "top": top.collect::<Vec<_>>(),
    })
}

/// The fields of `chat`: those of [`ChatOptions`], and variables for the template.
pub fn chat_options(mut fields: Map<String, Value>) -> Result<ChatOptions, Failed> {
    let mut options = ChatOptions::default();
    let list = |name: &'static str, value: Option<Value>| match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(invalid(name, "a list is expected")),
    };
    match fields.remove("add_generation_prompt") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(add)) => options.add_generation_prompt = add,
        Some(_) => return Err(invalid("add_generation_prompt", "true or false is expected")),
    }
    options.tools = list("tools", fields.remove("tools"))?;
    options.documents = list("documents", fields.remove("documents"))?;
    options.template = fields.remove("chat_template").and_then(|name| name.as_str().map(str::to_owned));
    options.variables = fields;
    Ok(options)
}
