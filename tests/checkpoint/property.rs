//! Random and randomly damaged files: refused or read, never a panic, and never more than the crate would accept.

use super::memory;
use pollster::block_on;
use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use webweft::checkpoint::Checkpoint;
use webweft::preprocess::Tokenizer;

/// Opens `bytes` as a single file. Where that works, every tensor lies in the file and the crate agrees with it.
fn open(bytes: &[u8]) -> Result<(), TestCaseError> {
    let source = memory([("model.safetensors", bytes.to_vec())]);
    match block_on(Checkpoint::open(&source)) {
        Ok(checkpoint) => {
            let theirs = SafeTensors::deserialize(bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(theirs.len(), checkpoint.len());
            for tensor in checkpoint.in_byte_order() {
                let data = block_on(source.read("model.safetensors", tensor.range.clone()));
                prop_assert!(
                    data.is_ok_and(|data| theirs.tensor(&tensor.name).is_ok_and(|view| *view.data() == *data))
                );
            }
        }
        Err(error) => {
            let text = error.to_string();
            prop_assert!(text.contains("model.safetensors") && text.len() < 4096, "{}", text);
        }
    }
    Ok(())
}

/// A valid file with a few tensors.
fn valid() -> impl Strategy<Value = Vec<u8>> {
    let dtype = prop_oneof![Just(Dtype::F32), Just(Dtype::BF16), Just(Dtype::U8), Just(Dtype::F4)];
    let tensor = ("[a-z.]{1,12}", dtype, prop::collection::vec(0..5_usize, 0..4));
    prop::collection::vec(tensor, 0..6).prop_map(|tensors| {
        let data = vec![7; 4096];
        let mut unique = std::collections::BTreeMap::new();
        for (name, dtype, mut shape) in tensors {
            shape.push(2);
            let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            unique.insert(name, TensorView::new(dtype, shape, &data[..len]).expect("whole bytes"));
        }
        serialize(unique, None).expect("serializes")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn valid_files_open(bytes in valid()) {
        let source = memory([("model.safetensors", bytes.clone())]);
        prop_assert!(block_on(Checkpoint::open(&source)).is_ok());
        open(&bytes)?;
    }

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        open(&bytes)?;
    }

    #[test]
    fn random_headers(header in "[{}\\[\\]:,\"a-z0-9_ ]{0,120}", data in 0..16_usize) {
        open(&super::file(&header, data))?;
    }

    #[test]
    fn damaged_files(
        mut bytes in valid(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        open(&bytes)?;
    }

    #[test]
    fn digits_changed_in_the_header(
        mut bytes in valid(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), b'0'..=b'9'), 1..4),
    ) {
        let digits: Vec<_> = (8..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
        for (at, digit) in changes {
            if !digits.is_empty() {
                bytes[digits[at.index(digits.len())]] = digit;
            }
        }
        open(&bytes)?;
    }

    #[test]
    fn random_indexes(index in "[{}:,\"a-z_./ ]{0,80}", inner in "[a-z\":,./\\\\]{0,40}") {
        for text in [index, format!("{{\"weight_map\":{{{inner}}}}}")] {
            let source = memory([("model.safetensors.index.json", text.into_bytes())]);
            prop_assert!(block_on(Checkpoint::open(&source)).is_err());
        }
    }

    #[test]
    fn random_tokenizers(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Tokenizer::from_bytes(&bytes).is_err());
    }
}
