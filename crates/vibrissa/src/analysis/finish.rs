//! From what a pass gathered to a record and its columns; what is shown of single rows is in `finish/shown.rs`.

mod shown;

use super::classes::{benjamini_hochberg, relevance};
use super::compare::{Directions, best_partners, live_directions, matched, most_alike};
use super::groups::groups;
use super::metadata::{self, relate};
use super::pairs::Pair;
use super::stream::{Gathered, RowQuality, SaeSums};
use super::sums::BINS;
use super::usage::{descending, shares, spearman, usage};
use crate::data::Dataset;
use crate::data::metadata::{MetadataTable, MetadataValues};
use crate::data::patches::PatchLayout;
use crate::kernels::Isa;
use crate::metrics::mean;
use crate::model::Sae;
use crate::record::analysis::{
    ANALYSIS_SCHEMA, AnalysisRecord, Cited, ClassesRecord, EnsembleAnalysis, GroupRecord, MetadataOf, MetadataRecord,
    OrderRecord, PairRecord, PairsRecord, PatchesRecord, SaeAnalysis, UsageRecord,
};
use crate::record::columns::Columns;
use crate::record::{Number, Ordered};
use crate::shape::ImageShape;
use rayon::prelude::*;
use shown::{CitedRows, example_columns, picture_columns, reconstruction_columns, sample_columns, worst_median_best};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Weights of frequency and strength in the score.
    pub weights: [f64; 2],
    /// Latents whose example rows are pictured: the first so many by score.
    pub pictured: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { weights: [0.7, 0.3], pictured: 1000 }
    }
}

/// Latents compared by order, and pairs in a list.
const TOP: usize = 100;
const PAIRS: usize = 20;
/// Latents that groups are sought among: the first so many by score.
const GROUPED: usize = 1000;
/// Rows below which two latents that act together say nothing.
const SUPPORT: u64 = 10;
/// Two directions are one feature from this cosine on.
const SAME: f32 = 0.7;
/// Figures of one SAE by latent, in the order of their numbers.
struct Measures {
    count: Vec<u64>,
    frequency: Vec<f64>,
    strength: Vec<f64>,
    score: Vec<f64>,
    scaled: Vec<f64>,
    delta_sse: Vec<f64>,
    delta_pearson: Vec<f64>,
    share: Vec<f64>,
    /// From 0, by score.
    order: Vec<usize>,
}

impl Measures {
    /// Latents that some row uses, the most important first.
    fn used(&self) -> impl Iterator<Item = usize> {
        self.order.iter().copied().filter(|&h| self.count[h] > 0)
    }
}

fn by_latent(sums: &SaeSums, rows: f64, weights: [f64; 2]) -> Measures {
    let count: Vec<u64> = sums.latents.iter().map(|l| l.count()).collect();
    let frequency: Vec<f64> = count.iter().map(|&c| c as f64 / rows).collect();
    let strength: Vec<f64> =
        sums.latents.iter().zip(&count).map(|(l, &c)| if c > 0 { l.sum.value() / c as f64 } else { 0.0 }).collect();
    let strongest = strength.iter().fold(0.0f64, |m, s| m.max(s.abs()));
    let weighted = |f: f64, s: f64| weights[0] * f + weights[1] * s;
    let score: Vec<f64> = frequency.iter().zip(&strength).map(|(&f, &s)| weighted(f, s)).collect();
    let scaled = |s: f64| if strongest > 0.0 { s / strongest } else { 0.0 };
    let scaled = frequency.iter().zip(&strength).map(|(&f, &s)| weighted(f, scaled(s))).collect();
    let delta_sse: Vec<f64> = sums.latents.iter().map(|l| l.delta_sse.value() / rows).collect();
    Measures {
        delta_pearson: sums.latents.iter().map(|l| l.delta_pearson.value() / rows).collect(),
        share: shares(&delta_sse),
        count,
        frequency,
        strength,
        order: descending(&score),
        score,
        scaled,
        delta_sse,
    }
}

