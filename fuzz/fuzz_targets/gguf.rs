//! Any bytes as a GGUF file: refused or looked at, down to its tokenizer, never a panic, and never a tensor outside its file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pollster::block_on;
use webweft::checkpoint::Checkpoint;
use webweft::managers::inspect;
use webweft::source::{Memory, Source};

const FILE: &str = "model.gguf";

fuzz_target!(|bytes: &[u8]| {
    // the bytes as they are, and as what follows the magic and a version, so that the fuzzer need not guess those
    let framed = [b"GGUF\x03\0\0\0", bytes].concat();
    for bytes in [bytes, &framed] {
        let mut memory = Memory::new();
        memory.insert(FILE, bytes).expect("the name is plain");
        let source = Source::Memory(memory);
        let _ = block_on(inspect(&source, None, None));
        if let Ok((checkpoint, _)) = block_on(Checkpoint::open_gguf(&source, FILE)) {
            for tensor in checkpoint.in_byte_order() {
                block_on(source.read(FILE, tensor.range.clone())).expect("every range lies within its file");
            }
        }
    }
});
