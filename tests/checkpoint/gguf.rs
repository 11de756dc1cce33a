//! GGUF headers: what is read of them, and one test per way in which they can be wrong.

use super::memory;
use crate::common::gguf::{GgufFile, text, texts};
use pollster::block_on;
use proptest::prelude::*;
use webweft::checkpoint::{Checkpoint, Dtype, MetaValue, Metadata, find_gguf};
use webweft::error::{CheckpointError, Error, GgufError};
use webweft::managers::inspect;
use webweft::source::{Folder, Memory, Source};

const FILE: &str = "model.gguf";

fn source(file: &GgufFile) -> Source {
    memory([(FILE, file.bytes())])
}

fn open(file: &GgufFile) -> (Checkpoint, Metadata) {
    block_on(Checkpoint::open_gguf(&source(file), FILE)).unwrap_or_else(|error| panic!("{error}"))
}

/// What is wrong with these bytes; the message must name the file and all of `words`.
fn refused_bytes(bytes: Vec<u8>, words: &[&str]) -> CheckpointError {
    let error = block_on(Checkpoint::open_gguf(&memory([(FILE, bytes)]), FILE)).expect_err("must be refused");
    let message = error.to_string();
    for word in [FILE].iter().chain(words) {
        assert!(message.contains(word), "{word:?} is missing in: {message}");
    }
    error
}

fn refused(file: &GgufFile, words: &[&str]) -> GgufError {
    match refused_bytes(file.bytes(), words) {
        CheckpointError::Gguf { error, .. } => error,
        other => panic!("another error: {other:?}"),
    }
}

/// A small Llama, every tensor f32.
fn llama() -> GgufFile {
    let file = GgufFile::new()
        .text("general.architecture", "llama")
        .u32("llama.block_count", 1)
        .u32("llama.embedding_length", 8)
        .u32("llama.context_length", 64)
        .u32("llama.feed_forward_length", 16)
        .u32("llama.attention.head_count", 2)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    let matrix = |file: GgufFile, name: &str, rows: u64, columns: u64| {
        file.tensor(&format!("{name}.weight"), &[columns, rows], 0, rows * columns * 4)
    };
    let mut file = matrix(file, "token_embd", 5, 8);
    for (name, rows, columns) in [
        ("attn_q", 8, 8),
        ("attn_k", 8, 8),
        ("attn_v", 8, 8),
        ("attn_output", 8, 8),
        ("ffn_gate", 16, 8),
        ("ffn_up", 16, 8),
        ("ffn_down", 8, 16),
    ] {
        file = matrix(file, &format!("blk.0.{name}"), rows, columns);
    }
    for norm in ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"] {
        file = file.tensor(&format!("{norm}.weight"), &[8], 0, 32);
    }
    file
}

