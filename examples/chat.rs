//! Asks a chat model two questions, the second of which it answers knowing the first:
//!
//! ```sh
//! cargo run --release --example chat -- DIR "Name a colour." "And another one?"
//! ```

#[cfg(not(target_arch = "wasm32"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use webweft::device::{Device, DeviceOptions};
    use webweft::preprocess::{ChatOptions, Message};
    use webweft::session::{LoadOptions, Session};
    use webweft::source::{Folder, Source};

    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("give the folder of a chat model, and questions")?;
    pollster::block_on(async {
        let device = Device::open(&DeviceOptions::default()).await?;
        let source = Source::Folder(Folder::open(&folder)?);
        let mut session = Session::open(&device, &source, &LoadOptions::default(), |_| ()).await?;

        let mut messages = vec![Message::system("Answer in one sentence.")];
        for question in arguments {
            messages.push(Message::user(question.as_str()));
            // the model's own template writes the messages as it was trained on them
            let prompt = session.chat_prompt(&messages, &ChatOptions::default())?;
            // what the turns have in common is in the cache, and not computed again
            let options = session.chat_defaults();
            let mut answer = session.generate_text(prompt.as_slice(), options).await?;
            let mut said = String::new();
            while let Some(piece) = answer.next().await? {
                said += &piece.text;
            }
            println!("> {question}\n{said}\n[{} of {} tokens computed]", answer.timing().prefill_tokens, prompt.len());
            messages.push(Message::assistant(said));
        }
        Ok(())
    })
}

/// A browser has no folders.
#[cfg(target_arch = "wasm32")]
fn main() {}
