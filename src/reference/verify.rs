//! `shaders/verify.wgsl`

/// How many of `drafts` are accepted, `draws` being what was drawn after the last token and after each draft (`[1 + drafts]`): those up to
/// the first that is not what was drawn in its place (Leviathan, Kalman & Matias 2023, for draws that are functions of the logits). The
/// new tokens are as many draws and one more.
#[must_use]
pub fn verify(drafts: &[u32], draws: &[u32]) -> usize {
    drafts.iter().zip(draws).take_while(|(draft, drawn)| draft == drawn).count()
}
