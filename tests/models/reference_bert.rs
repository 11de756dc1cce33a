//! A BERT made of the scalar references, with random weights, in shapes that no published one has.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use serde_json::json;
use webweft::checkpoint::Dtype as Stored;
use webweft::encode::{FeatureOptions, Tokens};
use webweft::managers::Dtype;
use webweft::reference;
use webweft::reference::activation::{activation, gelu, gelu_tanh};
use webweft::session::{FeatureExtractor, LoadOptions};

use super::reference_llama::{Synthetic, add, narrow};
use crate::common::{assert_close, device};

#[derive(Clone, Copy)]
struct Shape {
    hidden: usize,
    heads: usize,
    ff: usize,
    layers: usize,
    types: usize,
    positions: usize,
    /// as TensorFlow calls gains and biases, below `bert.`
    is_old: bool,
    has_pooler: bool,
    act: &'static str,
}

const VOCAB: usize = 50;

struct Bert {
    model: Synthetic,
    shape: Shape,
}

impl Bert {
    fn new(shape: Shape, seed: u32) -> Self {
        let Shape { hidden, heads, ff, layers, types, positions, .. } = shape;
        let config = json!({
            "model_type": "bert", "hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": ff,
            "num_hidden_layers": layers, "type_vocab_size": types, "max_position_embeddings": positions, "vocab_size": VOCAB,
            "layer_norm_eps": 1e-6, "hidden_act": shape.act,
        });
        let mut bert = Self { model: Synthetic::of(config, Vec::new(), Stored::F32, seed), shape };
        let mut shapes = Vec::new();
        for (name, rows) in
            [("word_embeddings", VOCAB), ("position_embeddings", positions), ("token_type_embeddings", types)]
        {
            shapes.push((bert.name(&format!("embeddings.{name}.weight")), vec![rows, hidden]));
        }
        let norm = |name: &str| {
            let [gain, bias] = if shape.is_old { ["gamma", "beta"] } else { ["weight", "bias"] };
            [gain, bias].map(|part| (bert.name(&format!("{name}.LayerNorm.{part}")), vec![hidden]))
        };
        let linear = |name: &str, out, inputs| {
            let name = bert.name(name);
            [(format!("{name}.weight"), vec![out, inputs]), (format!("{name}.bias"), vec![out])]
        };
        shapes.extend(norm("embeddings"));
        for i in 0..layers {
            let at = |name: &str| format!("encoder.layer.{i}.{name}");
            for part in ["query", "key", "value"] {
                shapes.extend(linear(&at(&format!("attention.self.{part}")), hidden, hidden));
            }
            shapes.extend(linear(&at("attention.output.dense"), hidden, hidden));
            shapes.extend(norm(&at("attention.output")));
            shapes.extend(linear(&at("intermediate.dense"), ff, hidden));
            shapes.extend(linear(&at("output.dense"), hidden, ff));
            shapes.extend(norm(&at("output")));
        }
        if shape.has_pooler {
            shapes.extend(linear("pooler.dense", hidden, hidden));
        }
        bert.model = Synthetic::of(bert.model.config, shapes, Stored::F32, seed);
        bert
    }

    fn name(&self, name: &str) -> String {
        if self.shape.is_old { format!("bert.{name}") } else { name.to_owned() }
    }

    fn linear(&self, name: &str, x: &[f32]) -> Vec<f32> {
        self.model.linear(&self.name(name), x)
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let [gain, bias] = if self.shape.is_old { ["gamma", "beta"] } else { ["weight", "bias"] };
        let [gain, bias] = [gain, bias].map(|part| self.model.tensor(&self.name(&format!("{name}.LayerNorm.{part}"))));
        reference::norm(&narrow(x), reference::Norm { center: true, offset: 0.0, eps: 1e-6, gain, bias: Some(bias) })
    }

