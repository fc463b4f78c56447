//! What the cells of a sweep say together: means over seeds, the Pareto front, the best configuration and the knee.

use crate::record::Number;
use crate::record::sweep::{CellRecord, ConfigurationRecord, Ended};

/// Two-sided 97.5 % points of Student's t for 1 to 30 degrees of freedom; beyond, that of the normal distribution serves.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// Half of the 95 % confidence interval of a mean; `None` for fewer than two values.
pub fn band(values: &[f64]) -> Option<f64> {
    let n = values.len();
    if n < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    Some(T.get(n - 2).copied().unwrap_or(1.96) * (variance / n as f64).sqrt())
}

/// Finished cells by configuration, in the order of the grid, with the front marked.
pub fn configurations(cells: &[CellRecord]) -> Vec<ConfigurationRecord> {
    let mut out: Vec<ConfigurationRecord> = Vec::new();
    for cell in cells {
        if out.iter().any(|c| c.name == cell.configuration) {
            continue;
        }
        let own: Vec<&CellRecord> = cells
            .iter()
            .filter(|c| c.configuration == cell.configuration && c.ended == Ended::Finished && c.scores.is_some())
            .collect();
        if own.is_empty() {
            continue;
        }
        let values =
            |of: &dyn Fn(&CellRecord) -> Option<f64>| -> Vec<f64> { own.iter().filter_map(|c| of(c)).collect() };
        let mean = |v: Vec<f64>| Number((!v.is_empty()).then(|| v.iter().sum::<f64>() / v.len() as f64));
        let scores = |c: &CellRecord| c.scores.clone().expect("filtered");
        let fvu = values(&|c| scores(c).fvu);
        out.push(ConfigurationRecord {
            name: cell.configuration.clone(),
            seeds: own.len() as u64,
            l0: mean(values(&|c| scores(c).l0)),
            fvu_band: Number(band(&fvu)),
            fvu: mean(fvu),
            pearson: mean(values(&|c| scores(c).pearson)),
            dead_latents: mean(values(&|c| scores(c).dead_latents.map(|d| d as f64))),
            validation_fvu: mean(values(&|c| c.validation_fvu)),
            front: false,
        });
    }
    let points: Vec<Option<(f64, f64)>> = out.iter().map(|c| c.l0.get().zip(c.fvu.get())).collect();
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

/// The configuration with the smallest validation fvu.
pub fn best(all: &[ConfigurationRecord]) -> Option<String> {
    let judged = all.iter().filter_map(|c| Some((c.validation_fvu.get()?, c)));
    judged.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, c)| c.name.clone())
}

/// The configuration of the front that lies furthest below the line between the front's ends, fvu against log L0, both
/// brought to 0 to 1 (Satopää et al. 2011, "Finding a kneedle in a haystack"); `None` for fewer than three points.
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
    front.iter().max_by(|a, b| below(a).total_cmp(&below(b))).map(|p| p.2.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Scores;

    fn cell(configuration: &str, l0: f64, fvu: f64, validation: f64) -> CellRecord {
        CellRecord {
            configuration: configuration.into(),
            validation_fvu: Some(validation),
            scores: Some(Scores { l0: Some(l0), fvu: Some(fvu), ..Scores::default() }),
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
    }
}