/// Gradient energy over energy of a picture: 0 flat, larger for finer detail.
fn sharpness(picture: &[f32], [channels, height, width]: [usize; 3]) -> f64 {
    let (mut gradient, mut energy) = (0.0f64, 0.0f64);
    for plane in picture.chunks_exact(height * width).take(channels) {
        let at = |y: usize, x: usize| f64::from(plane[y * width + x]);
        for y in 0..height {
            for x in 0..width {
                energy += at(y, x).powi(2);
                gradient += if x + 1 < width { (at(y, x + 1) - at(y, x)).powi(2) } else { 0.0 };
                gradient += if y + 1 < height { (at(y + 1, x) - at(y, x)).powi(2) } else { 0.0 };
            }
        }
    }
    if energy > 0.0 { gradient / energy } else { f64::NAN }
}

/// Record and columns of what `gathered` holds about these SAEs on these rows.
pub fn finish(saes: &[&Sae], data: &Dataset, gathered: &Gathered, options: &Options) -> (AnalysisRecord, Columns) {
    // Of patches there are so many times as many as of pictures, which all about single rows is of.
    let rows = gathered.saes[0].rows.len() * data.rows_per_image();
    let n = rows as f64;
    let classes = data.classes();
    let mut columns = Columns::default();
    let mut cited = CitedRows::default();
    let mut out = Vec::new();
    let all: Vec<Measures> = gathered.saes.iter().map(|sums| by_latent(sums, n, options.weights)).collect();
    let directions: Vec<Directions> =
        saes.iter().zip(&all).map(|(sae, own)| live_directions(sae, &own.count)).collect();
    for (s, ((sae, sums), own)) in saes.iter().zip(&gathered.saes).zip(&all).enumerate() {
        let mut record = SaeAnalysis {
            latents: own.count.len() as u64,
            dead: own.count.iter().filter(|&&c| c == 0).count() as u64,
            rare: own.count.iter().filter(|&&c| c > 0 && (c as f64) < n / 1000.0).count() as u64,
            dense: own.frequency.iter().filter(|&&f| f > 0.5).count() as u64,
            l0: mean(sums.rows.iter().map(|r| f64::from(r.l0) / data.rows_per_image() as f64)).into(),
            pearson: mean(sums.rows.iter().map(|r| f64::from(r.pearson))).into(),
            class_pearson: (0..classes.len())
                .map(|c| mean(sums.rows.iter().filter(|r| r.class as usize == c).map(|r| f64::from(r.pearson))).into())
                .collect(),
            mse: mean(sums.rows.iter().map(|r| r.sse)).map(|sse| sse / data.image_dim() as f64).into(),
            usage: usage_record(&own.delta_sse),
            density: density(&own.frequency),
            order: order(sae, own, data.shape().map(ImageShape::to_array)),
            pairs: sums.partners.is_some().then(|| pairs(sums, own, &directions[s], n)),
            ..SaeAnalysis::default()
        };
        if classes.len() > 1 {
            record.classes = Some(class_columns(&mut columns, s, sums, gathered, own, classes.len()));
        }
        pearson_columns(&mut columns, s, &sums.rows, classes.len().max(1));
        latent_columns(&mut columns, s, sae, own, sums);
        example_columns(&mut columns, s, sums, own, options.pictured, &mut cited);
        record.reconstructions = worst_median_best(&sums.rows, classes.len().max(1), &mut cited);
        out.push(record);
    }
    sample_columns(&mut columns, saes, data, gathered, &mut out, &mut cited);
    reconstruction_columns(&mut columns, saes, data, &cited, &mut out);
    picture_columns(&mut columns, saes, data, &all, &cited, options);
    let record = AnalysisRecord {
        schema: ANALYSIS_SCHEMA.into(),
        tool_version: env!("CARGO_PKG_VERSION").into(),
        run: String::new(),
        data: String::new(),
        split: String::new(),
        rows: rows as u64,
        classes: Ordered(classes.iter().cloned().zip(gathered.class_rows.iter().copied()).collect()),
        pictures: data.image_shape().map(ImageShape::to_array),
        patches: data.patches().map(patches_record),
        weights: options.weights,
        k: saes[0].config().k,
        saes: out,
        ensemble: (saes.len() > 1).then(|| ensemble(&mut columns, &directions, saes[0].config().latents)),
        metadata: Vec::new(),
        cited: cited.rows.iter().map(|&row| cited_row(data, row)).collect(),
        columns_hash: String::new(),
        seconds: Number(None),
        rows_per_s: Number(None),
    };
    (record, columns)
}

