//! A matrix stored column by column becomes what the same matrix stored row by row becomes, bit by bit, over several chunks.

use std::collections::BTreeMap;

use serde_json::{Map, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::checkpoint::Checkpoint;
use webweft::source::{Memory, Source};
use webweft::tensor::{Storage, Weight};
use webweft::weights::{Rows, Weights};

use crate::common::{device, random};

/// `rows.weight`, `[rows, dim]`, and `columns.weight`, the same as `[dim, rows]`, in f32.
fn source(rows: usize, dim: usize) -> Source {
    let values = random(rows * dim, 5);
    let columns: Vec<f32> = (0..rows * dim).map(|i| values[i % rows * dim + i / rows]).collect();
    let mut header = Map::new();
    let mut data = Vec::new();
    for (name, shape, values) in [("columns", [dim, rows], columns), ("rows", [rows, dim], values)] {
        let begin = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(format!("{name}.weight"), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    Source::Memory(Memory::from(BTreeMap::from([("model.safetensors".to_owned(), file)])))
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn columns_become_what_rows_become() {
    let device = device().await;
    // rows, inputs, width of a group of rows, width of a group of inputs; the first two in several chunks of 4 MiB
    for (rows, dim, row_group, column_group) in [(3072, 1024, 1024, 1024), (2049, 1020, 683, 20), (130, 200, 26, 25)] {
        let source = source(rows as usize, dim as usize);
        let checkpoint = Checkpoint::open(&source).await.unwrap();
        for storage in [Storage::F32, Storage::F16, Storage::Q4] {
            let mut weights = Weights::new(&device, &checkpoint);
            let mut ask = |name, transposed| -> Weight {
                let block = Rows::grouped(name, rows, row_group).transposed(transposed);
                weights.matrix(&[block], dim, column_group, storage).unwrap()
            };
            let (by_rows, by_columns) = (ask("rows", false), ask("columns", true));
            weights.stream(&source, |_| (), || Ok(())).await.unwrap();
            for (a, b) in by_rows.parts.iter().zip(&by_columns.parts) {
                let pairs = [(Some(&a.data), Some(&b.data)), (a.scales.as_ref(), b.scales.as_ref())];
                for (a, b) in pairs.into_iter().filter_map(|(a, b)| a.zip(b)) {
                    let a = device.read(a, 0..a.size()).await.unwrap();
                    let b = device.read(b, 0..b.size()).await.unwrap();
                    assert!(a == b, "[{rows}, {dim}] in {storage:?}, groups of {row_group} and {column_group}");
                }
            }
        }
    }
}
