//! Errors of profiles.

use thiserror::Error;

/// What is wrong with a profile.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProfileError {
    /// Keys that mean nothing, all of them.
    #[error("{}", describe(.keys))]
    Unknown {
        /// Each, and the key that is written most like it, if one is.
        keys: Vec<(String, Option<&'static str>)>,
    },
    /// A key that other programs know.
    #[error("`{key}` is not supported: {instead}")]
    Unsupported {
        /// As it was given.
        key: String,
        /// What to do about it.
        instead: &'static str,
    },
    /// A value of the wrong type, or out of its range.
    #[error("`{key}` is {got}, expected {expected}")]
    Value {
        /// The key; `outer.inner` of a mapping within the profile; `the profile` for all of it.
        key: String,
        /// Its value in JSON, shortened.
        got: String,
        /// What would do.
        expected: String,
    },
    /// Two keys that mean the same.
    #[error("`{first}` and `{second}` are one setting: give one of them")]
    Twice {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
}

fn describe(keys: &[(String, Option<&'static str>)]) -> String {
    let one = |(key, near): &(String, Option<&'static str>)| match near {
        Some(near) => format!("there is no key `{key}` (did you mean `{near}`?)"),
        None => format!("there is no key `{key}`"),
    };
    keys.iter().map(one).collect::<Vec<_>>().join("; ")
}
