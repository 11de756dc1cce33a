//! Continues a text:
//!
//! ```sh
//! cargo run --release --example generate -- DIR "Once upon a time"
//! ```

#[cfg(not(target_arch = "wasm32"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::io::Write;

    use webweft::device::{Device, DeviceOptions};
    use webweft::generate::GenerateOptions;
    use webweft::session::{LoadOptions, Session};
    use webweft::source::{Folder, Source};

    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(prompt)) = (arguments.next(), arguments.next()) else {
        return Err("give the folder of a model, and a text to continue".into());
    };
    pollster::block_on(async {
        // the most capable adapter; weights in the type that suits the model's size
        let device = Device::open(&DeviceOptions::default()).await?;
        let source = Source::Folder(Folder::open(&folder)?);
        let mut session = Session::open(&device, &source, &LoadOptions::default(), |_| ()).await?;

        // what generation_config.json says, but for two settings
        let options = GenerateOptions { temperature: 0.8, max_new_tokens: 100, ..session.defaults().clone() };
        let mut text = session.generate_text(prompt.as_str(), options).await?;
        print!("{prompt}");
        while let Some(piece) = text.next().await? {
            print!("{}", piece.text);
            std::io::stdout().flush()?;
        }
        println!("\n[{:?}, {:?}]", text.finish_reason(), text.timing());
        Ok(())
    })
}

/// A browser has no folders.
#[cfg(target_arch = "wasm32")]
fn main() {}
