//! Which dtype a model is best stored in: every one is weighed against memory, context and speed, and the choice says why.

use serde::Serialize;

use super::offload::Offload;
use super::{CacheOptions, Dtype, Footprint, Model, Needs, choose};
use crate::device::AdapterInfo;
use crate::error::{DeviceError, Error};
use crate::models::ModelConfig;

/// Perplexity over that of f32: stories260K on its three greedy texts (`tests/models/stories.rs`). Such a small model suffers more from
/// few bits than large ones do; the order is what counts.
const PERPLEXITY: [(Dtype, f64); 6] = [
    (Dtype::F32, 1.0),
    (Dtype::F16, 1.0),
    (Dtype::Q8, 1.001),
    (Dtype::Q4a, 1.042),
    (Dtype::Q4, 1.063),
    (Dtype::Nf4, 1.056),
];

/// Positions that a dtype must have room for to be chosen where nobody says how many; fewer where the default context is shorter.
const ENOUGH_CONTEXT: u32 = 4096;
/// Positions that the smallest cache has room for.
pub(super) const LEAST_CONTEXT: u32 = 128;

/// What is wanted of a model, and what there is for it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Bytes that may be used, if known, which no adapter tells.
    pub budget: Option<u64>,
    /// Positions that a sequence is to have at least.
    pub context: Option<u32>,
    /// The most tokens of a prompt in one step, as [`LoadOptions::prefill_chunk`](crate::session::LoadOptions::prefill_chunk).
    pub prefill_chunk: Option<u32>,
    /// How keys and values are kept.
    pub cache: CacheOptions,
    /// Layers that are to stay on the GPU, as [`LoadOptions::gpu_layers`](crate::session::LoadOptions::gpu_layers).
    pub gpu_layers: Option<u32>,
    /// Bytes that the adapter reads per second, where it was measured ([`Roofline`](super::Roofline)) and memory bounds decoding,
    /// which on a CPU it does not.
    pub bytes_per_second: Option<f64>,
}

impl From<Option<u64>> for Wanted {
    fn from(budget: Option<u64>) -> Self {
        Self { budget, ..Self::default() }
    }
}

/// The facts that [`recommend`] weighs.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The model at each dtype, the most bits first.
    pub footprints: &'a [Footprint],
    /// What [`choose`](super::choose) makes of `auto`, which knows nothing of budgets.
    pub unbounded: Dtype,
    /// How another tool quantized it, if one did.
    pub quantized: Option<&'static str>,
    /// What is wanted.
    pub wanted: Wanted,
}

/// What became of `auto`, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommendation {
    /// The best dtype; `None` where none fits.
    pub dtype: Option<&'static str>,
    /// Why, and why not a better one; where none fits what is missing, and what would fit.
    pub reason: String,
    /// Bytes that may be used, if known.
    pub budget: Option<u64>,
    /// Positions that are wanted, if that was said.
    pub context: Option<u32>,
    /// Every dtype, the most bits first.
    pub formats: Vec<Format>,
}

/// A model at one dtype. Bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Format {
    /// As [`Dtype::name`].
    pub dtype: &'static str,
    /// Positions that the sizes are for: those wanted, else as many as the default has and the budget holds.
    pub context: u32,
    /// Of weights, and of tables of rotations.
    pub weights: u64,
    /// Of the cache, filled.
    pub cache: u64,
    /// Of activations, at most.
    pub activations: u64,
    /// On their way while it loads; cache and activations come when these are gone.
    pub staging: u64,
    /// The most at once.
    pub total: u64,
    /// Whether it fits with the context that is wanted, or with enough of one.
    pub fits: bool,
    /// Why it does not.
    pub why_not: Option<String>,
    /// How it would run nevertheless: with layers that do not stay on the GPU.
    pub offload: Option<Offload>,
    /// The longest sequence that fits; 0 where none does.
    pub longest_context: u32,
    /// What a token reads while decoding with that much live cache: weights and cache.
    pub bytes_per_token: u64,
    /// How fast that is, f16 being 1: memory bounds it.
    pub relative_speed: f64,
    /// Tokens per second at most, where the adapter was measured.
    pub tokens_per_second: Option<f64>,
    /// Perplexity to be expected, f32 being 1; `None` where another tool quantized the layers, which keep their bits.
    pub perplexity: Option<f64>,
}

