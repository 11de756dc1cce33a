//! webweft: a transformer runtime on WebGPU.
pub mod checkpoint;
pub mod device;
pub mod error;
pub mod generate;
pub mod graph;
pub mod managers;
pub mod models;
pub mod nn;
pub mod ops;
pub mod preprocess;
pub mod reference;
pub mod session;
pub mod shaders;
pub mod source;
pub mod step;
pub mod tensor;
pub mod weights;
