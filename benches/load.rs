//! `cargo bench --bench load`: how long a random Llama of 113 million weights, stored as bf16 in memory, takes to load at each dtype, on
//! the adapter that is chosen by default. Dtypes take turns, so that whatever else the machine does strikes all of them alike.

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
    native::load();
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::time::Instant;

    use webweft::device::{Device, DeviceOptions};
    use webweft::managers::Dtype;
    use webweft::session::{LoadOptions, Session};

    use crate::reference_llama::{Shape, Synthetic};

    const ROUNDS: usize = 7;

    pub fn load() {
        let shape = Shape {
            hidden: 768,
            ff: 2048,
            layers: 14,
            heads: 12,
            kv_heads: 4,
            head_dim: 64,
            vocab: 32000,
            tied: true,
            attention_bias: false,
            mlp_bias: false,
        };
        let model = Synthetic::new(&shape, webweft::checkpoint::Dtype::BF16, 1);
        let source = model.source();
        drop(model);
        let device = pollster::block_on(Device::open(&DeviceOptions::default())).expect("an adapter");
        println!("{}", device.info());
        let only = std::env::args().nth(1).filter(|arg| !arg.starts_with('-'));
        let dtypes =
            Dtype::ALL.into_iter().filter(|d| only.as_ref().is_none_or(|only| only.split(',').any(|o| o == d.name())));
        let mut times: Vec<_> = dtypes.map(|dtype| (dtype, Vec::new())).collect();
        // the first round compiles
        for round in 0..=ROUNDS {
            for (dtype, times) in &mut times {
                let options = LoadOptions { dtype: *dtype, ..LoadOptions::default() };
                let start = Instant::now();
                let session = pollster::block_on(Session::open(&device, &source, &options, |_| ()));
                let seconds = start.elapsed().as_secs_f64();
                drop(session.expect("the model opens"));
                if round > 0 {
                    times.push(seconds);
                }
            }
        }
        for (dtype, mut times) in times {
            times.sort_by(f64::total_cmp);
            println!("{}: median {:.3} s, least {:.3} s", dtype.name(), times[ROUNDS / 2], times[0]);
        }
    }
}
