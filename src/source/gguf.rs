//! Names of GGUF files: which one of several is meant, and what belongs to it.

/// How they end.
pub const ENDING: &str = ".gguf";

/// The type that is taken where several are there and none is meant, as llama.cpp does.
const USUAL: &str = "Q4_K_M";

/// The file that is meant, by its name or by the type in its name (`Q8_0`), among `names`: where none is, the only one or the usual one. Of
/// a model in several files, the first. Where that leaves none or several, those that there are.
pub(super) fn choose<'n>(
    names: impl Iterator<Item = &'n str>,
    meant: Option<&str>,
) -> Result<Option<&'n str>, Vec<&'n str>> {
    // parts after the first, and what is no language model
    let is_first = |name: &&str| split(name).is_none_or(|(_, no, _)| no == 1);
    let is_model = |name: &&str| !["mmproj", "imatrix"].iter().any(|other| name.starts_with(other));
    let all: Vec<_> = names.filter(|name| name.ends_with(ENDING)).collect();
    if let Some(meant) = meant.filter(|meant| meant.ends_with(ENDING)) {
        return all.iter().find(|name| **name == meant).map(|name| Some(*name)).ok_or(all);
    }
    let all: Vec<_> = all.into_iter().filter(is_first).filter(is_model).collect();
    let has = |name: &str, kind: &str| {
        let stem = split(name).map_or(name.trim_end_matches(ENDING), |(stem, ..)| stem).to_ascii_lowercase();
        let rest = stem.strip_suffix(&kind.to_ascii_lowercase());
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with(['-', '.', '_']))
    };
    let of = |kind: &str| all.iter().copied().filter(|name| has(name, kind)).collect::<Vec<_>>();
    match (meant, all.as_slice()) {
        (None, []) => Ok(None),
        (None, [only]) => Ok(Some(only)),
        (meant, _) => match of(meant.unwrap_or(USUAL)).as_slice() {
            [only] => Ok(Some(only)),
            _ => Err(all),
        },
    }
}

/// `NAME-00002-of-00003.gguf`: the name, which one it is, and of how many.
#[must_use]
pub fn split(file: &str) -> Option<(&str, u32, u32)> {
    let number = |text: &str| -> Option<u32> {
        let is_number = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| is_number)
    };
    let (stem, of) = file.strip_suffix(ENDING)?.rsplit_once("-of-")?;
    let (stem, no) = stem.rsplit_once('-')?;
    Some((stem, number(no)?, number(of)?))
}

/// All files of the model that `file` is one of, by its name.
#[must_use]
pub fn parts(file: &str) -> Vec<String> {
    match split(file) {
        Some((stem, _, of)) => (1..=of).map(|no| format!("{stem}-{no:05}-of-{of:05}{ENDING}")).collect(),
        None => vec![file.to_owned()],
    }
}
