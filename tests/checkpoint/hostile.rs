//! One test per way in which a checkpoint can be wrong: the variant, and that its message names file and tensor.

use super::{file, memory};
use pollster::block_on;
use webweft::checkpoint::{Checkpoint, read_json};
use webweft::error::{CheckpointError, SourceError};
use webweft::source::Source;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The error of opening `source`, whose message must contain all of `words`.
fn refused(source: &Source, words: &[&str]) -> CheckpointError {
    let error = block_on(Checkpoint::open(source)).expect_err("must be refused");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
    error
}

fn refused_file(bytes: Vec<u8>, words: &[&str]) -> CheckpointError {
    let words: Vec<_> = [SINGLE].iter().chain(words).copied().collect();
    refused(&memory([(SINGLE, bytes)]), &words)
}

/// The header of one tensor `w`.
fn one(dtype: &str, shape: &str, begin: &str, end: &str) -> String {
    format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}}}"#)
}

/// Two tensors of bytes, `a` and `b`, with these offsets.
fn two(a: [u64; 2], b: [u64; 2]) -> String {
    let tensor = |name, [begin, end]: [u64; 2]| {
        format!(r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{begin},{end}]}}"#, end - begin)
    };
    format!("{{{},{}}}", tensor("a", a), tensor("b", b))
}

macro_rules! assert_variant {
    ($error:expr, $pattern:pat) => {
        let error = $error;
        assert!(matches!(error, $pattern), "another variant: {error:?}");
    };
}

#[test]
fn nothing_there() {
    assert_variant!(refused(&memory([]), &["memory", "model.safetensors"]), CheckpointError::NoWeights { .. });
}

#[test]
fn other_formats_are_named() {
    for name in ["pytorch_model.bin", "model.onnx"] {
        let source = memory([(name, vec![1])]);
        assert_variant!(refused(&source, &[name, SINGLE, INDEX]), CheckpointError::UnsupportedFormat { .. });
    }
}

#[test]
fn too_short() {
    for size in 0..8 {
        assert_variant!(refused_file(vec![0; size], &["fetch it again"]), CheckpointError::TooShort { .. });
    }
}

#[test]
fn lfs_pointer() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n";
    assert_variant!(refused_file(pointer.to_vec(), &["git lfs pull"]), CheckpointError::LfsPointer { .. });
}

#[test]
fn header_longer_than_the_format_allows() {
    for len in [100_000_001, u64::from(u32::MAX), u64::MAX - 7, u64::MAX] {
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        assert_variant!(refused_file(bytes, &[&len.to_string()]), CheckpointError::HeaderTooLong { .. });
    }
}

#[test]
fn header_longer_than_the_file() {
    for len in [3_u64, 99_999_999] {
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        let error = refused_file(bytes, &["incomplete", &len.to_string()]);
        assert_variant!(error, CheckpointError::HeaderBeyondFile { .. });
    }
}

#[test]
fn header_not_utf8() {
    let mut bytes = file(r#"{"__": 0}"#, 0);
    bytes[10] = 0xFF;
    assert_variant!(refused_file(bytes, &["byte 2"]), CheckpointError::HeaderNotUtf8 { at: 2, .. });
}

#[test]
fn header_not_json() {
    let deep = "{\"a\":".repeat(100_000);
    for header in ["", "{", "[]", "null", " {}", "{}{}", r#"{"w":1,}"#, &deep] {
        assert_variant!(refused_file(file(header, 0), &[]), CheckpointError::HeaderJson { .. });
    }
}

#[test]
fn header_fields_of_the_wrong_kind() {
    for header in [
        r#"{"w":[]}"#.to_owned(),
        r#"{"w":{"shape":[1],"data_offsets":[0,1]}}"#.to_owned(),
        r#"{"w":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#.to_owned(),
        r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}"#.to_owned(),
        one("U8", "1", "0", "1"),
        one("U8", "[1.5]", "0", "1"),
        one("U8", "[1]", "-1", "0"),
        one("U8", "[1]", "0", "18446744073709551616"),
    ] {
        assert_variant!(refused_file(file(&header, 1), &["\"w\""]), CheckpointError::HeaderJson { .. });
    }
    let header = r#"{"__metadata__":{"format":1}}"#;
    assert_variant!(refused_file(file(header, 0), &["__metadata__"]), CheckpointError::HeaderJson { .. });
}

