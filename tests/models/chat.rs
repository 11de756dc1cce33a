//! Chats through a session.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::{ChatError, Error};
use webweft::generate::GenerateOptions;
use webweft::managers::Dtype;
use webweft::preprocess::{ChatOptions, Message};
use webweft::session::LoadOptions;

use super::{json, open, shared_source};
use crate::common::skipped;

/// The prompt has the ids of transformers, and the second turn computes what the first one has not.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn turns_reuse_the_cache() {
    for folder in ["fixtures/qwen2", "fixtures/llama_mha"] {
        let Some(source) = shared_source(folder).await else { return skipped("../shared/fixtures is absent") };
        let mut session = open(&source, &LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() }).await;
        let cases = json(&format!("{folder}/tokenizer_cases.json")).await;
        for case in cases["chat"].as_array().unwrap() {
            let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
            let add_generation_prompt = case["add_generation_prompt"].as_bool().unwrap();
            let options = ChatOptions { add_generation_prompt, ..ChatOptions::default() };
            let ids = session.chat_prompt(&messages, &options).unwrap();
            assert_eq!(serde_json::json!(ids), case["ids"], "{folder}");
        }

        let mut messages = vec![Message::user("Hi")];
        for _ in 0..3 {
            let prompt = session.chat_prompt(&messages, &ChatOptions::default()).unwrap();
            let cached = session.engine().cached();
            let common = prompt.iter().zip(cached).take_while(|(a, b)| a == b).count();
            assert!(messages.len() == 1 || common > 5, "{folder}: the turns before are known");
            let options = GenerateOptions { max_new_tokens: 5, ..session.chat_defaults() };
            let mut answer = session.generate_text(prompt.as_slice(), options).await.unwrap();
            let mut said = String::new();
            while let Some(piece) = answer.next().await.unwrap() {
                said += &piece.text;
            }
            assert_eq!(answer.timing().prefill_tokens, prompt.len() - common, "{folder}");
            messages.extend([Message::assistant(said), Message::user("And?")]);
        }
    }
}

/// What the tokenizer calls `eos_token` ends answers, too, and the defaults otherwise stay.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn answers_end_where_templates_end_turns() {
    let Some(source) = shared_source("fixtures/qwen2").await else { return skipped("../shared/fixtures is absent") };
    let session = open(&source, &LoadOptions::default()).await;
    let im_end = session.tokenizer().unwrap().token_to_id("<|im_end|>").unwrap();
    assert!(session.chat_defaults().eos_token_id.contains(&im_end));
    let mut expected = session.defaults().clone();
    if !expected.eos_token_id.contains(&im_end) {
        expected.eos_token_id.push(im_end);
    }
    assert_eq!(session.chat_defaults(), expected);
    assert_eq!(session.chat_template().token("eos_token"), Some("<|im_end|>"));

    let Some(source) = shared_source("models/stories260K").await else { return skipped("there is no stories260K") };
    let session = open(&source, &LoadOptions::default()).await;
    let error = session.chat_prompt(&[Message::user("Hi")], &ChatOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Chat(ChatError::NoTemplate { .. })), "{error}");
}
