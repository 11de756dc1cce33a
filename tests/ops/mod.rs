//! Every kernel, in every variant, against its reference. Outputs are poisoned before, and guarded by sentinels after.

mod activation;
mod attention;
mod convert;
mod draft;
mod embed;
mod finite;
mod fma;
mod gather_cache;
mod head_norm;
mod matmul;
mod matmul_blocks;
mod matmul_matrices;
mod matmul_tiles;
mod no_repeat_ngram;
mod norm;
mod observe;
pub mod penalize;
mod pool;
mod prompt_lookup;
mod quantize_cache;
mod quantize_rows;
mod repack_codes;
mod repack_ggml;
mod repack_scales;
mod rope_append;
mod sample;
mod select_keys;
mod softcap;
mod speed;
mod verify;

use half::f16;
use webweft::device::{Buffer, Capabilities, Category, Device, Memory, Readback};
use webweft::graph::{Arena, Graph, Program};
use webweft::ops::LayerKv;
use webweft::quant::{self, Blocks};
use webweft::reference::convert as reference;
use webweft::shaders;
use webweft::step::{BLOCK, Step, StepSize};
use webweft::tensor::{CacheDtype, Elem, Part, Storage, Tensor, Weight};

use crate::common::{device, gpu_device, portable_device};

/// A NaN as f32 and as two f16s: what outputs hold before a run, and must still hold where nothing is to be written.
pub const POISON: u32 = 0x7fdd_7fdd;

/// The devices on which a kernel shows all of its variants: as it comes, as a GPU that has all, and as one that has nothing.
pub async fn devices() -> Vec<Device> {
    let mut all = vec![device().await];
    let Capabilities { subgroups, processor, .. } = all[0].capabilities();
    if subgroups && processor {
        all.push(gpu_device().await);
    }
    if subgroups || processor {
        all.push(portable_device().await);
    }
    all
}

/// What a test function runs: all its programs in one submit, all results in one readback.
pub struct Bench {
    pub device: Device,
    programs: Vec<(Program, u32)>,
    wanted: Vec<Wanted>,
}

type Check = Box<dyn FnOnce(&[&[u8]])>;

struct Wanted {
    buffers: Vec<Buffer>,
    check: Check,
}

