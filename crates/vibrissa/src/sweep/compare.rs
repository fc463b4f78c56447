//! Comparison of the cells of a sweep: means over seeds, the Pareto front, the best configuration and the knee.

use crate::record::sweep::{Apart, CellRecord, ConfigurationRecord, EffectLine, EffectPoint, EffectRecord, Ended};
use crate::record::{Number, Scores};

/// 97.5 % points of Student's t distribution for 1 to 30 degrees of freedom; above, the normal distribution is used.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// Returns half the width of the 95 % confidence interval of a mean (Student's t); `None` for fewer than two values.
pub fn band(values: &[f64]) -> Option<f64> {
    let n = values.len();
    if n < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    Some(T.get(n - 2).copied().unwrap_or(1.96) * (variance / n as f64).sqrt())
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Relative distance of L0 from k above which a configuration is marked.
const FAR: f64 = 0.1;

/// Averages the finished cells of each configuration, in the order of the grid, and marks the Pareto front of L0 and fvu.
/// Configurations that are dense beside sparse ones, or no better than the mean of the rows, are not on the front.
pub fn configurations(cells: &[CellRecord]) -> Vec<ConfigurationRecord> {
    let mut out: Vec<ConfigurationRecord> = Vec::new();
    for cell in cells {
        if out.iter().any(|c| c.name == cell.configuration) {
            continue;
        }
        let finished = |c: &&CellRecord| c.configuration == cell.configuration && c.ended == Ended::Finished;
        let own: Vec<(&CellRecord, &Scores)> =
            cells.iter().filter(finished).filter_map(|c| Some((c, c.scores.as_ref()?))).collect();
        let Some((first, _)) = own.first() else { continue };
        let values =
            |of: &dyn Fn(&Scores) -> Option<f64>| -> Vec<f64> { own.iter().filter_map(|(_, s)| of(s)).collect() };
        let score = |of: &dyn Fn(&Scores) -> Option<f64>| Number(mean(&values(of)));
        let whole = |of: &dyn Fn(&CellRecord) -> Option<f64>| {
            Number(mean(&own.iter().filter_map(|(c, _)| of(c)).collect::<Vec<f64>>()))
        };
        let share =
            |n: Option<u64>, s: &Scores| Some(n? as f64 / s.latents.filter(|h| *h > 0).unwrap_or(cell.latents) as f64);
        let (fvu, pearson, l0) =
            (values(&|s| s.reconstruction.fvu), values(&|s| s.reconstruction.pearson), score(&|s| s.l0));
        let k = cell.k as f64;
        out.push(ConfigurationRecord {
            name: cell.configuration.clone(),
            values: first.values.0.iter().filter(|v| v.0 != "seed").cloned().collect(),
            activation: first.activation.clone(),
            latents: first.latents,
            k: first.k,
            seeds: own.len() as u64,
            l0,
            l0_train: score(&|s| s.l0_train),
            l0_far: l0.get().is_some_and(|l| (l - k).abs() > FAR * k),
            fvu: Number(mean(&fvu)),
            fvu_band: Number(band(&fvu)),
            pearson: Number(mean(&pearson)),
            pearson_band: Number(band(&pearson)),
            mse: score(&|s| s.reconstruction.mse),
            cosine: score(&|s| s.reconstruction.cosine),
            ssim: score(&|s| s.reconstruction.ssim),
            psnr: score(&|s| s.reconstruction.psnr),
            perceptual: score(&|s| s.reconstruction.perceptual),
            cross_entropy: score(&|s| s.reconstruction.cross_entropy),
            mcc: whole(&|c| c.recovery.as_ref()?.mcc),
            f1: whole(&|c| c.recovery.as_ref()?.f1),
            dead_latents: score(&|s| s.dead_latents.map(|d| d as f64)),
            dead_share: score(&|s| share(s.dead_latents, s)),
            rare_share: score(&|s| share(s.rare_latents, s)),
            validation_fvu: whole(&|c| c.validation_fvu),
            seconds: whole(&|c| c.seconds),
            front: false,
            apart: None,
        });
    }
    let dense = |c: &ConfigurationRecord| c.l0.get().is_some_and(|l0| c.latents > 0 && l0 >= c.latents as f64);
    let sparse = out.iter().any(|c| !dense(c));
    for c in &mut out {
        let worse = c.validation_fvu.get().or(c.fvu.get()).is_some_and(|fvu| fvu >= 1.0);
        c.l0_far &= !dense(c);
        c.apart = if worse { Some(Apart::NoBetter) } else { (sparse && dense(c)).then_some(Apart::Dense) };
    }
    let points: Vec<Option<(f64, f64)>> =
        out.iter().map(|c| c.l0.get().zip(c.fvu.get()).filter(|_| c.apart.is_none())).collect();
    for (i, own) in points.iter().enumerate() {
        let Some((l0, fvu)) = *own else { continue };
        let beaten = points
            .iter()
            .enumerate()
            .any(|(j, other)| other.is_some_and(|(a, b)| a <= l0 && b <= fvu && (a < l0 || b < fvu || j < i)));
        out[i].front = !beaten;
    }
    out
}

/// Returns the effect of each option with several values: mean fvu by value, over the finished cells.
pub fn effects(cells: &[CellRecord], keys: &[String]) -> Vec<EffectRecord> {
    let finished: Vec<&CellRecord> = cells.iter().filter(|c| c.ended == Ended::Finished).collect();
    let values = |key: &str| {
        let mut all: Vec<&str> = Vec::new();
        for value in cells.iter().filter_map(|c| c.values.get(key)) {
            if !all.contains(&value.as_str()) {
                all.push(value);
            }
        }
        all
    };
    let ks: Vec<Option<u64>> = match values("k").len() {
        0 | 1 => vec![None],
        _ => {
            let mut all: Vec<u64> = finished.iter().map(|c| c.k).collect();
            all.sort_unstable();
            all.dedup();
            all.into_iter().map(Some).collect()
        }
    };
    let varied = keys.iter().map(|key| (key, values(key))).filter(|(_, values)| values.len() > 1);
    varied
        .map(|(key, values)| {
            let line = |k: Option<u64>| {
                let point = |value: &&str| {
                    let has =
                        |c: &&&CellRecord| k.is_none_or(|k| c.k == k) && c.values.get(key).is_some_and(|v| v == *value);
                    let own: Vec<&&CellRecord> = finished.iter().filter(has).collect();
                    let fvu: Vec<f64> = own.iter().filter_map(|c| c.scores.as_ref()?.reconstruction.fvu).collect();
                    let validation: Vec<f64> = own.iter().filter_map(|c| c.validation_fvu).collect();
                    EffectPoint {
                        value: (*value).to_owned(),
                        cells: own.len() as u64,
                        validation_fvu: Number(mean(&validation)),
                        fvu: Number(mean(&fvu)),
                    }
                };
                EffectLine { k, points: values.iter().map(point).filter(|p| p.cells > 0).collect() }
            };
            let lines: Vec<EffectLine> = match key.as_str() {
                "k" => vec![line(None)],
                _ => ks.iter().map(|k| line(*k)).collect(),
            };
            let spread = |line: &EffectLine| {
                let mut all: Vec<f64> = line.points.iter().filter_map(|p| p.validation_fvu.get()).collect();
                all.sort_by(f64::total_cmp);
                (all.len() > 1).then(|| all[all.len() - 1] - all[0])
            };
            let spread = Number(mean(&lines.iter().filter_map(spread).collect::<Vec<f64>>()));
            EffectRecord { key: key.clone(), spread, lines }
        })
        .collect()
}

/// Returns the name of the configuration with the smallest validation fvu.
pub fn best(all: &[ConfigurationRecord]) -> Option<String> {
    let candidates = all.iter().filter(|c| c.apart.is_none()).filter_map(|c| Some((c.validation_fvu.get()?, c)));
    candidates.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, c)| c.name.clone())
}

