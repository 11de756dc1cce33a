//! Which kernels a page's models take, and what the page is told and keeps of that.

use std::cell::RefCell;

use serde_json::{Value, json};
use wasm_bindgen::JsValue;

use super::OpenOptions;
use super::convert::to_js;
use super::errors::Failed;
use crate::device::{Capabilities, Device, DeviceOptions, Kernels};
use crate::error::Error;
use crate::managers::autotune::{BUDGET, KernelReport, RUNS};
use crate::managers::self_test;

/// What was found on the adapter of a model's device.
#[derive(Debug)]
pub struct Chosen {
    options: DeviceOptions,
    /// `None` where nothing may be chosen, or nothing could be found
    report: RefCell<Option<KernelReport>>,
}

impl Chosen {
    /// Opens the device that `options` ask for, with the kernels that are right there: as an earlier visit found them, else tested now.
    pub async fn open(options: &OpenOptions, tell: &dyn Fn(Value)) -> Result<(Device, Self), Error> {
        let of_device = options.device();
        let device = Device::open(&of_device).await?;
        // of WebGPU's defaults alone there is nothing to choose from
        let report = if of_device.portable { None } else { Self::find(&device, options, tell).await };
        // nobody's account knows of measurements
        let of_device = DeviceOptions { memory_limit: None, ..of_device };
        Ok((device, Self { options: of_device, report: RefCell::new(report) }))
    }

    async fn find(device: &Device, options: &OpenOptions, tell: &dyn Fn(Value)) -> Option<KernelReport> {
        let mut known = options.kernels.iter().filter_map(|json| serde_json::from_str::<KernelReport>(json).ok());
        let report = match known.find(|report| report.is_of(device)) {
            Some(report) => report,
            None => match test(&options.device()).await {
                Ok(report) => report,
                Err(error) => {
                    // no model fails for that: it takes what needs no test
                    tracing::debug!(%error, "kernels not tested");
                    let Capabilities { processor, .. } = device.capabilities();
                    device.set_kernels(Kernels::of(&Capabilities { processor, ..Capabilities::default() }));
                    return None;
                }
            },
        };
        for verdict in &report.verdicts {
            if let Some(wrong) = &verdict.wrong {
                let message = ["kernels with ", verdict.variant.name(), " are not used, they are wrong here: ", wrong];
                tell(json!({ "type": "notice", "code": "kernels_wrong", "message": message.concat() }));
            }
        }
        let report = if options.autotune.unwrap_or(true) { report } else { KernelReport::new(device, report.verdicts) };
        device.set_kernels(report.kernels);
        Some(report)
    }

    /// `KernelReport`, or `null`.
    pub fn report(&self) -> JsValue {
        to_js(&*self.report.borrow())
    }

    /// Measures what is fastest, where that was not done yet. Dropped on the way, it leaves all as it was.
    pub async fn measure(&self) -> Result<Option<KernelReport>, Failed> {
        let report = self.report.borrow().clone();
        let Some(mut report) = report.filter(|report| !report.is_tuned) else { return Ok(None) };
        let own = Device::open(&self.options).await?;
        let measured = report.measure(&own, BUDGET, RUNS).await;
        own.destroy();
        measured?;
        Ok(Some(report))
    }

    /// Has programs take what was measured that `device` records from now on.
    pub fn take(&self, device: &Device, report: KernelReport) {
        device.set_kernels(report.kernels);
        *self.report.borrow_mut() = Some(report);
    }
}

/// On a device of its own: nothing of it is in anybody's account.
async fn test(options: &DeviceOptions) -> Result<KernelReport, Error> {
    let device = Device::open(&DeviceOptions { memory_limit: None, ..options.clone() }).await?;
    let verdicts = self_test(&device, None).await;
    let report = verdicts.map(|verdicts| KernelReport::new(&device, verdicts));
    device.destroy();
    report
}
