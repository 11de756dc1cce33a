//! Writes a Llama of random weights, to measure with: 26 million of them in f16, as `cargo bench` has it, unless sizes are given.
//!
//! ```sh
//! cargo run --release --example random_llama -- DIR [hidden ff layers heads kv_heads head_dim vocab]
//! cargo run --release -p native-runner -- bench DIR
//! ```

#[cfg(not(target_arch = "wasm32"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use half::f16;
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    let mut arguments = std::env::args().skip(1);
    let folder = std::path::PathBuf::from(arguments.next().ok_or("give a folder to write to")?);
    let mut sizes = [384, 1024, 12, 6, 2, 64, 16_000];
    for size in &mut sizes {
        *size = arguments.next().map_or(Ok(*size), |text| text.parse())?;
    }
    let [hidden, ff, layers, heads, kv_heads, head_dim, vocab] = sizes;

    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocab, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    for layer in 0..layers {
        for (name, shape) in [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![heads * head_dim, hidden]),
            ("self_attn.k_proj", vec![kv_heads * head_dim, hidden]),
            ("self_attn.v_proj", vec![kv_heads * head_dim, hidden]),
            ("self_attn.o_proj", vec![hidden, heads * head_dim]),
            ("mlp.gate_proj", vec![ff, hidden]),
            ("mlp.up_proj", vec![ff, hidden]),
            ("mlp.down_proj", vec![hidden, ff]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    // SplitMix64 (Steele, Lea & Flood 2014)
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    let mut tensors = Vec::new();
    for (name, shape) in shapes {
        // gains around 1, weights so that activations keep their size
        let (offset, scale) = if shape.len() == 1 { (1.0, 0.1) } else { (0.0, (3.0 / shape[1] as f32).sqrt()) };
        let elements: usize = shape.iter().product();
        let bytes: Vec<u8> =
            (0..elements).flat_map(|_| f16::from_f32(offset + scale * random()).to_le_bytes()).collect();
        tensors.push((name, shape, bytes));
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| TensorView::new(Dtype::F16, shape.clone(), bytes).map(|view| (name, view)))
        .collect::<Result<Vec<_>, _>>()?;
    let config = serde_json::json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden, "intermediate_size": ff,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim,
        "vocab_size": vocab, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
        "bos_token_id": 1, "eos_token_id": 2,
    });
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("config.json"), config.to_string())?;
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors"))?;
    Ok(())
}

/// A browser has no folders.
#[cfg(target_arch = "wasm32")]
fn main() {}
