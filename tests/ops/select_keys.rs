#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{OBSERVED, select_keys};
use webweft::reference;
use webweft::tensor::Elem;

use super::{Bench, POISON};
use crate::common::{device, random};

/// Sums of `keys` keys of each head: of any kind, few different ones, none.
fn sums(seed: u32, keys: usize) -> Vec<f32> {
    let mut sums: Vec<f32> = random(keys, seed).iter().map(|v| v.abs()).collect();
    sums.iter_mut().enumerate().for_each(|(i, v)| match seed % 5 {
        0 => {}
        1 => *v = (*v * 4.0).floor(),
        2 => *v = 0.0,
        3 => *v *= 10.0_f32.powi(i as i32 % 40 - 38),
        // one needle, at either end or between
        _ => *v = f32::from(u8::from(i == [0, keys - 1, keys / 2][seed as usize / 5 % 3])),
    });
    sums
}

fn record(bench: &mut Bench, heads: usize, tokens: u32, kept: u32, stride: usize) {
    let keys = (tokens - OBSERVED) as usize;
    let step = bench.step(40, tokens - 40);
    let mut wide = Vec::new();
    let mut want = vec![POISON; 3];
    for seed in 0..heads as u32 {
        let own = sums(seed, keys);
        want.extend(reference::select_keys(&own, (kept - OBSERVED) as usize));
        wide.extend(own);
        wide.resize((seed as usize + 1) * stride, f32::NAN);
    }
    want.resize(want.len() + 5, POISON);
    let chosen = bench.poisoned(want.len());
    let name = format!("select_keys: {kept} of {tokens}, stride {stride}");
    bench.case(|case| {
        let input = case.input(&wide, heads as u32, stride, Elem::F32);
        select_keys(&mut case.g, &input, &chosen, 3, kept, &step).expect("shapes fit");
    });
    bench.read(&[&chosen], move |bytes| {
        let got: Vec<u32> = bytemuck::pod_collect_to_vec(bytes[0]);
        assert_eq!(got, want, "{name}");
    });
}

/// Exactly those that the reference chooses, in their order: of few and many keys, all but one, and of equal ones the first.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn selects() {
    let mut bench = Bench::new(&device().await);
    for (tokens, kept, stride) in [
        (129, 128, 128),
        (200, 128, 256),
        (287, 160, 256),
        (288, 160, 512),
        (289, 288, 257),
        (1000, 256, 1024),
        (4001, 512, 4096),
    ] {
        record(&mut bench, 15, tokens, kept, stride);
    }
    bench.run().await;
}

/// The reference on its own: neighbours of what stands out are kept with it, and nothing is kept twice.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_reference_keeps_neighbours() {
    let mut sums = vec![0.0; 50];
    sums[20] = 1.0;
    sums[48] = 3.0;
    assert_eq!(reference::select_keys(&sums, 10), [0, 18, 19, 20, 21, 22, 46, 47, 48, 49]);
    assert_eq!(reference::select_keys(&sums, 6), [18, 19, 46, 47, 48, 49], "of equal ones the first");
}
