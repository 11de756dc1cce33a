//! Loading a checkpoint of 1 GB takes a bounded amount of host memory. A process of its own: it reads its own RSS.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a test may panic

#[path = "common/gguf.rs"]
mod gguf;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use webweft::device::{Device, DeviceOptions};
use webweft::managers::Dtype;
use webweft::session::{LoadOptions, Session};
use webweft::source::{Folder, Source};

/// Anonymous resident memory of this process, in bytes. A mapped checkpoint is not anonymous.
fn rss_anon() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() * 1024
}

/// A Llama of about 0.5 billion bf16 weights, 1 GB, in two shards; every value finite, no two rows alike.
fn write_checkpoint(folder: &std::path::Path) -> u64 {
    let (hidden, ff, layers, vocab) = (2048usize, 5632usize, 10, 16000);
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": ff, "num_hidden_layers": layers,
        "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": vocab, "max_position_embeddings": 2048,
        "tie_word_embeddings": false,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut shards = [vec![("model.embed_tokens.weight".to_owned(), vec![vocab, hidden])], Vec::new()];
    for i in 0..layers {
        let shard = &mut shards[usize::from(i >= layers / 2)];
        let mut add =
            |name: &str, shape: &[usize]| shard.push((format!("model.layers.{i}.{name}.weight"), shape.to_vec()));
        add("input_layernorm", &[hidden]);
        add("post_attention_layernorm", &[hidden]);
        for (name, out, inputs) in
            [("q", hidden, hidden), ("k", 512, hidden), ("v", 512, hidden), ("o", hidden, hidden)]
        {
            add(&format!("self_attn.{name}_proj"), &[out, inputs]);
        }
        for (name, out, inputs) in [("gate", ff, hidden), ("up", ff, hidden), ("down", hidden, ff)] {
            add(&format!("mlp.{name}_proj"), &[out, inputs]);
        }
    }
    shards[1].push(("model.norm.weight".into(), vec![hidden]));
    shards[1].push(("lm_head.weight".into(), vec![vocab, hidden]));
    let mut map = serde_json::Map::new();
    let mut total = 0u64;
    let noise: Vec<u8> = (0..1 << 20)
        .flat_map(|i: u32| {
            half::bf16::from_f32((i.wrapping_mul(2_654_435_761) >> 16) as f32 / 1e6 - 0.03).to_le_bytes()
        })
        .collect();
    for (number, tensors) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-00002.safetensors", number + 1);
        let mut header = serde_json::Map::new();
        let mut offset = 0u64;
        for (name, shape) in tensors {
            let bytes = shape.iter().product::<usize>() as u64 * 2;
            header.insert(
                name.clone(),
                serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + bytes]}),
            );
            map.insert(name.clone(), file.clone().into());
            offset += bytes;
        }
        let header = serde_json::to_vec(&header).unwrap();
        let mut out = BufWriter::with_capacity(1 << 20, File::create(folder.join(&file)).unwrap());
        out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        out.write_all(&header).unwrap();
        let mut left = offset;
        while left > 0 {
            let now = left.min(noise.len() as u64 - left % 1024);
            out.write_all(&noise[..now as usize]).unwrap();
            left -= now;
        }
        out.flush().unwrap();
        total += offset;
    }
    fs::write(folder.join("model.safetensors.index.json"), serde_json::json!({"weight_map": map}).to_string()).unwrap();
    total
}

/// What fills a tensor.
enum Fill {
    Any,
    F16(f32),
    F32(f32),
    /// Groups of 128 columns that are no neighbours.
    Groups(usize),
    Text(String),
}

