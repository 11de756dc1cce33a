//! Which of several kernels is fastest on the adapter at hand, measured once: a static choice is right for most adapters, and for some it
//! is not.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use web_time::Instant;

use super::self_test::{Variant, Verdict, step, trusted, trusted_capabilities};
use crate::device::{Capabilities, Category, Device, Kernels, READBACK_MS, Sums, Tiles, Timestamps};
use crate::error::{DeviceError, Error};
use crate::graph::{Arena, Graph, Program};
use crate::ops::{self, Affine, Input, NormConfig, NormKind, Normed, Out, Rows};
use crate::quant::Blocks;
use crate::step::Step;
use crate::tensor::{Elem, Part, Storage, Weight};

/// How long all measurements may take: they come before the first token.
pub const BUDGET: Duration = Duration::from_secs(2);
/// How often each candidate is measured, after one run that is not counted.
pub const RUNS: usize = 15;
/// What one measurement takes at least: browsers round timestamps to 100 microseconds.
const LEAST_US: f64 = 1000.0;
/// The share of the static choice's time that another candidate may take at most, to be taken instead.
const GAIN: f64 = 0.95;

/// What an adapter's kernels were found to be, and what follows: to be kept for an adapter, its driver, and this version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelReport {
    /// As [`AdapterInfo`](crate::device::AdapterInfo) has it.
    pub adapter: String,
    /// Driver and version.
    pub driver: String,
    /// Of this crate.
    pub version: String,
    /// What was [tested](super::self_test).
    pub verdicts: Vec<Verdict>,
    /// Whether it was measured what is fastest.
    pub is_tuned: bool,
    /// What was measured, as far as there was a choice and time.
    pub measured: Vec<Measured>,
    /// What is taken.
    pub kernels: Kernels,
}

/// One choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What is computed: `product of 1 row`.
    pub what: String,
    /// The candidates, the static choice first, and how long each took in microseconds: first quartile, median, third quartile.
    pub candidates: Vec<(String, [f64; 3])>,
    /// Which of them is taken.
    pub chosen: usize,
}

impl KernelReport {
    /// Of a device whose kernels were tested, and nothing measured so far: the static choice, without what is wrong.
    #[must_use]
    pub fn new(device: &Device, verdicts: Vec<Verdict>) -> Self {
        Self {
            adapter: device.info().to_string(),
            driver: device.info().driver.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernels: trusted(device, &verdicts),
            verdicts,
            is_tuned: false,
            measured: Vec::new(),
        }
    }

    /// Whether it is about this device: its adapter and driver, by this version, with what was there to be tested.
    #[must_use]
    pub fn is_of(&self, device: &Device) -> bool {
        // it may have been opened with less
        let capabilities = device.capabilities();
        let there = Kernels::of(&capabilities);
        let Kernels { sums, norms, packed_dot, tiles_alone, tiles, .. } = self.kernels;
        let info = device.info();
        self.adapter == info.to_string()
            && self.driver == info.driver
            && self.version == env!("CARGO_PKG_VERSION")
            && [
                (Variant::Subgroups, [there.sums, there.norms].contains(&Sums::Subgroups)),
                (Variant::PackedDot, there.packed_dot),
                (Variant::F16Tiles, there.tiles == Tiles::F16),
                (Variant::Matrices, [Tiles::Matrices8, Tiles::Matrices16].contains(&there.tiles)),
            ]
            .into_iter()
            .all(|(variant, is_used)| !is_used || self.verdicts.iter().any(|verdict| verdict.variant == variant))
            && (![sums, norms].contains(&Sums::Subgroups) || capabilities.subgroups)
            && all_tiles(&capabilities).any(|there| there == tiles)
            && (!packed_dot || there.packed_dot)
            && (!tiles_alone || there.tiles_alone)
    }

