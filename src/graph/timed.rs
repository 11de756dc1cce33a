//! Programs whose dispatches are timed one by one.

use web_time::Instant;

use super::encoded::{Dispatch, Encoded};
use super::{Amount, Part};
use crate::device::{Device, Timestamps};
use crate::error::DeviceError;
use crate::shaders::Slot;
use crate::site::Site;

/// A run of a program (see [`Program`](super::Program)), each of its dispatches in a pass of its own with a timestamp before and one after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timed {
    /// Rows of the step.
    pub rows: u32,
    /// Sequences that they belong to.
    pub sequences: u32,
    /// Microseconds that encoding it takes on the host as it is done otherwise, in one pass.
    pub encode_us: f64,
    /// Microseconds on the host's clock from its submit to the news of its end.
    pub wall_us: f64,
    /// Its dispatches, in order. Copies are none.
    pub dispatches: Vec<TimedDispatch>,
}

/// One dispatch of a [`Timed`] run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedDispatch {
    /// Shader and variant: `matmul_few[x_f16,w_q4]`.
    pub kernel: &'static str,
    /// What part of the model it belongs to; an embedding, to what comes first.
    pub site: Site,
    /// Elements of a row that goes in, and of one that comes out, where the operation states it.
    pub shape: Option<[u32; 2]>,
    /// Workgroups.
    pub groups: [u32; 3],
    /// Bytes and operations, where the operation states them.
    pub amount: Option<Amount>,
    /// When it began, in nanoseconds of the GPU's clock.
    pub begin_ns: u64,
    /// When it ended.
    pub end_ns: u64,
}

impl TimedDispatch {
    /// How long it took, in microseconds; 0 where the clock began anew.
    #[must_use]
    pub fn us(&self) -> f64 {
        self.end_ns.saturating_sub(self.begin_ns) as f64 / 1e3
    }
}

impl Timed {
    /// What all dispatches took, without what was between them.
    #[must_use]
    pub fn kernels_us(&self) -> f64 {
        self.dispatches.iter().map(TimedDispatch::us).sum()
    }

    /// Appends a part of the same step that ran after this.
    pub(crate) fn append(&mut self, part: Self) {
        self.encode_us += part.encode_us;
        self.wall_us += part.wall_us;
        self.dispatches.extend(part.dispatches);
    }
}

impl Part<'_> {
    /// Runs it by itself, and waits for it: nothing else may be encoded and not submitted. `slots`: those of the step, before it.
    ///
    /// # Errors
    /// As [`Timestamps::new`] and [`Timestamps::finish`].
    pub async fn time(&self, device: &Device, slots: &[Slot]) -> Result<Timed, DeviceError> {
        let dispatches: Vec<&Dispatch> = self.steps.iter().filter_map(Encoded::dispatch).collect();
        let mut timed = Timed {
            rows: slots.iter().map(|slot| slot.rows).sum(),
            sequences: slots.iter().filter(|slot| slot.rows > 0).count() as u32,
            ..Timed::default()
        };
        // what is timed here has many passes, which are no part of how it runs
        let started = Instant::now();
        let mut unsubmitted = device.encoder();
        self.encode(&mut unsubmitted);
        let unsubmitted = unsubmitted.finish();
        timed.encode_us = microseconds(started);
        drop(unsubmitted);

        let mut encoder = device.encoder();
        if dispatches.is_empty() {
            self.encode(&mut encoder);
            device.submit(encoder);
            return Ok(timed);
        }
        let mut timestamps = Timestamps::new(device, dispatches.len())?;
        for step in self.steps {
            match step {
                Encoded::Dispatch(dispatch) => {
                    let mut pass = timestamps.pass(&mut encoder);
                    pass.set_pipeline(&dispatch.pipeline.wgpu);
                    dispatch.encode(&mut pass);
                }
                other => other.encode_copy(&mut encoder),
            }
        }
        let started = Instant::now();
        let passes = timestamps.finish(device, encoder).await?;
        timed.wall_us = microseconds(started);
        timed.dispatches = dispatches
            .into_iter()
            .zip(passes)
            .map(|(dispatch, pass)| TimedDispatch {
                kernel: dispatch.pipeline.kernel.label,
                site: dispatch.site,
                shape: dispatch.work.map(|work| work.shape),
                groups: dispatch.groups,
                amount: dispatch.work.map(|work| work.of(slots)),
                begin_ns: pass.start,
                end_ns: pass.end,
            })
            .collect();
        Ok(timed)
    }
}

fn microseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}
