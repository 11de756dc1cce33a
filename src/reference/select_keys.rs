/// Neighbours that a key is averaged with, itself among them.
const POOLED: usize = 5;

/// The `wanted` keys whose `sums` are greatest, each averaged over 5 neighbours, of equal ones the first; in ascending order. In f32, as
/// the kernel adds them: which of two is the greater must not depend on rounding. Li et al. 2024, "SnapKV".
#[must_use]
pub fn select_keys(sums: &[f32], wanted: usize) -> Vec<u32> {
    let beside = POOLED / 2;
    let pooled = |key: usize| -> f32 {
        let near = &sums[key.saturating_sub(beside)..(key + beside + 1).min(sums.len())];
        near.iter().fold(0.0, |sum, v| sum + v)
    };
    let pooled: Vec<f32> = (0..sums.len()).map(pooled).collect();
    let mut order: Vec<u32> = (0..sums.len() as u32).collect();
    order.sort_by(|&a, &b| pooled[b as usize].total_cmp(&pooled[a as usize]).then(a.cmp(&b)));
    order.truncate(wanted);
    order.sort_unstable();
    order
}
