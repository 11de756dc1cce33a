//! `devices`: which adapters there are.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};
use webweft::device::{AdapterInfo, Capabilities, DeviceOptions, list_adapters};
use webweft::error::DeviceError;
use webweft::managers::autotune::{KernelReport, Measured};
use webweft::managers::{Decision, Dtype, PrecisionFacts, decide};

use crate::args::{Devices, Shared};
use crate::errors::CliError;
use crate::kernels;
use crate::open::device_options;
use crate::sizes;
use crate::table::columns;

/// Lists them, or fails with what to install.
pub fn run(args: &Devices, shared: &Shared) -> Result<ExitCode, CliError> {
    let backend = shared.backend.map(Into::into);
    let adapters = pollster::block_on(list_adapters(backend));
    if adapters.is_empty() {
        return Err(DeviceError::NoAdapter { backend }.into());
    }
    let reports = reports(&adapters, args.test, shared)?;
    let text = if args.json { in_json(&adapters, &reports) } else { tables(&adapters, &reports) };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(CliError::Stdout)?;
    Ok(ExitCode::SUCCESS)
}

/// What is known of each adapter's kernels, or found now.
fn reports(adapters: &[AdapterInfo], test: bool, shared: &Shared) -> Result<Vec<Option<KernelReport>>, CliError> {
    let mut reports = Vec::new();
    for (index, info) in adapters.iter().enumerate() {
        if !test {
            reports.push(kernels::remembered_of(info));
            continue;
        }
        let options = DeviceOptions { adapter: Some(index.to_string()), ..device_options(shared) };
        let report = pollster::block_on(kernels::test(&options, None, !shared.no_autotune))?;
        kernels::save(&report)?;
        reports.push(Some(report));
    }
    Ok(reports)
}

fn in_json(adapters: &[AdapterInfo], reports: &[Option<KernelReport>]) -> String {
    let object = |(index, (a, report)): (usize, (&AdapterInfo, &Option<KernelReport>))| {
        json!({
            "kernels": report,
            "index": index, "name": a.name, "backend": a.backend, "kind": a.kind, "driver": a.driver,
            "max_binding": a.max_binding, "max_buffer": a.max_buffer, "features": a.features, "precision": precision(a).map(|d| d.to_json()),
        })
    };
    Value::from(adapters.iter().zip(reports).enumerate().map(object).collect::<Vec<_>>()).to_string()
}

/// What follows for a model whose weights are not f32.
fn precision(adapter: &AdapterInfo) -> [Decision; 3] {
    let capabilities = Capabilities { shader_f16: adapter.features.contains(&"f16"), ..Capabilities::default() };
    let [activations, cache, sums, _] = decide(&PrecisionFacts { dtype: Dtype::Q4, cache: None, capabilities });
    [activations, cache, sums]
}

fn tables(adapters: &[AdapterInfo], reports: &[Option<KernelReport>]) -> String {
    const HEAD: [&str; 8] = ["index", "name", "backend", "kind", "driver", "max binding", "max buffer", "features"];
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    let mut chosen = vec![["index", "precision", "type", "why"].map(str::to_owned).to_vec()];
    for (index, a) in adapters.iter().enumerate() {
        rows.push(vec![
            index.to_string(),
            a.name.clone(),
            a.backend.clone(),
            a.kind.to_owned(),
            a.driver.clone(),
            sizes::format(a.max_binding),
            sizes::format(a.max_buffer),
            a.features.join(", "),
        ]);
        chosen.extend(precision(a).map(|Decision { what, chosen, reason }| {
            vec![index.to_string(), what.to_owned(), chosen.to_owned(), reason.to_owned()]
        }));
    }
    format!("{}\n{}\n{}", columns(&rows, &[]), columns(&chosen, &[]), columns(&of_kernels(reports), &[]))
}

/// What each adapter's kernels were found to be, and which are taken.
fn of_kernels(reports: &[Option<KernelReport>]) -> Vec<Vec<String>> {
    let mut rows = vec![["index", "kernels", "found", "taken"].map(str::to_owned).to_vec()];
    for (index, report) in reports.iter().enumerate() {
        let mut row = |what: &str, found: &str, taken: &str| {
            rows.push([index.to_string().as_str(), what, found, taken].map(str::to_owned).to_vec());
        };
        let Some(report) = report else {
            row("all", "not tested: the first run does it, or --test", "-");
            continue;
        };
        for verdict in &report.verdicts {
            match &verdict.wrong {
                Some(wrong) => row(verdict.variant.name(), &format!("wrong: {wrong}"), "never"),
                None => row(verdict.variant.name(), "right", "-"),
            }
        }
        for Measured { what, candidates, chosen } in &report.measured {
            let times: Vec<_> = candidates.iter().map(|(name, us)| format!("{name} {:.0} us", us[1])).collect();
            row(what, &times.join(", "), candidates.get(*chosen).map_or("-", |(name, _)| name));
        }
        if !report.is_tuned {
            row("speed", "not measured: the first run without --no-autotune does it, or --test", "-");
        }
    }
    rows
}
