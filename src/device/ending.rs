//! Devices that nobody has any more, until their work is done.
//!
//! Chromium (seen in 156) tells itself when what was submitted is done. Where its queue was collected as garbage by then, that is the last to
//! hold it, and releases it under a lock that the release needs, too, when much is on its way to the GPU process: the thread stands still
//! for ever. So queues are not left to the garbage collector while they work.

use std::cell::RefCell;
use std::collections::HashMap;

#[derive(Default)]
struct Kept {
    last: u64,
    devices: HashMap<u64, (wgpu::Device, wgpu::Queue)>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Keeps both until all that was submitted is done.
pub(super) fn keep(device: wgpu::Device, queue: wgpu::Queue) {
    // what wgpu calls back must be `Send`, which they are not here: it is given their number
    let number = KEPT.with_borrow_mut(|kept| {
        kept.last += 1;
        kept.devices.insert(kept.last, (device, queue.clone()));
        kept.last
    });
    queue.on_submitted_work_done(move || drop(KEPT.with_borrow_mut(|kept| kept.devices.remove(&number))));
}
