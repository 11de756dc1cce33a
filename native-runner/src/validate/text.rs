//! What is predicted: texts, their tokens, and the windows that these are cut into.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};
use webweft::session::Session;

use super::args::Validate;
use crate::errors::CliError;
use crate::fingerprint::hex;

/// Stories that the built-in model was not trained on: documents of another seed of its grammar.
const HELD_OUT: &str = include_str!("../../../assets/held-out.txt");

/// What a model reads between two stories: the built-in model's end and beginning of a text.
const BETWEEN: &str = "</s><s>";

/// The positions of a window where nobody says.
const WINDOW: usize = 512;

/// Texts, each of which begins anew.
#[derive(Debug)]
pub struct Corpus {
    /// Where they are from.
    pub names: Vec<String>,
    texts: Vec<String>,
}

/// A text's tokens: what the tokenizer puts before a text, and the text's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    prefix: Vec<u32>,
    ids: Vec<u32>,
}

/// What goes through a model at once. Row `r` from `first` on, but the last one, predicts `ids[r + 1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The tokens.
    pub ids: Vec<u32>,
    /// The first row that counts: those before it are what it sees.
    pub first: usize,
}

impl Window {
    /// The tokens that are predicted.
    pub fn targets(&self) -> &[u32] {
        &self.ids[self.first + 1..]
    }
}

impl Corpus {
    /// What the flags name.
    pub fn read(args: &Validate) -> Result<Self, CliError> {
        let (names, whole) = match (args.text.as_slice(), &args.model) {
            ([], None) => (vec!["held-out stories".to_owned()], vec![HELD_OUT.to_owned()]),
            ([], Some(_)) => return Err(CliError::NoText),
            (files, _) => {
                let names = files.iter().map(|file| file.display().to_string()).collect();
                (names, files.iter().map(|file| read(file)).collect::<Result<_, _>>()?)
            }
        };
        let texts = match (args.paragraphs, args.text.is_empty()) {
            // one story is shorter than what a cache keeps
            (false, true) if args.drops() => vec![paragraphs(HELD_OUT).join(BETWEEN)],
            (false, false) => whole,
            _ => whole.iter().flat_map(|text| paragraphs(text)).collect(),
        };
        Ok(Self { names, texts })
    }

    /// SHA-256 of the texts, in hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for text in &self.texts {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hex(&hash.finalize())
    }

    /// The tokens of each.
    pub fn tokens(&self, session: &Session) -> Result<Vec<Tokens>, CliError> {
        let tokenizer = session.tokenizer()?;
        let of = |text: &String| {
            let encode = |special| tokenizer.encode(text, special).map_err(webweft::error::Error::from);
            Ok::<_, CliError>(Tokens::split(encode(false)?, &encode(true)?))
        };
        self.texts.iter().map(of).collect()
    }
}

impl Tokens {
    /// What stands before `ids` in `whole`; a text that begins with it already is not given it twice.
    fn split(ids: Vec<u32>, whole: &[u32]) -> Self {
        let at = whole.windows(ids.len().max(1)).position(|part| part == ids).unwrap_or(0);
        let prefix = whole[..at].to_vec();
        let ids = ids.strip_prefix(prefix.as_slice()).map(<[u32]>::to_vec).unwrap_or(ids);
        Self { prefix, ids }
    }

    /// Cuts them as `cut` says. Every token is predicted once, but for those that `cut.prompt` positions, or one, do not stand before;
    /// behind a window's beginning only those that no window before has predicted.
    fn windows(&self, cut: Cut) -> Vec<Window> {
        let (before, count) = (self.prefix.len(), self.ids.len());
        let own = cut.context.saturating_sub(before);
        let first = cut.prompt.max(1).saturating_sub(before);
        let stride = cut.stride.min(own.saturating_sub(first)).max(1);
        let (mut all, mut begin, mut predicted) = (Vec::new(), 0, first);
        while predicted < count && own > first {
            let end = (begin + own).min(count);
            let ids = [&self.prefix, &self.ids[begin..end]].concat();
            all.push(Window { ids, first: before + predicted - begin - 1 });
            predicted = end;
            begin += stride;
        }
        all
    }
}

/// How texts are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Positions of a window.
    pub context: usize,
    /// From one window's beginning to the next one's.
    pub stride: usize,
    /// Positions at a window's beginning that are given, and not predicted, whatever the text before; 0: what no window before has.
    pub prompt: usize,
}

impl Cut {
    /// By the flags, for models of `most` positions.
    pub fn new(args: &Validate, most: usize) -> Result<Self, CliError> {
        let context = args.context.map_or(WINDOW.min(most), |context| context as usize);
        let prompt = if args.drops() { context / 2 } else { 0 };
        let most = context - prompt.clamp(1, context);
        let stride = args.stride.map_or(most.max(1), |stride| stride as usize);
        if stride > most.max(1) {
            return Err(CliError::Stride { stride, most, context });
        }
        Ok(Self { context, stride, prompt })
    }

    /// The windows of all texts, up to `most` predictions.
    pub fn windows(self, texts: &[Tokens], most: usize) -> Result<Vec<Window>, CliError> {
        let mut left = most;
        let mut windows = Vec::new();
        for mut window in texts.iter().flat_map(|text| text.windows(self)) {
            let count = window.targets().len().min(left);
            window.ids.truncate(window.first + 1 + count);
            left -= count;
            if count > 0 {
                windows.push(window);
            }
        }
        if windows.is_empty() {
            return Err(CliError::TextTooShort { tokens: texts.iter().map(|text| text.ids.len()).sum() });
        }
        Ok(windows)
    }
}

