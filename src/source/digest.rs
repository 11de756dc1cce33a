//! SHA-256 of files, made while they pass.

use crate::error::SourceError;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// Of bytes that are there.
pub(super) fn of(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// In hexadecimal digits.
pub(super) fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// From 64 hexadecimal digits.
pub(super) fn parse(text: &str) -> Option<Digest> {
    let text = text.trim().as_bytes();
    let mut digest = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, digits) in digest.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(digest)
}

/// Those of files by their names.
pub(super) fn parse_all(digests: &BTreeMap<String, String>) -> Result<BTreeMap<String, Digest>, SourceError> {
    let one = |(name, text): (&String, &String)| match parse(text) {
        Some(digest) => Ok((name.clone(), digest)),
        None => Err(SourceError::BadDigest { name: super::shorten(name), digest: super::shorten(text) }),
    };
    digests.iter().map(one).collect()
}

/// A file that is checked while it passes, from its first byte to its last.
#[derive(Debug)]
pub(super) struct Check {
    want: Digest,
    whole: Sha256,
    /// What was read of the file before, and used: the same bytes must come by.
    parts: Vec<(Range<u64>, Digest, Sha256)>,
    at: u64,
}

impl Check {
    /// `seen`: hashes of ranges that were read before.
    pub fn new(want: Digest, seen: Vec<(Range<u64>, Digest)>) -> Self {
        let parts = seen.into_iter().map(|(range, want)| (range, want, Sha256::new())).collect();
        Self { want, whole: Sha256::new(), parts, at: 0 }
    }

    /// The next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
        let end = self.at + bytes.len() as u64;
        for (range, _, hash) in &mut self.parts {
            let (from, to) = (range.start.max(self.at), range.end.min(end));
            if from < to {
                hash.update(&bytes[(from - self.at) as usize..(to - self.at) as usize]);
            }
        }
        self.at = end;
    }

    /// Bytes that have passed.
    pub fn bytes(&self) -> u64 {
        self.at
    }

    /// What is wrong, if anything is: all has passed.
    pub fn verdict(self) -> Option<String> {
        let got: Digest = self.whole.finalize().into();
        if got != self.want {
            return Some(format!("its SHA-256 is {}, not {}", hex(&got), hex(&self.want)));
        }
        let mut parts = self.parts.into_iter();
        let (range, ..) = parts.find(|(_, want, hash)| Digest::from(hash.clone().finalize()) != *want)?;
        Some(format!("bytes {} to {} were others before", range.start, range.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_and_written() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(&of(b"")), empty);
        assert_eq!(parse(&format!(" {} ", empty.to_uppercase())), Some(of(b"")));
        for text in ["", "e3", &empty[1..], &format!("g{}", &empty[1..]), &format!("ä{}", &empty[2..])] {
            assert_eq!(parse(text), None, "{text}");
        }
        let all = BTreeMap::from([("f".to_owned(), "sha256".to_owned())]);
        assert!(matches!(parse_all(&all), Err(SourceError::BadDigest { .. })));
    }

    #[test]
    fn what_was_seen_before_must_pass_again() {
        let bytes: Vec<u8> = (0..100).collect();
        let pass = |seen: Vec<(Range<u64>, Digest)>, bytes: &[u8]| {
            let mut check = Check::new(of(&(0..100).collect::<Vec<u8>>()), seen);
            bytes.chunks(7).for_each(|piece| check.update(piece));
            check.verdict()
        };
        let good = || vec![(0..8, of(&bytes[..8])), (5..50, of(&bytes[5..50])), (99..100, of(&[99])), (3..3, of(&[]))];
        assert_eq!(pass(good(), &bytes), None);
        assert!(pass(good(), &bytes[..99]).is_some_and(|why| why.contains("SHA-256")));
        assert!(pass(vec![(5..50, of(&bytes[4..49]))], &bytes).is_some_and(|why| why.contains("5 to 50")));
    }
}
