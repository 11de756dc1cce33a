//! Rotary frequencies, as transformers' `modeling_rope_utils` computes them from a config of either style.

use std::f64::consts::TAU;

use serde_json::Value;

use super::config::{bad, flag, number, shorten};
use crate::error::ConfigError;
use crate::ops::{RopeLayout, rope_rows, rope_table};

/// Where the frequencies come from.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// What is done to them so that more positions fit.
    pub scaling: RopeScaling,
    /// Whether the elements of a rotated pair are neighbours, and not half the rotated width apart.
    pub interleaved: bool,
}

/// `rope_type`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Nothing (Su et al. 2021).
    Default,
    /// Every frequency divided by `factor` (position interpolation, Chen et al. 2023).
    Linear {
        /// How many times more positions.
        factor: f64,
    },
    /// Once a sequence is longer than the model was trained for, the base grows with its length (bloc97, emozilla 2023).
    Dynamic {
        /// How many times more positions.
        factor: f64,
        /// Positions that the model was trained for.
        max_position_embeddings: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, those between blended (Llama 3.1's model card).
    Llama3 {
        /// How many times more positions.
        factor: f64,
        /// Fewer turns than this over the original context: low.
        low_freq_factor: f64,
        /// More turns than this: high.
        high_freq_factor: f64,
        /// Positions that the model was first trained for.
        original_max_position_embeddings: f64,
    },
    /// As [`Llama3`](Self::Llama3), blended along the pairs' numbers, and attention sharpened (Peng et al. 2023).
    Yarn {
        /// How many times more positions.
        factor: f64,
        /// Multiplies cosines and sines.
        attention_factor: f64,
        /// Numbers of the pairs between which frequencies are blended.
        ramp: [f64; 2],
    },
    /// Every frequency divided by a factor of its own; other ones for sequences that are longer than the model was first trained
    /// for (Ding et al. 2024).
    Longrope {
        /// A divisor for each pair, up to the original context.
        short_factor: Vec<f64>,
        /// And beyond.
        long_factor: Vec<f64>,
        /// Multiplies cosines and sines.
        attention_factor: f64,
        /// Positions that the model was first trained for.
        original_max_position_embeddings: u32,
    },
}

/// What [`RopeScaling`] has.
const SUPPORTED: &str = "default, linear, dynamic, llama3, yarn, longrope";

/// What of a model's config the frequencies depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct RopeContext<'a> {
    /// The whole config.
    pub json: &'a Value,
    pub max_position_embeddings: u32,
    /// R.
    pub rotary: u32,
    /// Base where the config has none.
    pub theta: f64,
}

impl RopeConfig {
    /// Reads `rope_theta` and `rope_scaling` (the Hub's style), or `rope_parameters` (transformers 5).
    pub(super) fn from_json(c: RopeContext<'_>) -> Result<Self, ConfigError> {
        for field in ["rope_scaling", "rope_parameters"] {
            if !c.json[field].is_null() {
                return Self::from_parameters(&c.json[field], field, c);
            }
        }
        Self::from_parameters(&Value::Null, "rope_scaling", c)
    }

    /// Reads one object of parameters, which stands under `field`; null for none.
    pub(super) fn from_parameters(rope: &Value, field: &'static str, c: RopeContext<'_>) -> Result<Self, ConfigError> {
        if !rope.is_null() && !rope.is_object() {
            return Err(bad(field, rope, "an object"));
        }
        let theta = number(c.json, "rope_theta", c.theta, 1.0..=1e12)?;
        let theta = number(rope, "rope_theta", theta, 1.0..=1e12)?;
        Ok(Self { theta, scaling: RopeScaling::from_json(rope, field, theta, c)?, interleaved: false })
    }

    /// Which frequencies a sequence of `length` positions has: sequences of one regime share their cached keys.
    #[must_use]
    pub fn regime(&self, length: u32) -> u32 {
        match &self.scaling {
            RopeScaling::Dynamic { max_position_embeddings, .. } => length.max(*max_position_embeddings as u32),
            RopeScaling::Longrope { original_max_position_embeddings, .. } => {
                u32::from(length > *original_max_position_embeddings)
            }
            _ => 0,
        }
    }

