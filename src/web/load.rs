//! Opening a session, from the network, from files, or from what an earlier visit kept.

use serde_json::{Value, json};

use super::source::Files;
use crate::checkpoint::find_gguf;
use crate::device::Device;
use crate::error::Error;
use crate::managers::{self, Dtype};
use crate::session::{LoadOptions, Session};
use crate::source::Source;

/// The file of weights as they lie on the GPU, beside the files of a model that is kept.
fn packed(dtype: Dtype) -> String {
    format!("webweft-{}.safetensors", dtype.name())
}

/// An opened session, and what opening it took.
pub struct Loaded {
    pub session: Session,
    pub bytes: u64,
    pub weights_ms: f64,
    pub from: &'static str,
}

impl Loaded {
    /// From what an earlier visit kept of the weights as they lie on the GPU, if there is such, else from the checkpoint; with `keep`
    /// they are kept then.
    pub async fn of(
        device: &Device,
        source: &Source,
        load: &LoadOptions,
        keep: bool,
        tell: &dyn Fn(Value),
    ) -> Result<Self, Error> {
        // what another tool quantized, or what is quantized here: other weights take no fewer bytes as they lie on the GPU
        let quantized = match load.dtype {
            Dtype::Auto => managers::default_of_pages(source).await? == Dtype::Auto,
            dtype => dtype.blocks().is_some(),
        };
        // a GGUF file has what is beside the weights, too: it is kept as it is
        let quantized = quantized && find_gguf(source).await?.is_none();
        let file = packed(load.dtype);
        if quantized && source.size(&file).await?.is_some() {
            let load = LoadOptions { weights_file: Some(file.clone()), ..load.clone() };
            match Self::open(device, source, &load, tell).await {
                // damaged, or of another version of this engine: the checkpoint has it all
                Err(Error::Source(_) | Error::Checkpoint(_) | Error::Weights(_)) => {}
                opened => return opened,
            }
        }
        let mut loaded = Self::open(device, source, load, tell).await?;
        if quantized && keep {
            tell(json!({ "type": "stage", "stage": "keep" }));
            loaded.keep(source, &file, tell).await;
        }
        Ok(loaded)
    }

    async fn open(device: &Device, source: &Source, load: &LoadOptions, tell: &dyn Fn(Value)) -> Result<Self, Error> {
        let mut files = Files::new(source, tell);
        files.announce_small().await?;
        let (mut bytes, mut began) = (0, None);
        let session = Session::open(device, source, load, |at| {
            began.get_or_insert_with(web_time::Instant::now);
            bytes = at.total;
            files.progress(&at);
        });
        let session = session.await?;
        let weights_ms = began.map_or(0.0, |began| began.elapsed().as_secs_f64() * 1e3);
        Ok(Self { session, bytes, weights_ms, from: files.finish() })
    }

    /// Keeps the weights as they lie on the GPU. The model is there whether or not that succeeds: the next visit may read them as
    /// this one did.
    async fn keep(&mut self, source: &Source, file: &str, tell: &dyn Fn(Value)) {
        if let Err(error) = self.try_keep(source, file).await {
            tell(json!({ "type": "notice", "code": "cache_unavailable", "message": error.to_string() }));
        }
    }

    async fn try_keep(&mut self, source: &Source, file: &str) -> Result<(), Error> {
        let Some(mut keeper) = source.keeper(file, self.session.files()).await? else { return Ok(()) };
        let mut image = self.session.image();
        while let Some(bytes) = image.next().await? {
            keeper.append(&bytes);
        }
        // what the browser refuses is told as a notice
        keeper.finish().await;
        Ok(())
    }
}
