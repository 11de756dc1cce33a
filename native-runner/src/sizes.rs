//! Sizes in bytes, as people write and read them.

/// `512MiB`, `3.8GB`, `1e9`: a number and a unit, which may be left out. KB, MB, GB, TB (the B may be left out) are powers of
/// 1000, KiB and so on powers of 1024; case does not matter.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: give one like 3.8GB, 512MiB or 1000000");
    let lower = text.trim().to_ascii_lowercase();
    const UNITS: [(&str, f64); 12] = [
        ("kib", 1024.0),
        ("mib", 1_048_576.0),
        ("gib", 1_073_741_824.0),
        ("tib", 1_099_511_627_776.0),
        ("kb", 1e3),
        ("mb", 1e6),
        ("gb", 1e9),
        ("tb", 1e12),
        ("k", 1e3),
        ("m", 1e6),
        ("g", 1e9),
        ("t", 1e12),
    ];
    let unit = UNITS.iter().find_map(|&(unit, factor)| lower.strip_suffix(unit).map(|rest| (rest, factor)));
    let (number, factor) = unit.unwrap_or((lower.strip_suffix('b').unwrap_or(&lower), 1.0));
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let bytes = number * factor;
    if bytes.is_finite() && (1.0..=1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

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