/// Returns the name of the configuration on the front that lies furthest below the line between the ends of the front, in the
/// plane of log L0 and fvu, both scaled to [0, 1] (Satopää et al. 2011, "Finding a kneedle in a haystack"). `None` if no
/// configuration lies below it.
pub fn knee(all: &[ConfigurationRecord]) -> Option<String> {
    let mut front: Vec<(f64, f64, &str)> = all
        .iter()
        .filter(|c| c.front)
        .filter_map(|c| Some((c.l0.get().filter(|l| *l > 0.0)?.ln(), c.fvu.get()?, c.name.as_str())))
        .collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, last) = (*front.first()?, *front.last()?);
    let (wide, high) = (last.0 - first.0, first.1 - last.1);
    if front.len() < 3 || wide <= 0.0 || high <= 0.0 {
        return None;
    }
    let below = |p: &(f64, f64, &str)| 1.0 - (p.0 - first.0) / wide - (p.1 - last.1) / high;
    let bent = front.iter().filter(|p| below(p) > 1e-9);
    bent.max_by(|a, b| below(a).total_cmp(&below(b))).map(|p| p.2.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Reconstruction, Scores};

    fn cell(configuration: &str, l0: f64, fvu: f64, validation: f64) -> CellRecord {
        CellRecord {
            configuration: configuration.into(),
            validation_fvu: Some(validation),
            scores: Some(Scores {
                l0: Some(l0),
                reconstruction: Reconstruction { fvu: Some(fvu), ..Reconstruction::default() },
                ..Scores::default()
            }),
            ..CellRecord::default()
        }
    }

    #[test]
    fn the_front_the_best_and_the_knee() {
        let cells = [
            cell("a", 8.0, 0.5, 0.5),
            cell("b", 16.0, 0.2, 0.21),
            cell("c", 16.0, 0.25, 0.2),
            cell("d", 64.0, 0.1, 0.1),
            cell("e", 60.0, 0.3, 0.1),
            cell("d", 64.0, 0.14, 0.2),
            CellRecord { ended: Ended::Stopped, ..cell("f", 1.0, 0.0, 0.0) },
        ];
        let all = configurations(&cells);
        let front: Vec<&str> = all.iter().filter(|c| c.front).map(|c| c.name.as_str()).collect();
        assert_eq!(front, ["a", "b", "d"]);
        assert_eq!(all.iter().map(|c| c.seeds).collect::<Vec<_>>(), [1, 1, 1, 2, 1]);
        // t(1) · sd / √2 = 12.706 · 0.02
        assert!((all[3].fvu_band.get().expect("two seeds") - 12.706 * 0.02).abs() < 1e-9);
        assert_eq!(all[0].fvu_band.get(), None);
        assert_eq!(best(&all).as_deref(), Some("e"));
        assert_eq!(knee(&all).as_deref(), Some("b"));
        assert_eq!(knee(&all[..2]), None);
        // A front that bends the other way.
        let away = configurations(&[cell("a", 1.0, 0.5, 0.5), cell("b", 2.0, 0.4, 0.4), cell("c", 4.0, 0.1, 0.1)]);
        assert_eq!(knee(&away), None);
    }

    #[test]
    fn means_over_seeds_have_every_measure() {
        let scores = |mse: f64, dead: u64| Scores {
            l0: Some(12.0),
            reconstruction: Reconstruction { mse: Some(mse), ..Reconstruction::default() },
            dead_latents: Some(dead),
            latents: Some(64),
            ..Scores::default()
        };
        let of = |seed: &str, mse, dead| CellRecord {
            k: 10,
            latents: 64,
            values: [("k", "10"), ("seed", seed)].map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect(),
            seconds: Some(mse),
            scores: Some(scores(mse, dead)),
            ..CellRecord::default()
        };
        let all = configurations(&[of("1", 1.0, 8), of("2", 3.0, 24)]);
        assert_eq!((all.len(), all[0].mse.get(), all[0].seconds.get()), (1, Some(2.0), Some(2.0)));
        assert_eq!((all[0].dead_latents.get(), all[0].dead_share.get()), (Some(16.0), Some(0.25)));
        assert_eq!((all[0].values.0.len(), all[0].l0_far), (1, true));
    }

    #[test]
    fn an_option_that_matters_has_a_large_spread() {
        let of = |k: u64, lr: &str, fvu: f64, ended: Ended| CellRecord {
            ended,
            k,
            values: [("k", k.to_string()), ("lr", lr.into())].map(|(a, b)| (a.to_owned(), b)).into_iter().collect(),
            ..cell("", 1.0, fvu, fvu)
        };
        let done = Ended::Finished;
        let cells = [
            of(4, "0.1", 0.5, done),
            of(4, "0.2", 0.4, done),
            of(8, "0.1", 0.3, done),
            of(8, "0.2", 0.0, Ended::Stopped),
        ];
        let all = effects(&cells, &["k".into(), "lr".into(), "seed".into()]);
        assert_eq!(all.iter().map(|e| (e.key.as_str(), e.lines.len())).collect::<Vec<_>>(), [("k", 1), ("lr", 2)]);
        let fvu: Vec<f64> = all[0].lines[0].points.iter().filter_map(|p| p.fvu.get()).collect();
        assert!(fvu.iter().zip([0.45, 0.3]).all(|(a, b)| (a - b).abs() < 1e-12) && fvu.len() == 2, "{fvu:?}");
        assert!((all[1].spread.get().expect("two values at k = 4") - 0.1).abs() < 1e-12);
        assert_eq!((all[1].lines[1].k, all[1].lines[1].points.len()), (Some(8), 1));
    }
}
