//! Drives the real binary, on whatever adapter there is.

mod bench;
mod chat;
mod devices;
mod errors;
mod forward;
mod generate;
mod inspect;
mod support;
mod terminal;
