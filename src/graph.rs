//! Records dispatches and the lifetimes of their activations into a [`Program`], which is encoded again and again.
//!
//! Everything that costs is done while recording: shapes are checked, pipelines and bind groups made, memory assigned. To run a
//! program is to walk a list.

mod encoded;
mod timed;
mod work;

use std::cell::RefCell;

pub use timed::{Timed, TimedDispatch};
pub use work::{Amount, Keys, Work};

use encoded::{Dispatch, Encoded, encode, encode_dispatches};

use crate::device::{Buffer, Capabilities, Category, Constants, Device, Kernels, Memory, Plan};
use crate::error::{DeviceError, OpError};
use crate::shaders::{Binding, Kernel};
use crate::site::{FiniteCheck, OpClass, Site};
use crate::tensor::{Elem, Tensor};

/// What a binding of a dispatch shows.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// An activation of this graph.
    Tensor(&'a Tensor),
    /// A buffer that outlives it: a weight, the cache, the step.
    Buffer(&'a Buffer),
}

impl<'a> From<&'a Tensor> for Operand<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl<'a> From<&'a Buffer> for Operand<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        Self::Buffer(buffer)
    }
}

/// Buffers for activations, shared by all programs of a session: no two of them run at once.
///
/// Within a program an activation has a buffer for itself while it lives, since a buffer that is read and written in one
/// dispatch through two bindings is an error in WebGPU, whatever their ranges.
#[derive(Debug, Default)]
pub struct Arena(RefCell<Vec<Buffer>>);

#[derive(Debug)]
enum Slot {
    Activation { bytes: u64, first: usize, last: usize },
    Fixed(Buffer),
}

enum Recorded {
    Dispatch {
        kernel: &'static Kernel,
        constants: Vec<(&'static str, f64)>,
        params: (usize, usize),
        /// indices into `slots`
        operands: Vec<usize>,
        groups: [u32; 3],
        site: Site,
        work: Option<Work>,
    },
    /// Of so many bytes, from one of the `slots` to another.
    Copy { from: usize, to: usize, bytes: u64 },
    /// What comes behind reads the weights of a layer that does not stay on the GPU.
    Bring(usize),
}

/// A program being recorded.
pub struct Graph<'a> {
    memory: Memory<'a>,
    slots: Vec<Slot>,
    /// what a plan has none of
    recorded: Vec<Recorded>,
    dispatches: usize,
    /// all dispatches' parameters, each at the alignment of uniform bindings
    params: Vec<u8>,
    kept: Vec<usize>,
    site: Site,
    kernels: Kernels,
}

impl<'a> Graph<'a> {
    /// An empty program.
    #[must_use]
    pub fn new(device: &'a Device) -> Self {
        Self::within(Memory::Device(device))
    }

    /// A program that is only counted: see [`held`](Self::held).
    #[must_use]
    pub fn planned(plan: &'a Plan) -> Self {
        Self::within(Memory::Plan(plan))
    }

    fn within(memory: Memory<'a>) -> Self {
        let site = Site { class: OpClass::Norm, layer: Some(0) };
        let kernels = match memory {
            Memory::Device(device) => device.kernels(),
            Memory::Plan(_) => Kernels::of(&Capabilities::default()),
        };
        Self {
            memory,
            slots: Vec::new(),
            recorded: Vec::new(),
            dispatches: 0,
            params: Vec::new(),
            kept: Vec::new(),
            site,
            kernels,
        }
    }