    /// The states around every layer, `[T, D]` each, and what the pooler makes of the last.
    fn forward(&self, text: &Tokens) -> (Vec<Vec<f64>>, Option<Vec<f64>>) {
        let Shape { hidden, heads, ff, layers, has_pooler, act, .. } = self.shape;
        let table = |name: &str| self.model.tensor(&self.name(&format!("embeddings.{name}.weight")));
        let x = reference::embed(table("word_embeddings"), hidden, &text.ids, 1.0);
        let x = reference::embed_types(&narrow(&x), table("token_type_embeddings"), hidden, &text.type_ids);
        let x = reference::embed_positions(&narrow(&x), table("position_embeddings"), hidden, 0);
        let mut states = vec![self.norm("embeddings", &x)];
        for i in 0..layers {
            let at = |name: &str| format!("encoder.layer.{i}.{name}");
            let mut x = states[i].clone();
            let [q, k, v] =
                ["query", "key", "value"].map(|part| self.linear(&at(&format!("attention.self.{part}")), &narrow(&x)));
            let width = hidden / heads;
            let caps = [(width as f32).powf(-0.5), 0.0];
            let y = reference::attention_of_all(&q, &k, &v, [heads, heads, width], caps);
            add(&mut x, &self.linear(&at("attention.output.dense"), &narrow(&y)));
            let mut x = self.norm(&at("attention.output"), &x);
            let inner = self.linear(&at("intermediate.dense"), &narrow(&x));
            let inner = activation(&inner, if act == "gelu" { gelu } else { gelu_tanh }, false, ff);
            add(&mut x, &self.linear(&at("output.dense"), &narrow(&inner)));
            states.push(self.norm(&at("output"), &x));
        }
        let first = narrow(&states[layers][..hidden]);
        let pooled =
            has_pooler.then(|| self.linear("pooler.dense", &first).iter().map(|&v| f64::from(v).tanh()).collect());
        (states, pooled)
    }
}

const PLAIN: Shape = Shape {
    hidden: 48,
    heads: 4,
    ff: 96,
    layers: 2,
    types: 2,
    positions: 80,
    is_old: false,
    has_pooler: true,
    act: "gelu",
};

/// Widths that are no whole vec4s, heads that are padded, three types, one of them, old names, no pooler; texts around blocks.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn odd_shapes_equal_the_reference() {
    let shapes = [
        PLAIN,
        Shape { hidden: 30, heads: 5, ff: 50, types: 3, is_old: true, ..PLAIN },
        Shape { hidden: 27, heads: 3, ff: 33, layers: 1, types: 1, has_pooler: false, act: "gelu_new", ..PLAIN },
        Shape { hidden: 160, heads: 1, ff: 64, positions: 34, ..PLAIN },
    ];
    for (number, shape) in (0..).zip(shapes) {
        let bert = Bert::new(shape, 100 * number + 7);
        let options = LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() };
        let mut model = FeatureExtractor::open(&device().await, &bert.model.source(), &options, |_| ()).await.unwrap();
        let text = |length: usize| Tokens {
            ids: (0..length).map(|i| ((i * 17 + length) % VOCAB) as u32).collect(),
            type_ids: (0..length).map(|i| (i * shape.types / length) as u32).collect(),
        };
        let texts = [1, 31, 32, 33, shape.positions].map(text);
        let together = model.features_of(&texts, FeatureOptions::default()).await.unwrap();
        for (text, got) in texts.iter().zip(&together) {
            let name = format!("{} wide, {} tokens", shape.hidden, text.ids.len());
            let (states, pooled) = bert.forward(text);
            let own = model.forward(text).await.unwrap();
            assert_eq!(own.hidden_states.len(), states.len());
            for (layer, (got, want)) in own.hidden_states.iter().zip(&states).enumerate() {
                assert_close(&format!("{name}, state {layer}"), got, want, 3e-5, 0.0);
            }
            assert_close(&format!("{name}, beside others"), got, &states[shape.layers], 3e-5, 0.0);
            assert_eq!(own.pooler_output.is_some(), pooled.is_some(), "{name}");
            if let (Some(got), Some(want)) = (own.pooler_output, pooled) {
                assert_close(&format!("{name}, pooler"), &got, &want, 3e-5, 0.0);
            }
        }
    }
}

/// What f16 does not hold is made again in f32, and told.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_f16_does_not_hold_is_made_again() {
    let mut bert = Bert::new(PLAIN, 3);
    let (_, up) = bert.model.tensors.get_mut("encoder.layer.1.intermediate.dense.weight").unwrap();
    up.iter_mut().take(48).for_each(|v| *v *= 2e5);
    let (_, down) = bert.model.tensors.get_mut("encoder.layer.1.output.dense.weight").unwrap();
    down.iter_mut().step_by(96).for_each(|v| *v *= 1e-5);
    let options = LoadOptions { dtype: Dtype::F16, ..LoadOptions::default() };
    let mut model = FeatureExtractor::open(&device().await, &bert.model.source(), &options, |_| ()).await.unwrap();
    let text = Tokens::from((0..40).collect::<Vec<u32>>());
    let got = model.features_of(std::slice::from_ref(&text), FeatureOptions::default()).await.unwrap();
    assert_close("the text", &got[0], &bert.forward(&text).0[2], 0.02, 0.0);
    let told = model.engine().precision_report();
    assert_eq!(told.demoted.iter().map(|class| class.name()).collect::<Vec<_>>(), ["mlp"]);
    assert_eq!(told.overflows[0].site.layer, Some(1));
}
