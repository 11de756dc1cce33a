//! `shaders/quantize_cache.wgsl`, and what its blocks stand for.

use half::f16;

/// Positions of a block, and elements that share a value's scale.
const BLOCK: usize = 32;

/// Keys or values: what shares a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An element of a head, at all positions of a block.
    Keys,
    /// 32 elements of a position, heads padded to multiples of 8.
    Values,
}

/// Where things are in a quantized block of K heads of E elements.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    kind: Kind,
    heads: usize,
    width: usize,
    bits: usize,
}

impl Layout {
    /// Of codes of 4 or 8 bits.
    #[must_use]
    pub fn new(kind: Kind, [heads, width]: [usize; 2], bits: usize) -> Self {
        Self { kind, heads, width, bits }
    }

    /// Elements of a position, heads padded to multiples of 8.
    fn row(&self) -> usize {
        self.heads * self.width.next_multiple_of(8)
    }

    /// Words of codes.
    fn codes(&self) -> usize {
        self.row() * self.bits
    }

    /// Halves of words that hold scales.
    fn scales(&self) -> usize {
        self.row().div_ceil(BLOCK) * BLOCK
    }

    /// Words of a block.
    #[must_use]
    pub fn words(&self) -> usize {
        self.codes() + self.scales() / if self.bits == 4 { 1 } else { 2 }
    }

    /// The word and the first bit of a code. `i`: an element of a row.
    fn code_at(&self, position: usize, i: usize) -> (usize, usize) {
        let in_row = i * self.bits / 32;
        let word = match self.kind {
            Kind::Keys => in_row * BLOCK + position,
            Kind::Values => position * (self.row() * self.bits / 32) + in_row,
        };
        (word, i * self.bits % 32)
    }

    /// The number of its scale.
    fn scale_of(&self, position: usize, i: usize) -> usize {
        match self.kind {
            Kind::Keys => i,
            Kind::Values => i / BLOCK * BLOCK + position,
        }
    }

    /// The elements of a row that are none of the padding, each with its place among the heads' own.
    fn elements(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Self { heads, width, .. } = *self;
        (0..heads).flat_map(move |h| (0..width).map(move |e| (h * width.next_multiple_of(8) + e, h * width + e)))
    }

    /// Writes a block, `[32, K, E]` of what f16 holds, to its words: 4 bits count steps of `scale` from the minimum, 8 bits have a
    /// sign. What pads heads has the nearest code to zero; words that hold nothing stay as they are.
    pub fn encode(&self, values: &[f32], words: &mut [u32]) {
        let own = self.heads * self.width;
        let mut groups = vec![Vec::new(); self.scales()];
        for position in 0..BLOCK {
            for (i, at) in self.elements() {
                groups[self.scale_of(position, i)].push(values[position * own + at]);
            }
        }
        let mut put = |word: usize, bit: usize, bits: usize, value: u32| {
            let mask = ((1 << bits) - 1) << bit;
            words[word] = words[word] & !mask | value << bit & mask;
        };
        let is_kept = |number: usize| self.kind == Kind::Values || number < self.row();
        let mut scales = vec![(0.0, 0.0); self.scales()];
        for (number, group) in groups.iter().enumerate().filter(|(number, _)| is_kept(*number)) {
            let low = group.iter().copied().fold(f32::INFINITY, f32::min);
            let high = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let (low, high) = if group.is_empty() { (0.0, 0.0) } else { (low, high) };
            let (scale, minimum) =
                if self.bits == 4 { ((high - low) * (1.0 / 15.0), low) } else { (high.max(-low) * (1.0 / 127.0), 0.0) };
            let scale = f16::from_f32(scale);
            scales[number] = (scale.to_f32(), minimum);
            put(self.codes() + number / 2, number % 2 * 16, 16, scale.to_bits().into());
            if self.bits == 4 {
                let at = self.scales() + number;
                put(self.codes() + at / 2, at % 2 * 16, 16, f16::from_f32(minimum).to_bits().into());
            }
        }
        for position in 0..BLOCK {
            let mut row = vec![0.0; self.row()];
            self.elements().for_each(|(i, at)| row[i] = values[position * own + at]);
            for (i, v) in row.iter().enumerate() {
                let (scale, minimum) = scales[self.scale_of(position, i)];
                let steps = if scale > 0.0 { f64::from(v - minimum) / f64::from(scale) } else { 0.0 };
                let (least, most) = if self.bits == 4 { (0.0, 15.0) } else { (-127.0, 127.0) };
                let code = (steps + 0.5).floor().clamp(least, most) as i32;
                let (word, bit) = self.code_at(position, i);
                put(word, bit, self.bits, code as u32);
            }
        }
    }

    /// The code, the scale and the minimum of each value of a block: `[32, K, E]`.
    #[must_use]
    pub fn parts(&self, words: &[u32]) -> Vec<(i32, f32, f32)> {
        let half = |number: usize| {
            let word = words[self.codes() + number / 2];
            f16::from_bits((word >> (number % 2 * 16)) as u16).to_f32()
        };
        let mut parts = Vec::with_capacity(BLOCK * self.heads * self.width);
        for position in 0..BLOCK {
            for (i, _) in self.elements() {
                let (word, bit) = self.code_at(position, i);
                let raised = words[word] << (32 - self.bits - bit);
                let number = self.scale_of(position, i);
                parts.push(if self.bits == 4 {
                    ((raised >> 28) as i32, half(number), half(self.scales() + number))
                } else {
                    (raised as i32 >> 24, half(number), 0.0)
                });
            }
        }
        parts
    }

    /// What a block stands for: `[32, K, E]`.
    #[must_use]
    pub fn decode(&self, words: &[u32]) -> Vec<f32> {
        self.parts(words).into_iter().map(|(code, scale, minimum)| code as f32 * scale + minimum).collect()
    }
}
