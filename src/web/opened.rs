//! What is opened for a page, whatever it does: on which device it is, what is told of it, and how it is closed.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;

use js_sys::Uint32Array;
use serde_json::Value;
use wasm_bindgen::JsValue;
use web_sys::AbortSignal;

use super::convert::to_js;
use super::errors::{self, Failed};
use super::kernels::Chosen;
use super::{USE, memory_report, until_aborted};
use crate::device::Device;
use crate::error::{Error, GenerateError};
use crate::preprocess::Tokenizer;

/// A model on a device of its own.
#[derive(Debug)]
pub struct Opened<T> {
    device: Device,
    kernels: Chosen,
    /// gone once closed
    model: RefCell<Option<Rc<T>>>,
    /// for what needs no GPU, also while a step runs
    tokenizer: Option<Tokenizer>,
    place: String,
    info: Value,
}

impl<T> Opened<T> {
    pub fn new(
        device: Device,
        kernels: Chosen,
        model: T,
        tokenizer: Option<Tokenizer>,
        place: String,
        info: Value,
    ) -> Self {
        Self { device, kernels, model: RefCell::new(Some(Rc::new(model))), tokenizer, place, info }
    }

    /// What it is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// `ModelInfo`.
    pub fn info(&self) -> JsValue {
        to_js(&self.info)
    }

    /// `MemoryUse`.
    pub fn memory(&self) -> JsValue {
        let mut report = memory_report(self.device.ledger());
        if let Some(report) = report.as_object_mut() {
            report.retain(|name, _| USE.contains(&name.as_str()));
        }
        to_js(&report)
    }

    /// `MemoryReport`.
    pub fn memory_report(&self) -> JsValue {
        to_js(&memory_report(self.device.ledger()))
    }

    /// `KernelReport`, or `null`.
    pub fn kernels(&self) -> JsValue {
        self.kernels.report()
    }

    /// The same, measured.
    pub async fn measure_kernels(&self, signal: &AbortSignal) -> Result<JsValue, Failed> {
        let measuring: Pin<Box<dyn Future<Output = _>>> = Box::pin(self.kernels.measure());
        let measured = until_aborted(signal, measuring).await.unwrap_or_else(|| Err(errors::aborted()))?;
        // what was asked for meanwhile runs as it began
        if signal.aborted() {
            return Err(errors::aborted());
        }
        if let Some(report) = measured {
            self.kernels.take(&self.device, report);
        }
        Ok(self.kernels())
    }

    /// Token ids of a text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Uint32Array, Failed> {
        let ids = self.tokenizer()?.encode(text, add_special_tokens)?;
        Ok(Uint32Array::from(ids.as_slice()))
    }

    /// The text of token ids.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, Failed> {
        Ok(self.tokenizer()?.decode(ids, skip_special_tokens)?)
    }

    /// Destroys the device, as a driver's reset does.
    pub fn lose_device(&self) {
        self.device.destroy();
    }

    /// Gives all memory of the GPU back: `MemoryUse` of what is left. `BusyError` while somebody uses the model.
    pub fn close(&self) -> Result<JsValue, Failed> {
        let model = self.model.borrow_mut().take();
        if let Some(model) = model {
            match Rc::try_unwrap(model) {
                Ok(model) => drop(model),
                Err(model) => {
                    *self.model.borrow_mut() = Some(model);
                    return Err(errors::busy());
                }
            }
            self.device.destroy();
        }
        Ok(self.memory())
    }

    /// The model, until it is closed.
    pub fn model(&self) -> Result<Rc<T>, Failed> {
        self.model.borrow().clone().ok_or_else(errors::closed)
    }

    fn tokenizer(&self) -> Result<&Tokenizer, Failed> {
        self.model()?;
        let missing = || Error::from(GenerateError::NoTokenizer { place: self.place.clone() }).into();
        self.tokenizer.as_ref().ok_or_else(missing)
    }
}