    /// The most positions that the model can be run for, `trained` being what it was trained for.
    #[must_use]
    pub(super) fn most_positions(&self, trained: u32) -> u32 {
        match self.scaling {
            RopeScaling::Dynamic { factor, .. } => (f64::from(trained) * factor) as u32,
            _ => trained,
        }
    }

    /// The longest sequence of the same regime as one of `length` positions: beyond it, what is cached must be computed again.
    #[must_use]
    pub fn reach(&self, length: u32) -> u32 {
        match &self.scaling {
            RopeScaling::Longrope { original_max_position_embeddings: original, .. } if length <= *original => {
                *original
            }
            _ => u32::MAX,
        }
    }

    /// How pairs are rotated; under dynamic scaling every position has frequencies of its own.
    #[must_use]
    pub fn layout(&self) -> RopeLayout {
        let every = matches!(self.scaling, RopeScaling::Dynamic { .. });
        RopeLayout { every, interleaved: self.interleaved }
    }

    /// Cosines and sines for `positions` positions of a sequence of this `regime`, `width` elements of a head being rotated; as
    /// [`RopeTable`](crate::ops::RopeTable) has them.
    ///
    /// Under dynamic scaling a prompt that is longer than the model was trained for has the frequencies of its length, and each
    /// token after it those of the length up to itself: what transformers does with a cache.
    #[must_use]
    pub fn table(&self, width: u32, positions: u32, regime: u32) -> Vec<[f32; 2]> {
        let (inv_freq, factor) = self.inv_freq(width, regime);
        if !self.layout().every {
            return rope_table(&inv_freq, factor, positions);
        }
        let row = |p: u32, inv_freq: &[f32]| -> Vec<[f32; 2]> {
            let turn = |f: &f32| (f64::from(p) * f64::from(*f)).sin_cos();
            inv_freq.iter().map(turn).map(|(sin, cos)| [cos as f32, sin as f32]).collect()
        };
        let of = |p: u32| if p < regime { row(p, &inv_freq) } else { row(p, &self.inv_freq(width, p + 1).0) };
        (0..positions).flat_map(of).collect()
    }

    /// The length of [`table`](Self::table).
    #[must_use]
    pub fn entries(&self, width: u32, positions: u32) -> u64 {
        let rows = if self.layout().every { positions } else { rope_rows(positions) };
        u64::from(width / 2) * u64::from(rows)
    }

    /// The angle per position of each pair of `width` rotated elements, `[width / 2]`, in f32 as transformers has it; and what
    /// cosines and sines are multiplied by. `regime`: of [`regime`](Self::regime).
    #[must_use]
    pub fn inv_freq(&self, width: u32, regime: u32) -> (Vec<f32>, f64) {
        let pairs = f64::from(width / 2);
        let theta = match self.scaling {
            RopeScaling::Dynamic { factor, max_position_embeddings: trained } => {
                let grown = factor * f64::from(regime).max(trained) / trained - (factor - 1.0);
                self.theta * grown.powf(f64::from(width) / (f64::from(width) - 2.0))
            }
            _ => self.theta,
        };
        let plain = |i: u32| theta.powf(-f64::from(i) / pairs);
        let scaled = |i: u32| match &self.scaling {
            RopeScaling::Default | RopeScaling::Dynamic { .. } => plain(i),
            RopeScaling::Linear { factor } => plain(i) / factor,
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            } => {
                let turns = original * plain(i) / TAU;
                blend(plain(i), *factor, (turns - low) / (high - low))
            }
            RopeScaling::Yarn { factor, ramp: [low, high], .. } => {
                blend(plain(i), *factor, 1.0 - (f64::from(i) - low) / (high - low))
            }
            RopeScaling::Longrope { short_factor, long_factor, .. } => {
                let factors = if regime == 0 { short_factor } else { long_factor };
                plain(i) / factors[i as usize]
            }
        };
        let factor = match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::Longrope { attention_factor, .. } => {
                attention_factor
            }
            _ => 1.0,
        };
        ((0..width / 2).map(|i| scaled(i) as f32).collect(), factor)
    }
}

