//! Tokenizers of the fixtures against what transformers gives, and text as it streams.

use super::{memory, shared};
use pollster::block_on;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use webweft::error::TokenizerError;
use webweft::preprocess::Tokenizer;
use webweft::source::{Folder, Source};

fn load(folder: &Path) -> Option<Tokenizer> {
    let source = Source::Folder(Folder::open(folder).expect("opens"));
    block_on(Tokenizer::load(&source)).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

fn json_file(path: &Path) -> Option<Value> {
    let bytes = fs::read(path).ok()?;
    Some(serde_json::from_slice(&bytes).expect("parses"))
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("a list of ids")
}

/// The stream of `new` after `prompt`, in one piece; every piece is checked to be whole.
fn streamed(tokenizer: &Tokenizer, prompt: &[u32], new: &[u32]) -> String {
    let mut stream = tokenizer.text_stream(prompt, true).expect("decodes");
    let mut text = String::new();
    for id in new {
        text += &stream.push(*id).expect("decodes");
    }
    text + &stream.flush().expect("decodes")
}

/// What a stream must give: the whole less the prompt.
fn continuation(tokenizer: &Tokenizer, prompt: &[u32], new: &[u32]) -> String {
    let decode = |ids: &[u32]| tokenizer.decode(ids, true).expect("decodes");
    let (whole, head) = (decode(&[prompt, new].concat()), decode(prompt));
    whole.strip_prefix(&head).expect("the prompt ends at a character").to_owned()
}

#[test]
fn cases_of_all_fixtures() {
    let Some(fixtures) = shared("fixtures") else { return };
    let (mut folders, mut count, mut wrong) = (0, 0, Vec::new());
    for entry in fs::read_dir(fixtures).expect("is listed") {
        let path = entry.expect("is listed").path();
        let Some(cases) = json_file(&path.join("tokenizer_cases.json")) else {
            continue;
        };
        let Some(tokenizer) = load(&path) else { continue };
        folders += 1;
        for case in cases["cases"].as_array().into_iter().flatten() {
            let text = case["text"].as_str().expect("a text");
            let all = ids(&case["ids"]);
            let mut check = |what: &str, got: Value| {
                count += 1;
                if !case[what].is_null() && case[what] != got {
                    wrong.push(format!("{}: {what} of {text:?}: {got} for {}", path.display(), case[what]));
                }
            };
            check("ids", json!(tokenizer.encode(text, true).expect("encodes")));
            check("ids_no_special", json!(tokenizer.encode(text, false).expect("encodes")));
            check("decoded", json!(tokenizer.decode(&all, true).expect("decodes")));
            check("decoded_with_special", json!(tokenizer.decode(&all, false).expect("decodes")));
            assert!(all.iter().all(|id| *id < tokenizer.id_bound()));
        }
    }
    println!("{count} comparisons in {folders} fixtures");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(folders > 0 && count > 0);
}

#[test]
fn stories_as_transformers_reads_and_writes_them() {
    let Some(folder) = shared("models/stories260K") else {
        return;
    };
    let tokenizer = load(&folder).expect("has a tokenizer");
    let meta = json_file(&folder.join("meta.json")).expect("has meta.json");
    for case in meta["tokenizer_cases"].as_array().expect("has cases") {
        let text = case["text"].as_str().expect("a text");
        assert_eq!(tokenizer.encode(text, true).expect("encodes"), ids(&case["ids"]), "{text:?}");
        assert_eq!(json!(tokenizer.decode(&ids(&case["ids"]), true).expect("decodes")), case["decoded"]);
    }
    // `greedy_ids` lie in expected.safetensors; read with the crate so that this test stands on nothing of ours.
    let bytes = fs::read(folder.join("expected.safetensors")).expect("is read");
    let expected = safetensors::SafeTensors::deserialize(&bytes).expect("parses");
    let mut count = 0;
    for (number, prompt) in meta["prompts"].as_array().expect("has prompts").iter().enumerate() {
        let view = expected.tensor(&format!("prompt{number}.greedy_ids")).expect("is there");
        let width = view.dtype().bitsize() / 8;
        let new: Vec<_> =
            view.data().chunks_exact(width).map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]])).collect();
        assert_eq!(json!(tokenizer.decode(&new, true).expect("decodes")), prompt["text"]);
        let prompt = tokenizer.encode(prompt["prompt"].as_str().expect("a text"), true).expect("encodes");
        assert_eq!(streamed(&tokenizer, &prompt, &new), continuation(&tokenizer, &prompt, &new));
        count += 1;
    }
    assert!(count > 0);
}

