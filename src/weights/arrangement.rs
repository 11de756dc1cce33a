//! Weights that are on the GPU, arranged anew: layers leave it while the model is in use.

use super::offload::{Offloaded, Slots, keep};
use super::{Asked, Made, OffloadLayout, Weights};
use crate::checkpoint::Checkpoint;
use crate::device::{Buffer, Device};
use crate::error::Error;
use crate::quant::{Quantization, Side};
use crate::source::Scratch;

/// What weights were made of, and where they are: layers that stay can be taken from the GPU later, without the checkpoint's files.
#[derive(Debug)]
pub struct Arrangement {
    checkpoint: Checkpoint,
    quantization: Quantization,
    side: Side,
    /// all that stay, in the order in which they were asked for, and their layers
    buffers: Vec<(Option<usize>, Buffer)>,
    made: Vec<Made>,
    layers: Vec<Vec<u64>>,
}

impl Arrangement {
    /// Of weights that were asked for and [streamed](Weights::stream).
    #[must_use]
    pub fn new(checkpoint: Checkpoint, quantization: Quantization, side: Side, asked: Asked) -> Self {
        let Asked { buffers, made, layers } = asked;
        Self { checkpoint, quantization, side, buffers, made, layers }
    }

    /// Where they are: what an [`Image`](super::Image) is made of.
    #[must_use]
    pub fn made(&self) -> &[Made] {
        &self.made
    }

    /// Bytes of the buffers of each layer.
    #[must_use]
    pub fn layers(&self) -> &[Vec<u64>] {
        &self.layers
    }

    /// The same weights as `load` asks for them, with only the first `layout.resident` layers on the GPU: the others are read back. Whatever
    /// `load` made before keeps the memory of those that leave until it is dropped, but for two, whose memory becomes the slots.
    ///
    /// # Errors
    /// Those of the device, and of the place where layers are kept. All is then as it was.
    pub async fn offload<M>(
        &mut self,
        device: &Device,
        layout: OffloadLayout,
        offloaded: &mut Option<Offloaded>,
        load: impl FnOnce(&mut Weights<'_>) -> Result<M, Error>,
    ) -> Result<M, Error> {
        let resident = layout.resident;
        let mut before = match offloaded.take() {
            Some(before) => before,
            None => {
                let none = OffloadLayout { resident: self.layers.len(), offloaded: 0, ..layout.clone() };
                Offloaded::within(device, none, Vec::new(), Scratch::new().await?)
            }
        };
        let rearranged = self.rearranged(device, layout, &mut before, load).await;
        match rearranged {
            Ok((made, asked, slots, kept)) => {
                let Slots { layout, mut layers, .. } = slots;
                for (layer, at) in layers.iter_mut().zip(kept) {
                    (layer.at, layer.kept) = (at, true);
                    layer.known.clear();
                }
                let Asked { buffers, made: list, layers: sizes } = asked;
                (self.buffers, self.made, self.layers) = (buffers, list, sizes);
                debug_assert_eq!(layout.resident, resident);
                *offloaded = Some(Offloaded::within(device, layout, layers, before.store));
                Ok(made)
            }
            Err(error) => {
                *offloaded = Some(before).filter(|before| before.layers() > 0);
                Err(error)
            }
        }
    }

    async fn rearranged<M>(
        &self,
        device: &Device,
        layout: OffloadLayout,
        before: &mut Offloaded,
        load: impl FnOnce(&mut Weights<'_>) -> Result<M, Error>,
    ) -> Result<(M, Asked, Slots, Vec<u64>), Error> {
        before.settle(0).await?;
        let stay = |layer: Option<usize>| layer.is_none_or(|layer| layer < layout.resident);
        let bytes = |layer: usize| self.layers[layer].iter().sum::<u64>();
        let mut end = before.bytes();
        let leaving = layout.resident..before.layout.resident;
        before.store.grow(end + leaving.clone().map(bytes).sum::<u64>())?;
        let (mut kept, mut found) = (Vec::new(), Vec::new());
        for layer in leaving {
            let buffers = self.buffers.iter().filter(|(of, _)| *of == Some(layer)).map(|(_, buffer)| buffer.clone());
            let sized: Vec<_> = buffers.zip(self.layers[layer].iter().copied()).collect();
            keep(device, &sized, &mut before.store, end).await?;
            kept.push(end);
            end += bytes(layer);
            found.push(sized.into_iter().map(|(buffer, _)| buffer).collect());
        }
        kept.extend(before.layers.iter().map(|layer| layer.at));
        // slots that there are go on as slots
        let mut found = found.into_iter();
        let mut slot = |number: usize| {
            let slot = before.layers.get(number).map(|layer| layer.buffers.iter().map(|(buffer, _)| buffer.clone()));
            slot.map(Iterator::collect).or_else(|| found.next()).unwrap_or_default()
        };
        let slots = Slots::of(layout.clone(), device, [slot(0), slot(1)])?;
        let there: Vec<_> = self.buffers.iter().filter(|(layer, _)| stay(*layer)).map(|(_, b)| b.clone()).collect();
        let weights = Weights::new(device, &self.checkpoint).quantized_by(&self.quantization, Some(&self.side));
        let mut weights = Weights { slots: Some(slots), there: Some(there.into_iter()), ..weights };
        let made = load(&mut weights)?;
        weights.check()?;
        let asked = weights.asked();
        let slots = weights.slots.take().expect("they were just given");
        Ok((made, asked, slots, kept))
    }
}