    /// Measures the choices that there are on this device, as many as the `budget` has time for, each candidate `runs` times (5 at least, or
    /// the choice is left alone), and notes what is best. A candidate takes the place of the static choice where it is faster by 5 % and by
    /// more than both of them vary.
    ///
    /// # Errors
    /// [`DeviceError::Lost`]. Where something else goes wrong, that choice stays as it was.
    pub async fn measure(&mut self, device: &Device, budget: Duration, runs: usize) -> Result<(), Error> {
        self.is_tuned = true;
        // by the host's clock each answer is waited for
        if !device.capabilities().timestamps && READBACK_MS > 50.0 {
            return Ok(());
        }
        let begun = Instant::now();
        let mut longest = Duration::ZERO;
        for choice in Choice::ALL {
            let candidates = choice.candidates(device, &self.kernels, &self.verdicts);
            // a kernel may take long to compile, and nobody knows before
            if candidates.len() < 2 || begun.elapsed() + longest > budget {
                continue;
            }
            let started = Instant::now();
            let left = budget.saturating_sub(begun.elapsed());
            match choice.measure(device, &candidates, left, runs).await {
                Ok(Some(measured)) => {
                    self.kernels = candidates[measured.chosen].1;
                    tracing::debug!(?measured, "kernels measured");
                    self.measured.push(measured);
                }
                Ok(None) => {}
                Err(error @ Error::Device(DeviceError::Lost { .. })) => return Err(error),
                // no memory, or a kernel that does not compile: what is taken so far was tested
                Err(error) => tracing::debug!(%error, ?choice, "kernels not measured"),
            }
            longest = longest.max(started.elapsed());
        }
        Ok(())
    }
}

/// Something that several kernels compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// A matrix times a vector.
    OneRow,
    /// A matrix times so many rows: in tiles, or row by row.
    Rows(u32),
    /// A matrix times a vector of this width that is normalized first: in one kernel, or in two.
    Normed(u32),
    /// A matrix times a vector of integers.
    Integers,
    Norm,
    /// A matrix times many rows, in tiles that a workgroup shares.
    Tiles,
}

/// Width of what is multiplied, and rows of the matrix.
const INPUTS: u32 = 1024;
const OUTPUTS: u32 = 1024;

impl Choice {
    const ALL: [Self; 9] = [
        Self::OneRow,
        Self::Rows(8),
        Self::Rows(16),
        Self::Rows(32),
        Self::Norm,
        Self::Normed(1024),
        Self::Normed(4096),
        Self::Integers,
        Self::Tiles,
    ];

    fn name(self) -> String {
        match self {
            Self::OneRow => "product of 1 row".to_owned(),
            Self::Rows(_) | Self::Tiles => format!("product of {} rows", self.rows()),
            Self::Integers => "product of integers".to_owned(),
            Self::Norm => "norm".to_owned(),
            Self::Normed(dim) => format!("norm and product of {dim}"),
        }
    }

    fn rows(self) -> u32 {
        match self {
            Self::Rows(rows) => rows,
            // as many as make tiles of 128 rows worth it
            Self::Tiles => 512,
            _ => 1,
        }
    }