/// Relates the latents of every SAE to the columns of a table; `rows` are those the table was matched with.
pub fn add_metadata(
    record: &mut AnalysisRecord,
    columns: &mut Columns,
    saes: &[&Sae],
    data: &Dataset,
    rows: &[usize],
    table: &MetadataTable,
) {
    let rows = &data.first_rows(rows)[..];
    let class: Vec<Option<u16>> = rows.iter().map(|&r| data.label(r)).collect();
    let mut out: Vec<MetadataRecord> = table
        .columns
        .iter()
        .map(|known| {
            let (kind, levels, left_out) = match &known.values {
                MetadataValues::Numbers(_) => ("number", Vec::new(), String::new()),
                MetadataValues::Levels(names, _) => ("levels", names.clone(), String::new()),
                MetadataValues::Unusable(why) => ("", Vec::new(), why.clone()),
            };
            MetadataRecord {
                column: known.name.clone(),
                kind: kind.into(),
                levels,
                left_out,
                with_classes: match data.classes().len() {
                    0 | 1 => Number(None),
                    classes => metadata::with_classes(&known.values, &class, classes).into(),
                },
                ..MetadataRecord::default()
            }
        })
        .collect();
    for (s, sae) in saes.iter().enumerate() {
        let latents = metadata::Activations::of(sae, data, rows);
        for (j, (known, out)) in table.columns.iter().zip(&mut out).enumerate() {
            let Some(found) = relate(&latents, &known.values) else { continue };
            out.rows = found.rows as u64;
            let mut top: Vec<usize> = (0..found.q.len()).filter(|&h| found.q[h] < 0.05).collect();
            let significant = top.len() as u64;
            top.sort_by(|&a, &b| found.effect[b].abs().total_cmp(&found.effect[a].abs()).then(a.cmp(&b)));
            let top = top.iter().take(10).map(|&h| (h as u64, found.effect[h], found.q[h])).collect();
            out.saes.push(MetadataOf { significant, top });
            let shape = [found.q.len()];
            columns.figures(format!("{s}.metadata.{j}.effect"), &shape, found.effect);
            columns.figures(format!("{s}.metadata.{j}.p"), &shape, found.p);
            columns.figures(format!("{s}.metadata.{j}.q"), &shape, found.q);
        }
    }
    record.metadata = out;
}

fn cited_row(data: &Dataset, row: u64) -> Cited {
    let number = row as usize;
    let place = data.patches().map(|p| p.at(number % p.patches_per_image()));
    Cited { row, name: data.name(data.original(number)), class: data.label(number), place }
}

fn patches_record(patches: &PatchLayout) -> PatchesRecord {
    let (size, [down, across]) = (patches.grid(), patches.positions());
    PatchesRecord {
        height: size.height,
        width: size.width,
        stride: size.stride,
        tops: (0..down).map(|i| patches.at(i * across)[0]).collect(),
        lefts: (0..across).map(|i| patches.at(i)[1]).collect(),
    }
}

fn usage_record(delta_sse: &[f64]) -> UsageRecord {
    let u = usage(delta_sse);
    UsageRecord {
        curve: u.curve,
        gini: u.gini.into(),
        carry_80: u.carry_80.into(),
        negative: u.negative as u64,
        tail: u.tail.into(),
        tail_r2: u.tail_r2.into(),
    }
}

