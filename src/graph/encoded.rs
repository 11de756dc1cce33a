//! What a program walks through.

use std::sync::Arc;

use super::Work;
use crate::device::{Buffer, Pipeline};
use crate::site::Site;

/// A step of a program.
pub(super) enum Encoded {
    Dispatch(Dispatch),
    Copy { from: Buffer, to: Buffer, bytes: u64 },
    Bring(usize),
}

pub(super) struct Dispatch {
    pub pipeline: Arc<Pipeline>,
    pub bind_group: wgpu::BindGroup,
    pub groups: [u32; 3],
    pub site: Site,
    pub work: Option<Work>,
}

impl Dispatch {
    /// Into a pass that has its pipeline.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        let [x, y, z] = self.groups;
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

impl Encoded {
    pub fn dispatch(&self) -> Option<&Dispatch> {
        if let Self::Dispatch(dispatch) = self { Some(dispatch) } else { None }
    }

    /// Between passes.
    pub fn encode_copy(&self, encoder: &mut wgpu::CommandEncoder) {
        if let Self::Copy { from, to, bytes } = self {
            encoder.copy_buffer_to_buffer(from.wgpu(), 0, to.wgpu(), 0, *bytes);
        }
    }
}

/// All of them, dispatches that follow each other in one pass.
pub(super) fn encode(mut rest: &[Encoded], encoder: &mut wgpu::CommandEncoder) {
    while !rest.is_empty() {
        let copies = rest.iter().take_while(|step| step.dispatch().is_none()).count();
        let (now, later) = rest.split_at(copies);
        now.iter().for_each(|step| step.encode_copy(encoder));
        let dispatches = later.iter().take_while(|step| step.dispatch().is_some()).count();
        let (now, later) = later.split_at(dispatches);
        encode_pass(now, encoder);
        rest = later;
    }
}

/// One compute pass.
fn encode_pass(dispatches: &[Encoded], encoder: &mut wgpu::CommandEncoder) {
    if dispatches.is_empty() {
        return;
    }
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    encode_dispatches(dispatches, &mut pass);
}

/// Into a pass.
pub(super) fn encode_dispatches(dispatches: &[Encoded], pass: &mut wgpu::ComputePass<'_>) {
    let mut current: Option<&Arc<Pipeline>> = None;
    for dispatch in dispatches.iter().filter_map(Encoded::dispatch) {
        if !current.is_some_and(|p| Arc::ptr_eq(p, &dispatch.pipeline)) {
            pass.set_pipeline(&dispatch.pipeline.wgpu);
            current = Some(&dispatch.pipeline);
        }
        dispatch.encode(pass);
    }
}
