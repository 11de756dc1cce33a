//! How an answer looks: thoughts, between `<think>` and `</think>`, are dimmed where there are colours.

use std::io::{self, IsTerminal};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Whether standard output shows colours.
pub fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Gives text out with escapes around thoughts; a tag that is split over pieces is waited for.
#[derive(Debug)]
pub struct Thoughts {
    colours: bool,
    thinking: bool,
    dimmed: bool,
    held: String,
}

impl Thoughts {
    /// For an answer; `thinking` where the prompt itself begins a thought.
    pub fn new(colours: bool, thinking: bool) -> Self {
        Self { colours, thinking, dimmed: false, held: String::new() }
    }

    /// What is shown of the next piece.
    pub fn push(&mut self, piece: &str) -> String {
        if !self.colours {
            return piece.to_owned();
        }
        let mut out = String::new();
        if self.thinking && !self.dimmed {
            out += DIM;
        }
        self.held += piece;
        loop {
            let tag = if self.thinking { CLOSE } else { OPEN };
            if let Some(at) = self.held.find(tag) {
                let (before, after) = self.held.split_at(at + tag.len());
                let (before, after) = (before.to_owned(), after.to_owned());
                out +=
                    &if self.thinking { format!("{before}{PLAIN}") } else { format!("{}{DIM}{OPEN}", &before[..at]) };
                self.thinking = !self.thinking;
                self.dimmed = self.thinking;
                self.held = after;
                continue;
            }
            let keep = (1..tag.len()).rev().find(|&n| self.held.ends_with(&tag[..n])).unwrap_or(0);
            let shown = self.held.len() - keep;
            out += &self.held[..shown];
            self.dimmed = self.thinking;
            self.held.drain(..shown);
            return out;
        }
    }

    /// What was held back, and the end of what is open.
    pub fn end(&mut self) -> String {
        let end = if self.dimmed { PLAIN } else { "" };
        std::mem::take(&mut self.held) + end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: &[&str], colours: bool, thinking: bool) -> String {
        let mut thoughts = Thoughts::new(colours, thinking);
        let text: String = pieces.iter().map(|piece| thoughts.push(piece)).collect();
        text + &thoughts.end()
    }

    #[test]
    fn thoughts_are_dimmed_however_they_are_cut() {
        let text = "a <b <think>hm <t</think>\n\nTwo.<think>again";
        let want = format!("a <b {DIM}<think>hm <t</think>{PLAIN}\n\nTwo.{DIM}<think>again{PLAIN}");
        assert_eq!(shown(&[text], true, false), want);
        let letters: Vec<&str> = text.split("").collect();
        let plain = |text: String| text.replace(DIM, "").replace(PLAIN, "");
        assert_eq!(plain(shown(&letters, true, false)), text);
        assert!(shown(&letters, true, false).contains(&format!("</think>{PLAIN}\n")));
        assert_eq!(shown(&["hm", "</thi", "nk>x"], true, true), format!("{DIM}hm</think>{PLAIN}x"));
        assert_eq!(shown(&letters, false, false), text);
    }
}
