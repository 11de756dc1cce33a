//! Messages to prompts, against what transformers makes of them.

use serde_json::Value;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::error::ChatError;
use webweft::preprocess::{ChatOptions, ChatTemplate, Message, Tokenizer};
use webweft::source::{Memory, Source};

use crate::common::{read_shared, report, skipped};

/// What `tools/chat_templates.py` wrote.
const FAMILIES: &str = include_str!("../data/chat_templates.json");

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn messages(case: &Value) -> Vec<Message> {
    serde_json::from_value(case["messages"].clone()).unwrap()
}

/// Templates in the style of every family, on chats with system texts, tools, thoughts, parts: texts and refusals are the same.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn templates_of_all_families_render_as_in_transformers() {
    let families: Value = serde_json::from_str(FAMILIES).unwrap();
    let (mut texts, mut refusals, mut wrong) = (0, 0, Vec::new());
    for family in families.as_array().unwrap() {
        let tokens: Vec<_> =
            family["tokens"].as_object().unwrap().iter().map(|(n, t)| (n.as_str(), t.as_str().unwrap())).collect();
        let template = ChatTemplate::from_text("here", family["template"].as_str().unwrap(), &tokens);
        for (number, case) in family["cases"].as_array().unwrap().iter().enumerate() {
            let options = ChatOptions {
                add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
                tools: list(&case["tools"]),
                documents: list(&case["documents"]),
                variables: case["variables"].as_object().cloned().unwrap_or_default(),
                now: family["now"].as_u64(),
                ..ChatOptions::default()
            };
            let got = template.render(&messages(case), &options);
            let name = format!("{} {number}", family["name"]);
            match (got, case["text"].as_str(), case["error"].as_str()) {
                (Ok(got), Some(want), _) => {
                    texts += 1;
                    if got != want {
                        let line = got.lines().zip(want.lines()).find(|(got, want)| got != want);
                        wrong.push(format!("{name}: {line:?}"));
                    }
                }
                (Err(ChatError::Refused { message, .. }), None, Some(want)) if want.starts_with("TemplateError") => {
                    refusals += 1;
                    assert_eq!(format!("TemplateError: {message}"), want, "{name}");
                }
                (Err(ChatError::Render { .. }), None, Some(want)) if !want.starts_with("TemplateError") => {
                    refusals += 1
                }
                (got, ..) => wrong.push(format!("{name}: {got:?}, expected {case}")),
            }
        }
    }
    report(&format!("{texts} texts and {refusals} refusals as in transformers"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(texts >= 100 && refusals >= 10, "{texts}, {refusals}");
}

/// Every fixture with chats: the text and the ids.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn chats_of_every_fixture_have_the_ids_of_transformers() {
    let Some(index) = read_shared("fixtures/index.json").await else { return skipped("../shared/fixtures is absent") };
    let index: Value = serde_json::from_slice(&index).unwrap();
    let (mut folders, mut cases) = (0, 0);
    for name in index.as_object().unwrap().keys() {
        let folder = format!("fixtures/{name}");
        let Some(expected) = read_shared(&format!("{folder}/tokenizer_cases.json")).await else { continue };
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let Some(chats) = expected["chat"].as_array().filter(|chats| !chats.is_empty()) else { continue };
        let mut memory = Memory::new();
        for file in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"] {
            if let Some(bytes) = read_shared(&format!("{folder}/{file}")).await {
                memory.insert(file, bytes).unwrap();
            }
        }
        let source = Source::Memory(memory);
        let template = ChatTemplate::load(&source).await.unwrap();
        if template.names().len() == 0 {
            // a GGUF holds its template itself
            report(&format!("{folder}: no template beside its weights"));
            continue;
        }
        let tokenizer = Tokenizer::load(&source).await.unwrap().unwrap();
        for case in chats {
            let add_generation_prompt = case["add_generation_prompt"].as_bool().unwrap();
            let options = ChatOptions { add_generation_prompt, ..ChatOptions::default() };
            let text = template.render(&messages(case), &options).unwrap();
            assert_eq!(text, case["text"].as_str().unwrap(), "{folder}");
            let ids = tokenizer.encode(&text, false).unwrap();
            assert_eq!(Value::from(ids), case["ids"], "{folder}: {text:?}");
            cases += 1;
        }
        folders += 1;
    }
    report(&format!("{cases} chats of {folders} fixtures: texts and ids as in transformers"));
    assert!(folders >= 20 && cases >= 80, "{folders}, {cases}");
}

fn source(files: &[(&str, &str)]) -> Source {
    let mut memory = Memory::new();
    for (name, text) in files {
        memory.insert(*name, text.as_bytes().to_vec()).unwrap();
    }
    Source::Memory(memory)
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn templates_are_found_wherever_they_are() {
    let of = async |files: &[(&str, &str)]| ChatTemplate::load(&source(files)).await;
    let text = |template: &ChatTemplate, name: Option<&str>| {
        let options = ChatOptions { template: name.map(str::to_owned), ..ChatOptions::default() };
        template.render(&[Message::user("Hi")], &options).unwrap()
    };
    let config = r#"{"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}config"}"#;
    let both = r#"{"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]}"#;

    assert_eq!(text(&of(&[("tokenizer_config.json", config)]).await.unwrap(), None), "<s>config");
    let several = of(&[("tokenizer_config.json", both)]).await.unwrap();
    assert_eq!((text(&several, None), text(&several, Some("tool_use"))), ("d".into(), "t".into()));
    let json = ("chat_template.json", r#"{"chat_template": "{{ bos_token }}json"}"#);
    assert_eq!(text(&of(&[("tokenizer_config.json", config), json]).await.unwrap(), None), "<s>json");
    let jinja = ("chat_template.jinja", "{{ bos_token }}{{ eos_token }}jinja\n");
    let special = ("special_tokens_map.json", r#"{"bos_token": "<x>", "eos_token": "</s>"}"#);
    let more = ("additional_chat_templates/tool_use.jinja", "tools");
    let all = of(&[("tokenizer_config.json", config), json, jinja, special, more]).await.unwrap();
    assert_eq!((text(&all, None), text(&all, Some("tool_use"))), ("<s></s>jinja".into(), "tools".into()));

    let none = of(&[("tokenizer_config.json", r#"{"chat_template": null}"#)]).await.unwrap();
    let error = none.render(&[], &ChatOptions::default()).unwrap_err();
    assert!(matches!(error, ChatError::NoTemplate { .. }) && error.to_string().contains("generate"), "{error}");
    for (file, wrong, word) in [
        ("tokenizer_config.json", "{", "tokenizer_config.json"),
        ("tokenizer_config.json", r#"{"chat_template": 7}"#, "chat_template"),
        ("tokenizer_config.json", r#"{"chat_template": [{"name": "x"}]}"#, "chat_template"),
        ("chat_template.json", r#"{"chat_template": {"default": 1}}"#, "chat_template.json"),
    ] {
        let error = of(&[(file, wrong)]).await.unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    let mut memory = Memory::new();
    memory.insert("chat_template.jinja", vec![b'a', 0xff]).unwrap();
    let error = ChatTemplate::load(&Source::Memory(memory)).await.unwrap_err();
    assert!(matches!(error, ChatError::NotUtf8 { at: 1, .. }), "{error}");
}