/// Every text of the fixtures, cut anywhere: the stream goes on exactly where the prompt ends.
#[test]
fn streams_continue_the_prompt() {
    let Some(fixtures) = shared("fixtures") else { return };
    let mut count = 0;
    for name in ["llama_mha", "gemma2", "gpt2", "qwen2", "bert", "t5", "llama_gqa_llama3", "bloom", "whisper"] {
        let path = fixtures.join(name);
        let (Some(cases), Some(tokenizer)) = (json_file(&path.join("tokenizer_cases.json")), load(&path)) else {
            println!("SKIPPED: {name} has no tokenizer or no cases");
            continue;
        };
        for case in cases["cases"].as_array().into_iter().flatten() {
            let all = ids(&case["ids"]);
            for cut in 0..=all.len() {
                let (prompt, new) = all.split_at(cut);
                let decode = |ids: &[u32]| tokenizer.decode(ids, true).expect("decodes");
                if decode(prompt).ends_with('\u{FFFD}') {
                    // Cut inside a character: it is given whole.
                    let text = streamed(&tokenizer, prompt, new);
                    assert!(decode(&all).ends_with(&text), "{name}: {:?} at {cut}", case["text"]);
                    continue;
                }
                let expected = continuation(&tokenizer, prompt, new);
                assert_eq!(streamed(&tokenizer, prompt, new), expected, "{name}: {:?} at {cut}", case["text"]);
                count += 1;
            }
        }
    }
    println!("{count} cuts");
    assert!(count > 0);
}

/// A vocabulary in the manner of Llama 2: `<s>`, a few words, and all bytes as fallback (byte `b` is id `b + 10`).
fn llama_like() -> Tokenizer {
    let words = ["<unk>", "<s>", "</s>", "▁a", "b", "▁", "\u{FFFD}"];
    let mut vocab: serde_json::Map<_, _> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    vocab.extend((0..=255_u32).map(|byte| (format!("<0x{byte:02X}>"), json!(byte + 10))));
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let file = json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "<unk>"},
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                  "vocab": vocab, "merges": []}
    });
    Tokenizer::from_bytes(file.to_string().as_bytes()).expect("parses")
}

fn bytes_as_ids(text: &str) -> Vec<u32> {
    text.bytes().map(|byte| u32::from(byte) + 10).collect()
}

/// The tokens' bytes, joined, are the text's, but for a space at its beginning; a single token has its own.
#[test]
fn bytes_of_tokens_make_the_text() {
    let tokenizer = llama_like();
    let bytes = |id| tokenizer.token_bytes(id);
    assert_eq!((bytes(3), bytes(4), bytes(1), bytes(7)), (b" a".to_vec(), b"b".to_vec(), b"<s>".to_vec(), vec![]));
    assert_eq!(bytes_as_ids("é").into_iter().map(bytes).collect::<Vec<_>>(), [[0xc3], [0xa9]]);

    let Some(fixtures) = shared("fixtures") else { return };
    let mut folders = 0;
    for entry in fs::read_dir(fixtures).expect("is listed") {
        let path = entry.expect("is listed").path();
        let Some(cases) = json_file(&path.join("tokenizer_cases.json")) else { continue };
        // what other kinds drop between words cannot be had back
        let Some(tokenizer) = load(&path).filter(|t| t.kind().ends_with("BPE") || t.kind() == "Unigram") else {
            continue;
        };
        folders += 1;
        for case in cases["cases"].as_array().into_iter().flatten() {
            let all = ids(&case["ids_no_special"]);
            let bytes: Vec<u8> = all.iter().flat_map(|&id| tokenizer.token_bytes(id)).collect();
            let (joined, decoded) = (String::from_utf8_lossy(&bytes), tokenizer.decode(&all, false).expect("decodes"));
            let trim = |text: &str| text.trim_start_matches(' ').to_owned();
            assert_eq!(trim(&joined), trim(&decoded), "{}", path.display());
        }
    }
    assert!(folders > 0);
}

#[test]
fn vocabulary_and_its_bound() {
    let tokenizer = llama_like();
    // Ids 7, 8 and 9 are not used.
    assert_eq!((tokenizer.vocab_size(), tokenizer.id_bound()), (263, 266));
    assert_eq!((tokenizer.token_to_id("</s>"), tokenizer.token_to_id("no")), (Some(2), None));
    assert_eq!((tokenizer.id_to_token(3).as_deref(), tokenizer.id_to_token(u32::MAX)), (Some("▁a"), None));
}

#[test]
fn truncation_and_padding_of_the_file_are_dropped() {
    assert_eq!(llama_like().encode("bbbb", false).expect("encodes"), [4, 4, 4, 4]);
    assert_eq!(llama_like().encode("b", false).expect("encodes"), [4]);
}