/// The same shape in the form of another tool, one shard, without head: GPTQ with `desc_act`, or bitsandbytes' nf4 with nested statistics.
fn write_quantized(folder: &std::path::Path, gptq: bool) -> u64 {
    let (hidden, ff, layers, vocab) = (2048usize, 5632usize, 10, 2048);
    let quantization = match gptq {
        true => serde_json::json!({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": true}),
        false => serde_json::json!({"quant_method": "bitsandbytes", "load_in_4bit": true}),
    };
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": ff, "num_hidden_layers": layers,
        "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": vocab, "max_position_embeddings": 2048,
        "tie_word_embeddings": true, "quantization_config": quantization,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut tensors = Vec::new();
    let mut add = |name: String, dtype: &'static str, shape: &[usize], fill: Fill| {
        tensors.push((name, dtype, shape.to_vec(), fill));
    };
    add("model.embed_tokens.weight".into(), "F16", &[vocab, hidden], Fill::F16(0.02));
    add("model.norm.weight".into(), "F16", &[hidden], Fill::F16(1.0));
    for i in 0..layers {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(format!("model.layers.{i}.{norm}.weight"), "F16", &[hidden], Fill::F16(1.0));
        }
        for (name, out, inputs) in [
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", 512, hidden),
            ("self_attn.v_proj", 512, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", ff, hidden),
            ("mlp.up_proj", ff, hidden),
            ("mlp.down_proj", hidden, ff),
        ] {
            let name = format!("model.layers.{i}.{name}");
            if gptq {
                add(format!("{name}.qweight"), "I32", &[inputs / 8, out], Fill::Any);
                add(format!("{name}.qzeros"), "I32", &[inputs / 128, out / 8], Fill::Any);
                add(format!("{name}.scales"), "F16", &[inputs / 128, out], Fill::F16(0.01));
                add(format!("{name}.g_idx"), "I32", &[inputs], Fill::Groups(inputs));
            } else {
                let blocks = out * inputs / 64;
                add(format!("{name}.weight"), "U8", &[out * inputs / 2, 1], Fill::Any);
                add(format!("{name}.weight.absmax"), "U8", &[blocks], Fill::Any);
                add(format!("{name}.weight.quant_map"), "F32", &[16], Fill::F32(f32::NAN));
                add(format!("{name}.weight.nested_absmax"), "F32", &[blocks / 256], Fill::F32(0.01));
                add(format!("{name}.weight.nested_quant_map"), "F32", &[256], Fill::F32(0.5));
                let state = serde_json::json!({
                    "quant_type": "nf4", "blocksize": 64, "shape": [out, inputs], "nested_blocksize": 256,
                    "nested_offset": 0.02,
                })
                .to_string();
                let shape = [state.len()];
                add(format!("{name}.weight.quant_state.bitsandbytes__nf4"), "U8", &shape, Fill::Text(state));
            }
        }
    }
    // the table is checked
    tensors.retain(|(name, ..)| !name.ends_with(".quant_map"));
    let (mut header, mut offset) = (serde_json::Map::new(), 0u64);
    for (name, dtype, shape, _) in &tensors {
        let each = if dtype.ends_with("32") {
            4
        } else if *dtype == "F16" {
            2
        } else {
            1
        };
        let bytes = (shape.iter().product::<usize>() * each) as u64;
        let json = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + bytes]});
        header.insert(name.clone(), json);
        offset += bytes;
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut out = BufWriter::with_capacity(1 << 20, File::create(folder.join("model.safetensors")).unwrap());
    out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    out.write_all(&header).unwrap();
    for (_, dtype, shape, fill) in &tensors {
        let count: usize = shape.iter().product();
        match fill {
            Fill::Any if *dtype == "I32" => {
                (0..count as u32).for_each(|i| out.write_all(&i.wrapping_mul(2_654_435_761).to_le_bytes()).unwrap());
            }
            Fill::Any => (0..count).for_each(|i| out.write_all(&[(i * 37) as u8]).unwrap()),
            Fill::F16(v) => (0..count).for_each(|_| out.write_all(&half::f16::from_f32(*v).to_le_bytes()).unwrap()),
            Fill::F32(v) => (0..count).for_each(|_| out.write_all(&v.to_le_bytes()).unwrap()),
            Fill::Groups(k) => {
                (0..count).for_each(|i| out.write_all(&((i * 7 % k / 128) as i32).to_le_bytes()).unwrap());
            }
            Fill::Text(text) => out.write_all(text.as_bytes()).unwrap(),
        }
    }
    out.flush().unwrap();
    offset
}