/// A frequency, divided by `factor` where `kept` is 0 or less, as it is from 1 on.
fn blend(inv_freq: f64, factor: f64, kept: f64) -> f64 {
    let kept = kept.clamp(0.0, 1.0);
    (1.0 - kept) * inv_freq / factor + kept * inv_freq
}

impl RopeScaling {
    fn from_json(rope: &Value, field: &'static str, theta: f64, c: RopeContext<'_>) -> Result<Self, ConfigError> {
        // `type` is what old configs call it
        let kind = rope.get("rope_type").or_else(|| rope.get("type")).and_then(Value::as_str).unwrap_or("default");
        // phi3's configs say `su` or `yarn` where they mean longrope
        let phi3 = c.json["model_type"] == "phi3";
        let kind = if kind == "su" || phi3 && kind == "yarn" { "longrope" } else { kind };
        let needed = |name: &'static str, least: f64| match &rope[name] {
            Value::Null => Err(ConfigError::FieldMissing { field: name }),
            _ => number(rope, name, 0.0, least..=1e12),
        };
        let trained = f64::from(c.max_position_embeddings);
        let original = match &c.json["original_max_position_embeddings"] {
            Value::Null => number(rope, "original_max_position_embeddings", trained, 1.0..=1e12)?,
            _ => number(c.json, "original_max_position_embeddings", trained, 1.0..=1e12)?,
        };
        match kind {
            "default" => Ok(Self::Default),
            "linear" => Ok(Self::Linear { factor: needed("factor", 1.0)? }),
            "dynamic" if c.rotary <= 2 => {
                Err(bad("head_dim", &Value::from(c.rotary), "more than one rotated pair, for dynamic rope"))
            }
            "dynamic" => Ok(Self::Dynamic { factor: needed("factor", 1.0)?, max_position_embeddings: trained }),
            "llama3" => {
                let low_freq_factor = needed("low_freq_factor", 1e-6)?;
                Ok(Self::Llama3 {
                    factor: needed("factor", 1.0)?,
                    low_freq_factor,
                    // above the other one, since the blend divides by their difference
                    high_freq_factor: needed("high_freq_factor", low_freq_factor * (1.0 + 1e-6))?,
                    original_max_position_embeddings: original,
                })
            }
            "yarn" => {
                let factor = number(rope, "factor", trained / original, 1.0..=1e12)?;
                let sharpened = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
                let one = number(rope, "mscale", 0.0, 0.0..=1e3)?;
                let all = number(rope, "mscale_all_dim", 0.0, 0.0..=1e3)?;
                let inferred = if one > 0.0 && all > 0.0 { sharpened(one) / sharpened(all) } else { sharpened(1.0) };
                let attention_factor = number(rope, "attention_factor", inferred, 0.0..=1e6)?;
                let (fast, slow) =
                    (number(rope, "beta_fast", 32.0, 1e-6..=1e6)?, number(rope, "beta_slow", 1.0, 1e-6..=1e6)?);
                let truncate = flag(rope, "truncate", true)?;
                let ramp = yarn_ramp([fast, slow], f64::from(c.rotary), theta, original, truncate);
                Ok(Self::Yarn { factor, attention_factor, ramp })
            }
            "longrope" => {
                let factors = |name: &'static str| factors(rope, name, c.rotary / 2);
                let factor = number(rope, "factor", trained / original, 0.0..=1e12)?;
                let inferred =
                    if factor <= 1.0 || original <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
                Ok(Self::Longrope {
                    short_factor: factors("short_factor")?,
                    long_factor: factors("long_factor")?,
                    attention_factor: number(rope, "attention_factor", inferred, 0.0..=1e6)?,
                    original_max_position_embeddings: original as u32,
                })
            }
            other => Err(ConfigError::Unsupported { field, got: shorten(other), supported: SUPPORTED.into() }),
        }
    }
}

