//! Lines of the training log.

use super::training::test_figures;
use crate::loss::Losses;
use crate::metrics;
use crate::record::{MetricsLine, Number, Ordered, SaeLine};
use crate::train::{StepReport, Trainer};

/// Sums over the steps since the last line of the log.
#[derive(Default)]
pub(super) struct Interval {
    pub steps: u64,
    rows: usize,
    step_s: f64,
    losses: Vec<Losses>,
    resampled: Vec<usize>,
}

impl Interval {
    /// Adds a step.
    pub fn add(&mut self, report: &StepReport) {
        self.steps += 1;
        self.rows += report.rows;
        self.step_s += report.step_s;
        self.losses.resize(report.losses.len(), Losses::default());
        self.resampled.resize(report.losses.len(), 0);
        self.resampled.iter_mut().zip(&report.resampled).for_each(|(sum, n)| *sum += n);
        for (sum, l) in self.losses.iter_mut().zip(&report.losses) {
            sum.add(l, 1.0);
        }
    }

    /// The line of the log, with test figures of the current weights on the `monitored` rows.
    pub fn line(&self, trainer: &mut Trainer, monitored: &[usize], wall_s: f64) -> MetricsLine {
        let figures = test_figures(trainer, monitored);
        let activity = trainer.take_activity();
        let options = trainer.options();
        let (terms, target, lambdas) = (options.terms(), trainer.k_now() as f64, trainer.l1_lambdas());
        let saes = figures.into_iter().zip(activity).enumerate().map(|(s, ((pearson, fvu), (activity, dead)))| {
            let average = |f: &dyn Fn(&Losses) -> f64| {
                Number(self.losses.get(s).map(|l| f(l) / self.steps as f64).filter(|v| v.is_finite()))
            };
            let named = Losses::NAMES.into_iter().enumerate().filter(|(_, name)| terms.contains(name));
            let mut loss: Vec<(String, Number)> =
                named.map(|(i, name)| (name.to_owned(), average(&|l| l.terms()[i]))).collect();
            loss.push(("total".to_owned(), average(&Losses::total)));
            let seen = activity.rows > 0;
            SaeLine {
                loss: Ordered(loss),
                pearson,
                fvu,
                l0: seen.then(|| activity.l0()),
                l0_target: Some(target),
                l1_lambda: lambdas.get(s).copied(),
                mean_activation: seen.then(|| activity.mean()),
                density: seen.then(|| {
                    let counts: Vec<u64> = activity.counts.iter().map(|&c| u64::from(c)).collect();
                    metrics::density(&counts, activity.rows)
                }),
                dead_latents: Some(dead as u64),
                reborn: options.reinforce.then(|| self.resampled.get(s).map_or(0, |&n| n as u64)),
            }
        });
        MetricsLine {
            step: trainer.step(),
            epoch: trainer.epoch(),
            rows_per_s: (self.step_s > 0.0).then(|| self.rows as f64 / self.step_s),
            wall_s: Some(wall_s),
            saes: saes.collect(),
        }
    }
}
