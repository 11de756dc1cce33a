use crate::device::{Category, Device, Memory};
use crate::error::DeviceError;
use crate::ops::{RopeLayout, RopeTable};

/// Rotary position embedding: its table of cosines and sines.
#[derive(Debug)]
pub struct Rope {
    table: RopeTable,
}

impl Rope {
    /// `table`: as [`RopeTable`] has it.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn new(device: &Device, table: &[[f32; 2]], layout: RopeLayout) -> Result<Self, DeviceError> {
        let data = device.storage_with("rope table", Category::Weights, table)?;
        Ok(Self { table: RopeTable { data, layout } })
    }

    /// As [`new`](Self::new), with nothing written: a table of `entries` cosines and sines.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn within(memory: Memory<'_>, entries: u64, layout: RopeLayout) -> Result<Self, DeviceError> {
        let data = memory.storage("rope table", Category::Weights, entries * 8)?;
        Ok(Self { table: RopeTable { data, layout } })
    }

    /// Other cosines and sines, as many as before, for what is submitted from now on.
    pub fn write(&self, device: &Device, table: &[[f32; 2]]) {
        device.write(&self.table.data, 0, bytemuck::cast_slice(table));
    }

    /// What the kernel reads.
    #[must_use]
    pub fn table(&self) -> &RopeTable {
        &self.table
    }
}
