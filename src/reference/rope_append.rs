/// A row of queries, keys and values, taken apart; queries and keys rotated. Each dense: `[T, heads, E]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotated {
    /// `[T, H, E]`
    pub q: Vec<f64>,
    /// `[T, K, E]`: row `t` goes to the cache at position `position + t`
    pub k: Vec<f64>,
    /// `[T, K, E]`, as it came
    pub v: Vec<f64>,
}

/// Takes `qkv`, `[T, (H + 2 K) E]`, apart and rotates queries and keys, token `t` by position `position + t` (Su et al. 2021):
/// `(a, b) -> (a cos - b sin, b cos + a sin)` for `a = x[i]`, `b = x[i + R/2]` (the half-split layout of Hugging Face checkpoints), or
/// where `interleaved` for `a = x[2 i]`, `b = x[2 i + 1]`, R being twice `inv_freq`'s length. `scale` multiplies cosines and sines.
#[must_use]
pub fn rope_append(
    qkv: &[f32],
    [heads, kv_heads, head_dim]: [usize; 3],
    (inv_freq, interleaved): (&[f32], bool),
    scale: f64,
    position: usize,
) -> Rotated {
    let mut out = Rotated { q: Vec::new(), k: Vec::new(), v: Vec::new() };
    for (t, row) in qkv.chunks_exact((heads + 2 * kv_heads) * head_dim).enumerate() {
        for (h, head) in row.chunks_exact(head_dim).enumerate() {
            let mut head: Vec<f64> = head.iter().map(|&v| f64::from(v)).collect();
            if h < heads + kv_heads {
                rotate(&mut head, (inv_freq, interleaved), scale, (position + t) as f64);
            }
            let to = if h < heads {
                &mut out.q
            } else if h < heads + kv_heads {
                &mut out.k
            } else {
                &mut out.v
            };
            to.extend(head);
        }
    }
    out
}

fn rotate(head: &mut [f64], (inv_freq, interleaved): (&[f32], bool), scale: f64, position: f64) {
    let half = inv_freq.len();
    for (i, &f) in inv_freq.iter().enumerate() {
        let (sin, cos) = (position * f64::from(f)).sin_cos();
        let (first, second) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
        let (a, b) = (head[first], head[second]);
        head[first] = (a * cos - b * sin) * scale;
        head[second] = (b * cos + a * sin) * scale;
    }
}

/// Positions in one block of the cache.
const BLOCK: usize = 32;

/// The row of the cache, `[blocks, 32, K, E]`, that holds `position`, by the page table `pages`.
#[must_use]
pub fn cache_row(pages: &[u32], position: usize) -> usize {
    pages[position / BLOCK] as usize * BLOCK + position % BLOCK
}
