//! Addresses: the little of RFC 3986 that sources need, the same natively and in browsers.

use crate::error::SourceError;
use std::fmt::Write as _;

/// An absolute `http` or `https` address. Its query may hold a signature or a token, so it is never shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    secure: bool,
    /// Host and port, in lower case.
    authority: String,
    /// Begins with a slash; percent-encoded.
    path: String,
    query: Option<String>,
}

impl Url {
    /// Reads an address as a user gives it. A fragment is dropped.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        Self::read(text).map_err(|why| {
            let shown = text.split(['?', '#']).next().unwrap_or_default();
            // What stands before an @ may be a password.
            let shown = match (shown.split_once("://"), shown.rsplit_once('@')) {
                (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
                _ => shown.to_owned(),
            };
            SourceError::BadUrl { url: super::shorten(&shown), why }
        })
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("its scheme is neither http nor https"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("it holds a user name: give a token instead");
        }
        let host = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if authority.is_empty() || authority.starts_with(':') || !authority.chars().all(host) {
            return Err("its host is missing or has characters that no host has");
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(encode(query, true))),
            None => (rest, None),
        };
        let path = if path.is_empty() { "/".to_owned() } else { encode(path, true) };
        Ok(Self { secure, authority: authority.to_ascii_lowercase(), path, query })
    }

    /// The file `name` in the folder that this is, with the same query: signatures and tokens are for all files.
    pub fn file(&self, name: &str) -> Self {
        let path = format!("{}/{}", self.path.trim_end_matches('/'), encode(name, false));
        Self { path, ..self.clone() }
    }

    /// The folder of the file that this is, with the same query, and the file's name.
    pub fn split_file(&self) -> Option<(Self, String)> {
        let (folder, name) = self.path.rsplit_once('/')?;
        Some((Self { path: format!("{folder}/"), ..self.clone() }, decode(name)?))
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// For requests: with the query.
    pub fn text(&self) -> String {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{query}", self.shown())
    }

    /// For messages: without the query.
    pub fn shown(&self) -> String {
        format!("{}://{}{}", if self.secure { "https" } else { "http" }, self.authority, self.path)
    }
}

/// What redirects need; browsers follow them by themselves.
#[cfg(not(target_arch = "wasm32"))]
impl Url {
    /// Where the `Location` of an answer to this address leads.
    pub fn resolve(&self, location: &str) -> Result<Self, SourceError> {
        let scheme = if self.secure { "https" } else { "http" };
        let has_scheme = location.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':'));
        if has_scheme {
            Self::parse(location)
        } else if let Some(rest) = location.strip_prefix("//") {
            Self::parse(&format!("{scheme}://{rest}"))
        } else if location.starts_with('/') {
            Self::parse(&format!("{scheme}://{}{location}", self.authority))
        } else {
            let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            Self::parse(&format!("{scheme}://{}{folder}/{location}", self.authority))
        }
    }

    /// The same host, port and scheme: a token may go along.
    pub fn same_origin(&self, other: &Self) -> bool {
        fn port(url: &Url) -> &str {
            let default = if url.secure { ":443" } else { ":80" };
            url.authority.strip_suffix(default).unwrap_or(&url.authority)
        }
        self.secure == other.secure && port(self) == port(other)
    }

    pub fn is_secure(&self) -> bool {
        self.secure
    }
}

/// Percent-encodes what may not stand in a path or a query; `kept`: what is encoded or divides already stays.
pub(super) fn encode(text: &str, kept: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        if plain || kept && b"%:?&=+,;@!$'()*[]".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // writing to a String cannot fail
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// What a path's part stands for; `None` where that is no text.
fn decode(part: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), part.as_bytes());
    while let Some((&first, later)) = rest.split_first() {
        let code = (first == b'%').then(|| std::str::from_utf8(later.get(..2)?).ok()).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &later[2..];
            }
            None => {
                bytes.push(first);
                rest = later;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("an address")
    }

    #[test]
    fn files_keep_the_query() {
        for (base, want) in [
            ("http://h", "http://h/a%20b/c%23.json"),
            ("HTTPS://H:8443/x/y/", "https://h:8443/x/y/a%20b/c%23.json"),
            ("https://h/x%20y?token=a%2Fb&c#f", "https://h/x%20y/a%20b/c%23.json?token=a%2Fb&c"),
            ("https://h?t", "https://h/a%20b/c%23.json?t"),
        ] {
            let file = url(base).file("a b/c#.json");
            assert_eq!(file.text(), want);
            assert!(!file.shown().contains('?'));
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    #[test]
    fn locations_are_resolved() {
        let base = url("https://h/a/b?q");
        for (location, want) in [
            ("/c?d", "https://h/c?d"),
            ("c", "https://h/a/c"),
            ("//o/c", "https://o/c"),
            ("http://o:1/c:d", "http://o:1/c:d"),
            ("c/d:e", "https://h/a/c/d:e"),
        ] {
            assert_eq!(base.resolve(location).expect("an address").text(), want);
        }
        assert!(base.resolve("ftp://h/x").is_err() && base.resolve("file:///etc/passwd").is_err());
    }

    #[cfg(not(target_arch = "wasm32"))]
    #[test]
    fn origins_have_host_port_and_scheme() {
        let base = url("https://h/a");
        assert!(base.same_origin(&url("https://H:443/b")));
        for other in ["http://h/a", "https://h:444/a", "https://h.evil/a", "https://evil/h"] {
            assert!(!base.same_origin(&url(other)), "{other}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_secrets() {
        for text in ["", "h/x", "ftp://h", "http://", "http:///x", "http://:80/x", "http://a b/", "http://h\r\nX: y/"] {
            assert!(matches!(Url::parse(text), Err(SourceError::BadUrl { .. })), "{text:?}");
        }
        let error = Url::parse("https://user:secret@h/x?token=hidden").expect_err("refused").to_string();
        assert!(!error.contains("secret") && !error.contains("hidden") && error.contains("token instead"), "{error}");
        let line = url("http://h/x\r\ny z").text();
        assert_eq!(line, "http://h/x%0D%0Ay%20z");
    }
}