    /// Its candidates: what is taken so far, then what could be, each with the kernels that a device then takes.
    fn candidates(self, device: &Device, now: &Kernels, verdicts: &[Verdict]) -> Vec<(&'static str, Kernels)> {
        let now = *now;
        let capabilities = trusted_capabilities(device, verdicts);
        let trusted = Kernels::of(&capabilities);
        let mut all = vec![("", now)];
        match self {
            // where they are trusted, subgroups are what is taken
            Self::OneRow if trusted.sums == Sums::Subgroups => {
                all[0].0 = "subgroups";
                all.push(("workgroup", Kernels { sums: Sums::Workgroup, ..now }));
            }
            // a processor takes seconds to compile tiles that are shared
            Self::Rows(_) | Self::Tiles if now.tiles_alone => {}
            Self::Rows(rows) => {
                let row_by_row = Kernels { few_rows: rows.max(now.few_rows), ..now };
                let tiles = Kernels { few_rows: now.few_rows.min(rows / 2), ..now };
                let pair = [("row by row", row_by_row), ("tiles", tiles)];
                all = if rows <= now.few_rows { pair.to_vec() } else { vec![pair[1], pair[0]] };
                all[0].1 = now;
            }
            Self::Tiles => {
                let named = |tiles| match tiles {
                    Tiles::F32 => "128 x 64",
                    Tiles::F16 => "f16",
                    Tiles::Matrices8 | Tiles::Matrices16 => "matrices",
                };
                all[0].0 = named(now.tiles);
                let others = all_tiles(&capabilities).filter(|&tiles| tiles != now.tiles);
                all.extend(others.map(|tiles| (named(tiles), Kernels { tiles, ..now })));
                all.push(("64 x 64", Kernels { tiles: Tiles::F32, large_tiles: u32::MAX, ..now }));
            }
            // a processor makes rows the same way however many there are
            Self::Normed(_) if now.tiles_alone => {}
            Self::Normed(dim) => {
                let at_once = Kernels { norm_in_products: now.norm_in_products.max(dim), ..now };
                let in_two = Kernels { norm_in_products: now.norm_in_products.min(dim / 2), ..now };
                let pair = [("in one kernel", at_once), ("in two", in_two)];
                all = if dim <= now.norm_in_products { pair.to_vec() } else { vec![pair[1], pair[0]] };
                all[0].1 = now;
            }
            Self::Norm if trusted.norms == Sums::Subgroups => {
                all[0].0 = "subgroups";
                all.push(("workgroup", Kernels { norms: Sums::Workgroup, ..now }));
            }
            Self::Integers if trusted.packed_dot => {
                all[0].0 = "packed dot";
                all.push(("multiplications", Kernels { packed_dot: false, ..now }));
            }
            _ => {}
        }
        all
    }

