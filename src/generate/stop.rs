//! Texts that end a text.

/// Finds stop strings in a text that comes in pieces, and holds back what may be the beginning of one. Where the pieces' borders
/// are makes no difference: the stop string that is complete first counts, of those the longest.
#[derive(Debug, Default)]
pub(super) struct StopStrings {
    strings: Vec<String>,
    /// not given out yet
    held: String,
}

impl StopStrings {
    pub fn new(strings: &[String]) -> Self {
        Self { strings: strings.to_vec(), held: String::new() }
    }

    /// Takes the next piece; appends to `out` what is surely no part of a stop string. `true`: there is one, and `out` is now
    /// complete.
    pub fn push(&mut self, piece: &str, out: &mut String) -> bool {
        self.held.push_str(piece);
        let found = self.strings.iter().filter_map(|s| self.held.find(s.as_str()).map(|at| (at + s.len(), at)));
        if let Some((_, at)) = found.min() {
            out.push_str(&self.held[..at]);
            self.held.clear();
            return true;
        }
        let begins = |at: &usize| self.strings.iter().any(|s| s.starts_with(&self.held[*at..]));
        let keep = self.held.char_indices().map(|(at, _)| at).find(begins).unwrap_or(self.held.len());
        out.push_str(&self.held[..keep]);
        self.held.drain(..keep);
        false
    }

    /// What was held back, since no more text comes.
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out, and what is left for the end, for every way to cut `text` into pieces of `size` characters.
    fn run(strings: &[&str], text: &str, size: usize) -> (String, bool) {
        let mut stops = StopStrings::new(&strings.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        let mut out = String::new();
        let chars: Vec<char> = text.chars().collect();
        for piece in chars.chunks(size) {
            if stops.push(&piece.iter().collect::<String>(), &mut out) {
                return (out, true);
            }
        }
        out += &stops.flush();
        (out, false)
    }

    #[test]
    fn borders_of_pieces_make_no_difference() {
        for (strings, text, want, stopped) in [
            (&["END"][..], "one ENE ENDE", "one ENE ", true),
            (&["END"], "one EN", "one EN", false),
            (&["aab"], "aaaab!", "aa", true),
            (&["abc", "b"], "xabc", "xa", true),
            (&["bc", "abc"], "xabc", "x", true),
            (&["\n\n", "\nUser:"], "a\nUser\n\nb", "a\nUser", true),
            (&["é🚀"], "caféé🚀x", "café", true),
            (&[], "all of it", "all of it", false),
            (&["all"], "all of it", "", true),
        ] {
            for size in 1..=text.chars().count() {
                assert_eq!(run(strings, text, size), (want.to_owned(), stopped), "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn no_more_is_held_back_than_may_be_a_beginning() {
        let mut stops = StopStrings::new(&["</s>".to_owned()]);
        let mut out = String::new();
        for (piece, so_far) in
            [("a<", "a"), ("b", "a<b"), ("</", "a<b"), ("<", "a<b</"), ("/s", "a<b</"), (">", "a<b</")]
        {
            let stopped = stops.push(piece, &mut out);
            assert_eq!((out.as_str(), stopped), (so_far, piece == ">"));
        }
        assert_eq!(stops.flush(), "");
    }
}
