//! Tokenizers and chat templates from the vocabulary of a model file, against the `tokenizer.json` that it would be made from.

use super::shared;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use webweft::error::{ChatError, TokenizerError};
use webweft::preprocess::{ChatOptions, ChatTemplate, Message, Tokenizer, Vocabulary};

fn json_file(path: &Path) -> Option<Value> {
    let bytes = fs::read(path).ok()?;
    Some(serde_json::from_slice(&bytes).expect("parses"))
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Merges stand as `"a b"`, or as `["a", "b"]`.
fn merge(value: &Value) -> String {
    value.as_str().map_or_else(|| format!("{} {}", text(&value[0]), text(&value[1])), str::to_owned)
}

/// The name in llama.cpp of how a byte-level tokenizer cuts text.
fn pre(tokenizer: &Value) -> Option<&'static str> {
    let cuts = &tokenizer["pre_tokenizer"];
    let nfc = tokenizer["normalizer"]["type"] == "NFC";
    match cuts["pretokenizers"][0]["pattern"]["Regex"].as_str() {
        Some(regex) if regex.contains(r"\p{N}{1,3}") => Some("llama-bpe"),
        Some(regex) if regex.contains(r"\p{L}+|\p{N}|") && nfc => Some("qwen2"),
        Some(regex) if regex.starts_with(r" ?[^(") => Some("bloom"),
        None if cuts["type"] == "ByteLevel" && cuts["add_prefix_space"] == false => {
            Some(if nfc { "mpt" } else { "gpt-2" })
        }
        _ => None,
    }
}

/// What a converter would write of a `tokenizer.json`; `None` for kinds that no file of ours has.
fn converted(tokenizer: &Value, config: &Value) -> Option<Vocabulary> {
    let model = &tokenizer["model"];
    if model["type"] != "BPE" || !model["end_of_word_suffix"].as_str().unwrap_or_default().is_empty() {
        return None;
    }
    let is_sentence_piece = model["byte_fallback"] == true;
    let mut vocabulary = Vocabulary::default();
    if is_sentence_piece {
        vocabulary.model = "llama".into();
        let prefixed = tokenizer["normalizer"]["normalizers"][0]["type"] == "Prepend";
        // a file may leave out what is so by default
        vocabulary.add_space_prefix = (!prefixed).then_some(false);
    } else {
        (vocabulary.model, vocabulary.pre) = ("gpt2".into(), Some(pre(tokenizer)?.into()));
    }
    let put = |vocabulary: &mut Vocabulary, id: &Value, token: String, kind: i32| {
        let id = usize::try_from(id.as_u64().expect("an id")).expect("an id");
        for filler in vocabulary.tokens.len()..=id {
            vocabulary.tokens.push(format!("[PAD{filler}]"));
            vocabulary.token_types.push(5);
        }
        vocabulary.tokens[id] = token;
        vocabulary.token_types[id] = kind;
    };
    for (token, id) in model["vocab"].as_object().expect("a vocabulary") {
        let is_byte = is_sentence_piece && token.len() == 6 && token.starts_with("<0x");
        put(&mut vocabulary, id, token.clone(), if is_byte { 6 } else { 1 });
    }
    for added in list(&tokenizer["added_tokens"]) {
        let kind = if added["special"] == true { 3 } else { 4 };
        put(&mut vocabulary, &added["id"], text(&added["content"]), kind);
    }
    vocabulary.merges = list(&model["merges"]).iter().map(merge).collect();
    if is_sentence_piece {
        // what is merged first has the highest score, and characters have the lowest
        let merges = vocabulary.merges.iter().enumerate().rev();
        let rank: HashMap<String, usize> = merges.map(|(rank, merge)| (merge.replace(' ', ""), rank)).collect();
        let last = vocabulary.merges.len();
        vocabulary.scores = vocabulary.tokens.iter().map(|token| -(*rank.get(token).unwrap_or(&last) as f32)).collect();
        vocabulary.merges.clear();
    }

    let id = |token: &Value| {
        let token = token.as_str().or_else(|| token["content"].as_str())?;
        let id = vocabulary.tokens.iter().position(|known| known == token).expect("a token");
        Some(u32::try_from(id).expect("an id"))
    };
    let special = ["bos_token", "eos_token", "unk_token", "pad_token"].map(|name| id(&config[name]));
    [vocabulary.bos, vocabulary.eos, vocabulary.unk, vocabulary.pad] = special;
    vocabulary.add_bos = Some(false);
    let processor = &tokenizer["post_processor"];
    if !processor.is_null() && processor["type"] != "ByteLevel" {
        let single = list(&processor["single"]);
        let [first, rest] = single else { return None };
        vocabulary.add_bos = Some(rest["Sequence"].is_object() && id(&first["SpecialToken"]["id"]) == vocabulary.bos);
    }
    vocabulary.chat_template = config["chat_template"].as_str().map(str::to_owned);
    Some(vocabulary)
}