fn read(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::Text { path: path.into(), source };
    let bytes = match path.to_str() {
        Some("-") => {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
        }
        _ => fs::read(path),
    };
    String::from_utf8(bytes.map_err(failed)?)
        .map_err(|error| CliError::TextNotUtf8 { path: path.into(), at: error.utf8_error().valid_up_to() })
}

/// What empty lines separate.
fn paragraphs(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    for line in text.lines().chain([""]) {
        if !line.trim().is_empty() {
            open.push(line);
        } else if !open.is_empty() {
            all.push(std::mem::take(&mut open).join("\n"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(prefix: &[u32], count: u32, length: usize, stride: usize) -> Vec<(Vec<u32>, usize)> {
        let tokens = Tokens { prefix: prefix.to_vec(), ids: (10..10 + count).collect() };
        let windows = tokens.windows(Cut { context: length, stride, prompt: 0 });
        // whatever the cut, each token is predicted once, in order
        let predicted: Vec<u32> = windows.iter().flat_map(|window| window.targets().to_vec()).collect();
        let from = if prefix.is_empty() { 11 } else { 10 };
        assert_eq!(predicted, (from..10 + count).collect::<Vec<_>>(), "{prefix:?} {count} {length} {stride}");
        // and with a prompt all that it does not take, each after so many positions
        let prompt = length / 2;
        let windows_after = tokens.windows(Cut { context: length, stride: stride.min(length - prompt), prompt });
        let predicted: Vec<u32> = windows_after.iter().flat_map(|window| window.targets().to_vec()).collect();
        let from = from.max(10 + (prompt - prefix.len().min(prompt)) as u32);
        assert_eq!(predicted, (from..10 + count).collect::<Vec<_>>(), "{prefix:?} {count} {length} {stride}, a prompt");
        assert!(windows_after.iter().all(|window| window.ids.len() <= length && window.first + 1 >= prompt));
        assert!(windows.iter().all(|window| window.ids.len() <= length));
        windows.into_iter().map(|window| (window.ids, window.first)).collect()
    }

    #[test]
    fn every_token_is_predicted_once() {
        assert_eq!(cut(&[1], 5, 4, 3), [(vec![1, 10, 11, 12], 0), (vec![1, 13, 14], 0)]);
        assert_eq!(cut(&[], 5, 4, 3), [(vec![10, 11, 12, 13], 0), (vec![13, 14], 0)]);
        assert_eq!(cut(&[1], 5, 4, 2), [(vec![1, 10, 11, 12], 0), (vec![1, 12, 13, 14], 1)]);
        assert_eq!(cut(&[], 3, 8, 7), [(vec![10, 11, 12], 0)]);
        for prefix in [&[][..], &[1], &[1, 2]] {
            for (count, length) in [(2, 4), (31, 4), (32, 5), (33, 32), (257, 33)] {
                for stride in [1, 2, length - 1] {
                    cut(prefix, count, length, stride);
                }
            }
        }
        let cut_of = |context| Cut { context, stride: context - 1, prompt: 0 };
        assert!(Tokens { prefix: vec![], ids: vec![7] }.windows(cut_of(8)).is_empty(), "nothing stands before it");
        assert!(Tokens { prefix: vec![1, 2], ids: vec![7] }.windows(cut_of(2)).is_empty(), "no room");
    }

    #[test]
    fn predictions_are_bounded() {
        let texts = [5, 9].map(|count| Tokens { prefix: vec![1], ids: (0..count).collect() });
        let cut = Cut { context: 4, stride: 3, prompt: 0 };
        let count = |most| {
            cut.windows(&texts, most).map(|all| all.iter().map(|w| w.targets().len()).sum::<usize>()).unwrap_or(0)
        };
        assert_eq!([1, 3, 4, 6, 14, 99].map(count), [1, 3, 4, 6, 14, 14]);
        assert!(matches!(cut.windows(&[Tokens::default()], 9), Err(CliError::TextTooShort { tokens: 0 })));
    }

    #[test]
    fn what_the_tokenizer_adds_is_found() {
        let split = |ids: &[u32], whole: &[u32]| {
            let Tokens { prefix, ids } = Tokens::split(ids.to_vec(), whole);
            (prefix, ids)
        };
        assert_eq!(split(&[5, 6], &[1, 5, 6]), (vec![1], vec![5, 6]));
        assert_eq!(split(&[5, 6], &[1, 5, 6, 2]), (vec![1], vec![5, 6]), "an end that no text has yet");
        assert_eq!(split(&[5, 6], &[5, 6]), (vec![], vec![5, 6]));
        assert_eq!(split(&[1, 5], &[1, 1, 5]), (vec![1], vec![5]), "the text says it itself");
        assert_eq!(split(&[], &[]), (vec![], vec![]));
    }

    #[test]
    fn paragraphs_are_apart() {
        assert_eq!(paragraphs("a\nb\n\n \n\nc\n"), ["a\nb", "c"]);
        assert_eq!(paragraphs("\n\n"), [""; 0]);
        assert!(paragraphs(HELD_OUT).len() > 20);
    }
}