impl Bench {
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), programs: Vec::new(), wanted: Vec::new() }
    }

    /// A step of `rows` tokens from `position` on, its page table shuffled.
    pub fn step(&self, rows: u32, position: u32) -> Step {
        self.step_of(&[(rows, position)])
    }

    /// A step of several slots, each of so many rows from such a position on, their page tables shuffled: [`pages_of`] a slot.
    pub fn step_of(&self, slots: &[(u32, u32)]) -> Step {
        let rows = slots.iter().map(|(rows, _)| rows).sum();
        let pages = slots.iter().map(|(rows, position)| (position + rows).div_ceil(BLOCK).max(1)).max().unwrap_or(1);
        let size = StepSize { rows, slots: slots.len() as u32, tables: 2, pages, ring: 1 };
        let step = Step::new(Memory::Device(&self.device), size).expect("a step");
        let state = |&(rows, position): &(u32, u32)| shaders::Slot { position, rows, ..Default::default() };
        step.set(&self.device, &slots.iter().map(state).collect::<Vec<_>>());
        // their tokens do not matter here
        let ids: Vec<_> = slots.iter().map(|&(rows, _)| vec![0; rows as usize]).collect();
        step.set_ids(&self.device, ids.iter().map(Vec::as_slice));
        for slot in 0..slots.len() as u32 {
            step.set_pages(&self.device, TABLE, slot, 0, &pages_of(&step, slot));
            step.set_pages(&self.device, COLD, slot, 0, &cold_pages_of(&step, slot));
        }
        step
    }

    /// A buffer with these contents.
    pub fn buffer<T: bytemuck::NoUninit>(&self, data: &[T]) -> Buffer {
        self.device.storage_with("test", Category::Activations, data).expect("a small buffer")
    }

    /// A buffer of poison.
    pub fn poisoned(&self, words: usize) -> Buffer {
        self.buffer(&vec![POISON; words])
    }

    /// A vector that kernels read in vec4s.
    pub fn vector(&self, data: &[f32]) -> Buffer {
        self.buffer(&pack(data, data.len(), Elem::F32))
    }

    /// A weight of rows of `dim`, as `storage` keeps it, and the values that it stands for. It is split before the rows
    /// `splits` (multiples of 4) and padded to a multiple of 4 rows.
    pub fn weight(&self, data: &[f32], dim: usize, storage: Storage, splits: &[u32]) -> (Weight, Vec<f32>) {
        let rows = data.len() / dim;
        let mut padded = data.to_vec();
        padded.resize(rows.next_multiple_of(4) * dim, 0.0);
        let ends = splits.iter().copied().chain([rows.next_multiple_of(4) as u32]);
        let begins = [0].into_iter().chain(splits.iter().copied());
        let mut values = Vec::new();
        let parts = begins
            .zip(ends)
            .map(|(first, end)| {
                let part = &padded[first as usize * dim..end as usize * dim];
                let (data, scales) = match storage {
                    Storage::F32 | Storage::F16 => {
                        let elem = if storage == Storage::F32 { Elem::F32 } else { Elem::F16 };
                        values.extend(stored(part, elem));
                        (self.buffer(&pack(part, dim, elem)), None)
                    }
                    Storage::Blocks(blocks) => {
                        let encoded = quant::encode(part, dim, blocks);
                        values.extend(quant::decode(&encoded, part.len() / dim, dim, blocks));
                        (self.buffer(&encoded.words), Some(self.buffer(&encoded.scales)))
                    }
                };
                Part { first, rows: end - first, storage, data, scales, order: None, int8_inputs: false }
            })
            .collect();
        values.truncate(rows * dim);
        (Weight { rows: rows as u32, dim: dim as u32, parts }, values)
    }

    /// Records a program: `record` makes it, its inputs and outputs.
    pub fn case(&mut self, record: impl FnOnce(&mut Case<'_>)) {
        let device = self.device.clone();
        let mut case = Case { g: Graph::new(&device), filled: Vec::new(), outputs: Vec::new(), runs: 1 };
        record(&mut case);
        let Case { g, filled, outputs, runs } = case;
        // each program has memory of its own, since all of them are filled before the first one runs
        let program = g.finish(&Arena::default()).expect("a small program");
        let buffer = |tensor: &Tensor| program.kept(tensor).expect("it was kept");
        for (tensor, check) in outputs {
            let buffer = buffer(&tensor);
            self.device.write(buffer, 0, &vec_of_poison(buffer));
            self.wanted.push(Wanted { buffers: vec![buffer.clone()], check });
        }
        for (tensor, words) in &filled {
            let buffer = buffer(tensor);
            self.device.write(buffer, 0, &vec_of_poison(buffer));
            self.device.write(buffer, 0, bytemuck::cast_slice(words));
        }
        self.programs.push((program, runs));
    }

    /// Reads buffers after the run.
    pub fn read(&mut self, buffers: &[&Buffer], check: impl FnOnce(&[&[u8]]) + 'static) {
        let buffers = buffers.iter().copied().cloned().collect();
        self.wanted.push(Wanted { buffers, check: Box::new(check) });
    }

    /// Runs everything, and hands every result to its check.
    pub async fn run(self) {
        let Self { device, programs, wanted } = self;
        let mut encoder = device.encoder();
        for (program, runs) in &programs {
            (0..*runs).for_each(|_| program.encode(&mut encoder));
        }
        let all = || wanted.iter().flat_map(|w| &w.buffers);
        let mut readback = Readback::new(&device, "results", all().map(Buffer::size).sum()).expect("a staging buffer");
        all().for_each(|buffer| readback.copy(&mut encoder, buffer, 0, buffer.size()));
        readback.submit(&device, encoder);
        readback.wait(&device).await.expect("the kernels run");
        let results = readback.take(<[u8]>::to_vec).expect("results");
        let mut rest = results.as_slice();
        for Wanted { buffers, check } in wanted {
            let own: Vec<&[u8]> =
                buffers.iter().map(|b| rest.split_off(..b.size() as usize).expect("all was read")).collect();
            check(&own);
        }
    }
}

/// A program being recorded, and what goes in and comes out.
pub struct Case<'a> {
    pub g: Graph<'a>,
    filled: Vec<(Tensor, Vec<u32>)>,
    outputs: Vec<(Tensor, Check)>,
    /// How often the program runs.
    pub runs: u32,
}

impl Case<'_> {
    /// An activation with room for `rows`, of which `data` has the first; the others hold poison.
    pub fn input(&mut self, data: &[f32], rows: u32, dim: usize, elem: Elem) -> Tensor {
        let tensor = self.g.empty("test", rows, dim as u32, elem).expect("a small tensor");
        self.g.keep(&tensor);
        self.filled.push((tensor, pack(data, dim, elem)));
        tensor
    }

    /// Checks `rows` rows of a result, dense; what follows them must be as it was.
    pub fn output(&mut self, tensor: &Tensor, rows: u32, name: String, check: impl FnOnce(&str, Vec<f32>) + 'static) {
        self.g.keep(tensor);
        let (dim, elem) = (tensor.dim as usize, tensor.elem);
        let check = move |bytes: &[&[u8]]| check(&name, unpack(&name, bytes[0], rows as usize, dim, elem));
        self.outputs.push((*tensor, Box::new(check)));
    }
}

fn vec_of_poison(buffer: &Buffer) -> Vec<u8> {
    bytemuck::cast_slice(&vec![POISON; buffer.size() as usize / 4]).to_vec()
}