/// Every folder of a kind that is had: ids, texts and chats are those that transformers gives with the files of the repository.
#[test]
fn vocabularies_of_all_fixtures() {
    let Some(fixtures) = shared("fixtures") else { return };
    let (mut folders, mut by_scores, mut count, mut wrong) = (0, 0, 0, Vec::new());
    for entry in fs::read_dir(fixtures).expect("is listed") {
        let path = entry.expect("is listed").path();
        let (Some(file), Some(cases)) =
            (json_file(&path.join("tokenizer.json")), json_file(&path.join("tokenizer_cases.json")))
        else {
            continue;
        };
        let mut config = json_file(&path.join("tokenizer_config.json")).unwrap_or_default();
        if let Ok(template) = fs::read_to_string(path.join("chat_template.jinja")) {
            config["chat_template"] = template.into();
        }
        let Some(vocabulary) = converted(&file, &config) else { continue };
        let tokenizer =
            Tokenizer::from_vocabulary(&vocabulary).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        folders += 1;
        by_scores += usize::from(vocabulary.model == "llama");
        let mut check = |what: &str, got: Value, want: &Value| {
            count += 1;
            if got != *want {
                wrong.push(format!("{}: {what}: {got} for {want}", path.display()));
            }
        };
        for case in list(&cases["cases"]) {
            let text = text(&case["text"]);
            let all: Vec<u32> = serde_json::from_value(case["ids"].clone()).expect("a list of ids");
            check("ids", tokenizer.encode(&text, true).expect("encodes").into(), &case["ids"]);
            check("ids_no_special", tokenizer.encode(&text, false).expect("encodes").into(), &case["ids_no_special"]);
            check("decoded", tokenizer.decode(&all, true).expect("decodes").into(), &case["decoded"]);
            check(
                "decoded_with_special",
                tokenizer.decode(&all, false).expect("decodes").into(),
                &case["decoded_with_special"],
            );
        }
        let template = ChatTemplate::from_vocabulary(&vocabulary).expect("is in order");
        for case in list(&cases["chat"]) {
            let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).expect("messages");
            let add_generation_prompt = case["add_generation_prompt"] == true;
            let options = ChatOptions { add_generation_prompt, ..ChatOptions::default() };
            let got = template.render(&messages, &options).expect("renders");
            check("chat ids", tokenizer.encode(&got, false).expect("encodes").into(), &case["ids"]);
            check("chat", got.into(), &case["text"]);
        }
    }
    println!("{count} comparisons in {folders} fixtures, {by_scores} of which merge by scores");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(folders >= 30 && by_scores >= 10 && count >= 2000, "{folders}, {by_scores}, {count}");
}

/// Letters, digits and a word or two, with merges.
fn small() -> Vocabulary {
    let tokens = ["a", "b", "c", "ab", "abc", "<s>", "</s>"].map(str::to_owned).to_vec();
    Vocabulary {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        token_types: vec![1, 1, 1, 1, 1, 3, 3],
        merges: vec!["a b".into(), "ab c".into()],
        bos: Some(5),
        eos: Some(6),
        tokens,
        ..Vocabulary::default()
    }
}

