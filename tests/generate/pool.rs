//! Models that several users of one device share, on a clock of the test's own.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::checkpoint::Dtype as Stored;
use webweft::device::{Category, Device, DeviceOptions};
use webweft::error::{DeviceError, Error};
use webweft::generate::GenerateOptions;
use webweft::managers::Dtype;
use webweft::managers::pool::PoolPolicy;
use webweft::session::{LoadOptions, ModelPool, Pooled};
use webweft::source::Source;

use crate::models::reference_llama::{Shape, Synthetic};

const MINUTE: Duration = Duration::from_secs(60);

fn source(seed: u32) -> Source {
    let shape = Shape {
        hidden: 48,
        ff: 80,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 12,
        vocab: 300,
        tied: false,
        attention_bias: false,
        mlp_bias: false,
    };
    Synthetic::new(&shape, Stored::F32, seed).source()
}

fn load() -> LoadOptions {
    LoadOptions { dtype: Dtype::F32, context: Some(512), ..LoadOptions::default() }
}

async fn ids(model: &Pooled, prompt: &[u32]) -> Vec<u32> {
    let options = GenerateOptions { max_new_tokens: 5, ..GenerateOptions::default() };
    let mut text = model.text(|session| session.add(prompt, options)).await.unwrap();
    let mut ids = Vec::new();
    while let Some(piece) = text.next().await.unwrap() {
        ids.push(piece.id);
    }
    ids
}

/// A pool on a device of its own, and the time of its clock.
async fn pool(low_memory: bool) -> (Device, ModelPool, Rc<Cell<Duration>>) {
    let device = Device::open(&DeviceOptions::default()).await.unwrap();
    let now = Rc::new(Cell::new(Duration::ZERO));
    let clock = Rc::clone(&now);
    let policy = PoolPolicy { idle_timeout: MINUTE, low_memory };
    let pool = ModelPool::with_clock(&device, policy, move || clock.get());
    (device, pool, now)
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn equal_models_are_loaded_once_and_go_when_idle() {
    let (device, pool, now) = pool(false).await;
    let (one, other) = (source(1), source(2));
    let mut loads = 0;
    let first = pool.open("one", &one, &load(), |_| loads += 1).await.unwrap();
    assert!(loads > 0);
    let weights = device.ledger().snapshot().of(Category::Weights);
    let second = pool.open("one", &one, &load(), |_| panic!("it is read again")).await.unwrap();
    assert!(std::ptr::eq::<webweft::session::Shared>(&*first, &*second));
    assert_eq!(device.ledger().snapshot().of(Category::Weights), weights);
    let want = ids(&first, &[1, 2, 3]).await;
    assert_eq!(ids(&second, &[1, 2, 3]).await, want);
    let of_one = device.ledger().snapshot().total;

    // another model, and the same one with other options, are others
    let third = pool.open("other", &other, &load(), |_| ()).await.unwrap();
    let fourth = pool.open("one", &one, &LoadOptions { dtype: Dtype::F16, ..load() }, |_| ()).await.unwrap();
    assert_eq!(pool.len(), 3);
    drop((third, fourth));
    drop(first);
    now.set(MINUTE / 2);
    assert_eq!((pool.tidy(), pool.len()), (Some(MINUTE / 2), 3));
    now.set(MINUTE);
    assert_eq!((pool.tidy(), pool.len()), (None, 1), "the one that is used stays");
    assert_eq!(device.ledger().snapshot().total, of_one);
    assert_eq!(ids(&second, &[1, 2, 3]).await, want);

    // whoever comes in time finds it
    drop(second);
    now.set(MINUTE * 3 / 2);
    let again = pool.open("one", &one, &load(), |_| panic!("it is read again")).await.unwrap();
    now.set(MINUTE * 10);
    assert_eq!(ids(&again, &[1, 2, 3]).await, want);
    drop(again);
    now.set(MINUTE * 11);
    pool.tidy();
    assert!(pool.is_empty());
    assert_eq!((device.ledger().snapshot().total, device.ledger().leaks()), (0, vec![]));
}

/// Where memory ends, idle models go until there is enough; used ones never do, and then it is an error.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn idle_models_make_room() {
    let (device, pool, now) = pool(false).await;
    let sources = [1, 2, 3].map(source);
    let used = pool.open("used", &sources[0], &load(), |_| ()).await.unwrap();
    let want = ids(&used, &[5, 6]).await;
    for name in ["old", "new"] {
        now.set(now.get() + MINUTE / 4);
        drop(pool.open(name, &sources[1], &load(), |_| ()).await.unwrap());
    }
    assert_eq!(pool.len(), 3);
    // refused once: the one that was used longest ago goes
    device.refuse_allocations(5..6);
    let third = pool.open("third", &sources[2], &load(), |_| ()).await.unwrap();
    assert_eq!(pool.len(), 3);
    drop(pool.open("new", &sources[1], &load(), |_| panic!("it is still there")).await.unwrap());
    // refused for good: "new" goes, too, and it is told
    device.refuse_allocations(0..u64::MAX >> 1);
    let error = pool.open("fourth", &sources[1], &load(), |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Device(DeviceError::OutOfMemory { .. })), "{error}");
    assert_eq!(pool.len(), 2);
    device.refuse_allocations(0..0);
    assert_eq!(ids(&used, &[5, 6]).await, want);
    let fourth = pool.open("fourth", &sources[1], &load(), |_| ()).await.unwrap();
    drop((used, third, fourth, pool));
    assert_eq!(device.ledger().snapshot().total, 0);
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn with_little_memory_less_is_taken_and_nothing_stays() {
    let prompt: Vec<u32> = (0..300).collect();
    let (mut peaks, mut texts) = (Vec::new(), Vec::new());
    for low_memory in [false, true] {
        let (device, pool, _) = pool(low_memory).await;
        let model = pool.open("one", &source(1), &load(), |_| ()).await.unwrap();
        texts.push(ids(&model, &prompt).await);
        peaks.push(device.ledger().snapshot().peak[Category::Activations as usize]);
        drop(model);
        let left = device.ledger().snapshot().total;
        assert_eq!((pool.is_empty(), left == 0), (low_memory, low_memory), "{left}");
    }
    assert_eq!(texts[0], texts[1]);
    assert!(peaks[1] * 2 < peaks[0], "{peaks:?} bytes of activations");
}
