//! From what people have (text, messages) to what models take (ids), and back.

mod chat;
mod chat_template;
mod gguf;
mod jinja;
mod python;
mod text_stream;
mod tokenizer;
mod vocabulary;

pub use chat::{ChatOptions, Message};
pub use chat_template::ChatTemplate;
pub use text_stream::TextStream;
pub use tokenizer::Tokenizer;
pub use vocabulary::Vocabulary;
