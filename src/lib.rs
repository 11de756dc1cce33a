#![doc = include_str!("../README.md")]
//!
//! ## A worked example
//!
//! A chat, from the folder of a model to its answer. `examples/` has this and more as programs.
//!
//! ```no_run,ignore-wasm32
//! use webweft::device::{Device, DeviceOptions};
//! use webweft::managers::{Dtype, inspect};
//! use webweft::preprocess::{ChatOptions, Message};
//! use webweft::session::{LoadOptions, Session};
//! use webweft::source::{Folder, Source};
//!
//! # async fn chat() -> Result<(), webweft::error::Error> {
//! let source = Source::Folder(Folder::open("path/to/model")?);
//! let device = Device::open(&DeviceOptions::default()).await?;
//!
//! // what it would take is known before it is loaded
//! let facts = inspect(&source, Some(device.info()), None).await?;
//! let sizes: Vec<_> = facts.on_gpu.iter().map(|size| (size.dtype, size.weights, size.fits)).collect();
//! println!("{} parameters: {sizes:?}", facts.parameters);
//!
//! let options = LoadOptions { dtype: Dtype::Q4, context: Some(4096), ..LoadOptions::default() };
//! let mut session = Session::open(&device, &source, &options, |progress| {
//!     eprintln!("{} of {} bytes", progress.loaded, progress.total);
//! })
//! .await?;
//!
//! // the model's template writes the messages; what turns have in common is computed once
//! let messages = [Message::system("Be brief."), Message::user("Why is the sky blue?")];
//! let prompt = session.chat_prompt(&messages, &ChatOptions::default())?;
//! let answers = session.chat_defaults();
//! let mut answer = session.generate_text(prompt.as_slice(), answers).await?;
//! while let Some(piece) = answer.next().await? {
//!     print!("{}", piece.text);
//! }
//! # Ok(())
//! # }
//! ```

pub mod checkpoint;
pub mod device;
pub mod encode;
pub mod error;
pub mod generate;
pub mod graph;
pub mod managers;
pub mod models;
pub mod nn;
pub mod ops;
pub mod preprocess;
pub mod quant;
pub mod reference;
pub mod session;
pub mod shaders;
pub mod site;
pub mod source;
pub mod step;
pub mod tensor;
pub mod web;
pub mod weights;
