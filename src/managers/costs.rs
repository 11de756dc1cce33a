//! What work costs an adapter that is none: dispatches, submits and the way back. Where a step has many dispatches, or somebody waits for
//! every token, these bound it and not [`Roofline`](super::Roofline)'s bytes and operations.

use serde::Serialize;
use web_time::Instant;

use crate::device::{Category, Device, Readback};
use crate::error::Error;
use crate::graph::{Arena, Graph};
use crate::ops::{self, FmaType};

/// Measurements of which the median is taken: few enough for a browser where each answer takes 100 ms.
const ROUNDS: usize = 11;
/// Dispatches and submits that are counted, beyond the first.
const DISPATCHES: u32 = 512;
const SUBMITS: u32 = 32;
/// A submit of one dispatch that takes so long was waited for by a clock, and how much more is measured then.
const POLLED_US: f64 = 80e3;
const TIMES_WHERE_POLLED: u32 = 16;
const ROUNDS_WHERE_POLLED: usize = 3;

/// Medians, in microseconds, as they are seen from the host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// What a dispatch of one workgroup that does next to nothing adds to a submit, encoding included; each waits for the one before it.
    pub dispatch_us: f64,
    /// What a submit of one such dispatch adds to others that nobody waits for in between.
    pub submit_us: f64,
    /// From a submit that copies 16 bytes to these bytes on the host.
    pub readback_us: f64,
}

impl Costs {
    /// Measures.
    ///
    /// # Errors
    /// Those of the device.
    pub async fn measure(device: &Device) -> Result<Self, Error> {
        let program = |dispatches: u32| {
            let mut g = Graph::new(device);
            for _ in 0..dispatches {
                // nobody reads what it writes, so the next one is given the same memory, and has to wait
                ops::fma(&mut g, FmaType::F32, 1, 0, 0.5, 1.0)?;
            }
            Ok::<_, Error>(g.finish(&Arena::default())?)
        };
        let (one, many) = (program(1)?, program(1 + DISPATCHES)?);
        let mut medians = [0.0; 3];
        // more of all that, where a browser looks for the end of a submit so seldom that it would not see a difference
        let (mut times, mut most) = (1, ROUNDS);
        for (measured, median) in medians.iter_mut().enumerate() {
            let (program, encoded, submits) = match measured {
                0 => (&one, 1, 1),
                1 => (&many, times, 1),
                _ => (&one, 1, 1 + times * SUBMITS),
            };
            let mut rounds = Vec::new();
            for _ in 0..=most {
                let started = Instant::now();
                for _ in 0..submits {
                    let mut encoder = device.encoder();
                    (0..encoded).for_each(|_| program.encode(&mut encoder));
                    device.submit(encoder);
                }
                device.idle().await?;
                rounds.push(microseconds(started));
            }
            *median = middle(rounds);
            if measured == 0 && *median > POLLED_US {
                (times, most) = (TIMES_WHERE_POLLED, ROUNDS_WHERE_POLLED);
            }
        }
        let [alone, dispatches, submits] = medians;

        let buffer = device.storage("latency", Category::Staging, 16)?;
        let mut readback = Readback::new(device, "latency", 16)?;
        let mut rounds = Vec::new();
        for _ in 0..=ROUNDS {
            let started = Instant::now();
            let mut encoder = device.encoder();
            readback.copy(&mut encoder, &buffer, 0, 16);
            readback.submit(device, encoder);
            readback.wait(device).await?;
            readback.take(|_| ())?;
            rounds.push(microseconds(started));
        }
        let more = |all: f64, count: u32| (all - alone).max(0.0) / f64::from(count);
        Ok(Self {
            dispatch_us: more(dispatches, times * (1 + DISPATCHES) - 1),
            submit_us: more(submits, times * SUBMITS),
            readback_us: middle(rounds),
        })
    }
}

fn microseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

/// The median of all but the first, in which kernels are compiled and memory is cleared.
fn middle(mut rounds: Vec<f64>) -> f64 {
    rounds.remove(0);
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