/// Rows of each class by their Pearson r, in 100 buckets from -1 to 1.
fn pearson_columns(columns: &mut Columns, s: usize, rows: &[RowQuality], classes: usize) {
    const BUCKETS: usize = 100;
    let mut counts = vec![0u32; classes * BUCKETS];
    for r in rows {
        let bucket = ((f64::from(r.pearson) + 1.0) * BUCKETS as f64 / 2.0) as usize;
        counts[r.class as usize * BUCKETS + bucket.min(BUCKETS - 1)] += 1;
    }
    columns.counts(format!("{s}.pearson_histogram"), &[classes, BUCKETS], counts);
}

/// Four buckets a decade from 10⁻⁶ to 1.
fn density(frequency: &[f64]) -> Vec<(f64, u64)> {
    let mut counts = [0u64; 24];
    for f in frequency.iter().filter(|&&f| f > 0.0) {
        counts[(((f.log10() + 6.0) * 4.0).floor().max(0.0) as usize).min(23)] += 1;
    }
    counts.iter().enumerate().map(|(i, &c)| (i as f64 / 4.0 - 6.0, c)).collect()
}

fn order(sae: &Sae, own: &Measures, pictures: Option<[usize; 3]>) -> OrderRecord {
    let top = TOP.min(own.order.len());
    let (best, first): (Vec<usize>, Vec<usize>) = (own.order[..top].to_vec(), (0..top).collect());
    let share = |list: &[usize]| Number::from(mean(list.iter().map(|&h| own.share[h])));
    let sharp = |list: &[usize]| match pictures {
        Some(shape) => Number::from(mean(list.iter().map(|&h| sharpness(&sae.feature(h), shape)))),
        None => Number(None),
    };
    let index: Vec<f64> = (0..own.score.len()).map(|h| -(h as f64)).collect();
    OrderRecord {
        top: top as u64,
        share: [share(&best), share(&first)],
        sharpness: [sharp(&best), sharp(&first)],
        top_frequency: own.frequency.iter().copied().fold(0.0, f64::max).into(),
        top_least_frequency: best.iter().map(|&h| own.frequency[h]).fold(1.0, f64::min).into(),
        rank_index: spearman(&own.score, &index).into(),
    }
}