#[test]
fn what_is_written_is_read() {
    let file = GgufFile::new()
        .key("a.u8", 0, &[7])
        .key("a.i8", 1, &[0xff])
        .key("a.u16", 2, &[1, 2])
        .key("a.i16", 3, &[0xfe, 0xff])
        .u32("a.u32", u32::MAX)
        .key("a.i32", 5, &(-5_i32).to_le_bytes())
        .f32("a.f32", 0.5)
        .key("a.bool", 7, &[1])
        .text("a.text", "grüße")
        .key("a.u64", 10, &u64::MAX.to_le_bytes())
        .key("a.i64", 11, &i64::MIN.to_le_bytes())
        .key("a.f64", 12, &0.25_f64.to_le_bytes())
        .texts("a.texts", &["x", "", "zz"])
        .key("a.floats", 9, &[&6_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &1.5_f32.to_le_bytes()].concat())
        .key("a.bools", 9, &[&7_u32.to_le_bytes()[..], &3_u64.to_le_bytes(), &[1, 0, 1]].concat())
        .tensor("w", &[64, 3], 2, 3 * 36)
        .tensor("v", &[5], 30, 10)
        .tensor("nothing", &[0], 0, 0);
    let (checkpoint, metadata) = open(&file);
    let get = |key: &str| metadata.get(key).cloned().expect(key);
    assert_eq!([get("a.u8"), get("a.i8"), get("a.u16")], [7, -1, 513].map(MetaValue::Int));
    assert_eq!([get("a.i16"), get("a.u32"), get("a.i32")], [-2, 0xffff_ffff, -5].map(MetaValue::Int));
    assert_eq!([get("a.u64"), get("a.i64")], [u64::MAX.into(), i64::MIN.into()].map(MetaValue::Int));
    assert_eq!([get("a.f32"), get("a.f64")], [0.5, 0.25].map(MetaValue::Float));
    assert_eq!((get("a.bool"), get("a.text")), (MetaValue::Bool(true), MetaValue::Text("grüße".to_owned())));
    assert_eq!(metadata.texts("a.texts").expect("texts"), ["x", "", "zz"]);
    assert_eq!(metadata.floats("a.floats").expect("floats"), [1.5]);
    assert_eq!(metadata.ints("a.bools").expect("ints"), [1, 0, 1]);
    let w = checkpoint.get("w").expect("w");
    assert_eq!((w.dtype, w.shape.as_slice(), w.range.end - w.range.start), (Dtype::Q4_0, [3, 64].as_slice(), 108));
    assert!(w.range.start.is_multiple_of(32));
    assert_eq!(checkpoint.get("v").map(|v| (v.dtype, v.shape.clone())), Some((Dtype::BF16, vec![5])));
    assert_eq!(checkpoint.parameters().0, 64 * 3 + 5);
}

/// More than is read at once, so that values lie over the ends of what is.
#[test]
fn long_vocabularies_are_read_in_pieces() {
    let words: Vec<String> = (0..120_000).map(|i| format!("word {i} {}", "x".repeat(i % 37))).collect();
    let texts: Vec<_> = words.iter().map(String::as_str).collect();
    let numbers: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let numbers = [&4_u32.to_le_bytes()[..], &300_000_u64.to_le_bytes(), &numbers].concat();
    let file = GgufFile::new().texts("t", &texts).key("n", 9, &numbers).tensor("w", &[3], 0, 12);
    let (checkpoint, metadata) = open(&file);
    assert_eq!(metadata.texts("t").expect("texts"), words);
    assert!(metadata.ints("n").expect("numbers").iter().copied().eq(0..300_000));
    assert_eq!(checkpoint.len(), 1);
}

#[test]
fn arrays_of_arrays_are_walked_over() {
    let inner = |n: u8| [&0_u32.to_le_bytes()[..], &u64::from(n).to_le_bytes(), &vec![9; n.into()]].concat();
    let outer = |inners: &[Vec<u8>]| {
        [&9_u32.to_le_bytes()[..], &(inners.len() as u64).to_le_bytes(), &inners.concat()].concat()
    };
    let nested = outer(&[outer(&[inner(3), inner(0)]), outer(&[]), inner(2)]);
    let (_, metadata) = open(&GgufFile::new().key("n", 9, &nested).u32("after", 4));
    assert_eq!(metadata.get("n"), Some(&MetaValue::Nested));
    assert_eq!(metadata.u32("after"), Ok(Some(4)));
    let mut deep = inner(1);
    for _ in 0..6 {
        deep = outer(&[deep]);
    }
    assert!(matches!(refused(&GgufFile::new().key("n", 9, &deep), &["`n`"]), GgufError::ValueType { .. }));
}

