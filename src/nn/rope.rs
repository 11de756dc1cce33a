use crate::device::{Buffer, Category, Device};
use crate::error::DeviceError;
use crate::ops;

/// Rotary position embedding: its table of cosines and sines.
#[derive(Debug)]
pub struct Rope {
    pub(super) table: Buffer,
}

impl Rope {
    /// `inv_freq`: `[R / 2]`, the angle per position of each pair; `scale` multiplies cosines and sines; for `positions`
    /// positions at most.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn new(device: &Device, inv_freq: &[f32], scale: f64, positions: u32) -> Result<Self, DeviceError> {
        let table = ops::rope_table(inv_freq, scale, positions);
        Ok(Self { table: device.storage_with("rope table", Category::Weights, &table)? })
    }
}