fn pairs(sums: &SaeSums, own: &Measures, directions: &Directions, n: f64) -> PairsRecord {
    let isa = Isa::current();
    let mut all: Vec<(u32, u32, Pair)> = Vec::new();
    for (i, partners) in sums.partners.iter().flatten().enumerate() {
        all.extend(partners.pairs(i).into_iter().map(|(j, p)| (i as u32, j, p)));
    }
    let row = |h: u32| directions.rows.row(directions.latents.binary_search(&h).expect("a live latent"));
    let cosine = |i: u32, j: u32| f64::from(isa.dot(row(i), row(j)));
    let pmi = |i: u32, j: u32, p: &Pair| {
        (f64::from(p.count) * n / (own.count[i as usize] as f64 * own.count[j as usize] as f64)).log2()
    };
    let record = |i: u32, j: u32, p: &Pair| {
        let cosine = cosine(i, j);
        PairRecord {
            a: u64::from(i),
            b: u64::from(j),
            count: u64::from(p.count),
            pmi: pmi(i, j, p).into(),
            synergy: (2.0 * p.sum() / n * cosine).into(),
            cosine: cosine.into(),
        }
    };
    // |synergy| ≤ 2 |E ab|: pairs in that order need no cosine once the bound is below the last of the list.
    all.sort_by(|a, b| b.2.sum().abs().total_cmp(&a.2.sum().abs()).then((a.0, a.1).cmp(&(b.0, b.1))));
    let extreme = |sign: f64| {
        let mut list: Vec<PairRecord> = Vec::new();
        let value = |p: &PairRecord| sign * p.synergy.get().unwrap_or(0.0);
        for (i, j, p) in &all {
            let least = list.last().filter(|_| list.len() == PAIRS).map_or(0.0, value);
            if 2.0 * p.sum().abs() / n <= least {
                break;
            }
            let own = record(*i, *j, p);
            if value(&own) > least {
                let at = list.partition_point(|o| value(o) >= value(&own));
                list.insert(at, own);
                list.truncate(PAIRS);
            }
        }
        list
    };
    let (overlap, correct) = (extreme(1.0), extreme(-1.0));
    let mut often: Vec<&(u32, u32, Pair)> = all.iter().filter(|p| u64::from(p.2.count) >= SUPPORT).collect();
    often.sort_by(|a, b| pmi(b.0, b.1, &b.2).total_cmp(&pmi(a.0, a.1, &a.2)).then((a.0, a.1).cmp(&(b.0, b.1))));
    let together = often.iter().take(PAIRS).map(|(i, j, p)| record(*i, *j, p)).collect();
    let redundant = most_alike(directions.rows.view(), PAIRS)
        .into_iter()
        .map(|(i, j, cosine)| {
            let (i, j) = (directions.latents[i as usize], directions.latents[j as usize]);
            let met = sums.partners.as_ref().and_then(|p| p[i as usize].get(i as usize, j));
            let met = met.map(|p| record(i, j, &p)).unwrap_or_default();
            PairRecord { a: u64::from(i), b: u64::from(j), cosine: f64::from(cosine).into(), ..met }
        })
        .collect();
    // One row that two latents share is no company.
    let grouped: Vec<usize> = own.used().filter(|&h| own.count[h] >= SUPPORT).take(GROUPED).collect();
    let found = sums.partners.as_ref().map_or(Vec::new(), |p| groups(&grouped, p, &own.count, n));
    let groups = found.iter().take(PAIRS).map(|g| {
        let pairs = g.latents.iter().enumerate().flat_map(|(i, &a)| g.latents[i + 1..].iter().map(move |&b| (a, b)));
        GroupRecord {
            latents: g.latents.iter().map(|&h| h as u64).collect(),
            npmi: g.together.into(),
            cosine: mean(pairs.map(|(a, b)| cosine(a as u32, b as u32).abs())).into(),
            share: g.latents.iter().map(|&h| own.share[h]).sum::<f64>().into(),
        }
    });
    PairsRecord { pairs: all.len() as u64, overlap, correct, together, redundant, groups: groups.collect() }
}

fn class_columns(
    columns: &mut Columns,
    s: usize,
    sums: &SaeSums,
    gathered: &Gathered,
    own: &Measures,
    classes: usize,
) -> ClassesRecord {
    let all: Vec<_> = sums.by_picture().par_iter().map(|l| relevance(l, &gathered.class_rows)).collect();
    let p: Vec<f64> = all.iter().zip(&own.count).map(|(r, &c)| if c > 0 { r.p } else { f64::NAN }).collect();
    let q = benjamini_hochberg(&p);
    let flat = |f: fn(&super::classes::Relevance) -> &Vec<f64>| all.iter().flat_map(|r| f(r).clone()).collect();
    let shape = [all.len(), classes];
    columns.figures(format!("{s}.class_mean"), &shape, flat(|r| &r.mean));
    columns.figures(format!("{s}.class_difference"), &shape, flat(|r| &r.difference));
    columns.figures(format!("{s}.class_frequency"), &shape, flat(|r| &r.frequency));
    columns.figures(format!("{s}.class_auc"), &shape, flat(|r| &r.auc));
    columns.figures(format!("{s}.information"), &shape[..1], all.iter().map(|r| r.information).collect());
    columns.figures(format!("{s}.p"), &shape[..1], p);
    let significant = q.iter().filter(|&&q| q < 0.05).count() as u64;
    let selective = (0..classes)
        .map(|c| {
            let mut list: Vec<usize> = (0..all.len()).filter(|&h| q[h] < 0.05 && all[h].auc[c] >= 0.7).collect();
            list.sort_by(|&a, &b| all[b].auc[c].total_cmp(&all[a].auc[c]).then(a.cmp(&b)));
            list.iter().take(10).map(|&h| h as u64).collect()
        })
        .collect();
    let everywhere = |f: &[f64]| {
        let most = f.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
        most > 0.0 && f.iter().filter(|v| v.is_finite()).all(|&v| v >= 0.5 * most)
    };
    let shared = all.iter().filter(|r| everywhere(&r.frequency)).count() as u64;
    columns.figures(format!("{s}.q"), &shape[..1], q);
    ClassesRecord { significant, selective, shared, ..ClassesRecord::default() }
}