#[test]
fn unknown_ids_give_no_text() {
    let tokenizer = llama_like();
    assert_eq!(tokenizer.decode(&[3, 8, u32::MAX, 4], true).expect("decodes"), "ab");
    let mut stream = tokenizer.text_stream(&[u32::MAX, 3], true).expect("decodes");
    assert_eq!(stream.push(7).expect("decodes"), "");
    assert_eq!(stream.push(3).expect("decodes"), " a");
}

#[test]
fn the_first_space_is_kept_after_a_prompt_and_dropped_at_the_start() {
    let tokenizer = llama_like();
    let many_special = [vec![3], vec![1; 500]].concat();
    for (prompt, expected) in [(vec![], "a a"), (vec![1], "a a"), (vec![1, 3], " a a"), (many_special, " a a")] {
        assert_eq!(streamed(&tokenizer, &prompt, &[3, 2, 3]), expected);
    }
    // A lone space, then a word: neither is lost, whatever stands in the window.
    assert_eq!(streamed(&tokenizer, &[3], &[5, 3, 5, 5, 3]), "  a   a");
    assert_eq!(tokenizer.text_stream(&[3], false).and_then(|mut s| s.push(2)).expect("decodes"), "</s>");
}

#[test]
fn characters_over_several_tokens_come_whole() {
    let tokenizer = llama_like();
    let text = "😀😀é中\n😀";
    let mut stream = tokenizer.text_stream(&[1, 3], true).expect("decodes");
    let pieces: Vec<_> = bytes_as_ids(text).into_iter().map(|id| stream.push(id).expect("decodes")).collect();
    assert_eq!(pieces.concat(), text);
    assert!(pieces.iter().all(|piece| piece.chars().count() <= 1 && !piece.contains('\u{FFFD}')));
    // A prompt of more bytes than the context holds, whatever the window's first byte is.
    for length in 1..30 {
        let prompt = [vec![1, 3], bytes_as_ids(&"😀".repeat(length)), vec![4; length % 5]].concat();
        assert_eq!(streamed(&tokenizer, &prompt, &bytes_as_ids("😀é")), "😀é", "{length}");
    }
    // A prompt that ends inside a character.
    let ids = bytes_as_ids("x😀");
    assert_eq!(streamed(&tokenizer, &ids[..3], &ids[3..]), "😀");
}

#[test]
fn bytes_that_are_no_character_are_replaced_and_bounded() {
    let tokenizer = llama_like();
    let bad = |count| vec![0xFF + 10; count];
    assert_eq!(streamed(&tokenizer, &[3], &bad(3)), "\u{FFFD}".repeat(3));
    assert_eq!(streamed(&tokenizer, &[3], &[bad(2), vec![3]].concat()), "\u{FFFD}\u{FFFD} a");
    // After a character that is out already.
    assert_eq!(streamed(&tokenizer, &[3], &[bytes_as_ids("😀"), bad(1), vec![3]].concat()), "😀\u{FFFD} a");
    // However many come, the stream lags by a bounded number, and loses none.
    for id in [0xFF + 10, 6] {
        let mut stream = tokenizer.text_stream(&[3], true).expect("decodes");
        let mut given = 0;
        for taken in 1..=2000 {
            given += stream.push(id).expect("decodes").chars().count();
            assert!(taken - given < 40);
        }
        assert_eq!(given + stream.flush().expect("decodes").chars().count(), 2000);
        assert_eq!(stream.push(3).expect("decodes"), " a");
    }
}

#[test]
fn files_that_are_no_tokenizer() {
    let strip = json!({"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": {"type": "Sequence", "decoders": [
            {"type": "Strip", "content": " ", "start": 0, "stop": 9}]},
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}});
    let mut template = strip.clone();
    template["decoder"] = Value::Null;
    template["post_processor"] = json!({"type": "TemplateProcessing", "pair": [], "special_tokens": {},
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]});
    for (bytes, word) in [
        (b"".to_vec(), "tokenizer.json"),
        (b"{}".to_vec(), "tokenizer.json"),
        (b"[1]".to_vec(), "tokenizer.json"),
        (vec![0xFF], "tokenizer.json"),
        (strip.to_string().into_bytes(), "Strip"),
        (template.to_string().into_bytes(), "[CLS]"),
    ] {
        let error = block_on(Tokenizer::load(&memory([("tokenizer.json", bytes)]))).expect_err("is refused");
        assert!(matches!(error, TokenizerError::Parse { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(block_on(Tokenizer::load(&memory([]))).expect("absence is no error").is_none());
}
