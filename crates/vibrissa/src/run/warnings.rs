//! Warnings of a run: what happened, what it means, what to do.

use super::training::on_target;
use super::{Event, InitialFigures, OnEvent, Prepared};
use crate::activation::SparsityControl;
use crate::options::TrainOptions;
use crate::record::{EvalRecord, MetricsLine};

/// Test rows of a class below which its figures are uncertain.
const FEW: usize = 5;

fn rows(n: usize) -> String {
    format!("{n} test row{}", if n == 1 { "" } else { "s" })
}

/// Warns if no row is held out, or only few rows of a class.
pub(super) fn few_test_rows(prepared: &Prepared, on_event: OnEvent) {
    let Prepared { data, split, given, .. } = prepared;
    if given.split.folds.is_some() {
        return;
    }
    let mut warn = |text: String| {
        let _ = on_event(Event::Warning(text));
    };
    if split.test.is_empty() {
        warn("no row is held out; figures are of the training rows (use `test_fraction` or `folds 5`)".into());
        return;
    }
    for (c, name) in data.classes().iter().enumerate() {
        let is_class = |&&i: &&usize| data.label_of_image(i * data.copies()) == Some(c as u16);
        let n = split.test.iter().filter(is_class).count();
        if n < FEW {
            warn(format!("class {name} has only {}; `folds 5` gives figures over all rows", rows(n)));
        }
    }
    if data.classes().is_empty() && split.test.len() < FEW {
        warn(format!("only {}; `folds 5` gives figures over all rows", rows(split.test.len())));
    }
}

/// Warns if the number of active latents, or for a sigmoid the mean activation, is far from its target. `line`: the last line
/// of the log.
pub(super) fn sparsity(o: &TrainOptions, record: &EvalRecord, line: Option<&MetricsLine>, on_event: OnEvent) {
    for (s, sae) in record.saes.iter().enumerate() {
        if sae.scores.reconstruction.fvu.is_some_and(|fvu| fvu >= 1.0) {
            continue;
        }
        let which = if record.saes.len() > 1 { format!("SAE {s}: ") } else { String::new() };
        let (found, target, what) = if o.activation.is_dense() {
            let mean = line.and_then(|line| line.saes.get(s)?.mean_activation);
            (mean, o.k as f64 / o.latents as f64, "mean activation")
        } else {
            (sae.scores.l0, o.k as f64, "active latents per row")
        };
        let Some(found) = found.filter(|&f| !on_target(f, target)) else { continue };
        let l0_in_training = line.and_then(|line| line.saes.get(s)?.l0);
        let reached = l0_in_training.is_some_and(|l0| on_target(l0, target));
        let remedy = sparsity_remedy(o, found < target, reached);
        let digits = if o.activation.is_dense() { 4 } else { 1 };
        let text = format!("{which}{what}: {found:.digits$}, target {target:.digits$}; try {remedy}");
        let _ = on_event(Event::Warning(text));
    }
}

/// A remedy for sparsity off target. `low`: below the target; `reached`: training rows are on target, other rows are not.
fn sparsity_remedy(o: &TrainOptions, low: bool, reached: bool) -> &'static str {
    match o.activation.sparsity() {
        _ if reached && o.aims() => "more rows, or topk: training rows reach the target, other rows do not",
        SparsityControl::Kl if low => "a smaller `kl`, or more steps",
        SparsityControl::Kl => "a larger `kl`, or more steps",
        SparsityControl::L0 => "more steps, or a larger `l0` or `bandwidth`",
        SparsityControl::L1 if o.l1.is_some() && low => "a smaller `l1`, or leave it out: it is then steered to `k`",
        SparsityControl::L1 if o.l1.is_some() => "a larger `l1`, or leave it out: it is then steered to `k`",
        SparsityControl::L1 => "more steps: the penalty has not settled",
        SparsityControl::K => "a smaller `k`: rows have no more pre-activations above 0",
    }
}

/// Says what training changed relative to the initial weights.
pub(super) fn initial_figures(initial: Option<&InitialFigures>, on_event: OnEvent) {
    let Some(InitialFigures { pearson_before: Some(before), pearson_after: Some(after), .. }) = initial else { return };
    if *after < before - 0.01 {
        let _ = on_event(Event::Warning("training made it worse; try a smaller `lr`".into()));
    } else if after - before < 0.1 * (1.0 - before) {
        let text = "training changed little; most of what the features show was there in the initial weights";
        let _ = on_event(Event::Note(text.into()));
    }
}
