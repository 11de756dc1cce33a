//! Lists of token ids, as the command line writes them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `1,403,407`; spaces may stand between, and an empty text is an empty list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenIds(pub Vec<u32>);

impl FromStr for TokenIds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let id = |part: &str| {
            let part = part.trim();
            part.parse()
                .map_err(|_| format!("{part:?} is no token id: give whole numbers from 0 on, with commas between"))
        };
        text.split(',').map(id).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_numbers_with_commas() {
        let parsed = |text: &str| text.parse::<TokenIds>().map(|ids| ids.0);
        assert_eq!(parsed("1,2, 3"), Ok(vec![1, 2, 3]));
        assert_eq!(parsed(" "), Ok(vec![]));
        for wrong in ["1,,2", "1,", "-1", "4294967296", "a", "1 2", "1.0"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
