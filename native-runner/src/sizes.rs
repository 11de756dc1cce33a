//! Sizes in bytes, as people write and read them.

pub use webweft::managers::parse_size as parse;

/// `812 B`, `3.9 MiB`.
pub fn format(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let cases = [
            ("3.8GB", 3_800_000_000),
            ("512MiB", 512 << 20),
            ("2 gib", 2 << 30),
            ("1k", 1000),
            ("1e9", 1_000_000_000),
            ("7b", 7),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "GB", "0", "-1GB", "nan", "inf", "1e300", "3 apples", "1.2.3MB"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown_short() {
        assert_eq!(format(812), "812 B");
        assert_eq!(format(1024 * 1023), "1.0 MiB");
        assert_eq!(format(4 << 20), "4.0 MiB");
        assert_eq!(format(u64::MAX), "16777216.0 TiB");
    }
}
