//! Whether kernels that need more than WebGPU's defaults compute what they should on the adapter at hand: drivers differ, and what is
//! there by name may be wrong. Each is asked once, on small cases whose answers are whole numbers, exact in f32.

use serde::{Deserialize, Serialize};

use crate::device::{Buffer, Capabilities, Category, Device, Kernels, Memory};
use crate::error::{DeviceError, Error};
use crate::graph::{Arena, Graph};
use crate::ops::{self, Affine, NormConfig, NormKind, Out, Result, Rows};
use crate::quant::Blocks;
use crate::shaders::Slot;
use crate::step::{Step, StepSize};
use crate::tensor::{Elem, Part, Storage, Tensor, Weight};

/// What a kernel may make use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Subgroup operations.
    Subgroups,
    /// Products of packed 8-bit integers.
    PackedDot,
    /// Tiles in f16.
    F16Tiles,
    /// Matrices that subgroups multiply together.
    Matrices,
}

impl Variant {
    /// `subgroups`, `packed dot`, `f16 tiles`, `matrices`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subgroups => "subgroups",
            Self::PackedDot => "packed dot",
            Self::F16Tiles => "f16 tiles",
            Self::Matrices => "matrices",
        }
    }
}

/// What became of a [`Variant`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which one.
    pub variant: Variant,
    /// What was wrong; `None`: it may be used.
    pub wrong: Option<String>,
}

/// Tests every variant that the device's static choice of kernels uses. `broken` is taken for wrong, whatever it computes: for tests of
/// what follows.
///
/// # Errors
/// Those of the device, but for those of a kernel that it does not compile: such a one is wrong.
pub async fn self_test(device: &Device, broken: Option<Variant>) -> Result<Vec<Verdict>, Error> {
    let capabilities = device.capabilities();
    // each by itself, since one that is wrong must not be taken for another
    let plain = Capabilities { subgroups: false, packed_dot: false, shader_f16: false, matrices: None, ..capabilities };
    let Capabilities { subgroups, packed_dot, shader_f16, matrices, .. } = capabilities;
    let variants = [
        (Variant::Subgroups, Capabilities { subgroups, ..plain }),
        (Variant::PackedDot, Capabilities { packed_dot, ..plain }),
        (Variant::F16Tiles, Capabilities { shader_f16, ..plain }),
        (Variant::Matrices, Capabilities { matrices, ..plain }),
    ];
    let mut verdicts = Vec::new();
    for (variant, used) in variants {
        let kernels = Kernels::of(&used);
        // it is not there, or of no use: a processor makes no sums by subgroups, and shares no tiles
        if kernels == Kernels::of(&plain) {
            continue;
        }
        // the tiles in question, however few of them
        let kernels = Kernels { large_tiles: 0, ..kernels };
        let wrong = match (Cases { device, kernels }).wrong(variant).await {
            Ok(wrong) => wrong,
            Err(Error::Device(error @ (DeviceError::Lost { .. } | DeviceError::OutOfMemory { .. }))) => {
                return Err(error.into());
            }
            Err(error) => Some(error.to_string()),
        };
        let wrong = wrong.or_else(|| (broken == Some(variant)).then(|| "it is taken for wrong".to_owned()));
        tracing::debug!(variant = variant.name(), ?wrong, "tested");
        verdicts.push(Verdict { variant, wrong });
    }
    Ok(verdicts)
}

/// The static choice, without what is wrong.
#[must_use]
pub fn trusted(device: &Device, verdicts: &[Verdict]) -> Kernels {
    Kernels::of(&trusted_capabilities(device, verdicts))
}

/// What a device has, without what is wrong.
pub(super) fn trusted_capabilities(device: &Device, verdicts: &[Verdict]) -> Capabilities {
    let mut capabilities = device.capabilities();
    for verdict in verdicts.iter().filter(|verdict| verdict.wrong.is_some()) {
        match verdict.variant {
            Variant::Subgroups => capabilities.subgroups = false,
            Variant::PackedDot => capabilities.packed_dot = false,
            Variant::F16Tiles => capabilities.shader_f16 = false,
            Variant::Matrices => capabilities.matrices = None,
        }
    }
    capabilities
}

/// Inputs and outputs of the products: more than a workgroup takes at once, and no multiple of that.
const INPUTS: u32 = 1056;
const OUTPUTS: u32 = 68;

struct Cases<'a> {
    device: &'a Device,
    kernels: Kernels,
}

fn x_of(row: u32, k: u32) -> i32 {
    // the greatest magnitude is 127, so that a row in 8 bits is what it was
    if k == 5 { 127 } else { ((3 * row + 7 * k) % 11) as i32 - 5 }
}

fn w_of(n: u32, k: u32) -> i32 {
    ((5 * n + 3 * k) % 7) as i32 - 3
}

