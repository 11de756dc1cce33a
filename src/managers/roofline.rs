//! What an adapter could do at most, measured, and what share of it a speed is. Decoding is bound by bytes (Williams, Waterman &
//! Patterson 2009): each token reads all weights and the live cache once. Prefill is bound by arithmetic.

use serde::Serialize;
use web_time::Instant;

use super::{Architecture, CacheShape, Costs};
use crate::device::{Category, Device};
use crate::error::{DeviceError, Error};
use crate::graph::{Arena, Graph};
use crate::ops::{self, FmaType};

/// Sizes that are copied: beyond what caches hold, as weights are...
const COPIED: [u64; 3] = [256 << 20, 128 << 20, 64 << 20];
/// ... and those that are tried, in turn, where memory is short of all of them.
const SMALL: [u64; 3] = [32 << 20, 8 << 20, 1 << 20];
/// How long a measurement takes at least, in seconds and in waits for an empty submit: some browsers look for its end every 100 ms.
const LEAST_SECONDS: f64 = 0.1;
const LEAST_WAITS: f64 = 5.0;
/// How much work one submit has at most.
const MOST_REPEATS: u32 = 1 << 16;

/// What an adapter does at most, measured here and now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Roofline {
    /// Bytes per second that copies between buffers read and write, both counted.
    pub bytes_per_second: f64,
    /// Size of the copy that was fastest.
    pub copied: u64,
    /// Multiplications and additions in f32 per second, in chains of fused multiply-adds that touch no memory.
    pub operations_per_second: f64,
    /// The same in f16, where the adapter computes in it.
    pub f16_operations_per_second: Option<f64>,
    /// Of packed products of 8-bit integers (`dot4I8Packed`), each four multiplications and four additions, where the language has them.
    pub int8_operations_per_second: Option<f64>,
    /// What dispatches, submits and readbacks cost, whatever they do.
    pub costs: Costs,
}

impl Roofline {
    /// Measures, in about two seconds (in a browser where each answer takes 100 ms, in some twenty). Up to 512 MiB are taken for it, less where they are not there.
    ///
    /// # Errors
    /// Those of the device; running out of memory is none, unless not even the smallest copy has room.
    pub async fn measure(device: &Device) -> Result<Self, Error> {
        let least = least_seconds(device).await?;
        let mut best = (0.0, 0);
        for size in COPIED.into_iter().chain(SMALL) {
            if size > device.limits().max_buffer_size || (SMALL.contains(&size) && best.1 > 0) {
                continue;
            }
            match copy(device, size, least).await {
                Ok(speed) if speed > best.0 => best = (speed, size),
                Ok(_) => {}
                Err(DeviceError::OutOfMemory { .. }) if size > SMALL[2] => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut rates = [None; 3];
        for (ty, rate) in [FmaType::F32, FmaType::F16, FmaType::Int8].into_iter().zip(&mut rates) {
            if ty.is_in(device.capabilities()) {
                *rate = Some(arithmetic(device, ty, least).await?);
            }
        }
        Ok(Self {
            bytes_per_second: best.0,
            copied: best.1,
            operations_per_second: rates[0].unwrap_or_default(), // every adapter has f32
            f16_operations_per_second: rates[1],
            int8_operations_per_second: rates[2],
            costs: Costs::measure(device).await?,
        })
    }
}

/// How long a measurement has to take here.
async fn least_seconds(device: &Device) -> Result<f64, DeviceError> {
    let mut wait = 0.0;
    // the first one may wait for what was done before
    for _ in 0..2 {
        let started = Instant::now();
        device.submit(device.encoder());
        device.idle().await?;
        wait = started.elapsed().as_secs_f64();
    }
    Ok(LEAST_SECONDS.max(LEAST_WAITS * wait))
}

/// Bytes per second, read and written.
async fn copy(device: &Device, size: u64, least: f64) -> Result<f64, DeviceError> {
    let new = |label| device.storage(label, Category::Staging, size);
    let (from, to) = (new("copied from")?, new("copied to")?);
    let encode = |encoder: &mut wgpu::CommandEncoder| {
        encoder.copy_buffer_to_buffer(from.wgpu(), 0, to.wgpu(), 0, size);
    };
    let seconds = repeat(device, least, &encode).await?;
    Ok(2.0 * size as f64 / seconds)
}

/// Operations per second.
async fn arithmetic(device: &Device, ty: FmaType, least: f64) -> Result<f64, Error> {
    // enough invocations for any adapter
    const COUNT: u32 = 1 << 16;
    // few rounds first: a processor takes a second for what a GPU does in no time, where a dispatch itself would be measured
    const MOST_ROUNDS: u32 = 1 << 12;
    const LONG: f64 = 2e-4;
    let mut rounds = 1 << 4;
    loop {
        let mut g = Graph::new(device);
        let y = ops::fma(&mut g, ty, COUNT, rounds, 0.5, 1.0)?;
        g.keep(&y);
        let program = g.finish(&Arena::default())?;
        let seconds = repeat(device, least, &|encoder| program.encode(encoder)).await?;
        if seconds >= LONG || rounds == MOST_ROUNDS {
            return Ok(f64::from(COUNT) * f64::from(rounds) * ty.operations() as f64 / seconds);
        }
        rounds *= 16;
    }
}

/// Seconds of one piece of work: repeated within one submit until that takes long enough, which then is measured twice more.
async fn repeat(device: &Device, least: f64, encode: &dyn Fn(&mut wgpu::CommandEncoder)) -> Result<f64, DeviceError> {
    let mut times = 1;
    let mut best = f64::INFINITY;
    // memory is cleared and kernels are compiled before anything counts
    let (mut enough, mut is_warm) = (0, false);
    while enough < 3 {
        let started = Instant::now();
        let mut encoder = device.encoder();
        (0..times).for_each(|_| encode(&mut encoder));
        device.submit(encoder);
        device.idle().await?;
        if !is_warm {
            is_warm = true;
            continue;
        }
        let took = started.elapsed().as_secs_f64().max(1e-6);
        if took < least && times < MOST_REPEATS {
            let wanted = (f64::from(times) * 1.2 * least / took).ceil();
            times = (wanted as u32).clamp(times + 1, times.saturating_mul(16)).min(MOST_REPEATS);
            continue;
        }
        best = best.min(took / f64::from(times));
        enough += 1;
    }
    Ok(best)
}

/// What a model moves and computes for a token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Traffic {
    /// Bytes of weights that a step reads: all of them, but of an embedding that is no output head only a row.
    pub weights: u64,
    /// Weights that a token of a prompt is multiplied by: those of the layers; the output head sees the last token only.
    pub parameters: u64,
    /// Bytes of one position's keys and values in one layer.
    pub(super) cache_per_layer: u64,
    pub(super) layers: u32,
    /// Width of sliding windows, and in how many layers.
    pub(super) windows: Vec<(u32, u32)>,
}

impl Traffic {
    /// `weights`: bytes on the GPU, the embedding apart where it is no output head; `parameters`: all that the model has.
    #[must_use]
    pub fn new(architecture: &Architecture, cache: &CacheShape, weights: u64, parameters: u64) -> Self {
        Self {
            weights,
            parameters: parameters.saturating_sub(architecture.embedding_parameters),
            cache_per_layer: 2 * cache.per_position,
            layers: architecture.layers,
            windows: architecture.windows.iter().map(|(&width, &layers)| (width, layers)).collect(),
        }
    }

