/// Bytes of a text such as `512MiB`, `3.8GB` or `1e9`: a number and a unit, which may be left out. KB, MB, GB, TB (the B may be left out)
/// are powers of 1000, KiB and so on powers of 1024; case does not matter.
///
/// # Errors
/// What is wrong, in words, for what is no size, and for less than a byte.
pub fn parse_size(text: &str) -> Result<u64, String> {
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