#[test]
fn what_is_no_gguf_is_refused() {
    for bytes in [Vec::new(), b"GG".to_vec(), b"ggml\0\0\0\0".to_vec(), vec![0; 64]] {
        let error = refused_bytes(bytes, &["GGUF"]);
        assert!(matches!(error, CheckpointError::Gguf { error: GgufError::Magic, .. }), "{error:?}");
    }
    let pointer = b"version https://git-lfs.github.com/spec/v1\n".to_vec();
    assert!(matches!(refused_bytes(pointer, &["git lfs pull"]), CheckpointError::LfsPointer { .. }));
    for version in [0, 1, 4, u32::MAX] {
        let file = GgufFile { version, ..GgufFile::new() };
        assert_eq!(refused(&file, &["version"]), GgufError::Version { version });
    }
    let file = GgufFile { version: 3 << 24, ..GgufFile::new() };
    assert_eq!(refused(&file, &["big-endian"]), GgufError::BigEndian);
}

#[test]
fn files_that_end_too_soon_are_refused() {
    let whole = llama().texts("tokenizer.ggml.tokens", &["a", "b"]).bytes();
    let header = llama().texts("tokenizer.ggml.tokens", &["a", "b"]).header().len();
    for end in (8..header - 32).chain([header + 1, whole.len() - 1]) {
        let error = refused_bytes(whole[..end].to_vec(), &["fetch it again"]);
        let is_told = matches!(
            error,
            CheckpointError::OffsetsOutOfRange { .. }
                | CheckpointError::Gguf { error: GgufError::Ends { .. } | GgufError::Count { .. }, .. }
        );
        assert!(is_told, "{end}: {error:?}");
    }
}