/// The numbers of the pairs that turn `fast` and `slow` times over the `original` context: YaRN blends between them.
fn yarn_ramp([fast, slow]: [f64; 2], width: f64, theta: f64, original: f64, truncate: bool) -> [f64; 2] {
    let pair = |turns: f64| width * (original / (turns * TAU)).ln() / (2.0 * theta.ln());
    let (mut low, mut high) = (pair(fast), pair(slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    let (low, high) = (low.max(0.0), high.min(width - 1.0));
    // not a division by zero
    [low, if low == high { high + 0.001 } else { high }]
}

/// A list of `count` divisors.
fn factors(rope: &Value, name: &'static str, count: u32) -> Result<Vec<f64>, ConfigError> {
    let list = rope[name].as_array().ok_or(ConfigError::FieldMissing { field: name })?;
    let numbers: Vec<f64> = list.iter().filter_map(Value::as_f64).filter(|v| *v > 0.0).collect();
    if numbers.len() == list.len() && list.len() == count as usize {
        return Ok(numbers);
    }
    Err(bad(name, &rope[name], &format!("a list of {count} numbers above 0, one for each rotated pair")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(json: &Value) -> Result<RopeConfig, ConfigError> {
        RopeConfig::from_json(RopeContext { json, max_position_embeddings: 4096, rotary: 128, theta: 10_000.0 })
    }

    #[test]
    fn llama3_keeps_high_frequencies_and_divides_low_ones() {
        let rope = of(&json!({
            "rope_theta": 500000.0,
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 8192},
        }))
        .expect("a config");
        let plain = RopeConfig { scaling: RopeScaling::Default, ..rope }.inv_freq(128, 0).0;
        let scaled = rope.inv_freq(128, 0).0;
        assert_eq!(scaled[0], plain[0]);
        assert!((scaled[63] / plain[63] - 0.125).abs() < 1e-6);
        assert!(scaled.iter().zip(&plain).all(|(s, p)| s <= p && *s >= p / 8.001));
        assert!(scaled.windows(2).all(|pair| pair[0] > pair[1]));
    }

    #[test]
    fn a_scaling_without_its_numbers_is_refused() {
        let of = |scaling: Value| of(&json!({ "rope_scaling": scaling }));
        assert!(matches!(of(json!({"type": "linear"})), Err(ConfigError::FieldMissing { field: "factor" })));
        assert!(matches!(of(json!({"type": "dynamic"})), Err(ConfigError::FieldMissing { field: "factor" })));
        assert!(matches!(of(json!({"type": "linear", "factor": 0.5})), Err(ConfigError::Field { .. })));
        let equal = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
                           "original_max_position_embeddings": 64});
        assert!(matches!(of(equal), Err(ConfigError::Field { .. })));
        let short = json!({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]});
        assert!(matches!(of(short), Err(ConfigError::Field { field: "short_factor", .. })));
        assert!(matches!(of(json!({"rope_type": "axial", "factor": 2})), Err(ConfigError::Unsupported { .. })));
    }

    #[test]
    fn frequencies_that_follow_the_length_change_at_the_boundary() {
        let dynamic = of(&json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}})).expect("a config");
        assert_eq!((dynamic.regime(1), dynamic.regime(4096), dynamic.regime(4097)), (4096, 4096, 4097));
        let factors = |by: f64| vec![by; 64];
        let longrope = of(&json!({"original_max_position_embeddings": 1024, "rope_scaling":
            {"type": "su", "short_factor": factors(1.0), "long_factor": factors(4.0)}}))
        .expect("a config");
        assert_eq!((longrope.regime(1024), longrope.regime(1025)), (0, 1));
        assert_eq!((longrope.reach(7), longrope.reach(1025)), (1024, u32::MAX));
        let (short, factor) = longrope.inv_freq(128, 0);
        assert!((factor - (1.0 + 4.0_f64.ln() / 1024.0_f64.ln()).sqrt()).abs() < 1e-12);
        assert!((short[5] / longrope.inv_freq(128, 1).0[5] - 4.0).abs() < 1e-6);
    }
}
