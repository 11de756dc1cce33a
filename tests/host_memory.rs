//! Loading a checkpoint of 1 GB takes a bounded amount of host memory. A process of its own: it reads its own RSS.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a test may panic

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

#[pollster::test]
async fn loading_a_gigabyte_takes_at_most_64_mib_of_the_host() {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    let folder = tempfile::tempdir_in(target).unwrap();
    let total = write_checkpoint(folder.path());
    assert!(total > 1_000_000_000, "{total}");
    for dtype in [Dtype::Q4, Dtype::F16] {
        let device = Device::open(&DeviceOptions::default()).await.unwrap();
        let source = Source::Folder(Folder::open(folder.path()).unwrap());
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
            "{dtype:?}: {:.0} MB/s, {host:.1} MiB of the host at most; {:.1} by what is written",
            total as f64 / 1e6 / seconds,
            strict / f64::from(1 << 20)
        );
        assert!(host <= 64.0, "{dtype:?}: {host} MiB");
        assert!(strict <= 64.0 * f64::from(1 << 20), "{dtype:?}: {strict} bytes");
        drop(session);
    }
}