#[test]
fn counts_beyond_the_file_are_refused() {
    for count in [4, 1 << 20, 1 << 63, u64::MAX] {
        let file = GgufFile { tensor_count: Some(count), ..GgufFile::new() };
        assert!(matches!(refused(&file, &["tensors"]), GgufError::Count { .. }));
        let file = GgufFile { key_count: Some(count), ..GgufFile::new() };
        assert!(matches!(refused(&file, &["keys"]), GgufError::Count { .. }));
        // the padding behind it has room for few
        let count = count.max(100);
        for kind in [0_u32, 4, 8, 9, 12] {
            let claim = [kind.to_le_bytes().to_vec(), count.to_le_bytes().to_vec()].concat();
            let error = refused(&GgufFile::new().key("k", 9, &claim), &["fetch it again"]);
            assert!(matches!(error, GgufError::Count { .. } | GgufError::Ends { .. }), "{error:?}");
        }
        let error = refused(&GgufFile::new().key("k", 8, &count.to_le_bytes()), &["fetch it again"]);
        assert!(matches!(error, GgufError::Ends { .. }), "{error:?}");
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    assert!(matches!(refused(&GgufFile::new().key("k", 13, &[0]), &["`k`", "13"]), GgufError::ValueType { .. }));
    let array = [&77_u32.to_le_bytes()[..], &1_u64.to_le_bytes()].concat();
    assert!(matches!(refused(&GgufFile::new().key("k", 9, &array), &["77"]), GgufError::ValueType { .. }));
    let bad = [&2_u64.to_le_bytes()[..], &[0xff, 0xfe]].concat();
    assert!(matches!(refused(&GgufFile::new().key("k", 8, &bad), &["UTF-8"]), GgufError::NotUtf8 { .. }));
    let mut twice = GgufFile::new().u32("k", 1);
    twice.keys.push(("k".to_owned(), 4, vec![0; 4]));
    assert!(matches!(refused(&twice, &["`k`", "twice"]), GgufError::DuplicateKey { .. }));
    for alignment in [0, 3, 24, 1 << 21] {
        let file = GgufFile::new().u32("general.alignment", alignment).tensor("w", &[1], 0, 4);
        assert!(matches!(refused(&file, &["alignment", &alignment.to_string()]), GgufError::Alignment { .. }));
    }
    let file = GgufFile::new().text("general.alignment", "32");
    assert!(matches!(refused(&file, &["alignment"]), GgufError::Alignment { .. }));
    let file = GgufFile::new().tensor("w", &[1; 5], 0, 4);
    assert!(matches!(refused(&file, &["\"w\"", "5"]), GgufError::Rank { .. }));
    for (kind, name) in
        [(19, "IQ1_S"), (23, "IQ4_XS"), (35, "TQ2_0"), (39, "MXFP4"), (5, "number 5"), (9999, "number 9999")]
    {
        let error = refused(&GgufFile::new().tensor("w", &[256], kind, 512), &["\"w\"", name, "Q4_K"]);
        assert!(matches!(error, GgufError::TensorType { .. }), "{error:?}");
    }
    let nameless = GgufFile::new().tensor("w", &[1], 0, 4).tensor("w", &[1], 0, 4);
    assert!(matches!(refused_bytes(nameless.bytes(), &["\"w\""]), CheckpointError::DuplicateTensor { .. }));
}

#[test]
fn tensors_that_cannot_be_are_refused() {
    for (dims, kind, why) in [
        (&[33_u64][..], 2, "whole blocks"),
        (&[128, 2], 12, "whole blocks"),
        (&[1 << 62, 4], 0, "more elements"),
        (&[1 << 32, 1 << 32], 0, "more elements"),
        (&[u64::MAX, 1], 0, "more elements"),
    ] {
        let file = GgufFile::new().tensor("w", dims, kind, 64);
        assert!(matches!(refused_bytes(file.bytes(), &["\"w\"", why]), CheckpointError::BadShape { .. }));
    }
    for offset in [1, 16, 33] {
        let mut file = GgufFile::new().tensor("w", &[1], 0, 256);
        file.tensors[0].3 = offset;
        assert!(matches!(refused_bytes(file.bytes(), &["alignment"]), CheckpointError::BadShape { .. }));
    }
    for offset in [64, 1 << 40, (1 << 63) + 64, u64::MAX - 31] {
        let mut file = GgufFile::new().tensor("w", &[4], 0, 16);
        file.tensors[0].3 = offset;
        let error = refused_bytes(file.bytes(), &["\"w\""]);
        let is_told = matches!(error, CheckpointError::OffsetsOutOfRange { .. } | CheckpointError::BadShape { .. });
        assert!(is_told, "{error:?}");
    }
    let mut file = GgufFile::new().tensor("a", &[16], 0, 64).tensor("b", &[16], 0, 64);
    file.tensors[1].3 = 32;
    assert!(matches!(refused_bytes(file.bytes(), &["\"a\"", "\"b\""]), CheckpointError::Overlap { .. }));
}

/// A model in three files, some of them spoilt.
fn parts(spoil: impl Fn(usize, GgufFile) -> GgufFile) -> Memory {
    let mut memory = Memory::new();
    for no in 0..3_u16 {
        let file = GgufFile::new()
            .key("split.no", 2, &no.to_le_bytes())
            .key("split.count", 2, &3_u16.to_le_bytes())
            .key("split.tensors.count", 5, &3_i32.to_le_bytes())
            .tensor(&format!("w{no}"), &[4], 0, 16);
        let name = format!("m-{:05}-of-00003.gguf", no + 1);
        memory.insert(name, spoil(no.into(), file).bytes()).expect("plain");
    }
    memory
}

#[test]
fn split_files_are_one_model() {
    for given in 1..=3 {
        let source = Source::Memory(parts(|_, file| file));
        let name = format!("m-0000{given}-of-00003.gguf");
        let (checkpoint, _) = block_on(Checkpoint::open_gguf(&source, &name)).expect("a model");
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["w0", "w1", "w2"]);
        assert_eq!(checkpoint.get("w2").map(|w| w.file), Some(2));
        assert_eq!(checkpoint.files().len(), 3);
    }
}