/// The fixture with a GGUF file, whose keys lie here as JSON, against the tokenizer that it was made from.
#[test]
fn vocabulary_of_a_file() {
    let keys: Value = serde_json::from_str(include_str!("../data/gguf_llama_vocabulary.json")).expect("parses");
    let key = |name: &str| &keys[format!("tokenizer.ggml.{name}")];
    let id = |name: &str| key(name).as_u64().map(|id| u32::try_from(id).expect("an id"));
    let vocabulary = Vocabulary {
        model: key("model").as_str().expect("a text").into(),
        pre: key("pre").as_str().map(str::to_owned),
        tokens: serde_json::from_value(key("tokens").clone()).expect("texts"),
        token_types: serde_json::from_value(key("token_type").clone()).expect("numbers"),
        merges: serde_json::from_value(key("merges").clone()).expect("texts"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        add_bos: key("add_bos_token").as_bool(),
        ..Vocabulary::default()
    };
    let tokenizer = Tokenizer::from_vocabulary(&vocabulary).expect("is in order");
    let Some(folder) = shared("fixtures/gguf_llama") else { return };
    let cases = json_file(&folder.join("tokenizer_cases.json")).expect("has cases");
    let ids = |text: &str| Value::from(tokenizer.encode(text, false).expect("encodes"));
    let mut count = 0;
    for case in cases["cases"].as_array().expect("has cases") {
        let text = case["text"].as_str().expect("a text");
        let all: Vec<u32> = serde_json::from_value(case["ids"].clone()).expect("ids");
        assert_eq!(tokenizer.encode(text, true).expect("encodes"), all, "{text:?}");
        assert_eq!(ids(text), case["ids_no_special"], "{text:?}");
        assert_eq!(Value::from(tokenizer.decode(&all, true).expect("decodes")), case["decoded"]);
        assert_eq!(Value::from(tokenizer.decode(&all, false).expect("decodes")), case["decoded_with_special"]);
        count += 1;
    }
    for case in cases["chat"].as_array().expect("has chats") {
        assert_eq!(ids(case["text"].as_str().expect("a text")), case["ids"]);
    }
    assert!(count >= 20);
}

/// Every name that a file may have, and what becomes of some text with numbers: bytes only, but for merges of digits and letters.
#[test]
fn ways_to_cut() {
    let numbers = (11..1000).map(|number| number.to_string()).filter(|text| !text.contains('0'));
    let long = ["1234", "12345", "123456", "1234567", "ab", "\u{120}ab"].map(str::to_owned);
    let tokens: Vec<String> = all_bytes().into_iter().chain(numbers).chain(long).collect();
    let known: HashSet<&str> = tokens.iter().map(String::as_str).collect();
    let mut merges = Vec::new();
    for token in &tokens {
        let pairs = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        let pairs = pairs.filter(|(left, right)| known.contains(left) && known.contains(right));
        merges.extend(pairs.map(|(left, right)| format!("{left} {right}")));
    }
    let pieces = |pre: Option<&str>, text: &str| {
        let (tokens, merges, pre) = (tokens.clone(), merges.clone(), pre.map(str::to_owned));
        let vocabulary =
            Vocabulary { model: "gpt2".into(), pre, add_bos: Some(false), tokens, merges, ..Vocabulary::default() };
        let tokenizer = Tokenizer::from_vocabulary(&vocabulary).expect("is in order");
        let ids = tokenizer.encode(text, true).expect("encodes");
        let pieces: Vec<String> = ids.iter().map(|id| tokenizer.id_to_token(*id).expect("is known")).collect();
        pieces.join("|")
    };
    let whole = "ab|1234567|\u{120}ab";
    let by_3 = "ab|123|456|7|\u{120}ab";
    let by_3_from_behind = "ab|1|234|567|\u{120}ab";
    let by_1 = "ab|1|2|3|4|5|6|7|\u{120}ab";
    for (want, names) in [
        (whole, "gpt-2 phi-2 jais mpt olmo exaone4 trillion roberta-bpe bloom poro-chat"),
        (by_3, "default llama-bpe llama3 llama-v3 falcon3 pixtral lfm2 dbrx smaug-bpe glm4 chatglm-bpe minicpm5"),
        (by_3, "falcon deepseek-v3 hunyuan-dense gpt-4o llama4 minimax-m2"),
        (by_3_from_behind, "tiny_aya superbpe"),
        (by_1, "qwen2 qwen35 deepseek-r1-qwen megrez stablelm2 hunyuan grok-2 starcoder refact smollm codeshell"),
        (by_1, "exaone minerva-7b command-r deepseek-llm deepseek-coder viking tekken"),
    ] {
        for name in names.split(' ') {
            assert_eq!(pieces(Some(name), "ab1234567 ab"), want, "{name}");
        }
    }
    assert_eq!((pieces(None, "ab1234567 ab"), pieces(Some(""), "ab1234567 ab")), (by_3.into(), by_3.into()));
    // two characters that compose to one, where the family composes them
    let (composed, as_they_are) = ("\u{c3}|\u{a9}", "e|\u{cc}|\u{123}");
    for (name, want) in [
        ("qwen2", composed),
        ("command-r", composed),
        ("mpt", composed),
        ("llama3", as_they_are),
        ("gpt-2", as_they_are),
    ] {
        assert_eq!(pieces(Some(name), "e\u{301}"), want, "{name}");
    }
}

/// How byte-level tokenizers write each byte (GPT-2): printable ones as themselves, the others as what comes after U+00FF.
fn all_bytes() -> Vec<String> {
    let mut others = '\u{100}'..;
    let write = |byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => others.next().expect("there are enough"),
    };
    (0..=u8::MAX).map(write).map(String::from).collect()
}

