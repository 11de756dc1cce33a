//! Runs a model once over a text and shows what it expects at each position:
//!
//! ```sh
//! cargo run --release --example forward -- DIR "Once upon a time"
//! ```

#[cfg(not(target_arch = "wasm32"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use webweft::device::{Device, DeviceOptions};
    use webweft::managers::Dtype;
    use webweft::session::{LoadOptions, Session};
    use webweft::source::{Folder, Source};

    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(text)) = (arguments.next(), arguments.next()) else {
        return Err("give the folder of a model, and a text".into());
    };
    pollster::block_on(async {
        let device = Device::open(&DeviceOptions::default()).await?;
        let source = Source::Folder(Folder::open(&folder)?);
        let options = LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() };
        let mut session = Session::open(&device, &source, &options, |_| ()).await?;

        let ids = session.encode(&text)?; // [T]
        let made = session.forward(&ids).await?; // logits: [T, V]
        let vocab = session.engine().vocab_size() as usize;
        let tokenizer = session.tokenizer()?;
        let name = |id: u32| tokenizer.id_to_token(id).unwrap_or_else(|| id.to_string());
        for (id, logits) in ids.iter().zip(made.logits.chunks_exact(vocab)) {
            let (best, logit) = logits
                .iter()
                .enumerate()
                .fold((0, f32::MIN), |best, (i, &logit)| if logit > best.1 { (i, logit) } else { best });
            println!("{:>16} -> {:<16} {logit:8.3}", name(*id), name(best as u32));
        }
        Ok(())
    })
}

/// A browser has no folders.
#[cfg(target_arch = "wasm32")]
fn main() {}
