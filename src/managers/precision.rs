//! How many bits activations and cache take, why, and what follows where values outgrow them.

use serde_json::{Value, json};

use super::{Dtype, Precision};
use crate::device::Capabilities;
use crate::site::{OpClass, Site};
use crate::tensor::{Activations, CacheDtype, Elem};

/// What the choice is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrecisionFacts {
    /// How weights are stored: what `auto` became.
    pub dtype: Dtype,
    /// The type of keys and values, where one is asked for.
    pub cache: Option<CacheDtype>,
    /// What the adapter can do.
    pub capabilities: Capabilities,
}

impl PrecisionFacts {
    /// Those of a model that begins with `precision`.
    #[must_use]
    pub fn of(precision: &Precision, capabilities: Capabilities) -> Self {
        let (elem, _) = activations(precision.dtype);
        Self {
            dtype: precision.dtype,
            cache: (precision.cache != elem.into()).then_some(precision.cache),
            capabilities,
        }
    }
}

/// Something that was chosen, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Of what.
    pub what: &'static str,
    /// A type, mostly.
    pub chosen: &'static str,
    /// In a sentence's part, lower case.
    pub reason: &'static str,
}

/// The type of activations under weights of `dtype` (`auto` counts as few bits), and why.
#[must_use]
pub const fn activations(dtype: Dtype) -> (Elem, &'static str) {
    match dtype {
        Dtype::F32 => (Elem::F32, "as exact as the weights"),
        _ => (Elem::F16, "half the bytes between kernels; what f16 does not hold is found, and made again in f32"),
    }
}

/// All that follows from the facts: the types of activations and cache, of sums, and of products of 8-bit integers.
#[must_use]
pub fn decide(facts: &PrecisionFacts) -> [Decision; 4] {
    let PrecisionFacts { dtype, cache, capabilities: Capabilities { shader_f16, packed_dot, .. } } = *facts;
    let (elem, why) = activations(dtype);
    let sums = match shader_f16 {
        true => "the adapter adds in f16 too, but a sum of a row outgrows that",
        false => "the adapter adds in nothing else; f16 is stored packed, which needs no feature",
    };
    let (products, why_products) = match packed_dot {
        true => ("packed", "of 8-bit integers: the language has dot4I8Packed"),
        false => ("f32", "of 8-bit integers: without dot4I8Packed, f32 holds their sums exactly"),
    };
    [
        Decision { what: "activations", chosen: elem.name(), reason: why },
        match cache {
            Some(asked) => Decision { what: "cache", chosen: asked.name(), reason: "asked for" },
            None => Decision { what: "cache", chosen: elem.name(), reason: "as activations" },
        },
        Decision { what: "sums", chosen: "f32", reason: sums },
        Decision { what: "products", chosen: products, reason: why_products },
    ]
}

impl Decision {
    /// As JSON: `what`, `chosen`, `reason`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "what": self.what, "chosen": self.chosen, "reason": self.reason })
    }
}

/// Values that an activation's type did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// What made them first, in a model's order.
    pub site: Site,
    /// Of the token that was to come when they were found.
    pub position: usize,
    /// How often steps were made again for it.
    pub count: u64,
}

/// What was found of a model's activations so far, and what followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrecisionReport {
    /// What was chosen, and why.
    pub decisions: Vec<Decision>,
    /// Steps that were looked at.
    pub steps: u64,
    /// What was found, in the order in which it was.
    pub overflows: Vec<Overflow>,
    /// Classes that keep f32 since, in the order in which they came to it.
    pub demoted: Vec<OpClass>,
    /// Types of activations by now.
    pub activations: Activations,
    /// That of keys and values.
    pub cache: CacheDtype,
}

impl PrecisionReport {
    /// All of it as JSON, for statistics.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let overflow = |o: &Overflow| {
            let Site { class, layer } = o.site;
            json!({ "class": class.name(), "layer": layer, "position": o.position, "count": o.count })
        };
        json!({
            "activations": self.activations.to_string(),
            "cache": self.cache.name(),
            "steps": self.steps,
            "overflows": self.overflows.iter().map(overflow).collect::<Vec<_>>(),
            "demoted": self.demoted.iter().map(|class| class.name()).collect::<Vec<_>>(),
            "decisions": self.decisions.iter().map(Decision::to_json).collect::<Vec<_>>(),
        })
    }
}

/// Hears of overflows, and decides what follows: a class of operations that outgrew f16 once keeps f32.
#[derive(Clone, Debug)]
pub struct PrecisionWatch {
    decisions: [Decision; 4],
    steps: u64,
    overflows: Vec<Overflow>,
    demoted: Vec<OpClass>,
}

impl PrecisionWatch {
    /// Of a model that begins with what follows from `facts`.
    #[must_use]
    pub fn new(facts: &PrecisionFacts) -> Self {
        Self { decisions: decide(facts), steps: 0, overflows: Vec::new(), demoted: Vec::new() }
    }

    /// Counts steps that were looked at.
    pub fn looked_at(&mut self, steps: usize) {
        self.steps += steps as u64;
    }

    /// Takes down an overflow before the token at `position`, and gives the class its f32 in `precision`: all that is in the cache is to be
    /// made again. `false` where it has f32 already: nothing helps.
    pub fn found(&mut self, precision: &mut Precision, site: Site, position: usize) -> bool {
        match self.overflows.iter_mut().find(|known| known.site == site) {
            Some(known) => known.count += 1,
            None => self.overflows.push(Overflow { site, position, count: 1 }),
        }
        let (activations, cache) = (&mut precision.activations, &mut precision.cache);
        let before = (*activations, *cache);
        match site.class {
            OpClass::Norm => activations.norm = Elem::F32,
            OpClass::Attention => activations.attention = Elem::F32,
            OpClass::Mlp => activations.mlp = Elem::F32,
            // what is rounded to fewer bits was f16 before
            OpClass::Cache => *cache = CacheDtype::F32,
            OpClass::Head => {}
        }
        let helps = before != (*activations, *cache);
        if helps {
            self.demoted.push(site.class);
        }
        helps
    }

    /// All of it, of a model that runs with `precision` by now.
    #[must_use]
    pub fn report(&self, precision: &Precision) -> PrecisionReport {
        PrecisionReport {
            decisions: self.decisions.to_vec(),
            steps: self.steps,
            overflows: self.overflows.clone(),
            demoted: self.demoted.clone(),
            activations: precision.activations,
            cache: precision.cache,
        }
    }
}