/// Any text comes back from its ids, and the bytes of its tokens are its own, however it is cut.
#[test]
fn any_text_comes_back() {
    let pairs = ["t h", "th e", "\u{120} the", "\u{120} a", "\u{120} \u{120}", "\u{10a} \u{10a}", "1 2"];
    let merges: Vec<String> = pairs.map(str::to_owned).to_vec();
    let mut tokens = all_bytes();
    tokens.push("<|end|>".into());
    tokens.extend(merges.iter().map(|merge| merge.replacen(' ', "", 1)));
    let mut token_types = vec![1; tokens.len()];
    token_types[256] = 3;
    let mut seed = 1_u32;
    let mut random = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 8
    };
    for pre in
        ["default", "llama-bpe", "gpt-2", "starcoder", "falcon", "deepseek-llm", "deepseek-v3", "bloom", "tekken"]
    {
        let vocabulary = Vocabulary {
            model: "gpt2".into(),
            pre: Some(pre.into()),
            add_bos: Some(false),
            tokens: tokens.clone(),
            token_types: token_types.clone(),
            merges: merges.clone(),
            ..Vocabulary::default()
        };
        let tokenizer = Tokenizer::from_vocabulary(&vocabulary).expect("is in order");
        for round in 0..150 {
            let length = random() % 40;
            let text: String = match round % 3 {
                0 => (0..length)
                    .map(|_| *b" \n12.,the'a<|end|>"[..].get(random() as usize % 17).unwrap_or(&b'e') as char)
                    .collect(),
                1 => (0..length).filter_map(|_| char::from_u32(random() % 0x3_0000)).collect(),
                _ => {
                    let bytes: Vec<u8> = (0..length).map(|_| random().to_le_bytes()[0]).collect();
                    String::from_utf8_lossy(&bytes).into_owned()
                }
            };
            let ids = tokenizer.encode(&text, true).expect("encodes");
            assert_eq!(tokenizer.decode(&ids, false).expect("decodes"), text, "{pre}");
            let bytes: Vec<u8> = ids.iter().flat_map(|id| tokenizer.token_bytes(*id)).collect();
            assert_eq!(bytes, text.as_bytes(), "{pre}");
        }
    }
}

#[test]
fn what_stands_around_a_text() {
    let with = |add_bos, add_eos| {
        let tokenizer = Tokenizer::from_vocabulary(&Vocabulary { add_bos, add_eos, ..small() }).expect("is in order");
        assert_eq!(tokenizer.encode("abc", false).expect("encodes"), [4]);
        tokenizer.encode("abc", true).expect("encodes")
    };
    assert_eq!(with(None, None), [4]);
    assert_eq!(with(Some(true), None), [5, 4]);
    assert_eq!(with(None, Some(true)), [4, 6]);
    assert_eq!(with(Some(true), Some(true)), [5, 4, 6]);
    let llama = Vocabulary { pre: Some("llama-bpe".into()), ..small() };
    assert_eq!(Tokenizer::from_vocabulary(&llama).expect("is in order").encode("ab", true).expect("encodes"), [5, 3]);
}

/// A merge of what are no tokens, or into none, never comes about.
#[test]
fn merges_without_tokens_are_left_out() {
    let mut vocabulary = small();
    let ids =
        |v: &Vocabulary| Tokenizer::from_vocabulary(v).expect("is in order").encode("abc", false).expect("encodes");
    let before = ids(&vocabulary);
    vocabulary.merges.splice(0..0, ["a z".into(), "b c".into()]);
    assert_eq!(ids(&vocabulary), before);
}

