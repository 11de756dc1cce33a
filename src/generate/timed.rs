//! Steps whose kernels are timed one by one.

use super::assistant::Drafting;
use super::engine::Engine;
use super::programs::{Key, Recorded};
use crate::error::Error;
use crate::graph::Timed;

impl Engine {
    /// From now on every step is run by itself, each of its dispatches in a pass of its own that is timed, or as usual again. What
    /// [gathers](crate::managers::blocks::CachePolicy) a selection of a prompt is no step.
    ///
    /// # Errors
    /// [`DeviceError::NoTimestamps`](crate::error::DeviceError::NoTimestamps) where the device cannot.
    pub fn time_kernels(&mut self, on: bool) -> Result<(), Error> {
        if on {
            self.device.expect_timestamps()?;
        }
        self.timed = on.then(Vec::new);
        Ok(())
    }

    /// The steps that were timed since this was asked last, in order.
    pub fn take_timed(&mut self) -> Vec<Timed> {
        self.timed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// As [`encode_runs`](Self::encode_runs), but all is submitted, waited for, and timed.
    pub(super) async fn time_runs(
        &mut self,
        key: Key,
        count: usize,
        drafting: Option<Drafting>,
        encoder: wgpu::CommandEncoder,
    ) -> Result<wgpu::CommandEncoder, Error> {
        let step = self.workspace().step.clone();
        let Self { programs, loaded, device, batch, timed, assistant, .. } = self;
        let (Some(Recorded { program, .. }), Some(timed)) = (programs.get(&key), timed) else { return Ok(encoder) };
        // whoever waits may go away: then nobody knows how far the GPU is
        let was_forgotten = std::mem::replace(&mut batch.is_forgotten, true);
        device.submit(encoder);
        for _ in 0..count {
            // this waits for what was submitted, too
            let slots = step.read_slots(device).await?;
            let mut run: Option<Timed> = None;
            for part in program.parts() {
                if let (Some(layer), Some(offloaded)) = (part.layer, &mut loaded.offloaded) {
                    offloaded.bring(layer).await?;
                }
                let part = part.time(device, &slots).await?;
                match &mut run {
                    Some(run) => run.append(part),
                    None => run = Some(part),
                }
            }
            timed.extend(run);
            let mut encoder = device.encoder();
            drafting.iter().flat_map(|d| d.programs(programs, assistant)).for_each(|p| p.encode(&mut encoder));
            device.submit(encoder);
        }
        batch.is_forgotten = was_forgotten;
        Ok(device.encoder())
    }
}
