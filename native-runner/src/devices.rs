//! `devices`: which adapters there are.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};
use webweft::device::{AdapterInfo, Capabilities, list_adapters};
use webweft::error::DeviceError;
use webweft::managers::{Decision, Dtype, PrecisionFacts, decide};

use crate::args::{Devices, Shared};
use crate::errors::CliError;
use crate::sizes;
use crate::table::columns;

/// Lists them, or fails with what to install.
pub fn run(args: &Devices, shared: &Shared) -> Result<ExitCode, CliError> {
    let backend = shared.backend.map(Into::into);
    let adapters = pollster::block_on(list_adapters(backend));
    if adapters.is_empty() {
        return Err(DeviceError::NoAdapter { backend }.into());
    }
    let text = if args.json { in_json(&adapters) } else { tables(&adapters) };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(CliError::Stdout)?;
    Ok(ExitCode::SUCCESS)
}

fn in_json(adapters: &[AdapterInfo]) -> String {
    let object = |(index, a): (usize, &AdapterInfo)| {
        json!({
            "index": index, "name": a.name, "backend": a.backend, "kind": a.kind, "driver": a.driver,
            "max_binding": a.max_binding, "max_buffer": a.max_buffer, "features": a.features, "precision": precision(a).map(|d| d.to_json()),
        })
    };
    Value::from(adapters.iter().enumerate().map(object).collect::<Vec<_>>()).to_string()
}

/// What follows for a model whose weights are not f32.
fn precision(adapter: &AdapterInfo) -> [Decision; 3] {
    let capabilities = Capabilities { shader_f16: adapter.features.contains(&"f16"), ..Capabilities::default() };
    let [activations, cache, sums, _] = decide(&PrecisionFacts { dtype: Dtype::Q4, cache: None, capabilities });
    [activations, cache, sums]
}

fn tables(adapters: &[AdapterInfo]) -> String {
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
    format!("{}\n{}", columns(&rows, &[]), columns(&chosen, &[]))
}
