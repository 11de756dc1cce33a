//! SentencePiece's BPE from tokens and scores. Ids are those that llama.cpp gives for the same vocabulary.

use super::shared;
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};
use webweft::error::TokenizerError;
use webweft::preprocess::{Tokenizer, Vocabulary};

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// `<unk>`, `<s>`, `</s>` (0 to 2), bytes (from 3), merged tokens (from 259), characters (from 268), then those given.
fn llama(more: &[(&str, i32)]) -> Vocabulary {
    let mut all: Vec<(String, f32, i32)> = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
        .map(|(token, kind)| (token.to_owned(), 0.0, kind))
        .to_vec();
    all.extend((0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), 0.0, BYTE)));
    let merged = ["▁t", "he", "▁the", "ab", "bc", "abc", "aa", "aaa", "▁▁"];
    all.extend((0_u8..).zip(merged).map(|(rank, token)| (token.to_owned(), -f32::from(rank), NORMAL)));
    all.extend("▁abcdefghijklmnopqrstuvwxyz<>|.0".chars().map(|c| (c.to_string(), -1000.0, NORMAL)));
    all.extend(more.iter().map(|(token, kind)| ((*token).to_owned(), -1000.0, *kind)));
    Vocabulary {
        model: "llama".into(),
        tokens: all.iter().map(|(token, ..)| token.clone()).collect(),
        scores: all.iter().map(|(_, score, _)| *score).collect(),
        token_types: all.iter().map(|(.., kind)| *kind).collect(),
        ..Vocabulary::default()
    }
}

fn build(vocabulary: &Vocabulary) -> Tokenizer {
    Tokenizer::from_vocabulary(vocabulary).expect("is in order")
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, false).expect("encodes")
}

#[test]
fn merges_follow_from_scores() {
    let vocabulary = llama(&[("<b>", USER_DEFINED), ("<|ctl|>", CONTROL), ("<x> y", USER_DEFINED)]);
    let tokenizer = build(&vocabulary);
    assert_eq!(tokenizer.kind(), "BPE");
    let cases: [(&str, &[u32]); 13] = [
        ("the", &[261]),
        ("  the", &[267, 261]),
        ("a  b", &[268, 269, 267, 270]),
        ("<b>the", &[300, 261]),
        ("x<b> the", &[268, 292, 300, 268, 261]),
        ("<s>the</s> ab", &[1, 261, 2, 267, 262]),
        ("abc abcc aaaa aaaaa", &[268, 264, 268, 264, 271, 268, 265, 265, 268, 265, 266]),
        ("", &[]),
        ("é中😀", &[268, 198, 172, 231, 187, 176, 243, 162, 155, 131]),
        ("<|ctl|><|ctl|> a", &[301, 301, 267, 269]),
        ("q<x> yq", &[268, 285, 302, 268, 285]),
        ("the\nthe", &[261, 13, 288, 260]),
        ("<0x41>", &[268, 295, 299, 292, 55, 52, 296]),
    ];
    for (text, want) in cases {
        assert_eq!(ids(&tokenizer, text), want, "{text:?}");
    }
    for text in ["the", "a  b", "é中😀", "the\nthe", " ab", "<0x41>", "abc abcc"] {
        assert_eq!(tokenizer.decode(&ids(&tokenizer, text), true).expect("decodes"), text);
        let bytes: Vec<u8> = ids(&tokenizer, text).iter().flat_map(|id| tokenizer.token_bytes(*id)).collect();
        assert_eq!(bytes, format!(" {text}").as_bytes());
    }
    // by default a text starts with <s>, and nothing ends it
    assert_eq!(tokenizer.encode("the", true).expect("encodes"), [1, 261]);
    let ended = build(&Vocabulary { add_bos: Some(false), add_eos: Some(true), ..vocabulary.clone() });
    assert_eq!(ended.encode("the", true).expect("encodes"), [261, 2]);
    let bare = build(&Vocabulary { add_space_prefix: Some(false), ..vocabulary });
    assert_eq!(ids(&bare, "the the"), [288, 260, 261]);
    assert_eq!(bare.decode(&[261, 261], true).expect("decodes"), " the the");
}

/// Bytes and control tokens do not come by writing their parts.
#[test]
fn nobody_writes_a_byte_by_its_name() {
    let parts = [("<0", NORMAL), ("<0x", NORMAL), ("1", NORMAL), ("4", NORMAL), ("1>", NORMAL), ("41>", NORMAL)];
    assert_eq!(ids(&build(&llama(&parts)), "<0x41>"), [268, 301, 305]);
}

/// Gemma has runs of spaces that a user defined: written with either sort, with a score of no meaning, and merged before all else.
#[test]
fn runs_of_spaces_are_merged_first() {
    let runs = [["▁▁", "▁▁▁", "▁▁▁▁"], ["  ", "   ", "    "]];
    for run in runs {
        let mut vocabulary = llama(&[(run[1], USER_DEFINED), (run[2], USER_DEFINED), ("\n\n", USER_DEFINED)]);
        (vocabulary.tokens[267], vocabulary.token_types[267]) = (run[0].to_owned(), USER_DEFINED);
        let tokenizer = build(&Vocabulary { add_space_prefix: Some(false), ..vocabulary });
        for (text, want) in
            [("   the", vec![300, 288, 260]), ("    a", vec![301, 269]), ("a\n\n   b", vec![269, 302, 300, 270])]
        {
            assert_eq!(ids(&tokenizer, text), want, "{text:?}");
            assert_eq!(tokenizer.decode(&want, true).expect("decodes"), text);
        }
        assert_eq!(tokenizer.token_bytes(301), b"    ");
    }
}

