//! Runs encoders: texts side by side in one step, each of which sees itself whole, without padding.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::device::{Buffer, Device, Memory, Readback};
use crate::error::{DeviceError, Error, GenerateError};
use crate::graph::{Arena, Graph, Program};
use crate::managers::{Precision, PrecisionFacts, PrecisionReport, PrecisionWatch};
use crate::models::{Bucket, Encoder, EncoderConfig, EncoderOutput, EncoderWorkspace};
use crate::ops::PoolKind;
use crate::shaders::{Row, Slot};
use crate::site::Site;
use crate::step::{BLOCK, MAX_SLOTS};
use crate::tensor::Tensor;

/// Steps whose results are on their way at once, so that none waits for those before it to be read.
const UNDER_WAY: usize = 4;

/// A text as an encoder takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids, those that the tokenizer puts around a text included.
    pub ids: Vec<u32>,
    /// Of each token its kind: 0, or 1 in the second text of a pair.
    pub type_ids: Vec<u32>,
}

impl From<Vec<u32>> for Tokens {
    /// Of one text.
    fn from(ids: Vec<u32>) -> Self {
        Self { type_ids: vec![0; ids.len()], ids }
    }
}

/// What stands for a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Every token's hidden state.
    #[default]
    None,
    /// The mean of them.
    Mean,
    /// That of the first token, `[CLS]`.
    Cls,
}

impl Pooling {
    /// `none`, `mean` or `cls`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mean => "mean",
            Self::Cls => "cls",
        }
    }

    /// The pooling of the name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Mean, Self::Cls].into_iter().find(|pooling| pooling.name() == name)
    }
}

/// What is made of texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureOptions {
    /// What stands for a text.
    pub pooling: Pooling,
    /// Whether each vector is divided by its length.
    pub normalize: bool,
}

/// All that an encoder makes of a text, as transformers names it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// `[T, D]`
    pub last_hidden_state: Vec<f32>,
    /// `[layers + 1][T, D]`: what goes into the first layer, and what comes out of every one.
    pub hidden_states: Vec<Vec<f32>>,
    /// `[D]`, where the checkpoint has weights of a pooler.
    pub pooler_output: Option<Vec<f32>>,
}

/// A program, and what it leaves behind: of each whether it has a row for each text, rather than for each token.
struct Recorded {
    program: Program,
    outputs: Vec<(Tensor, Buffer, bool)>,
}

/// A step whose result is on its way.
struct UnderWay {
    readback: Readback,
    texts: Range<usize>,
    /// of each output where its bytes are
    outputs: Vec<(Tensor, bool, Range<usize>)>,
    overflow: usize,
}

/// An encoder on one device.
pub struct EncoderEngine {
    device: Device,
    model: Encoder,
    config: EncoderConfig,
    precision: Precision,
    watch: PrecisionWatch,
    workspace: Option<EncoderWorkspace>,
    arena: Arena,
    programs: HashMap<Bucket, Recorded>,
    /// rows of one step at most, but for a text that has more by itself
    most_rows: u32,
}

impl std::fmt::Debug for EncoderEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncoderEngine")
            .field("config", &self.config)
            .field("programs", &self.programs.len())
            .finish_non_exhaustive()
    }
}

impl EncoderEngine {
    /// `most_rows`: tokens of one step at most, but for a text that has more by itself.
    #[must_use]
    pub fn new(device: &Device, model: Encoder, config: EncoderConfig, precision: Precision, most_rows: u32) -> Self {
        Self {
            device: device.clone(),
            model,
            config,
            watch: PrecisionWatch::new(&PrecisionFacts::of(&precision, device.capabilities())),
            precision,
            workspace: None,
            arena: Arena::default(),
            programs: HashMap::new(),
            most_rows: most_rows.max(1),
        }
    }

    /// What it is made of.
    #[must_use]
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// How weights and activations are stored by now.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What was found of activations so far, and what followed.
    #[must_use]
    pub fn precision_report(&self) -> PrecisionReport {
        self.watch.report(&self.precision)
    }

    /// Of each text a vector `[D]`, or without pooling the hidden states of its tokens, `[T, D]`. Where f16 does not hold a value, all is made
    /// again in f32. Where memory runs short, steps get fewer texts.
    ///
    /// # Errors
    /// [`GenerateError`] for texts that cannot be, before anything runs, and for values that are no numbers; those of the device.
    pub async fn features(&mut self, texts: &[Tokens], options: FeatureOptions) -> Result<Vec<Vec<f32>>, Error> {
        let FeatureOptions { pooling, normalize } = options;
        let wanted = match pooling {
            Pooling::None => EncoderOutput::States,
            Pooling::Mean => EncoderOutput::Row { kind: PoolKind::Mean, normalize },
            Pooling::Cls => EncoderOutput::Row { kind: PoolKind::First, normalize },
        };
        let mut made: Vec<_> = self.run(texts, wanted).await?.into_iter().map(|mut of| of.swap_remove(0)).collect();
        if normalize && pooling == Pooling::None {
            let rows = made.iter_mut().flat_map(|text| text.chunks_exact_mut(self.config.hidden_size as usize));
            rows.for_each(normalize_row);
        }
        Ok(made)
    }