    /// The device that it is recorded for.
    ///
    /// # Panics
    /// Where it is [`planned`](Self::planned).
    #[must_use]
    pub fn device(&self) -> &'a Device {
        let Memory::Device(device) = self.memory else { panic!("a planned graph is counted, and never finished") };
        device
    }

    /// Which kernels it takes: the device's; in a plan those that every device has.
    #[must_use]
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Takes these from here on.
    pub fn set_kernels(&mut self, kernels: Kernels) {
        self.kernels = kernels;
    }

    /// What is recorded from here on belongs to this layer; `None`: it is behind the last one.
    pub fn enter_layer(&mut self, layer: Option<u32>) {
        self.site.layer = layer;
    }

    /// What is recorded from here on is of this class; returns that of what came before.
    pub fn enter(&mut self, class: OpClass) -> OpClass {
        std::mem::replace(&mut self.site.class, class)
    }

    /// What the finite check of activations in `elem` is told here, `class` being that of the operation unless it is given: the number of the
    /// site, and the bits of the least magnitude that counts as an overflow.
    #[must_use]
    pub fn check(&self, class: Option<OpClass>, elem: Elem) -> (u32, f64) {
        let site = Site { class: class.unwrap_or(self.site.class), ..self.site };
        let FiniteCheck { off, inject } = match self.memory {
            Memory::Device(device) => device.finite_check(),
            Memory::Plan(_) => FiniteCheck::default(),
        };
        let beyond = match elem {
            _ if off => u32::MAX,
            Elem::F16 if inject == Some(site) => 1,
            elem => elem.beyond(),
        };
        (site.number(), f64::from(beyond))
    }

    /// A new activation `[rows, dim]`, unwritten.
    ///
    /// # Errors
    /// [`OpError::Limit`] where one binding cannot show it.
    pub fn empty(&mut self, op: &'static str, rows: u32, dim: u32, elem: Elem) -> Result<Tensor, OpError> {
        let tensor = Tensor { id: self.slots.len(), rows, dim, elem };
        let limit = self.memory.max_binding();
        if tensor.bytes() > limit {
            return Err(OpError::Limit { op, what: "bytes of one activation", got: tensor.bytes(), limit });
        }
        self.slots.push(Slot::Activation { bytes: tensor.bytes(), first: usize::MAX, last: 0 });
        Ok(tensor)
    }

    /// Keeps an activation until the program's end, so that it can be read from the buffer that [`Program::kept`] gives.
    pub fn keep(&mut self, tensor: &Tensor) {
        self.kept.push(tensor.id);
    }

    /// Records one dispatch of `groups` workgroups, folded into two dimensions where one does not hold them (a kernel finds its
    /// number with `flat_group`). `params` is binding 0; `operands` are the bindings from 1 on.
    ///
    /// # Errors
    /// None so far: kernels are compiled when the program is [finished](Self::finish), all that are new at once.
    pub fn dispatch<P: bytemuck::NoUninit>(
        &mut self,
        kernel: &'static Kernel,
        constants: Constants<'_>,
        params: &P,
        operands: &[Operand<'_>],
        groups: u64,
    ) -> Result<(), DeviceError> {
        debug_assert_eq!(kernel.bindings.len(), operands.len() + 1, "{}", kernel.label);
        debug_assert_eq!(kernel.bindings.first(), Some(&Binding::Uniform), "{}", kernel.label);
        let at = self.dispatches;
        self.dispatches += 1;
        let operands = operands.iter().map(|operand| self.slot(operand, at)).collect();

        let align = match self.memory {
            Memory::Device(device) => device.limits().min_uniform_buffer_offset_alignment as usize,
            // the most that WebGPU lets an adapter ask for
            Memory::Plan(_) => 256,
        };
        let start = self.params.len().next_multiple_of(align);
        self.params.resize(start, 0);
        self.params.extend_from_slice(bytemuck::bytes_of(params));
        let size = std::mem::size_of::<P>();
        if let Memory::Device(device) = self.memory {
            self.recorded.push(Recorded::Dispatch {
                kernel,
                constants: constants.to_vec(),
                params: (start, size),
                operands,
                groups: device.fold(groups),
                site: self.site,
                work: None,
            });
        }
        Ok(())
    }

    /// States what the dispatch that was recorded last has to do: what its times are measured against.
    pub fn work(&mut self, stated: Work) {
        // a plan has none
        if let Some(Recorded::Dispatch { work, .. }) = self.recorded.last_mut() {
            *work = Some(stated);
        }
    }

    /// What `from` holds at this point of the program, as an activation of its own: later operations may add to `from`.
    ///
    /// # Errors
    /// As [`empty`](Self::empty).
    pub fn copy(&mut self, from: &Tensor) -> Result<Tensor, OpError> {
        let to = self.empty("copy", from.rows, from.dim, from.elem)?;
        let at = self.dispatches;
        self.dispatches += 1;
        let [from, slot] = [from, &to].map(|tensor| self.slot(&tensor.into(), at));
        if let Memory::Device(_) = self.memory {
            self.recorded.push(Recorded::Copy { from, to: slot, bytes: to.bytes() });
        }
        Ok(to)
    }

    /// From here on the weights of layer `layer`, of those that do not stay on the GPU, are read: it has to be
    /// [brought](crate::weights::Offloaded::bring) before.
    pub fn bring(&mut self, layer: usize) {
        self.recorded.push(Recorded::Bring(layer));
    }

    fn slot(&mut self, operand: &Operand<'_>, at: usize) -> usize {
        match operand {
            Operand::Tensor(tensor) => {
                if let Slot::Activation { first, last, .. } = &mut self.slots[tensor.id] {
                    *first = (*first).min(at);
                    *last = at;
                }
                tensor.id
            }
            Operand::Buffer(buffer) => {
                let known = self.slots.iter().position(|s| matches!(s, Slot::Fixed(b) if b.is(buffer)));
                known.unwrap_or_else(|| {
                    self.slots.push(Slot::Fixed((*buffer).clone()));
                    self.slots.len() - 1
                })
            }
        }
    }

    /// Assigns memory from `arena`, compiles what was not compiled before, and makes the bind groups.
    ///
    /// # Errors
    /// As [`Device::buffer`], and [`DeviceError::Validation`] where a kernel cannot be compiled.
    pub fn finish(self, arena: &Arena) -> Result<Program, DeviceError> {
        let device = self.device();
        let Self { slots, recorded, dispatches, params, kept, .. } = self;
        let buffers = assign(Memory::Device(device), &slots, &kept, dispatches, arena)?;
        let uniforms = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params_buffer = device.buffer("kernel parameters", Category::Activations, params.len() as u64, uniforms)?;
        device.write(&params_buffer, 0, &params);

        let kernels: Vec<_> = recorded
            .iter()
            .filter_map(|r| match r {
                Recorded::Dispatch { kernel, constants, .. } => Some((*kernel, constants.as_slice())),
                _ => None,
            })
            .collect();
        let mut pipelines = device.pipelines(&kernels)?.into_iter();
        let steps = recorded
            .into_iter()
            .map(|r| {
                let (params, operands, groups, site, work) = match r {
                    Recorded::Dispatch { params, operands, groups, site, work, .. } => {
                        (params, operands, groups, site, work)
                    }
                    Recorded::Copy { from, to, bytes } => {
                        return Encoded::Copy { from: buffers[from].clone(), to: buffers[to].clone(), bytes };
                    }
                    Recorded::Bring(layer) => return Encoded::Bring(layer),
                };
                let pipeline = pipelines.next().expect("there is one for each dispatch");
                let uniform = wgpu::BufferBinding {
                    buffer: params_buffer.wgpu(),
                    offset: params.0 as u64,
                    size: wgpu::BufferSize::new(params.1 as u64),
                };
                let mut entries =
                    vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(uniform) }];
                entries.extend((1..).zip(&operands).map(|(binding, &slot)| wgpu::BindGroupEntry {
                    binding,
                    resource: buffers[slot].wgpu().as_entire_binding(),
                }));
                let bind_group = device.wgpu().create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(pipeline.kernel.label),
                    layout: &pipeline.layout,
                    entries: &entries,
                });
                Encoded::Dispatch(Dispatch { pipeline, bind_group, groups, site, work })
            })
            .collect();
        let kept = kept.into_iter().map(|id| (id, buffers[id].clone())).collect();
        device.check()?;
        Ok(Program { steps, kept, _bound: buffers, _params: params_buffer })
    }

    /// Assigns memory as [`finish`](Self::finish) does, and makes no program: what it would hold beside `arena`.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn held(self, arena: &Arena) -> Result<Buffer, DeviceError> {
        assign(self.memory, &self.slots, &self.kept, self.dispatches, arena)?;
        self.memory.storage("kernel parameters", Category::Activations, self.params.len() as u64)
    }
}

