//! Whole forward passes: what every position makes, read back.

use super::engine::Engine;
use super::programs::{Output, Phase};
use super::select;
use crate::device::Readback;
use crate::error::{Error, GenerateError};
use crate::managers::blocks;
use crate::shaders::Slot;
use crate::tensor::vec4s;

/// Everything that a forward pass over given tokens makes, as transformers names it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hidden {
    /// `[T, D]`, after the final norm.
    pub last_hidden_state: Vec<f32>,
    /// `[T, V]`
    pub logits: Vec<f32>,
    /// `[layers + 1][T, D]`, where they were asked for: the residual stream before the first layer and after every one. Transformers'
    /// list has in place of the last one [`last_hidden_state`](Self::last_hidden_state).
    pub hidden_states: Vec<Vec<f32>>,
}

impl Engine {
    /// The model once over `ids`, from an empty cache: every position's hidden state and logits. Where f16 does not hold a value, it is made
    /// again in f32; what f32 does not hold either is given as it is. Where memory runs short, only what costs time is given up: layers
    /// that stay on the GPU.
    ///
    /// # Errors
    /// [`GenerateError`](crate::error::GenerateError) for ids that cannot be; those of the device.
    pub async fn forward(&mut self, ids: &[u32]) -> Result<Hidden, Error> {
        self.everything(ids, Phase::Everything { states: false }, 0).await
    }