    /// The model once over a text.
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub async fn forward(&mut self, text: &Tokens) -> Result<Encoded, Error> {
        let mut made = self.run(std::slice::from_ref(text), EncoderOutput::All).await?.swap_remove(0);
        let pooler_output = self.model.has_pooler().then(|| made.pop()).flatten();
        let last_hidden_state = made.last().cloned().unwrap_or_default();
        Ok(Encoded { last_hidden_state, hidden_states: made, pooler_output })
    }

    /// Of each text all that a program makes of it.
    async fn run(&mut self, texts: &[Tokens], wanted: EncoderOutput) -> Result<Vec<Vec<Vec<f32>>>, Error> {
        texts.iter().try_for_each(|text| self.check(text))?;
        loop {
            match self.run_once(texts, wanted).await {
                Ok((made, None)) => return Ok(made),
                Ok((_, Some(site))) => {
                    let helps = self.watch.found(&mut self.precision, site, 0);
                    tracing::warn!(%site, helps, "overflow");
                    self.forget();
                    if !helps {
                        return Err(GenerateError::NotFinite { site, position: 0 }.into());
                    }
                }
                Err(Error::Device(DeviceError::OutOfMemory { .. })) if self.most_rows > 1 => {
                    self.most_rows /= 2;
                    tracing::warn!(rows = self.most_rows, "memory ran short");
                    self.forget();
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn forget(&mut self) {
        self.programs.clear();
        self.arena = Arena::default();
        self.workspace = None;
    }

    fn check(&self, text: &Tokens) -> Result<(), GenerateError> {
        let (most, vocab) = (self.config.max_position_embeddings as usize, self.config.vocab_size);
        if text.ids.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        if text.ids.len() > most {
            return Err(GenerateError::TextTooLong { tokens: text.ids.len(), most });
        }
        if let Some(&id) = text.ids.iter().find(|&&id| id >= vocab) {
            return Err(GenerateError::TokenOutOfRange { id, vocab });
        }
        let kinds = self.config.type_vocab_size;
        if text.type_ids.len() != text.ids.len() || text.type_ids.iter().any(|&kind| kind >= kinds) {
            let problem = format!("one of 0 to {} is expected for each token", kinds - 1);
            return Err(GenerateError::Input { name: "token_type_ids", problem });
        }
        Ok(())
    }

    /// As [`run`](Self::run), and where a step overflowed.
    async fn run_once(
        &mut self,
        texts: &[Tokens],
        wanted: EncoderOutput,
    ) -> Result<(Vec<Vec<Vec<f32>>>, Option<Site>), Error> {
        let mut made = Vec::with_capacity(texts.len());
        let mut under_way = VecDeque::new();
        let mut next = 0;
        loop {
            while next < texts.len() && under_way.len() < UNDER_WAY {
                let end = next + self.fitting(&texts[next..]);
                under_way.push_back(self.submit(texts, next..end, wanted)?);
                next = end;
            }
            let Some(UnderWay { mut readback, texts: of, outputs, overflow }) = under_way.pop_front() else {
                return Ok((made, None));
            };
            readback.wait(&self.device).await?;
            self.watch.looked_at(1);
            let site = readback.take(|bytes| {
                let mut row = 0;
                for (slot, text) in texts[of].iter().enumerate() {
                    let rows = row..row + text.ids.len();
                    row = rows.end;
                    let part = |(tensor, is_of_text, range): &(Tensor, bool, Range<usize>)| {
                        let size = tensor.dim4() as usize * tensor.elem.bytes4() as usize;
                        let rows = if *is_of_text { slot..slot + 1 } else { rows.clone() };
                        let mut values = Vec::with_capacity(rows.len() * tensor.dim as usize);
                        let bytes = &bytes[range.clone()][rows.start * size..rows.end * size];
                        tensor.unpack(bytes, &mut values);
                        values
                    };
                    made.push(outputs.iter().map(part).collect());
                }
                Site::from_number(bytemuck::pod_read_unaligned(&bytes[overflow..overflow + 4]))
            })?;
            if site.is_some() {
                return Ok((made, site));
            }
        }
    }

    /// How many of `texts` the next step takes.
    fn fitting(&self, texts: &[Tokens]) -> usize {
        let mut rows = 0;
        let fits = texts.iter().take(MAX_SLOTS as usize).take_while(|text| {
            rows += text.ids.len();
            rows <= self.most_rows as usize
        });
        fits.count().max(1)
    }

    fn submit(&mut self, texts: &[Tokens], of: Range<usize>, wanted: EncoderOutput) -> Result<UnderWay, Error> {
        let own = &texts[of.clone()];
        let rows = own.iter().map(|text| text.ids.len()).sum::<usize>() as u32;
        let longest = own.iter().map(|text| text.ids.len()).max().unwrap_or(0) as u32;
        let bucket = Bucket::new(wanted, rows, own.len() as u32, longest);
        let device = self.device.clone();
        let EncoderWorkspace { step, types, .. } = self.make_room(bucket.rows, bucket.slots)?;
        let mut block = 0;
        for (slot, text) in (0..).zip(own) {
            let end = block + (text.ids.len() as u32).div_ceil(BLOCK);
            step.set_pages(&device, 0, slot, 0, &(block..end).collect::<Vec<_>>());
            block = end;
        }
        let slots: Vec<_> = own.iter().map(|t| Slot { rows: t.ids.len() as u32, ..Slot::default() }).collect();
        step.set(&device, &slots);
        step.set_ids(&device, own.iter().map(|text| text.ids.as_slice()));
        let kinds = (0..).zip(own).flat_map(|(slot, text)| text.type_ids.iter().map(move |&id| Row { id, slot }));
        device.write(types, 0, bytemuck::cast_slice(&kinds.collect::<Vec<Row>>()));

        let found = step.overflow.clone();
        let recorded = self.program(bucket)?;
        let mut overflow = 0;
        let place = |(tensor, buffer, is_of_text): &(Tensor, Buffer, bool)| {
            let count = if *is_of_text { own.len() } else { rows as usize };
            let begin = overflow;
            overflow += count * tensor.dim4() as usize * tensor.elem.bytes4() as usize;
            (buffer.clone(), (*tensor, *is_of_text, begin..overflow))
        };
        let placed: Vec<_> = recorded.outputs.iter().map(place).collect();
        let mut readback = Readback::new(&device, "features", overflow as u64 + 4)?;
        let mut encoder = device.encoder();
        recorded.program.encode(&mut encoder);
        for (buffer, (.., range)) in &placed {
            readback.copy(&mut encoder, buffer, 0, range.len() as u64);
        }
        readback.copy(&mut encoder, &found, 0, 4);
        readback.submit(&device, encoder);
        let outputs = placed.into_iter().map(|(_, output)| output).collect();
        Ok(UnderWay { readback, texts: of, outputs, overflow })
    }

    fn make_room(&mut self, rows: u32, slots: u32) -> Result<&EncoderWorkspace, Error> {
        let had = self.workspace.as_ref().map_or((0, 0), |w| (w.rows, w.slots));
        if self.workspace.is_none() || had.0 < rows || had.1 < slots {
            // programs know the buffers of the one before
            self.programs.clear();
            self.workspace = None;
            let (rows, slots) = (rows.max(had.0), slots.max(had.1));
            let memory = Memory::Device(&self.device);
            self.workspace = Some(EncoderWorkspace::new(memory, &self.config, self.precision.cache, rows, slots)?);
        }
        Ok(self.workspace.as_ref().expect("it was made"))
    }

    fn program(&mut self, bucket: Bucket) -> Result<&Recorded, Error> {
        if !self.programs.contains_key(&bucket) {
            let recorded = self.record(bucket)?;
            self.programs.insert(bucket, recorded);
        }
        Ok(&self.programs[&bucket])
    }

    fn record(&self, bucket: Bucket) -> Result<Recorded, Error> {
        let workspace = self.workspace.as_ref().expect("it was made before");
        let mut g = Graph::new(&self.device);
        let outputs = workspace.record(&mut g, &self.model, self.precision.activations, bucket)?;
        let program = g.finish(&self.arena)?;
        tracing::debug!(?bucket, dispatches = program.len(), "recorded");
        let kept = |(tensor, is_of_text)| program.kept(&tensor).map(|buffer| (tensor, buffer.clone(), is_of_text));
        let outputs = outputs.into_iter().filter_map(kept).collect();
        Ok(Recorded { program, outputs })
    }
}

/// Divides a vector by its length, bounded as torch's `normalize` has it.
fn normalize_row(row: &mut [f32]) {
    let length = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt().max(1e-12);
    row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
}