/// Decides what `auto` is.
///
/// Without a budget: a small f32 checkpoint (1 GiB) stays f32; what takes at most 4 GiB in f16 is f16; the rest is q4. With one: the
/// dtype of the best quality that fits with the context that is wanted, or where none is, with 4096 positions (the default
/// context, if that is shorter); of two that are as good the one that reads fewer bytes, but a small f32 checkpoint stays exact where it
/// can. What another tool quantized keeps its bits: only what is around them is chosen, f32 for small models and f16 for others.
#[must_use]
pub fn recommend(facts: &Facts<'_>) -> Recommendation {
    let Facts { footprints, wanted, .. } = *facts;
    let live = footprints.iter().map(|f| enough(f, &wanted)).min().unwrap_or(0);
    let read = |f: &Footprint| f.traffic.weights + f.traffic.cache(live.into());
    let of_f16 = footprints.iter().find(|f| f.dtype == Dtype::F16).map(read);
    let formats: Vec<_> = (footprints.iter())
        .map(|f| {
            let context = match wanted.context {
                Some(context) => context,
                None => default(f).min(f.longest(wanted.budget).max(enough(f, &wanted))),
            };
            let Needs { weights, cache, activations, staging, total } = f.needs(context);
            let why_not = why_not(f, &wanted);
            let offload = why_not.as_ref().and_then(|_| offload(f, &wanted));
            Format {
                dtype: f.dtype.name(),
                context,
                weights,
                cache,
                activations,
                staging,
                total,
                fits: why_not.is_none(),
                why_not,
                offload,
                longest_context: f.longest(wanted.budget),
                bytes_per_token: read(f),
                relative_speed: of_f16.unwrap_or_default() as f64 / read(f).max(1) as f64,
                tokens_per_second: wanted.bytes_per_second.map(|speed| speed / read(f).max(1) as f64),
                perplexity: facts.quantized.is_none().then(|| perplexity(f.dtype)),
            }
        })
        .collect();

    let order = order(facts);
    let fits = |dtype: Dtype| formats.iter().any(|f| f.dtype == dtype.name() && f.fits);
    let chosen = match wanted.budget {
        None => order.first().copied(),
        Some(_) => order.iter().copied().find(|&dtype| fits(dtype)).or_else(|| least_moved(&formats, &order)),
    };
    let reason = match (chosen, wanted.budget) {
        (Some(dtype), Some(budget)) => {
            let format = formats.iter().find(|f| f.dtype == dtype.name());
            match format.and_then(|f| f.offload.as_ref()) {
                Some(offload) => passing(facts, dtype, offload, budget),
                None => within(facts, dtype, &order, budget),
            }
        }
        (Some(dtype), None) => unbounded(facts, dtype),
        (None, _) => nothing_fits(facts, &order),
    };
    let (budget, context) = (wanted.budget, wanted.context);
    Recommendation { dtype: chosen.map(Dtype::name), reason, budget, context, formats }
}

impl Recommendation {
    /// For a model, along with the footprints that it rests on and the number of weights.
    ///
    /// # Errors
    /// As [`Footprint::all`].
    pub(crate) fn of(
        model: Model<'_>,
        adapter: Option<&AdapterInfo>,
        wanted: Wanted,
    ) -> Result<(Self, Vec<Footprint>, u64), Error> {
        let (footprints, parameters) = Footprint::all(model, adapter, wanted)?;
        let unbounded =
            choose(Dtype::Auto, &ModelConfig::Decoder(model.config.clone()), model.checkpoint, model.quantization)?
                .dtype;
        let bytes_per_second = wanted.bytes_per_second.filter(|_| adapter.is_none_or(|adapter| adapter.kind != "CPU"));
        let wanted = Wanted { bytes_per_second, ..wanted };
        let facts = Facts { footprints: &footprints, unbounded, quantized: model.quantization.name(), wanted };
        Ok((recommend(&facts), footprints, parameters))
    }

    /// The format that was chosen.
    ///
    /// # Errors
    /// [`DeviceError::NothingFits`]
    pub fn chosen(&self) -> Result<&Format, DeviceError> {
        let chosen = self.formats.iter().find(|f| Some(f.dtype) == self.dtype);
        chosen.ok_or_else(|| DeviceError::NothingFits { reason: self.reason.clone() })
    }
}

fn perplexity(dtype: Dtype) -> f64 {
    PERPLEXITY.iter().find(|(of, _)| *of == dtype).map_or(1.0, |(_, perplexity)| *perplexity)
}