fn latent_columns(columns: &mut Columns, s: usize, sae: &Sae, own: &Measures, sums: &SaeSums) {
    let h = own.count.len();
    let mut figures = |name: &str, values: Vec<f64>| columns.figures(format!("{s}.{name}"), &[h], values);
    figures("frequency", own.frequency.clone());
    figures("strength", own.strength.clone());
    figures("score", own.score.clone());
    figures("score_scaled", own.scaled.clone());
    figures("delta_sse", own.delta_sse.clone());
    figures("delta_pearson", own.delta_pearson.clone());
    figures("share", own.share.clone());
    figures("largest", sums.latents.iter().map(|l| f64::from(l.largest)).collect());
    let (encoder, decoder) = (sae.W_enc(), sae.decoder_rows());
    let norm = |row: &[f32]| row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    let enc: Vec<f64> = (0..h).map(|i| norm(encoder.row(i))).collect();
    let dec: Vec<f64> = (0..h).map(|i| norm(decoder.row(i)) * f64::from(sae.decoder_scale(i))).collect();
    let cosine = (0..h).map(|i| {
        let dot: f64 = encoder.row(i).iter().zip(decoder.row(i)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        dot / (enc[i] * norm(decoder.row(i)))
    });
    figures("cosine", cosine.collect());
    figures("encoder_norm", enc);
    figures("decoder_norm", dec);
    columns.counts(format!("{s}.count"), &[h], own.count.iter().map(|&c| c as u32).collect());
    let mut rank = vec![0u32; h];
    own.order.iter().enumerate().for_each(|(r, &i)| rank[i] = r as u32 + 1);
    columns.counts(format!("{s}.rank"), &[h], rank);
    let bins = sums
        .latents
        .iter()
        .flat_map(|l| (0..BINS).map(|b| l.bins.chunks_exact(BINS).map(|c| c[b]).sum::<u32>()).collect::<Vec<_>>());
    columns.counts(format!("{s}.histogram"), &[h, BINS], bins.collect());
}

fn ensemble(columns: &mut Columns, directions: &[Directions], latents: usize) -> EnsembleAnalysis {
    let m = directions.len();
    let mut record = EnsembleAnalysis { mmcs: vec![vec![Number(None); m]; m], ..EnsembleAnalysis::default() };
    for (i, own) in directions.iter().enumerate() {
        let mut partners = vec![0usize; own.latents.len()];
        let mut best = vec![f64::NAN; latents];
        for j in (0..m).filter(|&j| j != i) {
            let found = best_partners(own.rows.view(), directions[j].rows.view());
            record.mmcs[i][j] = mean(found.iter().flatten().map(|f| f64::from(f.1))).into();
            for ((partners, &h), found) in partners.iter_mut().zip(&own.latents).zip(&found) {
                let Some((_, cosine)) = *found else { continue };
                *partners += usize::from(cosine >= SAME);
                best[h as usize] = best[h as usize].max(f64::from(cosine));
            }
        }
        record.shared.push(partners.iter().filter(|&&p| p == m - 1).count() as u64);
        record.own.push(partners.iter().filter(|&&p| p == 0).count() as u64);
        columns.figures(format!("{i}.best_partner"), &[best.len()], best);
    }
    for (i, own) in directions.iter().enumerate() {
        for (j, other) in directions.iter().enumerate().skip(i + 1) {
            record.mcc.push((i, j, matched(own.rows.view(), other.rows.view()).into()));
        }
    }
    record
}
