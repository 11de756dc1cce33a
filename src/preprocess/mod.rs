//! From what people have (text) to what models take (ids), and back.

mod text_stream;
mod tokenizer;

pub use text_stream::TextStream;
pub use tokenizer::Tokenizer;