/// The page table that steps go by, and the one for the full blocks of a quantized cache, which knows other places.
pub const TABLE: u32 = 1;
pub const COLD: u32 = 0;

/// The physical blocks of a slot of [`Bench::step_of`].
pub fn pages_of(step: &Step, slot: u32) -> Vec<u32> {
    let all = shuffled(step.slots * step.pages);
    all[(slot * step.pages) as usize..][..step.pages as usize].to_vec()
}

/// Those that hold its full blocks, where the cache is quantized.
pub fn cold_pages_of(step: &Step, slot: u32) -> Vec<u32> {
    let last = step.slots * step.pages - 1;
    pages_of(step, slot).into_iter().map(|page| last - page).collect()
}

/// A layer's cache, not quantized.
pub fn plain_kv(k: Buffer, v: Buffer, elem: Elem) -> LayerKv {
    LayerKv { k, v, dtype: elem.into(), raw_keys: false, table: TABLE, hot_table: COLD, hot_blocks: 0 }
}

/// A layer's cache of any type, filled by [`attention::Filled`].
pub fn cached_kv(k: Buffer, v: Buffer, dtype: CacheDtype, step: &Step) -> LayerKv {
    let mut kv = plain_kv(k, v, Elem::F32);
    kv.dtype = dtype;
    if dtype.bits().is_some() {
        (kv.table, kv.hot_table, kv.hot_blocks) = (COLD, TABLE, step.slots * step.pages);
    }
    kv
}

/// A shuffled order of `0 .. n`.
pub fn shuffled(n: u32) -> Vec<u32> {
    let step = [7, 5, 3, 1].into_iter().find(|&s| !n.is_multiple_of(s) || s == 1).unwrap_or(1);
    (0..n).map(|i| (i * step + n / 2) % n).collect()
}

/// The values that are left when `data` is stored as `elem`.
pub fn stored(data: &[f32], elem: Elem) -> Vec<f32> {
    match elem {
        Elem::F32 => data.to_vec(),
        Elem::F16 => data.iter().map(|&v| f16::from_f32(v).to_f32()).collect(),
    }
}

/// Rows of `dim`, each padded with zeros to whole vec4s, as words.
pub fn pack(data: &[f32], dim: usize, elem: Elem) -> Vec<u32> {
    let mut words = Vec::new();
    for row in data.chunks_exact(dim) {
        let mut row = row.to_vec();
        row.resize(dim.next_multiple_of(4), 0.0);
        match elem {
            Elem::F32 => words.extend(row.iter().map(|v| v.to_bits())),
            Elem::F16 => words.extend(
                reference::to_f16(&row).chunks_exact(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16),
            ),
        }
    }
    words
}

/// A head with the zeros that pad it.
pub fn padded_to(head: &[f64], padded: usize) -> Vec<f64> {
    let mut head = head.to_vec();
    head.resize(padded, 0.0);
    head
}

/// The first `rows` rows, without what pads them, which must be zero; what follows them must be poison.
pub fn unpack(name: &str, bytes: &[u8], rows: usize, dim: usize, elem: Elem) -> Vec<f32> {
    let padded = dim.next_multiple_of(4);
    let (own, after) = bytes.split_at(rows * padded / 4 * elem.bytes4() as usize);
    for (i, word) in after.chunks_exact(4).enumerate() {
        assert_eq!(word, POISON.to_le_bytes(), "{name}: word {i} past the last row was written");
    }
    let values = if elem == Elem::F32 { reference::from_f32(own) } else { reference::from_f16(own) };
    let mut dense = Vec::with_capacity(rows * dim);
    for (r, row) in values.chunks_exact(padded).enumerate() {
        assert!(row[dim..].iter().all(|&v| v == 0.0), "{name}: padding of row {r} is {:?}", &row[dim..]);
        dense.extend_from_slice(&row[..dim]);
    }
    dense
}

/// `(abs, rel)` for results of magnitude 1: what the sums in f32 may lose, and what storing them does.
pub const fn tolerance(elem: Elem) -> (f64, f64) {
    match elem {
        Elem::F32 => (1e-5, 1e-5),
        // half a unit in the last place, and what the sum lost
        Elem::F16 => (2e-5, 5.2e-4),
    }
}

pub const ELEMS: [Elem; 2] = [Elem::F32, Elem::F16];
/// What a weight is made into while loading.
pub const STORAGES: [Storage; 6] = [
    Storage::F32,
    Storage::F16,
    Storage::Q4,
    Storage::Blocks(Blocks::Q4A),
    Storage::Blocks(Blocks::NF4),
    Storage::Blocks(Blocks::Q8),
];
/// Those whose kernels differ by more than constants.
pub const KINDS: [Storage; 3] = [Storage::F32, Storage::F16, Storage::Q4];
