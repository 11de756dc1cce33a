//! What follows where a step made values that its activations' types do not hold.

use super::engine::Engine;
use super::sequence::SequenceId;
use crate::error::{Error, GenerateError};
use crate::managers::PrecisionReport;
use crate::site::Site;

impl Engine {
    /// What was found of activations so far, and what followed.
    #[must_use]
    pub fn precision_report(&self) -> PrecisionReport {
        self.watch.report(&self.precision)
    }

    /// Where a step has overflowed, all sequences wait to be computed again, with more bits where it did. What was sampled before that step
    /// stays, what came after was never given out. Those that more bits do not help have failed.
    pub(super) async fn recover(&mut self) -> Result<(), Error> {
        let Some((site, position)) = self.overflowed else { return Ok(()) };
        self.drain().await?;
        let seated: Vec<SequenceId> = self.batch.seated().map(|(_, id)| id).collect();
        if self.widen(site, position).is_err() {
            for id in seated {
                if let Some(sequence) = self.sequences.get_mut(&id).filter(|sequence| !sequence.is_over()) {
                    sequence.failed = Some(GenerateError::NotFinite { site, position }.into());
                }
            }
        }
        Ok(())
    }

    /// Gives the class of `site` more bits, and forgets all keys and values: whatever shares a beginning with what overflowed has read it.
    /// Nothing may be under way.
    pub(super) fn widen(&mut self, site: Site, position: usize) -> Result<(), GenerateError> {
        let helps = self.watch.found(&mut self.precision, site, position);
        tracing::warn!(%site, position, helps, "overflow");
        self.begin_anew();
        self.overflowed = None;
        if helps { Ok(()) } else { Err(GenerateError::NotFinite { site, position }) }
    }

    /// Takes down what the finite check of `steps` steps left, which were to make the token at `position`: whether nothing was found.
    pub(super) fn is_finite(&mut self, number: u32, steps: usize, position: usize) -> bool {
        self.watch.looked_at(steps);
        let found = Site::from_number(number);
        self.overflowed = self.overflowed.or(found.map(|site| (site, position)));
        found.is_none()
    }
}
