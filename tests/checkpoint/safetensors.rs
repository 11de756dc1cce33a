//! Checkpoints that are right: what is read from them, held against the crate `safetensors`.

use super::{file, memory, shared};
use pollster::block_on;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as Theirs, TensorView, serialize};
use std::fs;
use webweft::checkpoint::{Checkpoint, Dtype, read_json};
use webweft::source::{Folder, Source};

fn open(source: &Source) -> Checkpoint {
    block_on(Checkpoint::open(source)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_dtype_is_read_as_it_was_written() {
    use Theirs as T;
    for theirs in [
        T::BOOL,
        T::F4,
        T::F6_E2M3,
        T::F6_E3M2,
        T::U8,
        T::I8,
        T::F8_E5M2,
        T::F8_E4M3,
        T::F8_E8M0,
        T::F8_E4M3FNUZ,
        T::F8_E5M2FNUZ,
        T::I16,
        T::U16,
        T::F16,
        T::BF16,
        T::I32,
        T::U32,
        T::F32,
        T::C64,
        T::F64,
        T::I64,
        T::U64,
    ] {
        let data = vec![0; 8 * theirs.bitsize() / 8];
        let view = TensorView::new(theirs, vec![2, 4], &data).expect("whole bytes");
        let bytes = serialize([("w", view)], None).expect("serializes");
        let checkpoint = open(&memory([("model.safetensors", bytes)]));
        let w = checkpoint.get("w").expect("w is there");
        assert_eq!(w.dtype.name(), theirs.to_string());
        assert_eq!(w.dtype.bytes_of(8), Some(theirs.bitsize() as u64));
        assert_eq!(Dtype::from_name(w.dtype.name()), Some(w.dtype));
        assert_eq!((w.shape.as_slice(), w.range.end - w.range.start), ([2, 4].as_slice(), data.len() as u64));
    }
}

#[test]
fn scalars_empty_tensors_and_metadata() {
    let header = r#"{"__metadata__":{"format":"pt"},
        "full":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},
        "none":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},
        "last":{"dtype":"F32","shape":[9,0],"data_offsets":[5,5]},
        "scalar":{"dtype":"F16","shape":[],"data_offsets":[3,5]}}   "#;
    let checkpoint = open(&memory([("model.safetensors", file(header, 5))]));
    let order: Vec<_> = checkpoint.in_byte_order().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(order, ["none", "full", "scalar", "last"]);
    assert!(checkpoint.get("scalar").is_some_and(|scalar| scalar.shape.is_empty()));
    assert!(checkpoint.get("__metadata__").is_none());
    assert!(open(&memory([("model.safetensors", file("{}", 0))])).is_empty());
}

#[test]
fn the_single_file_wins() {
    let header = r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let source = memory([("model.safetensors", file(header, 1)), ("model.safetensors.index.json", b"no".to_vec())]);
    assert_eq!(open(&source).names().collect::<Vec<_>>(), ["w"]);
}

/// All fixtures with safetensors, single and sharded: the same tensors as the crate finds, and the same bytes.
#[test]
fn fixtures_as_the_crate_reads_them() {
    let Some(fixtures) = shared("fixtures") else { return };
    let (mut folders, mut sharded) = (0, 0);
    for entry in fs::read_dir(fixtures).expect("is listed") {
        let path = entry.expect("is listed").path();
        let has = |name: &str| path.join(name).is_file();
        if !has("model.safetensors") && !has("model.safetensors.index.json") {
            continue;
        }
        let source = Source::Folder(Folder::open(&path).expect("opens"));
        let checkpoint = open(&source);
        let mut count = 0;
        for name in checkpoint.files() {
            let bytes = fs::read(path.join(name)).expect("is read");
            let theirs = SafeTensors::deserialize(&bytes).expect("a fixture is right");
            for (name, view) in theirs.iter() {
                let ours = checkpoint.get(name).unwrap_or_else(|| panic!("{name} is missing"));
                let shape: Vec<_> = view.shape().iter().map(|dim| *dim as u64).collect();
                assert_eq!((ours.dtype.name(), &ours.shape), (view.dtype().to_string().as_str(), &shape));
                let read = block_on(source.read(&checkpoint.files()[ours.file], ours.range.clone())).expect("is read");
                assert!(read.as_ref() == view.data(), "{name}: other bytes");
                count += 1;
            }
        }
        assert_eq!(count, checkpoint.len(), "{}", path.display());
        let order: Vec<_> = checkpoint.in_byte_order().map(|tensor| (tensor.file, tensor.range.start)).collect();
        assert!(order.is_sorted());
        let config = block_on(read_json(&source, "config.json", 1 << 20)).expect("parses");
        assert!(config.is_some_and(|config| config.is_object()));
        folders += 1;
        sharded += usize::from(checkpoint.files().len() > 1);
    }
    println!("{folders} fixtures, {sharded} of them sharded");
    assert!(folders > 0 && sharded > 0);
}
