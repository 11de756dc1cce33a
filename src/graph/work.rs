//! What dispatches have to do, as their operations state it: what times are measured against.

use serde::Serialize;

use crate::shaders::Slot;

/// What a dispatch has to move and to compute, whatever kernel does it: each input is read once, each result written once. What an operation does
/// not know is left out; kernels that read something again move more, and find some of it in a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Elements of a row that goes in, and of one that comes out; of a product, those of its weight.
    pub shape: [u32; 2],
    /// Bytes whatever rows there are: weights.
    pub bytes: u64,
    /// Bytes for each row.
    pub bytes_per_row: u64,
    /// Multiplications and additions for each row; 0: not stated.
    pub operations_per_row: u64,
    /// Whether only the last row of each slot counts.
    pub last_rows: bool,
    /// What an attention has to do for keys.
    pub keys: Option<Keys>,
}

/// What an attention has to do for the keys that rows see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Whether rows see no keys after their own.
    pub causal: bool,
    /// Keys that a row sees, its own included; 0: all.
    pub window: u32,
    /// Bytes of a key and its value.
    pub bytes: u64,
    /// Multiplications and additions of a row for a key that it sees.
    pub operations: u64,
}

/// Bytes and operations of one dispatch, in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Bytes read and written; 0: not stated.
    pub bytes: u64,
    /// Multiplications and additions; 0: not stated.
    pub operations: u64,
}

impl Work {
    /// What it comes to in a step of these slots.
    #[must_use]
    pub fn of(&self, slots: &[Slot]) -> Amount {
        let rows: u64 = slots.iter().map(|s| if self.last_rows { s.rows.min(1) } else { s.rows }).map(u64::from).sum();
        let mut amount =
            Amount { bytes: self.bytes + rows * self.bytes_per_row, operations: rows * self.operations_per_row };
        if let Some(keys) = self.keys {
            for slot in slots {
                amount.bytes += keys.bytes * keys.read(slot);
                amount.operations += keys.operations * keys.seen(slot);
            }
        }
        amount
    }
}

impl Keys {
    fn window(&self) -> u64 {
        if self.window == 0 { u64::MAX } else { self.window.into() }
    }

    /// Keys that some row of the slot sees.
    fn read(&self, slot: &Slot) -> u64 {
        let rows = u64::from(slot.rows);
        (cached(slot) + rows).min(self.window().saturating_add(rows.saturating_sub(1))) * rows.min(1)
    }

    /// Keys that its rows see, each row's counted.
    fn seen(&self, slot: &Slot) -> u64 {
        let (cached, rows) = (cached(slot), u64::from(slot.rows));
        if !self.causal {
            return rows * (cached + rows);
        }
        (1..=rows).map(|row| (cached + row).min(self.window())).sum()
    }
}

/// Keys of a slot that are in the cache before the step.
fn cached(slot: &Slot) -> u64 {
    u64::from(slot.position.saturating_sub(slot.dropped))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: [Slot; 3] = [
        Slot { position: 10, rows: 3, done: 0, sampled: 0, first: 0, dropped: 4, limit: 0, turn: 0, drafts: 0 },
        Slot { position: 100, rows: 1, done: 0, sampled: 0, first: 3, dropped: 0, limit: 0, turn: 0, drafts: 0 },
        Slot { position: 9, rows: 0, done: 0, sampled: 0, first: 4, dropped: 0, limit: 0, turn: 0, drafts: 0 },
    ];

    #[test]
    fn rows_are_those_of_the_step() {
        let work = Work { bytes: 1000, bytes_per_row: 10, operations_per_row: 7, ..Work::default() };
        assert_eq!(work.of(&SLOTS), Amount { bytes: 1040, operations: 28 });
        assert_eq!(Work { last_rows: true, ..work }.of(&SLOTS), Amount { bytes: 1020, operations: 14 });
    }

    #[test]
    fn keys_are_those_that_rows_see() {
        let keys = Keys { causal: true, window: 0, bytes: 1, operations: 1 };
        let of = |keys| {
            let Amount { bytes, operations } = Work { keys: Some(keys), ..Work::default() }.of(&SLOTS);
            (bytes, operations)
        };
        assert_eq!(of(keys), (9 + 101, 7 + 8 + 9 + 101));
        assert_eq!(of(Keys { window: 5, ..keys }), (7 + 5, 3 * 5 + 5), "the last rows of three see two keys fewer");
        assert_eq!(of(Keys { causal: false, ..keys }), (9 + 101, 3 * 9 + 101));
    }
}
