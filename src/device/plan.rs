//! What loading would hold on a device, without one: the same requests, entered in a ledger of their own.

use std::sync::Arc;

use super::{AdapterInfo, Buffer, Category, Device, Ledger, Owned, buffer_size};
use crate::error::DeviceError;

/// The limits of an adapter, and the account of what would be allocated on it.
#[derive(Debug, Default)]
pub struct Plan {
    ledger: Arc<Ledger>,
    max_binding: u64,
    max_buffer: u64,
}

impl Plan {
    /// For an adapter that is not opened; for any at all where there is none, with limits that hold everything.
    #[must_use]
    pub fn new(adapter: Option<&AdapterInfo>) -> Self {
        let limit = |of: fn(&AdapterInfo) -> u64| adapter.map_or(1 << 60, of);
        let max_buffer = limit(|adapter| adapter.max_buffer);
        Self { ledger: Arc::default(), max_binding: limit(|adapter| adapter.max_binding).min(max_buffer), max_buffer }
    }

    /// What has been asked for.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// As [`Device::max_binding`].
    #[must_use]
    pub fn max_binding(&self) -> u64 {
        self.max_binding
    }
}

/// Where buffers come from: a device, or a plan, which only counts them.
#[derive(Clone, Copy, Debug)]
pub enum Memory<'a> {
    /// They are made.
    Device(&'a Device),
    /// They are counted; nothing can read or write them.
    Plan(&'a Plan),
}

impl Memory<'_> {
    /// As [`Device::storage`].
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn storage(&self, label: &str, category: Category, size: u64) -> Result<Buffer, DeviceError> {
        match self {
            Self::Device(device) => device.storage(label, category, size),
            Self::Plan(plan) => {
                let size = buffer_size(label, size, plan.max_buffer)?;
                let entry = plan.ledger.enter(label, category, size, None);
                Ok(Buffer(Arc::new(Owned { wgpu: None, size, entry, ledger: Arc::clone(&plan.ledger) })))
            }
        }
    }

    /// As [`Device::storage_with`].
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn storage_with(&self, label: &str, category: Category, words: &[u32]) -> Result<Buffer, DeviceError> {
        match self {
            Self::Device(device) => device.storage_with(label, category, words),
            Self::Plan(_) => self.storage(label, category, 4 * words.len() as u64),
        }
    }

    /// As [`Device::max_binding`].
    #[must_use]
    pub fn max_binding(&self) -> u64 {
        match self {
            Self::Device(device) => device.max_binding(),
            Self::Plan(plan) => plan.max_binding,
        }
    }
}
