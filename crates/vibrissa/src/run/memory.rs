//! Memory of a training compared with that of the machine: a model that cannot fit is refused by name, before the
//! allocator or the kernel ends the process.

use crate::error::{Error, Result};
use crate::options::TrainOptions;

/// Bytes of one SAE in training: weights and two moments in f32, of the encoder and, untied, the decoder; and the
/// pre-activations of one batch.
pub(crate) fn training_bytes(options: &TrainOptions, dim: usize) -> f64 {
    let matrices = if options.tied { 1.0 } else { 2.0 };
    options.latents as f64 * (12.0 * matrices * dim as f64 + 4.0 * options.batch as f64)
}

/// Refuses a training that needs more than all memory of this machine.
///
/// # Errors
/// [`Error::Option`] naming `latents`, or `saes` if one SAE would fit.
pub(crate) fn check(options: &TrainOptions, dim: usize) -> Result<()> {
    let Some(total) = total() else { return Ok(()) };
    let one = training_bytes(options, dim);
    let a_latent = one / options.latents as f64;
    let gib = |bytes: f64| format!("{:.1} GiB", bytes / (1u64 << 30) as f64);
    let remedy = |need: f64| format!("it would take {}, this machine has {}", gib(need), gib(total));
    if one > total {
        let expected = format!("at most {} for rows of {dim} values on this machine", (total / a_latent) as u64);
        return Err(Error::option("latents", expected, options.latents, remedy(one)));
    }
    let all = one * options.saes as f64;
    if all > total {
        let expected = format!("at most {} of {} latents on this machine", (total / one) as u64, options.latents);
        return Err(Error::option("saes", expected, options.saes, remedy(all)));
    }
    Ok(())
}

/// Bytes of memory and swap; `None` if the system does not say.
pub fn total() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |key: &str| -> Option<f64> {
        text.lines().find_map(|l| l.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
    };
    Some(1024.0 * (kib("MemTotal:")? + kib("SwapTotal:").unwrap_or(0.0)))
}
