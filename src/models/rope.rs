//! Rotary frequencies, as transformers' `modeling_rope_utils` computes them from a config of either style.

use std::f64::consts::TAU;

use serde_json::Value;

use super::config::{bad, number, shorten};
use crate::error::ConfigError;

/// Where the frequencies come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// What is done to them so that more positions fit.
    pub scaling: RopeScaling,
}

/// `rope_type`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Nothing (Su et al. 2021).
    Default,
    /// Every frequency divided by `factor` (position interpolation, Chen et al. 2023).
    Linear {
        /// How many times more positions.
        factor: f64,
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
}

/// What [`RopeScaling`] has.
const SUPPORTED: &str = "default, linear, llama3";

impl RopeConfig {
    /// Reads `rope_theta` (`theta` where there is none) and `rope_scaling` (the Hub's style), or `rope_parameters` (transformers 5).
    pub(super) fn from_json(json: &Value, theta: f64) -> Result<Self, ConfigError> {
        let mut theta = number(json, "rope_theta", theta, 1.0..=1e12)?;
        let mut scaling = RopeScaling::Default;
        for field in ["rope_scaling", "rope_parameters"] {
            let rope = &json[field];
            if rope.is_null() {
                continue;
            }
            if !rope.is_object() {
                return Err(bad(field, rope, "an object"));
            }
            theta = number(rope, "rope_theta", theta, 1.0..=1e12)?;
            scaling = RopeScaling::from_json(rope, field)?;
        }
        Ok(Self { theta, scaling })
    }

    /// The angle per position of each pair of `width` rotated elements, in f32 as transformers has it. `[width / 2]`
    #[must_use]
    pub fn inv_freq(&self, width: u32) -> Vec<f32> {
        let plain = |i: u32| 1.0 / self.theta.powf(f64::from(2 * i) / f64::from(width));
        (0..width / 2).map(|i| self.scaling.scale(plain(i)) as f32).collect()
    }
}

impl RopeScaling {
    fn from_json(rope: &Value, field: &'static str) -> Result<Self, ConfigError> {
        // `type` is what old configs call it
        let kind = rope.get("rope_type").or_else(|| rope.get("type")).and_then(Value::as_str).unwrap_or("default");
        let needed = |name: &'static str, least: f64| match &rope[name] {
            Value::Null => Err(ConfigError::FieldMissing { field: name }),
            _ => number(rope, name, 0.0, least..=1e12),
        };
        match kind {
            "default" => Ok(Self::Default),
            "linear" => Ok(Self::Linear { factor: needed("factor", 1.0)? }),
            "llama3" => {
                let low_freq_factor = needed("low_freq_factor", 1e-6)?;
                Ok(Self::Llama3 {
                    factor: needed("factor", 1.0)?,
                    low_freq_factor,
                    // above the other one, since the blend divides by their difference
                    high_freq_factor: needed("high_freq_factor", low_freq_factor * (1.0 + 1e-6))?,
                    original_max_position_embeddings: needed("original_max_position_embeddings", 1.0)?,
                })
            }
            other => Err(ConfigError::Unsupported { field, got: shorten(other), supported: SUPPORTED.into() }),
        }
    }

    fn scale(self, inv_freq: f64) -> f64 {
        match self {
            Self::Default => inv_freq,
            Self::Linear { factor } => inv_freq / factor,
            Self::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings } => {
                let turns = original_max_position_embeddings * inv_freq / TAU;
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 - kept) * inv_freq / factor + kept * inv_freq
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn llama3_keeps_high_frequencies_and_divides_low_ones() {
        let rope = RopeConfig::from_json(
            &json!({
                "rope_theta": 500000.0,
                "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                 "original_max_position_embeddings": 8192},
            }),
            10_000.0,
        )
        .expect("a config");
        let plain = RopeConfig { scaling: RopeScaling::Default, ..rope }.inv_freq(128);
        let scaled = rope.inv_freq(128);
        assert_eq!(scaled[0], plain[0]);
        assert!((scaled[63] / plain[63] - 0.125).abs() < 1e-6);
        assert!(scaled.iter().zip(&plain).all(|(s, p)| s <= p && *s >= p / 8.001));
        assert!(scaled.windows(2).all(|pair| pair[0] > pair[1]));
    }

    #[test]
    fn a_scaling_without_its_numbers_is_refused() {
        let of = |scaling: Value| RopeConfig::from_json(&json!({ "rope_scaling": scaling }), 10_000.0);
        assert!(matches!(of(json!({"type": "linear"})), Err(ConfigError::FieldMissing { field: "factor" })));
        assert!(matches!(of(json!({"type": "linear", "factor": 0.5})), Err(ConfigError::Field { .. })));
        let equal = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
                           "original_max_position_embeddings": 64});
        assert!(matches!(of(equal), Err(ConfigError::Field { .. })));
        assert!(matches!(of(json!({"rope_type": "yarn", "factor": 2})), Err(ConfigError::Unsupported { .. })));
    }
}
