//! Where models come from and where they are kept: what the environment says, by the names that `huggingface_hub` gave.

#[cfg(not(target_arch = "wasm32"))]
use crate::error::SourceError;
use crate::source::{RetryPolicy, Token};
#[cfg(not(target_arch = "wasm32"))]
use std::ffi::OsString;
#[cfg(not(target_arch = "wasm32"))]
use std::path::{Path, PathBuf};

/// The Hub of Hugging Face.
const ENDPOINT: &str = "https://huggingface.co";

/// How a [`Hub`](super::Hub) is reached, and natively where it keeps what it downloads.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HubOptions {
    /// `https://huggingface.co`, or what stands in for it.
    pub endpoint: String,
    /// The cache folder, shared with `huggingface_hub`.
    #[cfg(not(target_arch = "wasm32"))]
    pub cache: PathBuf,
    /// For private and gated models; goes to the endpoint and to no other host.
    pub token: Option<Token>,
    /// Whether only the cache is asked.
    #[cfg(not(target_arch = "wasm32"))]
    pub offline: bool,
    /// Whether a snapshot is made of links into the blobs, where the system makes them; else its files are moved there.
    #[cfg(not(target_arch = "wasm32"))]
    pub symlinks: bool,
    /// Which GGUF file is meant, by its name or by the type in its name (`Q8_0`).
    pub gguf_file: Option<String>,
    /// When failed requests are made again.
    pub retry: RetryPolicy,
    /// As in [`HttpOptions`](crate::source::HttpOptions::concurrency).
    #[cfg(target_arch = "wasm32")]
    pub concurrency: usize,
}

#[cfg(target_arch = "wasm32")]
impl Default for HubOptions {
    /// The Hub, without a token.
    fn default() -> Self {
        let concurrency = crate::source::HttpOptions::default().concurrency;
        let retry = RetryPolicy::default();
        Self { endpoint: ENDPOINT.to_owned(), token: None, gguf_file: None, retry, concurrency }
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl HubOptions {
    /// The Hub, with `cache` as its folder, without a token.
    #[must_use]
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: ENDPOINT.to_owned(),
            cache: cache.into(),
            token: None,
            offline: false,
            symlinks: true,
            gguf_file: None,
            retry: RetryPolicy::default(),
        }
    }

    /// What the environment of this process says; see [`HubOptions::from_lookup`].
    ///
    /// # Errors
    /// [`SourceError::NoCacheFolder`].
    pub fn from_env() -> Result<Self, SourceError> {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// What the variables say that `lookup` finds. Empty ones count as unset.
    ///
    /// - cache: `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else `hub` in `HF_HOME`, else `huggingface/hub` in
    ///   `XDG_CACHE_HOME`, else in `~/.cache`
    /// - token: `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `token` beside the cache in `HF_HOME`
    /// - `HF_ENDPOINT`; `HF_HUB_OFFLINE`, else `TRANSFORMERS_OFFLINE`; `HF_HUB_DISABLE_SYMLINKS`
    ///
    /// # Errors
    /// [`SourceError::NoCacheFolder`] where no variable says where files could be kept.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, SourceError> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let text = |name: &str| get(name).and_then(|value| value.into_string().ok());
        let is_true = |name: &str| {
            text(name).map(|value| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
        };
        let user = get("HOME").or_else(|| get("USERPROFILE")).map(PathBuf::from);
        let path = |name: &str| get(name).map(|value| expand(PathBuf::from(value), user.as_deref()));

        let home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME").or_else(|| Some(user.as_ref()?.join(".cache")));
            Some(caches?.join("huggingface"))
        });
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.or_else(|| Some(home.as_ref()?.join("hub"))).ok_or(SourceError::NoCacheFolder)?;
        let token_file = path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")));
        let token = text("HF_TOKEN").as_deref().and_then(Token::new);
        // No file, no token: most have none.
        let from_file = || Token::new(&std::fs::read_to_string(token_file?).ok()?);
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.or_else(from_file),
            offline: is_true("HF_HUB_OFFLINE").or_else(|| is_true("TRANSFORMERS_OFFLINE")).unwrap_or(false),
            symlinks: !is_true("HF_HUB_DISABLE_SYMLINKS").unwrap_or(false),
            ..Self::new(cache)
        })
    }
}

/// `~/x` in the user's folder, as `huggingface_hub` has it.
#[cfg(not(target_arch = "wasm32"))]
fn expand(path: PathBuf, user: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), user) {
        (Ok(rest), Some(user)) => user.join(rest),
        _ => path,
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> HubOptions {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        HubOptions::from_lookup(find).expect("a cache folder")
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        let cache = |variables: &[(&str, &str)]| of(&[variables, &[("HOME", "/u")]].concat()).cache;
        assert_eq!(cache(&[]), Path::new("/u/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/h")]), Path::new("/u/h/hub"));
        assert_eq!(cache(&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/o")]), Path::new("/o"));
        assert_eq!(cache(&[("HUGGINGFACE_HUB_CACHE", "/o"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(cache(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/h")]), Path::new("/h/hub"));
        assert_eq!(of(&[("USERPROFILE", "/p")]).cache, Path::new("/p/.cache/huggingface/hub"));
        assert!(matches!(HubOptions::from_lookup(|_| None), Err(SourceError::NoCacheFolder)));
    }

    #[test]
    fn tokens_come_from_the_variable_or_a_file_and_are_not_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().to_str().expect("UTF-8");
        std::fs::write(folder.path().join("token"), "from_home\n").expect("written");
        std::fs::write(folder.path().join("other"), " from_path ").expect("written");
        let other = folder.path().join("other");
        let token = |variables: &[(&str, &str)]| of(&[variables, &[("HF_HOME", home)]].concat()).token;
        assert_eq!(token(&[]), Token::new("from_home"));
        assert_eq!(token(&[("HF_TOKEN_PATH", other.to_str().expect("UTF-8"))]), Token::new("from_path"));
        assert_eq!(token(&[("HF_TOKEN", " given\n")]), Token::new("given"));
        assert_eq!(of(&[("HF_HOME", "/no/such")]).token, None);
        assert_eq!(Token::new(" \n"), None);
        assert_eq!(Token::new("a\r\nX-Header: b"), None);
        let shown = format!("{:?}", of(&[("HOME", "/u"), ("HF_TOKEN", "secret")]));
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn switches_are_read() {
        let home = ("HOME", "/u");
        assert_eq!(of(&[home]).endpoint, "https://huggingface.co");
        assert_eq!(of(&[home, ("HF_ENDPOINT", "http://mirror/x//")]).endpoint, "http://mirror/x");
        assert!(!of(&[home]).offline && of(&[home]).symlinks);
        assert!(of(&[home, ("HF_HUB_OFFLINE", "1")]).offline && of(&[home, ("TRANSFORMERS_OFFLINE", "true")]).offline);
        assert!(!of(&[home, ("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!of(&[home, ("HF_HUB_DISABLE_SYMLINKS", "yes")]).symlinks);
    }
}