    async fn measure(
        self,
        device: &Device,
        candidates: &[(&'static str, Kernels)],
        budget: Duration,
        runs: usize,
    ) -> Result<Option<Measured>, Error> {
        let begun = Instant::now();
        let step = step(device, self.rows())?;
        let mut programs = Vec::new();
        for (_, kernels) in candidates {
            programs.push(self.program(device, *kernels, &step)?);
            // it was compiled: had it taken as long as all may, the others would, too
            if begun.elapsed() * 2 > budget {
                return Ok(None);
            }
        }
        // how often each has to run in one measurement; what is slow by far is out
        let first = times(device, &programs, &vec![1; programs.len()], 1).await?;
        let repeats: Vec<usize> = first.iter().map(|us| (LEAST_US / us[0].max(1.0)).ceil() as usize).collect();
        let round_us: f64 = first.iter().zip(&repeats).map(|(us, &n)| us[0] * n as f64).sum();
        let rest = budget.saturating_sub(begun.elapsed()).as_secs_f64() * 1e6;
        let runs = ((0.5 * rest / round_us.max(1.0)) as usize).min(runs);
        if runs < 5 {
            return Ok(None);
        }
        let times = times(device, &programs, &repeats, runs).await?;
        let ranges: Vec<[f64; 3]> = times.iter().map(|times| quartiles(times)).collect();
        let [least, median, _] = ranges[0];
        let better = |i: &usize| ranges[*i][1] < GAIN * median && ranges[*i][2] < least;
        let best = (1..ranges.len()).filter(better).min_by(|&a, &b| ranges[a][1].total_cmp(&ranges[b][1]));
        Ok(Some(Measured {
            what: self.name(),
            candidates: candidates.iter().zip(&ranges).map(|((name, _), r)| ((*name).to_owned(), *r)).collect(),
            chosen: best.unwrap_or(0),
        }))
    }

    /// What is computed, once. Weights are zeros: no kernel takes longer for others.
    fn program(self, device: &Device, kernels: Kernels, step: &Step) -> Result<Program, Error> {
        let mut g = Graph::new(device);
        g.set_kernels(kernels);
        let storage = |label, bytes| device.storage(label, Category::Staging, bytes);
        let [inputs, outputs] = match self {
            // as the first product of a layer has them
            Self::Normed(dim) => [dim, 4 * dim],
            _ => [INPUTS, OUTPUTS],
        };
        // what tiles are best goes by the type
        let elem = if matches!(self, Self::Rows(_) | Self::Tiles) { Elem::F16 } else { Elem::F32 };
        let x = g.empty("autotune", self.rows(), inputs, elem)?;
        let affine = Affine { gain: storage("gains", u64::from(inputs) * 4)?, bias: None, count: inputs };
        let config = NormConfig { kind: NormKind::Rms, eps: 1e-5 };
        let y = if self == Self::Norm {
            ops::norm(&mut g, &x, &affine, config, Rows::All, Out::New(Elem::F32), step)?
        } else {
            let is_int8 = self == Self::Integers;
            let of_blocks = Storage::Blocks(if is_int8 { Blocks::Q8 } else { Blocks::Q4 });
            let part = Part {
                first: 0,
                rows: outputs,
                storage: of_blocks,
                data: storage("weight", u64::from(outputs) * of_blocks.row_bytes(inputs))?,
                scales: Some(storage("scales", u64::from(outputs * of_blocks.scale_stride(inputs)) * 4)?),
                order: None,
                int8_inputs: is_int8,
            };
            let weight = Weight { rows: outputs, dim: inputs, parts: vec![part] };
            let normed = Normed { x: &x, affine: &affine, config, elem: Elem::F32 };
            let input = if let Self::Normed(_) = self { Input::Normed(normed) } else { Input::Rows(&x) };
            ops::matmul(&mut g, input, &weight, None, Out::New(elem), Rows::All, step)?
        };
        g.keep(&y);
        Ok(g.finish(&Arena::default())?)
    }
}

/// Every way of sharing tiles that a device has.
fn all_tiles(capabilities: &Capabilities) -> impl Iterator<Item = Tiles> {
    [capabilities.matrices, capabilities.shader_f16.then_some(Tiles::F16), Some(Tiles::F32)].into_iter().flatten()
}

/// Microseconds of one run of each program, `runs` times, in alternation; each measurement is of so many `repeats`.
async fn times(
    device: &Device,
    programs: &[Program],
    repeats: &[usize],
    runs: usize,
) -> Result<Vec<Vec<f64>>, DeviceError> {
    let mut times = vec![Vec::new(); programs.len()];
    let all = (0..runs).flat_map(|_| programs.iter().zip(repeats).enumerate());
    if device.capabilities().timestamps {
        let mut timestamps = Timestamps::new(device, runs * programs.len())?;
        let mut encoder = device.encoder();
        for (_, (program, &repeats)) in all.clone() {
            let mut pass = timestamps.pass(&mut encoder);
            (0..repeats).for_each(|_| program.encode_in(&mut pass));
        }
        let passes = timestamps.finish(device, encoder).await?;
        for ((i, (_, &repeats)), pass) in all.zip(passes) {
            times[i].push(pass.end.saturating_sub(pass.start) as f64 / 1e3 / repeats as f64);
        }
        return Ok(times);
    }
    for (i, (program, &repeats)) in all {
        let mut encoder = device.encoder();
        (0..repeats).for_each(|_| program.encode(&mut encoder));
        let started = Instant::now();
        device.submit(encoder);
        device.idle().await?;
        times[i].push(started.elapsed().as_secs_f64() * 1e6 / repeats as f64);
    }
    Ok(times)
}

/// The first quartile, the median and the third, to a tenth.
fn quartiles(times: &[f64]) -> [f64; 3] {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| sorted.get(sorted.len() * quarter / 4).map_or(f64::MAX, |us| (us * 10.0).round() / 10.0))
}