impl Cases<'_> {
    /// What is wrong, if something is.
    async fn wrong(&self, variant: Variant) -> Result<Option<String>, Error> {
        // a processor has one kernel for integers, which takes it long to compile
        let processor = self.kernels.tiles_alone;
        let rows: &[u32] = match variant {
            Variant::Subgroups => &[3],
            // few rows, and as many as are made in tiles
            Variant::PackedDot => &[3, 17][..if processor { 1 } else { 2 }],
            Variant::F16Tiles => &[130],
            Variant::Matrices => &[70],
        };
        let (weight, elem) = match variant {
            Variant::Subgroups => (self.f32()?, Elem::F32),
            Variant::PackedDot => (self.int8(true)?, Elem::F32),
            Variant::F16Tiles | Variant::Matrices => (self.int8(false)?, Elem::F16),
        };
        for &rows in rows {
            let record = |g: &mut Graph<'_>, x: &Tensor, step: &Step| {
                ops::matmul(g, x, &weight, None, Out::New(Elem::F32), Rows::All, step)
            };
            let got = self.run(rows, elem, record);
            let sum = |row, n| (0..INPUTS).map(|k| x_of(row, k) * w_of(n, k)).sum::<i32>();
            let want = (0..rows).flat_map(|row| (0..OUTPUTS).map(move |n| sum(row, n) as f32));
            if let Some(wrong) = differs("product", &got.await?, want, 0.0) {
                return Ok(Some(wrong));
            }
        }
        if variant == Variant::Subgroups { self.norm().await } else { Ok(None) }
    }

    async fn norm(&self) -> Result<Option<String>, Error> {
        const ROWS: u32 = 3;
        let gain = self.device.storage_with("gains", Category::Activations, &[1.0_f32; INPUTS as usize])?;
        let affine = Affine { gain, bias: None, count: INPUTS };
        let config = NormConfig { kind: NormKind::Rms, eps: 0.0 };
        let got = self
            .run(ROWS, Elem::F32, |g, x, step| ops::norm(g, x, &affine, config, Rows::All, Out::New(Elem::F32), step));
        let want = (0..ROWS).flat_map(|row| {
            let squares: i32 = (0..INPUTS).map(|k| x_of(row, k).pow(2)).sum();
            let rms = (f64::from(squares) / f64::from(INPUTS)).sqrt();
            (0..INPUTS).map(move |k| (f64::from(x_of(row, k)) / rms) as f32)
        });
        Ok(differs("norm", &got.await?, want, 1e-4))
    }

    /// Runs one operation on so many rows of `x_of`.
    async fn run(
        &self,
        rows: u32,
        elem: Elem,
        record: impl FnOnce(&mut Graph<'_>, &Tensor, &Step) -> Result<Tensor>,
    ) -> Result<Vec<f32>, Error> {
        let device = self.device;
        let step = step(device, rows)?;
        let mut g = Graph::new(device);
        g.set_kernels(self.kernels);
        let x = g.empty("self-test", rows, INPUTS, elem)?;
        g.keep(&x);
        let y = record(&mut g, &x, &step)?;
        g.keep(&y);
        let program = g.finish(&Arena::default())?;
        let values: Vec<f32> = (0..rows).flat_map(|row| (0..INPUTS).map(move |k| x_of(row, k) as f32)).collect();
        if let Some(buffer) = program.kept(&x) {
            match elem {
                Elem::F32 => device.write(buffer, 0, bytemuck::cast_slice(&values)),
                Elem::F16 => {
                    let values: Vec<u16> = values.iter().map(|&v| half::f16::from_f32(v).to_bits()).collect();
                    device.write(buffer, 0, bytemuck::cast_slice(&values));
                }
            }
        }
        let mut encoder = device.encoder();
        program.encode(&mut encoder);
        device.submit(encoder);
        let mut got = Vec::new();
        if let Some(buffer) = program.kept(&y) {
            y.unpack(&device.read(buffer, 0..y.bytes()).await?, &mut got);
        }
        Ok(got)
    }

    fn f32(&self) -> Result<Weight, Error> {
        let values: Vec<f32> = (0..OUTPUTS).flat_map(|n| (0..INPUTS).map(move |k| w_of(n, k) as f32)).collect();
        let data = self.device.storage_with("weight", Category::Weights, &values)?;
        Ok(weight(Storage::F32, data, None, false))
    }

    /// In 8 bits, every scale 1.
    fn int8(&self, int8_inputs: bool) -> Result<Weight, Error> {
        let codes: Vec<u8> =
            (0..OUTPUTS).flat_map(|n| (0..INPUTS).map(move |k| (w_of(n, k) as i8).cast_unsigned())).collect();
        let ones = vec![0x3c00_3c00_u32; (OUTPUTS * Blocks::Q8.scale_words(INPUTS)) as usize];
        let data = self.device.storage_with("weight", Category::Weights, &codes)?;
        let scales = self.device.storage_with("scales", Category::Weights, &ones)?;
        Ok(weight(Storage::Blocks(Blocks::Q8), data, Some(scales), int8_inputs))
    }
}

fn weight(storage: Storage, data: Buffer, scales: Option<Buffer>, int8_inputs: bool) -> Weight {
    let part = Part { first: 0, rows: OUTPUTS, storage, data, scales, order: None, int8_inputs };
    Weight { rows: OUTPUTS, dim: INPUTS, parts: vec![part] }
}

/// The first `rows` positions of one sequence.
pub(super) fn step(device: &Device, rows: u32) -> Result<Step, Error> {
    let size = StepSize { rows, slots: 1, tables: 1, pages: 1, ring: 1 };
    let step = Step::new(Memory::Device(device), size)?;
    step.set(device, &[Slot { rows, ..Slot::default() }]);
    Ok(step)
}

/// Where the first answer is that is off by more than `tolerance`.
fn differs(what: &str, got: &[f32], want: impl Iterator<Item = f32>, tolerance: f32) -> Option<String> {
    let mut count = 0;
    for (i, want) in want.enumerate() {
        count = i + 1;
        let got = got.get(i).copied().unwrap_or(f32::NAN);
        let off = (got - want).abs();
        if off.is_nan() || off > tolerance {
            return Some(format!("{what}: element {i} is {got} instead of {want}"));
        }
    }
    (got.len() != count).then(|| format!("{what}: {} elements instead of {count}", got.len()))
}
