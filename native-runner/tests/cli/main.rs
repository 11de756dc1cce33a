//! Drives the real binary, on whatever adapter there is.

mod devices;
mod errors;
mod forward;
mod generate;
mod support;
mod terminal;