/// Files name one token that ends, often not the one that ends a turn.
#[test]
fn tokens_that_end() {
    let with = |names: &[(&str, i32)]| {
        let mut vocabulary = small();
        for (name, kind) in names {
            vocabulary.tokens.push((*name).to_owned());
            vocabulary.token_types.push(*kind);
        }
        vocabulary.stop_ids()
    };
    assert_eq!(with(&[]), [6]);
    assert_eq!(with(&[("<end_of_turn>", 3), ("<start_of_turn>", 3)]), [6, 7]);
    assert_eq!(with(&[("<|im_end|>", 4), ("<EOT>", 1)]), [6, 7], "an ordinary token is text");
    assert_eq!(with(&[("<|end|>", 3), ("<|call|>", 3)]), [6, 7, 8]);
    assert_eq!(with(&[("<|end|>", 3), ("<|return|>", 3)]), [6, 8]);
    let keys = Vocabulary { eos: None, eot: Some(2), eom: Some(99), ..small() };
    assert_eq!(keys.stop_ids(), [2]);
    assert_eq!(Vocabulary { model: "llama".into(), eos: None, ..small() }.stop_ids(), [2]);
}

#[test]
fn templates_of_a_file() {
    let vocabulary = Vocabulary {
        chat_template: Some("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ unk_token }}".into()),
        chat_templates: vec![("tool_use".into(), "tools: {{ tools | length }}".into())],
        ..small()
    };
    let template = ChatTemplate::from_vocabulary(&vocabulary).expect("is in order");
    assert_eq!(template.names().collect::<Vec<_>>(), ["default", "tool_use"]);
    assert_eq!((template.token("bos_token"), template.token("unk_token")), (Some("<s>"), None));
    let render = |tools: Vec<Value>| {
        let options = ChatOptions { tools, ..ChatOptions::default() };
        template.render(&[Message::user("Hi")], &options).expect("renders")
    };
    assert_eq!(render(vec![]), "<s>Hi</s>");
    assert_eq!(render(vec![Value::Null]), "tools: 1");
    let error = ChatTemplate::from_vocabulary(&small()).expect("is in order").check().expect_err("there is none");
    assert!(matches!(&error, ChatError::NoTemplate { .. }) && error.to_string().contains("model file"), "{error}");
    let wrong = Vocabulary { chat_template: Some("{% fro %}".into()), ..small() };
    let error = ChatTemplate::from_vocabulary(&wrong).expect("is in order").check().expect_err("is wrong");
    assert!(error.to_string().contains("tokenizer.chat_template, line 1"), "{error}");
}

#[test]
fn vocabularies_that_contradict_themselves() {
    let check = |word: &str, change: &dyn Fn(&mut Vocabulary)| {
        let mut vocabulary = small();
        change(&mut vocabulary);
        let error = Tokenizer::from_vocabulary(&vocabulary).expect_err(word);
        assert!(error.to_string().contains(word), "{error}");
        error
    };
    let kind = check("rwkv", &|v| v.model = "rwkv".into());
    assert!(matches!(kind, TokenizerError::UnknownKind { .. }) && kind.to_string().contains("gpt2"), "{kind}");
    let pre = check("made-up", &|v| v.pre = Some("made-up".into()));
    assert!(matches!(pre, TokenizerError::UnknownPreTokenizer { .. }), "{pre}");
    for error in [
        check("tokens", &|v| v.tokens.clear()),
        check("0 and 1 are both", &|v| v.tokens[1] = "a".into()),
        check("scores", &|v| v.scores = vec![0.0; 3]),
        check("token_type", &|v| v.token_types.push(1)),
        check("bos_token_id", &|v| v.bos = Some(7)),
        check("mask_token_id", &|v| v.mask = Some(u32::MAX)),
        check("merges", &|v| v.merges.push(String::new())),
        check("merges", &|v| v.merges.push("é".into())),
        check("eos_token_id", &|v| (v.eos, v.add_eos) = (None, Some(true))),
    ] {
        assert!(matches!(error, TokenizerError::Vocabulary { .. }), "{error:?}");
    }
    let outside = Vocabulary { bos: Some(99), ..small() };
    let error = ChatTemplate::from_vocabulary(&outside).expect_err("there is no such token");
    assert!(error.to_string().contains("bos_token_id"), "{error}");
}
