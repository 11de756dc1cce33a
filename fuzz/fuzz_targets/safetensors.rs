//! Any bytes as a checkpoint: refused or opened, never a panic, and never a tensor outside its file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pollster::block_on;
use webweft::checkpoint::Checkpoint;
use webweft::source::{Memory, Source};

fn open(files: &[(&str, &[u8])]) {
    let mut memory = Memory::new();
    for (name, bytes) in files {
        memory.insert(*name, *bytes).expect("the names are plain");
    }
    let source = Source::Memory(memory);
    let Ok(checkpoint) = block_on(Checkpoint::open(&source)) else {
        return;
    };
    for tensor in checkpoint.in_byte_order() {
        let file = &checkpoint.files()[tensor.file];
        block_on(source.read(file, tensor.range.clone())).expect("every range lies within its file");
    }
}

fuzz_target!(|bytes: &[u8]| {
    open(&[("model.safetensors", bytes)]);
    // The bytes as a header, so that the fuzzer need not guess its length.
    let framed = [&(bytes.len() as u64).to_le_bytes(), bytes].concat();
    open(&[("model.safetensors", &framed)]);
    open(&[("model.safetensors.index.json", bytes), ("1.safetensors", &framed)]);
});
