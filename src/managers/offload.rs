//! Which layers stay on the GPU where not all fit: as many as the budget holds, the first ones; the others pass through two slots.

use std::fmt;

use serde::Serialize;

use super::footprint::{Footprint, Needs};
use super::recommend::{LEAST_CONTEXT, Wanted, enough, size};
use crate::error::DeviceError;
use crate::weights::OffloadLayout;

/// How a model runs of which not all layers stay on the GPU. Bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offload {
    /// Layers that stay.
    pub resident: usize,
    /// Layers of the model.
    pub layers: usize,
    /// What is copied to the GPU for every token, or every step of several: the layers that do not stay.
    pub moved: u64,
    /// Both slots.
    pub slots: u64,
    /// Positions that a sequence may have.
    pub context: u32,
    /// The most at once.
    pub total: u64,
    #[serde(skip)]
    pub(crate) layout: OffloadLayout,
}

impl fmt::Display for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resident, layers, moved, .. } = self;
        let moved = size(*moved);
        write!(f, "{resident} of {layers} stay on the GPU, the others pass through two slots ({moved} for each step)")
    }
}

impl Offload {
    /// With `resident` layers of `footprint`, and at most `under_way` bytes on their way at once. `None` where all stay.
    #[must_use]
    pub fn of(footprint: &Footprint, resident: usize, under_way: u64, context: u32) -> Option<Self> {
        let layout = OffloadLayout::new(resident, &footprint.layers, under_way)?;
        let bytes = |layers: &[Vec<u64>]| layers.iter().flatten().sum::<u64>();
        let moved = bytes(&footprint.layers[resident..]);
        let slots = layout.slot_bytes() * layout.slots();
        let Needs { weights, cache, activations, staging, .. } = footprint.needs(context);
        let weights = weights - moved + slots;
        let total = weights + (cache + activations + layout.under_way).max(staging + layout.piece());
        Some(Self { resident, layers: footprint.layers.len(), moved, slots, context, total, layout })
    }

    /// As many layers as `budget` holds beside a sequence of `context` positions; `None` where even without any that is too much.
    #[must_use]
    pub fn within(footprint: &Footprint, budget: u64, context: u32) -> Option<Self> {
        if footprint.refused.is_some() {
            return None;
        }
        let resident = (0..footprint.layers.len()).rev();
        let mut fitting = resident.filter_map(|resident| Self::of(footprint, resident, 0, context));
        let found = fitting.find(|offload| offload.total <= budget)?;
        // a layer and half of the next one on their way keep both sides busy
        let spare = budget - found.total;
        let under_way =
            found.layout.under_way.saturating_add(spare).min((found.slots * 3 / 4).max(found.layout.under_way));
        Self::of(footprint, found.resident, under_way, context)
    }

    /// The same with the longest context up to `context` that fits, if 128 positions do.
    #[must_use]
    pub fn shorter(footprint: &Footprint, budget: u64, context: u32) -> Option<Self> {
        let least = LEAST_CONTEXT.min(context);
        let mut wanted = context;
        loop {
            if let Some(found) = Self::within(footprint, budget, wanted) {
                return Some(found);
            }
            if wanted <= least {
                return None;
            }
            wanted = (wanted / 2).max(least);
        }
    }

    /// The least that it takes with `context` positions: with no layer that stays, or whole, where slots would be no less.
    #[must_use]
    pub fn least(footprint: &Footprint, context: u32) -> u64 {
        let whole = footprint.needs(context).total;
        Self::of(footprint, 0, 0, context).map_or(whole, |offload| offload.total.min(whole))
    }
}

/// What becomes of a model at the dtype that was asked for: `None` where all of it stays on the GPU.
///
/// # Errors
/// [`DeviceError::NothingFits`] where even without any layer it is more than the budget.
pub fn fit(f: &Footprint, wanted: &Wanted) -> Result<Option<Offload>, DeviceError> {
    let layers = f.layers.len();
    let context = enough(f, wanted).min(f.cache.trained);
    if let Some(resident) = wanted.gpu_layers {
        let most = f.layers.iter().map(|layer| layer.iter().sum::<u64>()).max().unwrap_or(0);
        return Ok(Offload::of(f, (resident as usize).min(layers), most * 3 / 2, context));
    }
    let Some(budget) = wanted.budget.filter(|budget| f.needs(context).total > *budget) else { return Ok(None) };
    let found = match wanted.context {
        Some(_) => Offload::within(f, budget, context),
        None => Offload::shorter(f, budget, context),
    };
    match found {
        Some(offload) => Ok(Some(offload)),
        None => Err(DeviceError::NothingFits { reason: nothing(f, wanted, budget, context) }),
    }
}

/// What is missing at this dtype, and which settings would do.
fn nothing(f: &Footprint, wanted: &Wanted, budget: u64, context: u32) -> String {
    let whole = f.needs(context).total;
    let least = Offload::least(f, context);
    let mut reason = format!(
        "{} needs {} ({whole} bytes) with a context of {context}, {} ({least} bytes) even if no layer stays on the GPU, and \
         the budget is {} ({budget} bytes)",
        f.dtype.name(),
        size(whole),
        size(least),
        size(budget)
    );
    let shorter = wanted.context.and_then(|context| Offload::shorter(f, budget, context));
    match shorter {
        Some(offload) => reason += &format!(": a context of {} would fit", offload.context),
        None => {
            let positions = LEAST_CONTEXT.min(f.cache.trained);
            let bytes = Offload::least(f, positions);
            reason += &format!(": with a context of {positions} it needs {}", size(bytes));
        }
    }
    reason
}
