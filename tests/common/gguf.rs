//! GGUF files, written by the format's page: as they should be, and in any way in which they should not.
#![allow(dead_code)] // no root uses all of it

/// A file in the making: keys and tensors in order, and what its counts claim.
#[derive(Clone, Debug)]
pub struct GgufFile {
    pub version: u32,
    pub keys: Vec<(String, u32, Vec<u8>)>,
    /// Name, dimensions with the innermost first, type, offset.
    pub tensors: Vec<(String, Vec<u64>, u32, u64)>,
    pub tensor_count: Option<u64>,
    pub key_count: Option<u64>,
    pub alignment: u64,
    pub data: u64,
}

/// A length and the text.
pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// An array of texts.
pub fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let all: Vec<_> = texts.into_iter().map(text).collect();
    [&8_u32.to_le_bytes()[..], &(all.len() as u64).to_le_bytes(), &all.concat()].concat()
}

impl GgufFile {
    pub fn new() -> Self {
        Self {
            version: 3,
            keys: Vec::new(),
            tensors: Vec::new(),
            tensor_count: None,
            key_count: None,
            alignment: 32,
            data: 0,
        }
    }

    pub fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.retain(|(name, ..)| name != key);
        self.keys.push((key.to_owned(), kind, value.to_vec()));
        self
    }

    pub fn text(self, key: &str, value: &str) -> Self {
        self.key(key, 8, &text(value))
    }

    pub fn u32(self, key: &str, value: u32) -> Self {
        self.key(key, 4, &value.to_le_bytes())
    }

    pub fn f32(self, key: &str, value: f32) -> Self {
        self.key(key, 6, &value.to_le_bytes())
    }

    pub fn texts(self, key: &str, values: &[&str]) -> Self {
        self.key(key, 9, &texts(values.iter().copied()))
    }

    pub fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(name, ..)| name != key);
        self
    }

    /// A tensor behind the others, of so many bytes.
    pub fn tensor(mut self, name: &str, dims: &[u64], kind: u32, bytes: u64) -> Self {
        self.tensors.push((name.to_owned(), dims.to_vec(), kind, self.data));
        self.data = (self.data + bytes).next_multiple_of(self.alignment);
        self
    }

    /// Everything before the data, and its padding.
    pub fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.key_count.unwrap_or(self.keys.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.keys {
            out.extend(text(key));
            out.extend(kind.to_le_bytes());
            out.extend(value);
        }
        for (name, dims, kind, offset) in &self.tensors {
            out.extend(text(name));
            out.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(self.alignment.clamp(1, 1 << 20) as usize), 0);
        out
    }

    /// All of it, with data of zeros.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        out.resize(out.len() + self.data as usize, 0);
        out
    }
}