/// A buffer for each slot: activations whose lives do not meet share one.
fn assign(
    memory: Memory<'_>,
    slots: &[Slot],
    kept: &[usize],
    end: usize,
    arena: &Arena,
) -> Result<Vec<Buffer>, DeviceError> {
    let mut pool = arena.0.borrow_mut();
    // until which dispatch each buffer of the pool is taken
    let mut taken: Vec<Option<usize>> = vec![None; pool.len()];
    let mut order: Vec<usize> = (0..slots.len()).collect();
    // what is kept may be filled from the host as well: it lives from the beginning to the end
    let life = |id: usize, first: usize, last: usize| if kept.contains(&id) { (0, end) } else { (first, last) };
    order.sort_by_key(|&id| match &slots[id] {
        Slot::Activation { first, last, .. } => life(id, *first, *last).0,
        Slot::Fixed(_) => 0,
    });
    let mut buffers: Vec<Option<Buffer>> = vec![None; slots.len()];
    for id in order {
        buffers[id] = Some(match &slots[id] {
            Slot::Fixed(buffer) => buffer.clone(),
            Slot::Activation { bytes, first, last } => {
                let (first, last) = life(id, *first, *last);
                // sizes in powers of two, so that programs of different rows find each other's buffers
                let size = bytes.next_power_of_two().clamp(256, memory.max_binding().max(*bytes));
                let free = (0..pool.len())
                    .filter(|&i| pool[i].size() == size && taken[i].is_none_or(|until| until < first))
                    .min();
                let i = match free {
                    Some(i) => i,
                    None => {
                        pool.push(memory.storage("activations", Category::Activations, size)?);
                        taken.push(None);
                        pool.len() - 1
                    }
                };
                taken[i] = Some(last);
                pool[i].clone()
            }
        });
    }
    Ok(buffers.into_iter().flatten().collect())
}

