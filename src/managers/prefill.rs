//! How much of a prompt one step takes.

/// Multiply-adds of one submit at most: under a second on any GPU that is worth using, where a driver's watchdog waits for two.
const MULTIPLY_ADDS: u64 = 1 << 37;

/// Tokens of a prompt in one step, for a model of `parameters` weights: a power of two from 16 to 512.
#[must_use]
pub fn prefill_chunk(parameters: u64) -> u32 {
    let rows = (MULTIPLY_ADDS / parameters.max(1)).clamp(16, 512);
    1 << rows.ilog2()
}

#[cfg(test)]
mod tests {
    use super::prefill_chunk;

    #[test]
    fn large_models_take_small_steps() {
        assert_eq!(
            [260_000, 500_000_000, 1_000_000_000, 7_000_000_000, u64::MAX].map(prefill_chunk),
            [512, 256, 128, 16, 16]
        );
        assert_eq!(prefill_chunk(0), 512);
    }
}
