// Rows at a prompt's end that say which keys matter (SnapKV: Li et al. 2024).
const OBSERVED: u32 = 32u;