/// How long a sequence may become where nobody says.
fn default(f: &Footprint) -> u32 {
    f.cache.default_context(f.max_binding)
}

/// Positions that a dtype must have room for.
pub(super) fn enough(f: &Footprint, wanted: &Wanted) -> u32 {
    wanted.context.unwrap_or_else(|| default(f).min(ENOUGH_CONTEXT))
}

/// The dtypes that may be chosen, the best first.
fn order(facts: &Facts<'_>) -> Vec<Dtype> {
    let all = facts.footprints.iter().map(|f| (f.dtype, f.traffic.weights)).collect();
    best_first(facts.unbounded, facts.quantized.is_some(), facts.wanted.budget, all)
}

/// Of `all`, dtypes and the bytes of weights that are read at each, those that may be chosen, the best first. `unbounded`: what `auto` is
/// without a budget.
pub(super) fn best_first(
    unbounded: Dtype,
    quantized: bool,
    budget: Option<u64>,
    mut all: Vec<(Dtype, u64)>,
) -> Vec<Dtype> {
    if quantized || budget.is_none() {
        // f16 takes less around what is quantized already
        let narrower = quantized.then_some(Dtype::F16);
        let mut order: Vec<_> = [unbounded].into_iter().chain(narrower).collect();
        order.dedup();
        return order;
    }
    // f32 is no better than f16 where it is not what is stored, and twice as slow
    let exact = unbounded == Dtype::F32;
    all.retain(|&(dtype, _)| exact || dtype != Dtype::F32);
    all.sort_by(|&(a, read), &(b, other)| perplexity(a).total_cmp(&perplexity(b)).then(read.cmp(&other)));
    // stable: the rest stays in order
    all.sort_by_key(|&(dtype, _)| dtype != Dtype::F32);
    all.into_iter().map(|(dtype, _)| dtype).collect()
}

/// What stands in the way of a dtype, if anything does.
fn why_not(f: &Footprint, wanted: &Wanted) -> Option<String> {
    if let Some(refused) = &f.refused {
        return Some(refused.clone());
    }
    let context = enough(f, wanted);
    // longer than the model was made for is no question of memory
    let needed = context.min(f.cache.trained);
    let shown = shown(f);
    if needed > shown {
        return Some(format!(
            "one binding of the adapter shows a cache of {shown} positions, and {context} are wanted"
        ));
    }
    let budget = wanted.budget?;
    let total = f.needs(needed).total;
    (total > budget).then(|| {
        let shorter = match f.longest(wanted.budget) {
            0 => String::new(),
            longest => format!("; {longest} would fit"),
        };
        format!("needs {} with a context of {needed}, and the budget is {}{shorter}", size(total), size(budget))
    })
}

/// Positions of the longest cache that one binding of the adapter shows.
fn shown(f: &Footprint) -> u32 {
    f.cache.longest(u64::MAX, f.max_binding)
}

fn find<'a>(facts: &Facts<'a>, dtype: Dtype) -> Option<&'a Footprint> {
    facts.footprints.iter().find(|f| f.dtype == dtype)
}

/// Why `dtype` is the best within `budget`.
fn within(facts: &Facts<'_>, dtype: Dtype, order: &[Dtype], budget: u64) -> String {
    let total = |dtype| find(facts, dtype).map(|f| (f.needs(enough(f, &facts.wanted)).total, enough(f, &facts.wanted)));
    let (needed, context) = total(dtype).unwrap_or_default();
    let mut reason = format!("{}: {}", dtype.name(), keeps(facts));
    reason += &format!("{} of {} with a context of {context}", size(needed), size(budget));
    let better: Vec<_> = (order.iter().take_while(|&&better| better != dtype))
        .filter_map(|&better| total(better).map(|(needed, _)| (better.name(), size(needed))))
        .collect();
    match better.split_first() {
        None => reason += "; none is better",
        Some(((name, needed), rest)) => {
            reason += &format!("; {name} would need {needed}");
            rest.iter().for_each(|(name, needed)| reason += &format!(", {name} {needed}"));
        }
    }
    reason
}

/// How a dtype that does not fit would run nevertheless.
fn offload(f: &Footprint, wanted: &Wanted) -> Option<Offload> {
    let budget = wanted.budget?;
    let context = enough(f, wanted).min(f.cache.trained);
    if f.refused.is_some() || context > shown(f) {
        return None;
    }
    match (wanted.gpu_layers, wanted.context) {
        (Some(resident), _) => Offload::of(f, resident as usize, 0, context).filter(|offload| offload.total <= budget),
        (None, Some(_)) => Offload::within(f, budget, context),
        (None, None) => Offload::shorter(f, budget, context),
    }
}