#[test]
fn split_files_that_do_not_belong_together_are_refused() {
    let error = |memory: Memory, name: &str| {
        let found = block_on(Checkpoint::open_gguf(&Source::Memory(memory), name));
        found.expect_err("must be refused")
    };
    let first = "m-00001-of-00003.gguf";
    let mut lacking = Memory::new();
    lacking.insert(first, parts_of(first)).expect("plain");
    let missing = error(lacking, first);
    assert!(matches!(&missing, CheckpointError::ShardMissing { shard, .. } if shard.contains("00002")), "{missing:?}");
    let mut renamed = Memory::new();
    renamed.insert("model.gguf", parts_of(first)).expect("plain");
    let wrong = error(renamed, "model.gguf").to_string();
    assert!(wrong.contains("NAME-00001-of-00003.gguf"), "{wrong}");
    let swapped = parts(|i, file| if i == 1 { file.key("split.no", 2, &[2, 0]) } else { file });
    let swapped = error(swapped, first).to_string();
    assert!(swapped.contains("file 3 of 3") && swapped.contains("2 of 3"), "{swapped}");
    for count in [2_u16, 4, u16::MAX] {
        let other = parts(|i, file| if i == 2 { file.key("split.count", 2, &count.to_le_bytes()) } else { file });
        assert!(error(other, first).to_string().contains(&format!("of {count}")));
    }
    let more = parts(|i, file| if i == 0 { file.key("split.tensors.count", 5, &[9, 0, 0, 0]) } else { file });
    assert!(error(more, first).to_string().contains("expected 9"));
    let same =
        parts(|i, file| if i == 2 { GgufFile { tensors: Vec::new(), ..file }.tensor("w0", &[4], 0, 16) } else { file });
    assert!(matches!(error(same, first), CheckpointError::DuplicateAcrossShards { .. }));
}

/// The bytes of one of three files.
fn parts_of(name: &str) -> Vec<u8> {
    block_on(Source::Memory(parts(|_, file| file)).read_whole(name))
}

trait ReadWhole {
    async fn read_whole(&self, name: &str) -> Vec<u8>;
}

impl ReadWhole for Source {
    async fn read_whole(&self, name: &str) -> Vec<u8> {
        self.read_all(name, 1 << 20).await.expect("it reads").expect("it is there").to_vec()
    }
}

#[test]
fn one_file_is_meant() {
    let of = |names: &[&str], meant: Option<&str>| {
        let mut memory = Memory::new();
        for name in names {
            memory.insert(*name, Vec::new()).expect("plain");
        }
        let source = Source::Memory(memory).meaning(meant.map(str::to_owned));
        block_on(find_gguf(&source)).map_err(|error| error.to_string())
    };
    let found = |name: &str| Ok(Some(name.to_owned()));
    assert_eq!(of(&[], None), Ok(None));
    assert_eq!(of(&["a.gguf", "config.json", "mmproj-a.gguf"], None), found("a.gguf"));
    assert_eq!(of(&["model.safetensors", "a.gguf"], None), Ok(None));
    assert_eq!(of(&["model.safetensors", "a.gguf"], Some("a.gguf")), found("a.gguf"));
    let many =
        ["m-Q4_K_M.gguf", "m-Q4_0.gguf", "m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf", "m-IQ4_NL.gguf"];
    assert_eq!(of(&many, None), found("m-Q4_K_M.gguf"));
    assert_eq!(of(&many, Some("q8_0")), found("m-Q8_0-00001-of-00002.gguf"));
    assert_eq!(of(&many, Some("Q4_0")), found("m-Q4_0.gguf"));
    let error = of(&many, Some("Q5_K_M")).expect_err("there is none");
    assert!(error.contains("m-IQ4_NL.gguf") && error.contains("--gguf-file") && error.contains("Q5_K_M"), "{error}");
    assert!(of(&["a.gguf", "b.gguf"], None).is_err());
    assert_eq!(of(&["m-f16.gguf"], Some("F16")), found("m-f16.gguf"));
}

#[test]
fn a_path_may_lead_to_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["one.gguf", "two.gguf"] {
        std::fs::write(folder.path().join(name), llama().bytes()).expect("written");
    }
    let source = Source::Folder(Folder::open(folder.path().join("two.gguf")).expect("a file"));
    assert_eq!(block_on(find_gguf(&source)).expect("a file"), Some("two.gguf".to_owned()));
    assert!(block_on(find_gguf(&Source::Folder(Folder::open(folder.path()).expect("a folder")))).is_err());
    let told = block_on(inspect(&source, None, None)).expect("a model");
    assert!(told.supported, "{:?}", told.problems);
}

