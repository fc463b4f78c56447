//! From what a pass gathered to a record and its columns. Looks at rows again only to picture those that it cites.

use super::classes::{benjamini_hochberg, relevance};
use super::compare::{Directions, best_partners, live_directions, matched, most_alike};
use super::groups::groups;
use super::metadata::{self, relate};
use super::pairs::Pair;
use super::separate::separation;
use super::stream::{Gathered, RowQuality, SaeSums};
use super::sums::{BINS, EXAMPLES, Example, LatentSums, Smallest};
use super::usage::{descending, shares, spearman, usage};
use crate::data::Dataset;
use crate::data::table::{Cells, Table};
use crate::kernels::Isa;
use crate::matrix::{Latents, Mat};
use crate::metrics::mean;
use crate::model::{Sae, Work};
use crate::random::mix;
use crate::record::analysis::{
    ANALYSIS_SCHEMA, AnalysisRecord, Cited, ClassesRecord, EnsembleAnalysis, GroupRecord, MetadataOf, MetadataRecord,
    OrderRecord, PairRecord, PairsRecord, ReconstructionRecord, SaeAnalysis, UsageRecord,
};
use crate::record::columns::Columns;
use crate::record::{Number, Ordered};
use rayon::prelude::*;
use std::collections::BTreeMap;

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
/// Rows of the separation, and rows of a class in the sample of latents.
const SEPARATED: usize = 2000;
const SAMPLED: usize = 40;
/// Latents named with a reconstruction.
const NAMED: usize = 8;
/// Latents with a picture: of the first SAE; of the others only those with examples have one.
const WALL: usize = 8192;
/// Longest side of a picture of a row.
const SIDE: usize = 32;

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
    let rows = gathered.saes[0].rows.len();
    let n = rows as f64;
    let pictures = data.shape().map(|s| [s.channels, s.height, s.width]);
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
            l0: mean(sums.rows.iter().map(|r| f64::from(r.l0))).into(),
            pearson: mean(sums.rows.iter().map(|r| f64::from(r.pearson))).into(),
            class_pearson: (0..classes.len())
                .map(|c| mean(sums.rows.iter().filter(|r| r.class as usize == c).map(|r| f64::from(r.pearson))).into())
                .collect(),
            mse: mean(sums.rows.iter().map(|r| r.sse)).map(|sse| sse / data.dim() as f64).into(),
            usage: usage_record(&own.delta_sse),
            density: density(&own.frequency),
            order: order(sae, own, pictures),
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
        pictures,
        weights: options.weights,
        k: saes[0].config().k,
        saes: out,
        ensemble: (saes.len() > 1).then(|| ensemble(&mut columns, &directions, saes[0].config().latents)),
        metadata: Vec::new(),
        cited: cited.rows.iter().map(|&row| cited_row(data, row)).collect(),
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
    table: &Table,
) {
    let class: Vec<Option<u16>> = rows.iter().map(|&r| data.label(r)).collect();
    let mut out: Vec<MetadataRecord> = table
        .columns
        .iter()
        .map(|known| {
            let (kind, levels, left_out) = match &known.cells {
                Cells::Numbers(_) => ("number", Vec::new(), String::new()),
                Cells::Levels(names, _) => ("levels", names.clone(), String::new()),
                Cells::Useless(why) => ("", Vec::new(), why.clone()),
            };
            MetadataRecord {
                column: known.name.clone(),
                kind: kind.into(),
                levels,
                left_out,
                with_classes: match data.classes().len() {
                    0 | 1 => Number(None),
                    classes => metadata::with_classes(&known.cells, &class, classes).into(),
                },
                ..MetadataRecord::default()
            }
        })
        .collect();
    for (s, sae) in saes.iter().enumerate() {
        let latents = metadata::Activations::of(sae, data, rows);
        for (j, (known, out)) in table.columns.iter().zip(&mut out).enumerate() {
            let Some(found) = relate(&latents, &known.cells) else { continue };
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
    Cited { row, name: data.name(row as usize / data.copies()), class: data.label(row as usize) }
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
    let all: Vec<_> = sums.latents.par_iter().map(|l| relevance(l, &gathered.class_rows)).collect();
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

/// Rows that are cited, by number, in the order of their first mention.
#[derive(Default)]
struct CitedRows {
    rows: Vec<u64>,
    at: BTreeMap<u64, u32>,
}

impl CitedRows {
    fn cite(&mut self, row: u64) -> u32 {
        let next = self.rows.len() as u32;
        *self.at.entry(row).or_insert_with(|| {
            self.rows.push(row);
            next
        })
    }
}

/// No row.
const NONE: u32 = u32::MAX;

fn example_columns(
    columns: &mut Columns,
    s: usize,
    sums: &SaeSums,
    own: &Measures,
    pictured: usize,
    cited: &mut CitedRows,
) {
    let list: Vec<usize> = own.used().take(pictured).collect();
    columns.counts(format!("{s}.pictured"), &[list.len()], list.iter().map(|&h| h as u32).collect());
    type Kind = fn(&LatentSums) -> &Smallest;
    let kinds: [(&str, Kind); 3] = [("top", |l| &l.top), ("random", |l| &l.random), ("near", |l| &l.near)];
    for (name, kind) in kinds {
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        for &h in &list {
            let examples: Vec<Example> = kind(&sums.latents[h]).rows().collect();
            for e in 0..EXAMPLES {
                rows.push(examples.get(e).map_or(NONE, |e| cited.cite(e.row)));
                values.push(examples.get(e).map_or(f64::NAN, |e| f64::from(e.value)));
            }
        }
        columns.counts(format!("{s}.{name}_row"), &[list.len(), EXAMPLES], rows);
        columns.figures(format!("{s}.{name}_value"), &[list.len(), EXAMPLES], values);
    }
}

fn worst_median_best(rows: &[RowQuality], classes: usize, cited: &mut CitedRows) -> Vec<ReconstructionRecord> {
    let mut out = Vec::new();
    for c in 0..classes.min(20) {
        let mut own: Vec<&RowQuality> = rows.iter().filter(|r| r.class as usize == c).collect();
        own.sort_by(|a, b| a.pearson.total_cmp(&b.pearson).then(a.row.cmp(&b.row)));
        let Some(last) = own.len().checked_sub(1) else { continue };
        let mut seen = Vec::new();
        for (name, at) in [("worst", 0), ("median", last / 2), ("best", last)] {
            if seen.contains(&at) {
                continue;
            }
            seen.push(at);
            out.push(ReconstructionRecord {
                cited: u64::from(cited.cite(own[at].row)),
                rank: name.into(),
                pearson: f64::from(own[at].pearson).into(),
                active: Vec::new(),
            });
        }
    }
    out
}

/// Latents of a sample of rows, `SAMPLED` of each class (for the heat map), and the separation of up to `SEPARATED`.
fn sample_columns(
    columns: &mut Columns,
    saes: &[&Sae],
    data: &Dataset,
    gathered: &Gathered,
    out: &mut [SaeAnalysis],
    cited: &mut CitedRows,
) {
    let classes = gathered.class_rows.len();
    let mut all: Vec<&RowQuality> = gathered.saes[0].rows.iter().collect();
    all.sort_by_key(|r| (mix(u64::MAX, r.row), r.row));
    let mut heat: Vec<&RowQuality> = Vec::new();
    for c in 0..classes.min(20) {
        heat.extend(all.iter().filter(|r| r.class as usize == c).take(SAMPLED));
    }
    columns.counts("sample.row", &[heat.len()], heat.iter().map(|r| cited.cite(r.row)).collect());
    let far: Vec<&RowQuality> = all.into_iter().take(SEPARATED).collect();
    for (s, (sae, record)) in saes.iter().zip(out).enumerate() {
        let numbers: Vec<usize> = heat.iter().map(|r| r.row as usize).collect();
        let (_, latents, _) = encode(sae, data, &numbers);
        let (mut start, mut index, mut value) = (vec![0u32], Vec::new(), Vec::new());
        for b in 0..numbers.len() {
            let (i, v) = latents.row(b);
            index.extend_from_slice(i);
            value.extend(v.iter().map(|&v| f64::from(v)));
            start.push(index.len() as u32);
        }
        columns.counts(format!("{s}.sample_start"), &[start.len()], start);
        columns.counts(format!("{s}.sample_latent"), &[index.len()], index);
        columns.figures(format!("{s}.sample_value"), &[value.len()], value);
        if let Some(own) = &mut record.classes {
            let numbers: Vec<usize> = far.iter().map(|r| r.row as usize).collect();
            let class: Vec<usize> = far.iter().map(|r| r.class as usize).collect();
            let (_, latents, _) = encode(sae, data, &numbers);
            let found = separation(&latents, sae.config().latents, &class, classes);
            own.silhouette = found.silhouette.into();
            (own.probe, own.majority) = (found.probe.into(), found.majority.into());
        }
    }
}

/// Rows, their latents, and what can decode these again.
fn encode(sae: &Sae, data: &Dataset, rows: &[usize]) -> (Mat, Latents, Work) {
    let mut x = Mat::zeros(rows.len(), data.dim());
    data.fill(rows, 0, x.view_mut());
    let (mut work, mut latents) = (Work::default(), Latents::default());
    // Rows that overflow were refused by the pass.
    let _ = sae.encode(Isa::current(), x.view(), &mut work, &mut latents);
    (x, latents, work)
}

fn reconstruction_columns(
    columns: &mut Columns,
    saes: &[&Sae],
    data: &Dataset,
    cited: &CitedRows,
    out: &mut [SaeAnalysis],
) {
    let shape = data.shape().map(|s| [s.channels, s.height, s.width]);
    for (s, (sae, record)) in saes.iter().zip(out).enumerate() {
        let rows: Vec<usize> = record.reconstructions.iter().map(|r| cited.rows[r.cited as usize] as usize).collect();
        let (x, latents, work) = encode(sae, data, &rows);
        let mut recon = Mat::zeros(rows.len(), data.dim());
        sae.decode(Isa::current(), &latents, &work, recon.view_mut());
        for (b, r) in record.reconstructions.iter_mut().enumerate() {
            let (index, value) = latents.row(b);
            let mut active: Vec<(u64, f64)> =
                index.iter().zip(value).map(|(&i, &v)| (u64::from(i), f64::from(v))).collect();
            active.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
            active.truncate(NAMED);
            r.active = active;
        }
        match shape {
            Some(shape) => {
                let bytes = |m: &Mat| -> Vec<u8> { (0..rows.len()).flat_map(|b| levels(m.row(b))).collect() };
                let shape = [rows.len(), shape[0], shape[1], shape[2]];
                columns.bytes(format!("{s}.recon_original"), &shape, bytes(&x));
                columns.bytes(format!("{s}.recon"), &shape, bytes(&recon));
            }
            None => {
                let figures = |m: &Mat| m.data().iter().map(|&v| f64::from(v)).collect();
                columns.figures(format!("{s}.recon_original"), &[rows.len(), data.dim()], figures(&x));
                columns.figures(format!("{s}.recon"), &[rows.len(), data.dim()], figures(&recon));
            }
        }
    }
}

/// Values in [0, 1] as bytes.
fn levels(row: &[f32]) -> Vec<u8> {
    row.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect()
}

/// Mean over blocks of pixels, so that the longer side is at most `side`: `(picture, height, width)`.
fn shrink(picture: &[f32], [channels, height, width]: [usize; 3], side: usize) -> (Vec<f32>, usize, usize) {
    let factor = height.max(width).div_ceil(side).max(1);
    let (h, w) = (height.div_ceil(factor), width.div_ceil(factor));
    let mut out = Vec::with_capacity(channels * h * w);
    for plane in picture.chunks_exact(height * width) {
        for y in 0..h {
            for x in 0..w {
                let (mut sum, mut n) = (0.0f32, 0.0f32);
                for row in y * factor..((y + 1) * factor).min(height) {
                    for v in &plane[row * width..][x * factor..((x + 1) * factor).min(width)] {
                        (sum, n) = (sum + v, n + 1.0);
                    }
                }
                out.push(sum / n);
            }
        }
    }
    (out, h, w)
}

/// Signed values as bytes around 128, scaled to the largest |value|.
fn signed(row: &[f32]) -> Vec<u8> {
    let largest = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let scale = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    row.iter().map(|v| (128.0 + v * scale).round() as u8).collect()
}

/// Pictures of cited rows and of features; of plain rows their values.
fn picture_columns(
    columns: &mut Columns,
    saes: &[&Sae],
    data: &Dataset,
    all: &[Measures],
    cited: &CitedRows,
    options: &Options,
) {
    let Some(shape) = data.shape().map(|s| [s.channels, s.height, s.width]) else { return };
    let small = |row: &[f32]| shrink(row, shape, SIDE);
    let (_, h, w) = small(&vec![0.0; data.dim()]);
    let rows: Vec<Vec<u8>> = cited
        .rows
        .par_iter()
        .map(|&r| {
            let mut row = vec![0.0; data.dim()];
            data.read(r as usize, 0, &mut row);
            levels(&small(&row).0)
        })
        .collect();
    columns.bytes("cited", &[rows.len(), shape[0], h, w], rows.concat());
    for (s, (sae, own)) in saes.iter().zip(all).enumerate() {
        // What is never used is noise, and noise does not compress.
        let most = if s == 0 { WALL } else { options.pictured };
        let used: Vec<usize> = own.used().take(most).collect();
        let wall: Vec<Vec<u8>> = used.par_iter().map(|&h| signed(&small(&sae.feature(h)).0)).collect();
        columns.bytes(format!("{s}.wall"), &[used.len(), shape[0], h, w], wall.concat());
        columns.counts(format!("{s}.wall_of"), &[used.len()], used.iter().map(|&h| h as u32).collect());
        let list = &used[..used.len().min(options.pictured.min(200))];
        if h < shape[1] || w < shape[2] {
            let large: Vec<u8> =
                list.iter().flat_map(|&h| signed(&shrink(&sae.feature(h), shape, 2 * SIDE).0)).collect();
            let (_, h, w) = shrink(&vec![0.0; data.dim()], shape, 2 * SIDE);
            columns.bytes(format!("{s}.large"), &[list.len(), shape[0], h, w], large);
        }
    }
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