/// What the repository of Phi-3 says of its tokens, and a file only by its name.
#[test]
fn special_tokens_of_phi_3_swallow_white_space() {
    let vocabulary = llama(&[("<|end|>", CONTROL), ("<|endoftext|>", CONTROL)]);
    let text = "<|end|>\n the<|endoftext|> the<s> the";
    let named = |name: &str| build(&Vocabulary { name: Some(name.into()), ..vocabulary.clone() });
    let kept = [300, 268, 13, 261, 301, 268, 261, 1, 268, 261];
    assert_eq!(ids(&named("Llama 2"), text), kept);
    for name in ["Phi-3-mini-4k-instruct", "Phi3"] {
        assert_eq!(ids(&named(name), text), [&[300, 261][..], &kept[4..]].concat());
    }
}

#[test]
fn rows_that_fill_up_are_no_tokens() {
    let tokenizer = build(&llama(&[("[PAD300]", UNKNOWN), ("", NORMAL), ("", NORMAL), ("[PAD9]", USER_DEFINED)]));
    assert_eq!(tokenizer.token_to_id("[PAD300]"), None);
    assert_eq!(tokenizer.decode(&[300, 301, 302, 269], true).expect("decodes"), "a");
    assert_eq!(ids(&tokenizer, "[PAD9]"), [303], "this one is not its own row");
}

#[test]
fn hostile_vocabularies() {
    let refused = |vocabulary: &Vocabulary, word: &str| {
        let error = Tokenizer::from_vocabulary(vocabulary).expect_err(word);
        assert!(matches!(error, TokenizerError::Vocabulary { .. }) && error.to_string().contains(word), "{error}");
    };
    refused(&Vocabulary { scores: Vec::new(), ..llama(&[]) }, "scores");
    // tokens that are all parts of one another: as many merges as there are characters
    let start = Instant::now();
    let nested: Vec<String> = (4..2000).map(|length| "a".repeat(length)).collect();
    let nested: Vec<_> = nested.iter().map(|token| (token.as_str(), NORMAL)).collect();
    refused(&llama(&nested), "in more ways");
    // as many as real vocabularies have for spaces are in order
    assert_eq!(ids(&build(&llama(&nested[..124])), &"a".repeat(127)).len(), 2);
    // long tokens cost what reading them does
    let long: Vec<String> = ('a'..='h').map(|last| "ab".repeat(1 << 19) + &last.to_string()).collect();
    let long: Vec<_> = long.iter().map(|token| (token.as_str(), NORMAL)).collect();
    assert_eq!(ids(&build(&llama(&long)), "the"), [261]);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // scores that are no numbers
    let mut odd = llama(&[]);
    odd.scores.fill(f32::NAN);
    assert_eq!(build(&odd).decode(&ids(&build(&odd), "the abc"), true).expect("decodes"), "the abc");
    // byte tokens are missing, and so is the unknown one
    let mut bare = llama(&[]);
    for (token, kind) in bare.tokens.iter_mut().zip(&mut bare.token_types).take(259) {
        (*token, *kind) = (String::new(), NORMAL);
    }
    bare.add_bos = Some(false);
    assert_eq!(ids(&build(&bare), "é the"), [268, 261]);
}

fn json_file(folder: &str, file: &str) -> Option<Value> {
    let bytes = fs::read(shared(folder)?.join(file)).expect("is read");
    Some(serde_json::from_slice(&bytes).expect("parses"))
}

/// A real tokenizer of this kind. The scores of its SentencePiece model fall with the ids of its merged tokens.
#[test]
fn vocabulary_of_stories() {
    let Some(file) = json_file("models/stories260K", "tokenizer.json") else { return };
    let original = Tokenizer::from_bytes(file.to_string().as_bytes()).expect("parses");
    let mut vocabulary = Vocabulary { model: "llama".into(), ..Vocabulary::default() };
    for id in 0..original.id_bound() {
        let token = original.id_to_token(id).expect("ids have no gaps");
        let kind = match id {
            0 => UNKNOWN,
            1 | 2 => CONTROL,
            3..259 => BYTE,
            _ => NORMAL,
        };
        vocabulary.token_types.push(kind);
        vocabulary.scores.push(if kind == NORMAL { 259.0 - id as f32 } else { 0.0 });
        vocabulary.tokens.push(token);
    }
    let tokenizer = build(&vocabulary);
    let meta = json_file("models/stories260K", "meta.json").expect("has meta.json");
    let known = meta["tokenizer_cases"]
        .as_array()
        .expect("has cases")
        .iter()
        .map(|case| case["text"].as_str().expect("a text"));
    let long = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.  <s>One day,\n\nshe saw a big, red ball. \"Hi!\" she said — déjà vu 😀 aaaaaaaaa".repeat(3);
    let mut count = 0;
    for text in known.chain([long.as_str()]) {
        let want = original.encode(text, true).expect("encodes");
        assert_eq!(tokenizer.encode(text, true).expect("encodes"), want, "{text:?}");
        assert_eq!(tokenizer.decode(&want, true).expect("decodes"), original.decode(&want, true).expect("decodes"));
        count += 1;
    }
    assert!(count > 1);
}