/// Dispatches (and copies) with everything that they need, ready to be encoded any number of times.
pub struct Program {
    steps: Vec<Encoded>,
    kept: Vec<(usize, Buffer)>,
    /// a buffer is destroyed when the last handle goes, and bind groups are none
    _bound: Vec<Buffer>,
    _params: Buffer,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut list = f.debug_list();
        for step in &self.steps {
            match step {
                Encoded::Dispatch(dispatch) => list.entry(&(dispatch.pipeline.kernel.label, dispatch.groups)),
                Encoded::Copy { bytes, .. } => list.entry(&("copy", bytes)),
                Encoded::Bring(layer) => list.entry(&("bring", layer)),
            };
        }
        list.finish()
    }
}

impl Program {
    /// Encodes all dispatches, in one compute pass, or in several where there are copies in between. Of a model whose layers all stay on the
    /// GPU; else its [parts](Self::parts) are to be encoded one by one.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        encode(&self.steps, encoder);
    }

    /// Encodes all dispatches into a pass; there may be no copies among them.
    pub(crate) fn encode_in(&self, pass: &mut wgpu::ComputePass<'_>) {
        debug_assert!(self.steps.iter().all(|step| step.dispatch().is_some()));
        encode_dispatches(&self.steps, pass);
    }

    /// The parts between which layers are brought, and before each the layer, if there is one.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let mut rest = Some(self.steps.as_slice());
        std::iter::from_fn(move || {
            let steps = rest.take()?;
            let (layer, steps) = match steps {
                [Encoded::Bring(layer), steps @ ..] => (Some(*layer), steps),
                steps => (None, steps),
            };
            let end = steps.iter().position(|step| matches!(step, Encoded::Bring(_)));
            rest = end.map(|end| &steps[end..]);
            Some(Part { layer, steps: &steps[..end.unwrap_or(steps.len())] })
        })
    }

    /// The buffer of an activation that was kept while recording.
    #[must_use]
    pub fn kept(&self, tensor: &Tensor) -> Option<&Buffer> {
        self.kept.iter().find(|(id, _)| *id == tensor.id).map(|(_, buffer)| buffer)
    }

    /// Number of dispatches and copies.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// A part of a [`Program`].
pub struct Part<'p> {
    /// The layer that has to be [brought](crate::weights::Offloaded::bring) before it.
    pub layer: Option<usize>,
    steps: &'p [Encoded],
}

impl Part<'_> {
    /// As [`Program::encode`].
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        encode(self.steps, encoder);
    }
}