/// The dtype of which the fewest bytes are copied for a token, where none fits whole.
fn least_moved(formats: &[Format], order: &[Dtype]) -> Option<Dtype> {
    let moved = |dtype: Dtype| {
        let format = formats.iter().find(|f| f.dtype == dtype.name())?;
        Some((format.offload.as_ref()?.moved, dtype))
    };
    order.iter().filter_map(|&dtype| moved(dtype)).min_by_key(|(moved, _)| *moved).map(|(_, dtype)| dtype)
}

/// Why `dtype`, which fits with layers that do not stay only.
fn passing(facts: &Facts<'_>, dtype: Dtype, offload: &Offload, budget: u64) -> String {
    let Offload { total, context, .. } = offload;
    let whole = find(facts, dtype).map_or(0, |f| f.needs(*context).total);
    format!(
        "{}: {}of the layers {offload}; {} of {} with a context of {context}; whole it would need {}",
        dtype.name(),
        keeps(facts),
        size(*total),
        size(budget),
        size(whole)
    )
}

/// Why `dtype`, where no budget is known.
fn unbounded(facts: &Facts<'_>, dtype: Dtype) -> String {
    let weights = |of| find(facts, of).map_or(0, |f| f.weights);
    let name = dtype.name();
    let keeps = keeps(facts);
    match dtype {
        _ if facts.quantized.is_some() => format!("{name}: {keeps}{} of weights", size(weights(dtype))),
        Dtype::F32 => format!("f32: {} of weights, exact, as they are stored (up to 1 GiB)", size(weights(Dtype::F32))),
        Dtype::F16 => format!("f16: {} of weights (up to 4 GiB stay at 16 bits)", size(weights(Dtype::F16))),
        _ => {
            let (few, half) = (size(weights(dtype)), size(weights(Dtype::F16)));
            format!("{name}: {few} of weights; f16 would be {half} (beyond 4 GiB), and no memory budget is known")
        }
    }
}

/// What is said of layers that another tool quantized.
fn keeps(facts: &Facts<'_>) -> String {
    facts
        .quantized
        .map_or(String::new(), |by| format!("around the layers that {by} quantized, which keep their bits; "))
}

/// What is missing, and what would fit.
fn nothing_fits(facts: &Facts<'_>, order: &[Dtype]) -> String {
    let wanted = &facts.wanted;
    let candidates: Vec<_> = order.iter().filter_map(|&dtype| find(facts, dtype)).collect();
    let Some(smallest) = candidates.iter().min_by_key(|f| f.needs(enough(f, wanted)).total) else {
        return "the model can be stored as no dtype".to_owned();
    };
    let name = smallest.dtype.name();
    if let Some(refused) = &smallest.refused {
        return format!("{name}: {refused}");
    }
    let context = enough(smallest, wanted);
    let needed = smallest.needs(context).total;
    let budget = wanted.budget.unwrap_or_default();
    let mut reason = format!(
        "{name}, the smallest, needs {} ({needed} bytes) with a context of {context}, and the budget is {} ({budget} bytes)",
        size(needed),
        size(budget)
    );
    // the longest, and of several the best
    let mut nearest: Option<(&Footprint, u32)> = None;
    for f in candidates.iter().copied() {
        let longest = f.longest(wanted.budget);
        if longest >= LEAST_CONTEXT.min(context) && longest > 0 && nearest.is_none_or(|(_, other)| longest > other) {
            nearest = Some((f, longest));
        }
    }
    match nearest {
        Some((f, longest)) => reason += &format!(": {} with a context of {longest} would fit", f.dtype.name()),
        None => {
            let least = LEAST_CONTEXT.min(smallest.cache.trained);
            let least_bytes = match wanted.gpu_layers {
                None => Offload::least(smallest, least),
                Some(_) => smallest.needs(least).total,
            };
            reason += &format!(
                ": {name} with a context of {least} needs {}{}",
                size(least_bytes),
                if wanted.gpu_layers.is_none() { " even if no layer stays on the GPU" } else { "" }
            );
        }
    }
    reason
}

/// `812 B`, `3.9 MiB`, `14.2 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
#[path = "recommend_tests.rs"]
mod tests;