#[test]
fn too_many_dimensions() {
    let shape = format!("[{}1]", "1,".repeat(1 << 20));
    let header = one("U8", &shape, "0", "1");
    assert_variant!(refused_file(file(&header, 1), &["\"w\"", "16"]), CheckpointError::HeaderJson { .. });
}

#[test]
fn duplicate_names() {
    let tensor = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    // The second spells the same name with an escape.
    for header in [format!(r#"{{"w":{tensor},"w":{tensor}}}"#), format!(r#"{{"w":{tensor},"\u0077":{tensor}}}"#)] {
        assert_variant!(refused_file(file(&header, 1), &["\"w\"", "twice"]), CheckpointError::DuplicateTensor { .. });
    }
    let header = r#"{"__metadata__":{},"__metadata__":{}}"#;
    assert_variant!(refused_file(file(header, 0), &["__metadata__"]), CheckpointError::DuplicateTensor { .. });
}

#[test]
fn unknown_dtype() {
    let error = refused_file(file(&one("Q4_0", "[1]", "0", "1"), 1), &["\"w\"", "Q4_0", "BF16"]);
    assert_variant!(error, CheckpointError::UnknownDtype { .. });
}

#[test]
fn shapes_that_overflow_or_end_inside_a_byte() {
    let max = u64::MAX.to_string();
    for (dtype, shape) in [
        ("F32", format!("[{max}]")),
        ("U8", format!("[{max},{max}]")),
        ("U8", "[4294967296,4294967296]".to_owned()),
        ("F4", "[3]".to_owned()),
        ("F6_E2M3", "[1]".to_owned()),
    ] {
        let error = refused_file(file(&one(dtype, &shape, "0", "1"), 1), &["\"w\"", dtype]);
        assert_variant!(error, CheckpointError::BadShape { .. });
    }
}

#[test]
fn offsets_reversed() {
    let error = refused_file(file(&one("U8", "[1]", "2", "1"), 4), &["\"w\""]);
    assert_variant!(error, CheckpointError::OffsetsReversed { begin: 2, end: 1, .. });
}

#[test]
fn offsets_out_of_range() {
    let end = u64::MAX - 1;
    let far = one("U8", "[1]", &(end - 1).to_string(), &end.to_string());
    for (header, end) in [(one("F32", "[2]", "0", "8"), 8), (far, end)] {
        let error = refused_file(file(&header, 7), &["\"w\"", &end.to_string(), "incomplete"]);
        assert_variant!(error, CheckpointError::OffsetsOutOfRange { data_len: 7, .. });
    }
}

#[test]
fn length_and_shape_disagree() {
    let error = refused_file(file(&one("F16", "[2,3]", "0", "24"), 24), &["\"w\"", "24", "12"]);
    assert_variant!(error, CheckpointError::LengthMismatch { expected: 12, got: 24, .. });
}

#[test]
fn overlap() {
    for (a, b) in [([0, 4], [3, 8]), ([0, 8], [0, 8]), ([0, 8], [4, 4])] {
        let error = refused_file(file(&two(a, b), 8), &["\"a\"", "\"b\""]);
        assert_variant!(error, CheckpointError::Overlap { .. });
    }
}

#[test]
fn hole() {
    let error = refused_file(file(&two([0, 4], [6, 8]), 8), &["\"b\"", "2 bytes"]);
    assert_variant!(error, CheckpointError::Hole { len: 2, .. });
    let error = refused_file(file(&one("U8", "[1]", "1", "2"), 2), &["\"w\""]);
    assert_variant!(error, CheckpointError::Hole { len: 1, .. });
}

#[test]
fn trailing_bytes() {
    let error = refused_file(file(&one("U8", "[1]", "0", "1"), 4), &["3 bytes"]);
    assert_variant!(error, CheckpointError::TrailingBytes { len: 3, .. });
    assert_variant!(refused_file(file("{}", 1), &[]), CheckpointError::TrailingBytes { len: 1, .. });
}

#[test]
fn long_hostile_names_are_cut_in_messages() {
    let header = one("?", "[1]", "0", "1").replace("\"w\"", &format!("\"{}\"", "é\\n".repeat(50_000)));
    let error = refused_file(file(&header, 1), &["é\\né"]);
    let text = error.to_string();
    assert!(text.len() < 2_000 && !text.contains('\n'), "{} bytes", text.len());
}

fn index(map: &str) -> Vec<u8> {
    format!(r#"{{"metadata":{{"total_size":1}},"weight_map":{{{map}}}}}"#).into_bytes()
}

fn shard(tensor: &str) -> Vec<u8> {
    file(&one("U8", "[1]", "0", "1").replace("\"w\"", &format!("\"{tensor}\"")), 1)
}

#[test]
fn index_not_an_index() {
    for bytes in [b"".to_vec(), b"{}".to_vec(), b"[]".to_vec(), index(""), index(r#""a":1"#)] {
        assert_variant!(refused(&memory([(INDEX, bytes)]), &[INDEX]), CheckpointError::IndexJson { .. });
    }
}

#[test]
fn index_with_a_name_twice() {
    let source = memory([(INDEX, index(r#""a":"1.safetensors","a":"2.safetensors""#))]);
    assert_variant!(refused(&source, &[INDEX, "\"a\""]), CheckpointError::DuplicateTensor { .. });
}

#[test]
fn shard_names_that_leave_the_folder() {
    for name in ["../x", "/etc/passwd", "a/b", "..", "", "a\\\\b", "C:x", "a\\u0000"] {
        let source = memory([(INDEX, index(&format!(r#""a":"{name}""#)))]);
        assert_variant!(refused(&source, &[INDEX, "refused"]), CheckpointError::ShardName { .. });
    }
}

#[test]
fn shard_absent() {
    let map = index(r#""a":"1.safetensors","b":"2.safetensors""#);
    let source = memory([(INDEX, map), ("1.safetensors", shard("a"))]);
    let error = refused(&source, &[INDEX, "2.safetensors", "incomplete"]);
    assert_variant!(error, CheckpointError::ShardMissing { .. });
}

#[test]
fn shard_lacks_a_tensor() {
    let map = index(r#""a":"1.safetensors","b":"2.safetensors""#);
    let source = memory([(INDEX, map), ("1.safetensors", shard("a")), ("2.safetensors", shard("c"))]);
    let error = refused(&source, &[INDEX, "2.safetensors", "\"b\""]);
    assert_variant!(error, CheckpointError::ShardLacksTensor { .. });
    // It is there, but not where the index says.
    let map = index(r#""a":"2.safetensors","b":"1.safetensors""#);
    let source = memory([(INDEX, map), ("1.safetensors", shard("a")), ("2.safetensors", shard("b"))]);
    assert_variant!(refused(&source, &[INDEX, "\"a\""]), CheckpointError::ShardLacksTensor { .. });
}

#[test]
fn one_name_in_two_shards() {
    let map = index(r#""a":"1.safetensors","b":"2.safetensors""#);
    let source = memory([(INDEX, map), ("1.safetensors", shard("a")), ("2.safetensors", shard("a"))]);
    let error = refused(&source, &["1.safetensors", "2.safetensors", "\"a\""]);
    assert_variant!(error, CheckpointError::DuplicateAcrossShards { .. });
}

#[test]
fn json_that_does_not_parse() {
    let source = memory([("config.json", b"{\n  \"a\": 1,\n  oops\n}".to_vec())]);
    let error = block_on(read_json(&source, "config.json", 1 << 20)).expect_err("no JSON");
    assert!(error.to_string().contains("`config.json`, line 3, column 3:"), "{error}");
    assert_variant!(error, CheckpointError::Json { line: 3, column: 3, .. });

    let error = block_on(read_json(&source, "config.json", 4)).expect_err("too large");
    assert!(error.to_string().contains("config.json"), "{error}");
    assert_variant!(error, CheckpointError::Source(SourceError::TooLarge { cap: 4, .. }));

    assert!(block_on(read_json(&source, "other.json", 4)).expect("absence is no error").is_none());
}
