//! Whether a model fits into this machine: an absurd size is refused by name, instead of an abort in the allocator or a
//! visit of the kernel's out-of-memory killer.

use vibrissa::train::TrainOptions;
use vibrissa::{Error, Result};

/// Refuses a model whose weights and moments are larger than all memory.
///
/// # Errors
/// [`Error::Option`] naming `--latents`, or `--saes` where one SAE would fit.
pub fn check(options: &TrainOptions, dim: usize) -> Result<()> {
    let Some(total) = total() else { return Ok(()) };
    // Weights and two moments in f32, of an encoder and, untied, a decoder; pre-activations of one batch.
    let matrices = if options.tied { 1.0 } else { 2.0 };
    let a_latent = dim as f64 * matrices * 12.0 + options.batch as f64 * 4.0;
    let one = a_latent * options.latents as f64;
    let gib = |bytes: f64| format!("{:.1} GiB", bytes / (1u64 << 30) as f64);
    let remedy = |need: f64| format!("it would take {}, this machine has {}", gib(need), gib(total));
    if one > total {
        let expected = format!("at most {} for rows of {dim} values on this machine", (total / a_latent) as u64);
        return Err(Error::option("--latents", expected, options.latents, remedy(one)));
    }
    let all = one * options.saes as f64;
    if all > total {
        let expected = format!("at most {} of {} latents on this machine", (total / one) as u64, options.latents);
        return Err(Error::option("--saes", expected, options.saes, remedy(all)));
    }
    Ok(())
}

/// Bytes of memory and swap; `None` where the system does not say.
pub fn total() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |key: &str| -> Option<f64> {
        text.lines().find_map(|l| l.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
    };
    Some(1024.0 * (kib("MemTotal:")? + kib("SwapTotal:").unwrap_or(0.0)))
}
