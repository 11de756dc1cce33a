//! `cargo bench`: prefill and decode of a random Llama of 26 million weights at each dtype, on the adapter that is chosen by
//! default. One iteration of decode is 16 tokens.

#[cfg(target_arch = "wasm32")]
fn main() {}

#[cfg(not(target_arch = "wasm32"))]
#[path = "../tests/common/mod.rs"]
mod common;
#[cfg(not(target_arch = "wasm32"))]
#[allow(dead_code, clippy::unwrap_used)]
#[path = "../tests/models/reference_llama.rs"]
mod reference_llama;

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    native::benches();
    criterion::Criterion::default().configure_from_args().final_summary();
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use criterion::{Criterion, Throughput, criterion_group};
    use webweft::device::{Device, DeviceOptions};
    use webweft::generate::GenerateOptions;
    use webweft::managers::Dtype;
    use webweft::session::{LoadOptions, Session};

    use crate::reference_llama::{Shape, Synthetic};

    const PROMPT: usize = 128;
    const NEW: usize = 16;

    fn model(criterion: &mut Criterion) {
        let shape = Shape {
            hidden: 384,
            ff: 1024,
            layers: 12,
            heads: 6,
            kv_heads: 2,
            head_dim: 64,
            vocab: 16000,
            tied: true,
            attention_bias: false,
            mlp_bias: false,
        };
        let source = Synthetic::new(&shape, webweft::checkpoint::Dtype::F16, 1).source();
        let device = pollster::block_on(Device::open(&DeviceOptions::default())).expect("an adapter");
        println!("{}", device.info());
        let prompt: Vec<u32> = (0..PROMPT as u32).map(|i| i * 37 % 16000).collect();
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Q4] {
            let options = LoadOptions { dtype, ..LoadOptions::default() };
            let open = Session::open(&device, &source, &options, |_| ());
            let mut session = pollster::block_on(open).expect("the model opens");
            let mut run = |new: usize, keep: usize| {
                pollster::block_on(async {
                    if keep == 0 {
                        session.engine_mut().reset();
                    }
                    let options = GenerateOptions { max_new_tokens: new, ..GenerateOptions::default() };
                    let mut generation = session.generate(&prompt, options).await.expect("a request");
                    while generation.next().await.expect("a token").is_some() {}
                });
            };
            let mut group = criterion.benchmark_group(dtype.name());
            group.sample_size(10);
            group.throughput(Throughput::Elements(PROMPT as u64));
            group.bench_function("prefill 128", |b| b.iter(|| run(1, 0)));
            // the prompt stays in the cache: all but its last token is left out
            group.throughput(Throughput::Elements(NEW as u64));
            group.bench_function("decode 16", |b| b.iter(|| run(NEW, PROMPT)));
            group.finish();
        }
    }

    criterion_group!(benches, model);
}
