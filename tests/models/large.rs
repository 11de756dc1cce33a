//! A tensor larger than one storage binding is split by rows, and works.

use webweft::checkpoint::Dtype as Stored;
use webweft::generate::GenerateOptions;
use webweft::managers::Dtype;
use webweft::session::{LoadOptions, Session};

use super::reference_llama::{Shape, Synthetic};
use super::{assert_close, generate};
use crate::common::{portable_device, skipped};

/// An embedding and a head of 140 MB each at f32, where a binding shows 128 MiB.
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
async fn a_table_beyond_one_binding_is_split() {
    let device = portable_device().await;
    if device.max_binding() > 128 << 20 {
        return skipped("this adapter shows more than 128 MiB in a binding");
    }
    let shape = Shape {
        hidden: 1024,
        ff: 32,
        layers: 1,
        heads: 4,
        kv_heads: 1,
        head_dim: 32,
        vocab: 34_211,
        tied: false,
        attention_bias: false,
        mlp_bias: false,
    };
    let model = Synthetic::new(&shape, Stored::F32, 3);
    // ids from both sides of the border, at 32768 rows
    let ids = [1, 34_210, 32_767, 32_768, 5, 32_769];
    let (_, logits) = model.forward(&ids);
    let options = LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() };
    let mut session = Session::open(&device, &model.source(), &options, |_| ()).await.unwrap();
    // other tests' models are small
    let is_head = |e: &webweft::device::Entry| e.label.contains("lm_head") && e.size > 1 << 20;
    let of_head = device.ledger().entries().iter().filter(|e| is_head(e)).count();
    assert_eq!(of_head, 2, "the head is in two parts");
    let got = session.forward(&ids).await.unwrap();
    assert_close("logits", &got.logits, &logits, 1e-3, 1e-4);
    let best = (0..shape.vocab).max_by(|&a, &b| logits[5 * shape.vocab + a].total_cmp(&logits[5 * shape.vocab + b]));
    let new = generate(&mut session, &ids, GenerateOptions { max_new_tokens: 1, ..GenerateOptions::default() }).await;
    assert_eq!(new, [best.unwrap() as u32]);
}
