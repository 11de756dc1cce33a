#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{AttentionParams, Heads, OBSERVED, observe};
use webweft::reference;
use webweft::reference::quantize_cache::Kind;
use webweft::tensor::{CacheDtype, Elem};

use super::attention::Filled;
use super::{Bench, ELEMS, POISON, cached_kv, pack, stored};
use crate::common::{assert_close, device, random};

struct Setup {
    heads: [u32; 3],
    /// of each slot its rows and its position
    slots: Vec<(u32, u32)>,
    /// the one whose prompt ends
    observed: u32,
    live: u32,
    softcap: f32,
}

fn record(bench: &mut Bench, setup: &Setup, x_elem: Elem, dtype: CacheDtype) {
    let &Setup { heads: [heads, kv_heads, head_dim], ref slots, observed, live, softcap } = setup;
    let [h, k, e] = [heads, kv_heads, head_dim].map(|v| v as usize);
    let heads = Heads { heads, kv_heads, head_dim, rotary: 0 };
    let scale = 1.0 / (head_dim as f32).sqrt();
    let step = bench.step_of(slots);
    let rows: u32 = slots.iter().map(|slot| slot.0).sum();
    step.set_header(&bench.device, rows, slots.len() as u32, observed);
    let (own, position) = slots[observed as usize];
    let tokens = position + own;
    // peaked enough that a wrong mask shows
    let q: Vec<f32> = random(rows as usize * h * e, 1).iter().map(|v| v * 6.0).collect();
    let q = stored(&q, x_elem);
    let mut filled = Filled::new(&step, heads, dtype);
    // whole blocks are full, the last one is not
    let keys = filled.put(Kind::Keys, observed, (1, tokens), random(tokens as usize * k * e, 2));
    let before: u32 = slots[..observed as usize].iter().map(|slot| slot.0).sum();
    let last = &q[(before + own - OBSERVED) as usize * h * e..(before + own) as usize * h * e];
    let keys = keys.at_end(tokens as usize, k * e);
    let want = reference::observe(last, &keys, [h, k, e], [scale, softcap]);
    let kv = cached_kv(bench.buffer(&filled.words), bench.buffer(&[POISON; 4]), dtype, &step);
    let wide: Vec<f32> = pack(&q, e, Elem::F32).into_iter().map(f32::from_bits).collect();
    let name =
        format!("observe H {h} K {k} E {e}, slot {observed} of {slots:?}, live {live}, {x_elem:?} cache {dtype:?}");
    bench.case(|case| {
        let input = case.input(&wide, rows, h * heads.padded() as usize, x_elem);
        let params =
            AttentionParams { heads, scale, softcap, window: 0, causal: true, live, slots: slots.len() as u32 };
        let sums = observe(&mut case.g, &input, &kv, &params, &step).expect("shapes fit");
        let keys = (tokens - OBSERVED) as usize;
        case.output(&sums, kv_heads, name, move |name, got| {
            let rows = got.chunks_exact(live as usize);
            let own: Vec<f32> = rows.clone().flat_map(|row| row[..keys].to_vec()).collect();
            assert!(
                rows.flat_map(|row| &row[keys..]).all(|v| v.to_bits() == POISON),
                "{name}: keys beyond were written"
            );
            assert_close(name, &own, &want, 2e-5, 1e-4);
        });
    });
}

/// Every type, the prompt ending at a block's end, before it and after it; alone, and beside others.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn observes_in_every_variant() {
    let mut bench = Bench::new(&device().await);
    for (x_elem, dtype) in ELEMS.into_iter().flat_map(|x| CacheDtype::ALL.map(|c| (x, c))) {
        for (rows, position) in [(32, 96), (32, 97), (40, 119), (200, 0)] {
            let setup =
                Setup { heads: [4, 2, 16], slots: vec![(rows, position)], observed: 0, live: 256, softcap: 0.0 };
            record(&mut bench, &setup, x_elem, dtype);
        }
    }
    for dtype in [CacheDtype::F32, CacheDtype::Q4] {
        let slots = vec![(1, 40), (33, 150), (5, 7)];
        record(&mut bench, &Setup { heads: [4, 1, 16], slots, observed: 1, live: 512, softcap: 3.0 }, Elem::F32, dtype);
    }
    bench.run().await;
}

/// Head widths with padding and without, one query head to a key head and several.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn observes_at_every_width() {
    let mut bench = Bench::new(&device().await);
    for heads in [[3, 3, 6], [6, 2, 20], [7, 1, 64], [2, 1, 256]] {
        for dtype in [CacheDtype::F32, CacheDtype::Q8, CacheDtype::Q4] {
            let setup = Setup { heads, slots: vec![(35, 110)], observed: 0, live: 160, softcap: 0.0 };
            record(&mut bench, &setup, Elem::F32, dtype);
        }
    }
    bench.run().await;
}