/// The same shape in GGUF, in types of every width, with a vocabulary of 32,000 tokens and as many merges.
fn write_gguf(folder: &std::path::Path) -> u64 {
    let (hidden, ff, layers, vocab) = (2048_u64, 5632_u64, 10_u32, 32_000_u64);
    let tokens: Vec<String> = (0..vocab).map(|i| format!("token{i}")).collect();
    let merges: Vec<String> = (0..vocab).map(|i| format!("tok en{i}")).collect();
    let texts = |all: &[String]| gguf::texts(all.iter().map(String::as_str));
    let mut file = gguf::GgufFile::new()
        .text("general.architecture", "llama")
        .u32("llama.block_count", layers)
        .u32("llama.embedding_length", hidden as u32)
        .u32("llama.context_length", 2048)
        .u32("llama.feed_forward_length", ff as u32)
        .u32("llama.attention.head_count", 16)
        .u32("llama.attention.head_count_kv", 4)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "llama-bpe")
        .key("tokenizer.ggml.tokens", 9, &texts(&tokens))
        .key("tokenizer.ggml.merges", 9, &texts(&merges))
        .u32("tokenizer.ggml.bos_token_id", 0);
    // Q4_0, Q4_K, Q6_K, Q2_K, Q5_1: number, elements and bytes of a block
    let types = [(2, 32, 18), (12, 256, 144), (14, 256, 210), (10, 256, 84), (7, 32, 24)];
    let mut next = 0;
    let mut matrix = |file: gguf::GgufFile, name: &str, rows: u64, columns: u64| {
        let (kind, of, bytes) = types[next % types.len()];
        next += 1;
        file.tensor(&format!("{name}.weight"), &[columns, rows], kind, rows * columns / of * bytes)
    };
    file = matrix(file, "token_embd", vocab, hidden);
    file = file.tensor("output_norm.weight", &[hidden], 0, hidden * 4);
    for i in 0..layers {
        for norm in ["attn_norm", "ffn_norm"] {
            file = file.tensor(&format!("blk.{i}.{norm}.weight"), &[hidden], 0, hidden * 4);
        }
        for (name, rows, columns) in [
            ("attn_q", hidden, hidden),
            ("attn_k", 512, hidden),
            ("attn_v", 512, hidden),
            ("attn_output", hidden, hidden),
            ("ffn_gate", ff, hidden),
            ("ffn_up", ff, hidden),
            ("ffn_down", hidden, ff),
        ] {
            file = matrix(file, &format!("blk.{i}.{name}"), rows, columns);
        }
    }
    let mut out = BufWriter::with_capacity(1 << 20, File::create(folder.join("model.gguf")).unwrap());
    out.write_all(&file.header()).unwrap();
    // half of all bit patterns are finite: these bytes make no exponent of ones
    let any: Vec<u8> = (0..1_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x3b).collect();
    let mut left = file.data;
    while left > 0 {
        let now = left.min(any.len() as u64);
        out.write_all(&any[..now as usize]).unwrap();
        left -= now;
    }
    out.flush().unwrap();
    file.data
}

#[pollster::test]
async fn loading_takes_at_most_64_mib_of_the_host() {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    let folder = tempfile::tempdir_in(target).unwrap();
    let total = write_checkpoint(folder.path());
    assert!(total > 1_000_000_000, "{total}");
    for dtype in [Dtype::Q4, Dtype::F16] {
        measure(folder.path(), dtype, total, dtype.name()).await;
    }
    drop(folder);
    for (gptq, name) in [(true, "gptq"), (false, "nf4")] {
        let folder = tempfile::tempdir_in(target).unwrap();
        let total = write_quantized(folder.path(), gptq);
        assert!(total > 200_000_000, "{total}");
        measure(folder.path(), Dtype::F16, total, name).await;
    }
    let folder = tempfile::tempdir_in(target).unwrap();
    let total = write_gguf(folder.path());
    assert!(total > 200_000_000, "{total}");
    measure(folder.path(), Dtype::F16, total, "gguf").await;
}

async fn measure(folder: &std::path::Path, dtype: Dtype, total: u64, name: &str) {
    let device = Device::open(&DeviceOptions::default()).await.unwrap();
    let source = Source::Folder(Folder::open(folder).unwrap());
    let base = rss_anon();
    let stop = Arc::new(AtomicBool::new(false));
    let most = Arc::new(AtomicI64::new(0));
    let watch = {
        let (stop, most, device) = (Arc::clone(&stop), Arc::clone(&most), device.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // lavapipe's buffers are memory of this process: they are the device's, not the host's
                let of_device = device.ledger().snapshot().total as i64;
                most.fetch_max(rss_anon() - of_device - base, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        })
    };
    let begin = std::time::Instant::now();
    let options = LoadOptions { dtype, ..LoadOptions::default() };
    // Stricter than the ledger is to count what was written so far: lavapipe commits a buffer when it is first used,
    // whole, since wgpu zeroes it then. So at most one buffer more than what was written is the device's.
    let mut strict = 0.0f64;
    let of_device = device.clone();
    let progress = |at: webweft::weights::Progress<'_>| {
        let now = of_device.ledger().snapshot();
        let weights = now.of(webweft::device::Category::Weights);
        let largest = of_device.ledger().entries().iter().map(|e| e.size).max().unwrap();
        let written = weights as f64 * at.loaded as f64 / at.total as f64 + (now.total - weights + largest) as f64;
        strict = strict.max((rss_anon() - base) as f64 - written);
    };
    let session = Session::open(&device, &source, &options, progress).await.unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    watch.join().unwrap();
    let host = most.load(Ordering::Relaxed) as f64 / f64::from(1 << 20);
    println!(
        "{name}: {:.0} MB/s, {host:.1} MiB of the host at most; {:.1} by what is written",
        total as f64 / 1e6 / seconds,
        strict / f64::from(1 << 20)
    );
    assert!(host <= 64.0, "{name}: {host} MiB");
    assert!(strict <= 64.0 * f64::from(1 << 20), "{name}: {strict} bytes");
    drop(session);
}