    /// Bytes of keys and values that a step reads where the cache holds `live` positions.
    #[must_use]
    pub fn cache(&self, live: u64) -> u64 {
        let sliding: u64 =
            self.windows.iter().map(|&(width, layers)| u64::from(width).min(live) * u64::from(layers)).sum();
        let full = u64::from(self.layers - self.windows.iter().map(|w| w.1).sum::<u32>());
        (full * live + sliding) * self.cache_per_layer
    }

    /// Which share of `roofline`'s bytes decoding at `tokens_per_second` moves, with `live` positions in the cache.
    #[must_use]
    pub fn decode_share(&self, roofline: &Roofline, tokens_per_second: f64, live: u64) -> f64 {
        (self.weights + self.cache(live)) as f64 * tokens_per_second / roofline.bytes_per_second
    }

    /// Which share of `roofline`'s operations prefill at `tokens_per_second` computes; attention is not counted.
    #[must_use]
    pub fn prefill_share(&self, roofline: &Roofline, tokens_per_second: f64) -> f64 {
        2.0 * self.parameters as f64 * tokens_per_second / roofline.operations_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bytes_and_operations_over_what_is_possible() {
        let traffic =
            Traffic { weights: 1000, parameters: 500, cache_per_layer: 10, layers: 4, windows: vec![(5, 1), (50, 2)] };
        assert_eq!(traffic.cache(3), 4 * 3 * 10);
        assert_eq!(traffic.cache(100), (100 + 5 + 2 * 50) * 10);
        let costs = Costs { dispatch_us: 1.0, submit_us: 1.0, readback_us: 1.0 };
        let roofline = Roofline {
            bytes_per_second: 1e6,
            copied: 1,
            operations_per_second: 1e6,
            f16_operations_per_second: None,
            int8_operations_per_second: None,
            costs,
        };
        assert!((traffic.decode_share(&roofline, 100.0, 100) - 0.305).abs() < 1e-9);
        assert!((traffic.prefill_share(&roofline, 100.0) - 0.1).abs() < 1e-9);
    }
}
