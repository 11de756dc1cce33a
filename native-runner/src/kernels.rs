//! Which kernels a device takes: tested and measured when an adapter is first used, and remembered for it, its driver and this version.

use std::io::{self, Write};
use std::ops::Deref;

use webweft::device::{AdapterInfo, Device, DeviceOptions};
use webweft::error::Error;
use webweft::managers::autotune::{BUDGET, KernelReport, RUNS};
use webweft::managers::{self_test, trusted};

use crate::args::Shared;
use crate::errors::CliError;
use crate::open::device_options;
use crate::remembered;

const KIND: &str = "kernels";
const PIPELINES: &str = "pipelines";

/// A device whose compiled kernels are kept for the next run, when it goes, where the driver gives them out.
#[derive(Debug)]
pub struct OpenDevice(Device);

impl Deref for OpenDevice {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.0
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        let info = self.0.info();
        let now = self.0.pipeline_cache().filter(|_| self.0.pipelines_made() > 0);
        if let Some(now) = now.filter(|now| known_pipelines(info).as_ref() != Some(now))
            && let Err(error) = remembered::save_bytes(PIPELINES, &key(info), &now)
        {
            tracing::info!(%error, "compiled kernels are not kept");
        }
    }
}

fn known_pipelines(info: &AdapterInfo) -> Option<Vec<u8>> {
    remembered::load_bytes(PIPELINES, &key(info))
}

/// What is remembered of an adapter goes by it, its driver, and this version.
fn key(info: &AdapterInfo) -> [String; 3] {
    [info.to_string(), info.driver.clone(), env!("CARGO_PKG_VERSION").to_owned()]
}

/// Opens the device that the flags ask for, with the kernels that are right and fastest there. `stage` hears what takes time.
pub async fn open_device(shared: &Shared, stage: impl FnOnce(&'static str)) -> Result<OpenDevice, CliError> {
    let options = DeviceOptions { pipeline_cache: Some(known_pipelines), ..device_options(shared) };
    let device = OpenDevice(Device::open(&options).await?);
    // of WebGPU's defaults alone there is nothing to choose from
    if options.portable {
        return Ok(device);
    }
    let mut report = remembered_of(device.info()).filter(|report| report.is_of(&device));
    if report.as_ref().is_none_or(|report| !report.is_tuned && !shared.no_autotune) {
        stage("testing kernels");
        let made = test(&options, report, !shared.no_autotune).await?;
        // whoever cannot write there measures again next time
        if let Err(error) = save(&made)
            && !shared.quiet
        {
            let _ = writeln!(io::stderr(), "warning: {error}");
        }
        report = Some(made);
    }
    if let Some(report) = report {
        for verdict in report.verdicts.iter().filter(|_| !shared.quiet) {
            if let Some(wrong) = &verdict.wrong {
                let name = verdict.variant.name();
                let _ =
                    writeln!(io::stderr(), "warning: kernels with {name} are not used, they are wrong here: {wrong}");
            }
        }
        device.set_kernels(if shared.no_autotune { trusted(&device, &report.verdicts) } else { report.kernels });
    }
    Ok(device)
}

/// Tests an adapter's kernels, and if `tune` measures them, on a device of its own: nothing of it is in anybody's account.
pub async fn test(options: &DeviceOptions, known: Option<KernelReport>, tune: bool) -> Result<KernelReport, Error> {
    let options = DeviceOptions { memory_limit: None, ..options.clone() };
    let device = Device::open(&options).await?;
    let mut report = match known {
        Some(report) => report,
        None => KernelReport::new(&device, self_test(&device, None).await?),
    };
    if tune {
        report.measure(&device, BUDGET, RUNS).await?;
    }
    Ok(report)
}

/// What is known of an adapter, by this version.
pub fn remembered_of(info: &AdapterInfo) -> Option<KernelReport> {
    remembered::load(KIND, &key(info))
}

/// Keeps it.
pub fn save(report: &KernelReport) -> Result<(), CliError> {
    remembered::save(KIND, &[&report.adapter, &report.driver, &report.version], report)
}