    /// As [`forward`](Self::forward), with the residual stream around every layer.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub async fn forward_with_hidden_states(&mut self, ids: &[u32]) -> Result<Hidden, Error> {
        self.everything(ids, Phase::Everything { states: true }, 0).await
    }

    /// As [`forward_with_hidden_states`](Self::forward_with_hidden_states), of a text whose first `prompt` tokens are a prompt: what follows
    /// sees of it what it would see if it were generated, where the cache's policy keeps a selection.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub async fn forward_after_prompt(&mut self, ids: &[u32], prompt: usize) -> Result<Hidden, Error> {
        self.everything(ids, Phase::Everything { states: true }, prompt.min(ids.len())).await
    }

    async fn everything(&mut self, ids: &[u32], phase: Phase, prompt: usize) -> Result<Hidden, Error> {
        self.check_ids(ids)?;
        loop {
            let made = match self.everything_once(ids, phase, prompt).await {
                Ok(made) => made,
                Err(error) => {
                    // whoever asks for values wants those that would have been
                    self.or_concede_layers(Err(error)).await?;
                    continue;
                }
            };
            self.begun_anew = false;
            let Some((site, position)) = self.overflowed else { return Ok(made) };
            if self.widen(site, position).is_err() {
                // whoever asks for all values may want to see where they are no numbers
                return Ok(made);
            }
        }
    }

    /// As [`everything`](Self::everything), unless a step overflowed: then [`overflowed`](Engine::overflowed) says where.
    async fn everything_once(&mut self, ids: &[u32], phase: Phase, prompt: usize) -> Result<Hidden, Error> {
        self.drain().await?;
        self.recover().await?;
        let (positions, cache) = (self.kept(ids.len()), self.needs(prompt, ids.len() - prompt));
        if !self.has_room(positions, cache, 1) {
            self.make_room(positions, cache, 1)?;
        }
        let regimes = self.regimes_of(ids.len());
        if self.is_busy() && regimes != self.regimes {
            let (name, expected) = ("forward", "no other sequences, where rotary frequencies follow the length");
            return Err(GenerateError::Setting { name, got: "others that run".into(), expected }.into());
        }
        self.set_regimes(&regimes);
        // a sequence of its own, that knows nothing of others; one that was broken off has left its place
        if let Some(place) = self.under_way.take() {
            self.blocks.forget(place);
        }
        let (place, _) = self.blocks.begin(&[]);
        self.under_way = Some(place);
        let made = self.everything_at(place, ids, phase, prompt).await;
        // that of a selection, where one was made
        let place = self.under_way.take().unwrap_or(place);
        match &made {
            Ok(_) => self.blocks.end(place),
            Err(_) => self.blocks.forget(place),
        }
        let cached = if self.selects(prompt).is_some() { &ids[..prompt] } else { ids };
        self.cached = if made.is_ok() { cached.to_vec() } else { Vec::new() };
        made
    }

    async fn everything_at(
        &mut self,
        mut place: blocks::SequenceId,
        ids: &[u32],
        phase: Phase,
        prompt: usize,
    ) -> Result<Hidden, Error> {
        let step = self.workspace().step.clone();
        let mut out = Hidden::default();
        let size = self.rows_at_once(phase);
        let mut done = 0;
        while done < ids.len() {
            let mut most = size.min(self.until_drop(place, done));
            let mut selects = done < prompt && self.selects(prompt).is_some();
            if selects {
                most = select::piece(prompt - done, most, true);
                selects = most == prompt - done;
            }
            let chunk = &ids[done..ids.len().min(done + most)];
            let (position, rows) = (done as u32, chunk.len() as u32);
            done += chunk.len();
            self.blocks.evict(place, chunk.len());
            let dropped = self.blocks.dropped(place);
            self.blocks.reserve(place, done - dropped).map_err(|short| self.no_room(&short))?;
            for (table, pool) in (0..).zip(self.pools()) {
                step.set_pages(&self.device, table, 0, 0, self.blocks.table(place, pool));
            }
            let dropped = dropped as u32;
            step.set(&self.device, &[Slot { position, rows, dropped, ..Slot::default() }]);
            step.set_ids(&self.device, [chunk]);
            // it is in the first slot, whoever sits there: all are told anew before they go on
            self.batch.is_forgotten = true;
            self.blocks.confirm(place, chunk);
            let mut encoder = self.device.encoder();
            let device = self.device.clone();
            if selects {
                self.gathering_program()?;
            }
            let key = self.key(phase, selects, rows, 1, position + rows - dropped);
            encoder = self.encode_runs(key, 1, encoder).await?;
            let recorded = self.program(key)?;
            let mut parts = Vec::new();
            let mut total = 0;
            let first = [&recorded.hidden, &recorded.logits].into_iter().flatten();
            for Output { tensor, buffer } in first.chain(&recorded.states) {
                let bytes = chunk.len() as u64 * u64::from(tensor.dim4()) * tensor.elem.bytes4();
                parts.push((*tensor, buffer.clone(), total..total + bytes));
                total += bytes;
            }
            out.hidden_states.resize(recorded.states.len(), Vec::new());
            let mut readback = Readback::new(&device, "outputs", total + 4)?;
            for (_, buffer, range) in &parts {
                readback.copy(&mut encoder, buffer, 0, range.end - range.start);
            }
            readback.copy(&mut encoder, &step.overflow, 0, 4);
            let gathering = if selects { self.plan_gathering(place, &ids[..prompt]) } else { Ok(None) };
            let gathering = gathering.map_err(|short| self.no_room(&short))?;
            readback.submit(&device, encoder);
            if let Some(gathering) = gathering {
                let prompt = std::mem::replace(&mut place, gathering.place());
                self.under_way = Some(place);
                self.gather_from(prompt, gathering)?;
            }
            readback.wait(&device).await?;
            let found = readback.take(|bytes| {
                for (index, (tensor, _, range)) in parts.iter().enumerate() {
                    let to = match index {
                        0 => &mut out.last_hidden_state,
                        1 => &mut out.logits,
                        _ => &mut out.hidden_states[index - 2],
                    };
                    tensor.unpack(&bytes[range.start as usize..range.end as usize], to);
                }
                bytemuck::pod_read_unaligned(&bytes[total as usize..])
            })?;
            if !self.is_finite(found, 1, done) {
                break;
            }
        }
        Ok(out)
    }

    /// Rows that one step may have: fewer where every row's logits are wanted and one binding does not show them all, or where
    /// that many bytes do not hold the states of all layers.
    fn rows_at_once(&self, phase: Phase) -> usize {
        let Phase::Everything { states } = phase else { return self.chunk as usize };
        let logits = u64::from(vec4s(self.config.vocab_size)) * 16;
        let layers = self.config.layers.len() as u64 + 1;
        let states = if states { layers * u64::from(vec4s(self.config.hidden_size)) * 16 } else { 0 };
        let most = (self.device.max_binding() / logits.max(states)).max(1) as usize;
        // buckets are powers of two: the largest that fits
        (self.chunk as usize).min(1 << most.ilog2())
    }
}
