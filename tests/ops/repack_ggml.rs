//! ggml's blocks on the GPU stand for what the PyPI package `gguf` decodes them to (`tests/gguf/blocks`).

use safetensors::SafeTensors;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::checkpoint::Dtype;
use webweft::device::Category;
use webweft::graph::Operand;
use webweft::quant::{Encoded, decode, ggml_blocks};
use webweft::reference::repack_ggml::repack_ggml;
use webweft::shaders::{self, RepackGgmlParams};

use super::{Bench, POISON};
use crate::common::{device, random, read_shared};

/// The blocks of a file, and what they decode to: bytes and values, row by row.
async fn cases(dtype: Dtype) -> Vec<(Vec<u8>, Vec<f32>, usize)> {
    let path = format!("gguf/blocks/{}.safetensors", dtype.name().to_lowercase());
    let bytes = read_shared(&path).await.unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let of = |name: &str| {
        let values = file.tensor(&name.replace("blocks", "values")).unwrap();
        let floats = values.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        (file.tensor(name).unwrap().data().to_vec(), floats, values.shape()[1])
    };
    file.names().into_iter().filter(|name| name.starts_with("blocks")).map(of).collect()
}

/// Rows in two pieces, into two parts, in groups that are padded or not.
fn record(bench: &mut Bench, dtype: Dtype, bytes: &[u8], dim: usize, group: [usize; 2]) {
    let blocks = ggml_blocks(dtype).unwrap();
    let row_bytes = dtype.bytes_of(dim as u64).unwrap() as usize;
    let rows = bytes.len() / row_bytes;
    let (stride, scale_stride) = (blocks.words(dim as u32) as usize, blocks.scale_words(dim as u32) as usize);
    let to_row = move |r: usize| 4 + r / group[0] * group[1] + r % group[0];
    let weight_rows = to_row(rows - 1) + 5;
    let split = to_row(rows / 2);
    let want: Vec<Vec<f32>> = bytes.chunks_exact(row_bytes).map(|row| repack_ggml(dtype, row)).collect();
    for [low, high] in [[0, split], [split, weight_rows]] {
        let data = bench.poisoned((high - low) * stride);
        let scales = bench.poisoned((high - low) * scale_stride);
        bench.case(|case| {
            let device = case.g.device();
            let reported = device.storage_with("status", Category::Staging, &[u32::MAX; 2]).expect("small");
            for (first, end) in [(0, rows / 3), (rows / 3, rows)].into_iter().filter(|(first, end)| first < end) {
                let mut some = bytes[first * row_bytes..end * row_bytes].to_vec();
                some.resize(some.len().next_multiple_of(4), 0xff);
                let some = device.storage_with("piece", Category::Staging, &some).expect("small");
                let params = RepackGgmlParams {
                    rows: (end - first) as u32,
                    first: first as u32,
                    columns: dim as u32,
                    stride: stride as u32,
                    scale_stride: scale_stride as u32,
                    row_group: group[0] as u32,
                    row_padded: group[1] as u32,
                    base: 4,
                    low: low as u32,
                    high: high as u32,
                    tensor: 7,
                };
                let constants = [
                    ("TYPE", f64::from(dtype.ggml_number().unwrap())),
                    ("BYTES", dtype.block().1 as f64),
                    ("BITS", f64::from(blocks.codes.bits())),
                ];
                let operands: [Operand<'_>; 4] = [(&some).into(), (&reported).into(), (&data).into(), (&scales).into()];
                let groups = ((end - first) * dim.div_ceil(64)).div_ceil(64) as u64;
                let kernel = shaders::REPACK_GGML.variant(&[]);
                case.g.dispatch(kernel, &constants, &params, &operands, groups).expect("it compiles");
            }
        });
        let (want, name) = (want.clone(), format!("{dtype} [{rows}, {dim}] in groups of {group:?}"));
        bench.read(&[&data, &scales], move |bytes| {
            let words = |bytes: &[u8]| -> Vec<u32> {
                bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
            };
            let (words, scales) = (words(bytes[0]), words(bytes[1]));
            let mut sources = vec![None; weight_rows];
            (0..want.len()).for_each(|r| sources[to_row(r)] = Some(r));
            for (row, source) in sources[low..high].iter().enumerate() {
                let words = words[row * stride..][..stride].to_vec();
                let scales = scales[row * scale_stride..][..scale_stride].to_vec();
                match source {
                    Some(r) => {
                        let got = decode(&Encoded { words, scales }, 1, dim, blocks);
                        assert_eq!(got, want[*r], "{name}, row {r}");
                    }
                    None => assert!(words.iter().chain(&scales).all(|w| *w == POISON), "{name}: row {row} was written"),
                }
            }
        });
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn blocks_become_what_they_stand_for() {
    let mut bench = Bench::new(&device().await);
    for &dtype in Dtype::GGML {
        let cases = cases(dtype).await;
        assert!(!cases.is_empty(), "{dtype}");
        for (bytes, values, dim) in &cases {
            let row_bytes = dtype.bytes_of(*dim as u64).unwrap() as usize;
            let ours: Vec<f32> = bytes.chunks_exact(row_bytes).flat_map(|row| repack_ggml(dtype, row)).collect();
            let worst = ours.iter().zip(values).map(|(a, b)| (a - b).abs() / b.abs().max(1e-30)).fold(0.0, f32::max);
            assert!(worst <= 1e-6, "{dtype} [.., {dim}]: the reference is off by {worst:e}");
            for group in [[4096, 4096], [3, 4]] {
                record(&mut bench, dtype, bytes, *dim, group);
            }
        }
        // more rows than a workgroup has invocations, any bytes: but scales of f16 must be finite
        let (of, size) = dtype.block();
        let mut bytes: Vec<u8> = random(131 * size as usize, 5).iter().map(|v| (v * 127.0) as i8 as u8).collect();
        for block in bytes.chunks_exact_mut(size as usize) {
            let at: &[usize] = match dtype {
                Dtype::Q4_1 | Dtype::Q5_1 | Dtype::Q4_K | Dtype::Q5_K => &[1, 3],
                Dtype::Q2_K => &[81, 83],
                Dtype::Q3_K => &[109],
                Dtype::Q6_K => &[209],
                _ => &[1],
            };
            at.iter().for_each(|&at| block[at] &= 0xbf);
        }
        record(&mut bench, dtype, &bytes, of as usize, [131, 132]);
    }
    bench.run().await;
}