/// Keys that the architecture needs, and values that it does not have.
#[test]
fn models_that_cannot_be_are_refused() {
    let wrong = |file: &GgufFile, words: &[&str]| {
        let text = match block_on(inspect(&source(file), None, None)) {
            Ok(told) => {
                assert!(!told.supported, "{words:?}");
                told.problems.join("; ")
            }
            Err(Error::Checkpoint(error)) => error.to_string(),
            Err(other) => panic!("another error: {other:?}"),
        };
        for word in words {
            assert!(text.contains(word), "{word:?} is missing in: {text}");
        }
    };
    assert!(block_on(inspect(&source(&llama()), None, None)).expect("a model").supported);
    for key in [
        "general.architecture",
        "llama.block_count",
        "llama.embedding_length",
        "llama.context_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
    ] {
        wrong(&llama().without(key), &[key, "missing"]);
        wrong(&llama().texts(key, &["x"]), &[key, "an array of texts"]);
    }
    wrong(&llama().text("general.architecture", "mamba"), &["mamba", "qwen3"]);
    wrong(&llama().u32("llama.expert_count", 8), &["expert_count", "8"]);
    wrong(&llama().u32("llama.attention.value_length", 2), &["value_length", "4"]);
    wrong(&llama().text("llama.rope.scaling.type", "spiral"), &["spiral", "yarn"]);
    wrong(&llama().u32("llama.attention.head_count", 0), &["num_attention_heads"]);
    wrong(&llama().u32("llama.attention.head_count", 3), &["blk.0.attn_q.weight"]);
    wrong(&llama().u32("llama.embedding_length", u32::MAX), &["hidden_size"]);
    wrong(&llama().u32("llama.block_count", 2), &["blk.1.attn_norm.weight"]);
    let array = [&4_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &2_u32.to_le_bytes(), &1_u32.to_le_bytes()].concat();
    wrong(&llama().key("llama.attention.head_count_kv", 9, &array), &["head_count_kv", "one size for all"]);
    let mut misshaped = llama();
    misshaped.tensors[1].1 = vec![8, 4];
    wrong(&misshaped, &["blk.0.attn_q.weight"]);
    let long = llama().tensor("rope_freqs.weight", &[2], 1, 4);
    wrong(&long, &["rope_freqs.weight", "F32"]);
    let short = llama().tensor("rope_freqs.weight", &[1], 0, 4);
    wrong(&short, &["short_factor"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Any byte of a file may be any other: refused or opened, never a panic, and never a tensor outside its file.
    #[test]
    fn spoilt_bytes_do_no_harm(at in prop::collection::vec((0..1200_usize, any::<u8>()), 1..6), cut in prop::option::of(0..3000_usize)) {
        let mut bytes = llama().texts("tokenizer.ggml.tokens", &["a", "b", "c", "d", "e"]).text("tokenizer.ggml.model", "gpt2").bytes();
        for (at, byte) in at {
            bytes[at] = byte;
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        let source = memory([(FILE, bytes)]);
        let _ = block_on(inspect(&source, None, None));
        if let Ok((checkpoint, _)) = block_on(Checkpoint::open_gguf(&source, FILE)) {
            for tensor in checkpoint.in_byte_order() {
                prop_assert!(block_on(source.read(FILE, tensor.range.clone())).is_ok());
            }
        }
    }
}

/// What is claimed is not allocated before it is there.
#[test]
fn texts_beyond_the_cap_are_refused() {
    let file = GgufFile::new().key("k", 8, &[(65_u64 << 20).to_le_bytes().to_vec(), vec![b'x'; 65 << 20]].concat());
    assert!(matches!(refused(&file, &["header"]), GgufError::HeaderTooLong { .. }));
    let _ = (text(""), texts([]));
}
