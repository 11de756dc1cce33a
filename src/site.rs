//! Where in a model activations are made: what the finite check tells, and what keeps f32 once f16 did not do.

use std::fmt;

/// What operations make activations for: each class has one element type throughout a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OpClass {
    /// Norms' results: inputs of the products behind them.
    Norm,
    /// Queries, keys and values, and what the heads make of them.
    Attention,
    /// Keys and values as the cache keeps them.
    Cache,
    /// The feed-forward layer's inner activations.
    Mlp,
    /// Logits: in f32 always.
    Head,
}

impl OpClass {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Norm, Self::Attention, Self::Cache, Self::Mlp, Self::Head];

    /// `norm`, `attention`, `cache`, `mlp` or `head`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Norm => "norm",
            Self::Attention => "attention",
            Self::Cache => "cache",
            Self::Mlp => "mlp",
            Self::Head => "head",
        }
    }

    /// The class of the name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// A class of operations, in one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// The class.
    pub class: OpClass,
    /// The layer, from 0; `None`: behind the last one.
    pub layer: Option<u32>,
}

/// What stands for no layer in a site's number: above all layers.
const BEHIND: u32 = u16::MAX as u32;
const CLASSES: u32 = OpClass::ALL.len() as u32;

impl Site {
    /// Number of a site, as kernels tell it: in a model's order, layer by layer.
    #[must_use]
    pub fn number(self) -> u32 {
        self.layer.map_or(BEHIND, |layer| layer.min(BEHIND - 1)) * CLASSES + self.class as u32
    }

    /// The site of that number; `None` where there is none, which is what kernels leave that found nothing.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        let class = OpClass::ALL[(number % CLASSES) as usize];
        match number / CLASSES {
            BEHIND => Some(Self { class, layer: None }),
            layer => (layer < BEHIND).then_some(Self { class, layer: Some(layer) }),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "{} of layer {layer}", self.class.name()),
            None => write!(f, "{} behind the last layer", self.class.name()),
        }
    }
}

/// How the finite check is made, of everything that a device runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FiniteCheck {
    /// Not at all: an f16 activation that does not hold a value has the greatest one that it holds, and nobody hears of it. For measurements.
    pub off: bool,
    /// There, f16 holds nothing but zeros, as far as the check goes. For tests of what follows.
    pub inject: Option<Site>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_numbered_in_the_order_of_a_model() {
        let layers = [Some(0), Some(1), Some(BEHIND - 1), None];
        let sites: Vec<_> = layers.iter().flat_map(|&layer| OpClass::ALL.map(|class| Site { class, layer })).collect();
        let numbers: Vec<_> = sites.iter().map(|site| site.number()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        let back: Vec<_> = numbers.into_iter().filter_map(Site::from_number).collect();
        assert_eq!(back, sites);
        assert_eq!(Site::from_number(u32::MAX), None);
        assert_eq!(OpClass::ALL.map(|class| OpClass::from_name(class.name())), OpClass::ALL.map(Some));
    }
}
