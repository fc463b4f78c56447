//! The figures of a report, each drawn once: for the page, and for files beside it.

use super::Report;
use super::text::by_rank;
use super::words::{Words, capital, count, fixed};
use crate::plot::chart::{Chart, Mark};
use crate::plot::image_figure::{ImageFigure, Label};
use crate::plot::matrix::{Matrix, MatrixCell};
use crate::plot::sprites::{image_png, series_png};
use crate::plot::svg::{Colour, LegendEntry, Target};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vibrissa_record::analysis::PruneRecord;
use vibrissa_record::analysis::columns::{Measure, Reconstructions};

/// A figure of a section.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its file, without an extension.
    pub name: String,
    /// The section that it belongs to.
    pub section: &'static str,
    /// What it shows.
    pub title: String,
    /// What to know about it.
    pub note: String,
    /// The drawing.
    pub svg: String,
}

/// Features of the profile, of the heat map, and of the wall that is saved.
const PROFILED: usize = 40;
const HEATED: usize = 160;
const WALL: usize = 100;

struct Drawer<'a> {
    report: &'a Report<'a>,
    words: &'a Words,
    target: Target,
    out: Vec<Figure>,
}

/// All figures that there is something to show in; `target` also decides whether what a page shows otherwise (tiles,
/// reconstructions) is among them.
pub fn figures(report: &Report, words: &Words, target: Target) -> Vec<Figure> {
    let mut drawer = Drawer { report, words, target, out: Vec::new() };
    if target == Target::File {
        drawer.reconstructions();
        drawer.wall();
    }
    drawer.distributions();
    drawer.usage();
    drawer.classes();
    drawer.heat();
    drawer.ensemble();
    drawer.training();
    drawer.pruning();
    drawer.out
}

impl Drawer<'_> {
    fn t(&self, key: &str) -> String {
        self.words.get(key)
    }

    /// The title of a figure.
    fn title(&self, key: &str) -> String {
        capital(&self.t(key))
    }

    fn push(&mut self, section: &'static str, name: &'static str, title: String, note: String, svg: String) {
        self.out.push(Figure { name: name.into(), section, title, note, svg });
    }

    fn chart(&mut self, section: &'static str, name: &'static str, chart: Chart, note: String) {
        if !chart.is_empty() {
            let svg = chart.svg(self.target);
            self.push(section, name, chart.title, note, svg);
        }
    }

    /// Figures of SAE `s` for the latents that are used.
    fn used(&self, s: usize, name: &str) -> Vec<f64> {
        let latents = &self.report.columns.saes[s].latents;
        let measure = Measure::named(name).expect("a measure of latents");
        measure.values(latents).iter().zip(latents.count.iter()).filter(|v| *v.1 > 0).map(|v| *v.0).collect()
    }

    fn class_names(&self) -> Vec<String> {
        self.report.analysis.classes.0.iter().map(|c| c.0.clone()).collect()
    }

    fn sae_names(&self) -> Vec<String> {
        (0..self.report.analysis.saes.len()).map(|s| format!("{} {s}", self.t("sae"))).collect()
    }

    fn legend(names: &[String]) -> Vec<LegendEntry> {
        names.iter().take(10).enumerate().map(|(i, n)| (n.clone(), Colour::Series(i))).collect()
    }

    fn histogram(&mut self, name: &'static str, values: Vec<f64>, label: String, note: String) {
        const BARS: usize = 40;
        let finite: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        let (mut low, mut high) =
            finite.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
        if finite.is_empty() {
            return;
        }
        if low == high {
            (low, high) = (low - 0.5, high + 0.5);
        }
        let mut heights = vec![0.0; BARS];
        for v in finite {
            heights[(((v - low) / (high - low) * BARS as f64) as usize).min(BARS - 1)] += 1.0;
        }
        let edges = (0..=BARS).map(|i| low + (high - low) * i as f64 / BARS as f64).collect();
        let chart = Chart {
            title: self.title(name),
            x: label,
            y: self.t("features"),
            marks: vec![Mark::Bars(edges, heights)],
            ..Chart::default()
        };
        self.chart("dist", name, chart, note);
    }

    fn distributions(&mut self) {
        {
            let counts = &self.report.columns.saes[0].quality.pearson_histogram;
            let buckets = counts.stride();
            let groups = counts.shape[0].min(10);
            let used: Vec<usize> = (0..buckets).filter(|&b| (0..groups).any(|c| counts[c * buckets + b] > 0)).collect();
            if let (Some(&first), Some(&last)) = (used.first(), used.last()) {
                let (from, to) = (first.saturating_sub(1), (last + 2).min(buckets));
                let marks = (0..groups).map(|c| {
                    let own = &counts[c * buckets..][..buckets];
                    let total = f64::from(own.iter().sum::<u32>().max(1));
                    Mark::Line {
                        points: (from..to)
                            .map(|b| [(b as f64 + 0.5) / buckets as f64 * 2.0 - 1.0, 100.0 * f64::from(own[b]) / total])
                            .collect(),
                        colour: Colour::Series(c),
                        dashed: false,
                    }
                });
                let chart = Chart {
                    title: self.title("pearson_by_class"),
                    x: self.t("pearson"),
                    y: format!("{} (%)", self.t("rows")),
                    marks: marks.collect(),
                    legend: Self::legend(&self.class_names()),
                    ..Chart::default()
                };
                self.chart("dist", "pearson_by_class", chart, String::new());
            }
        }
        let density = &self.report.analysis.saes[0].density;
        let from = density.iter().position(|d| d.1 > 0).unwrap_or(0);
        let mut edges: Vec<f64> = density[from..].iter().map(|d| d.0).collect();
        edges.push(0.0);
        let heights = density[from..].iter().map(|d| d.1 as f64).collect();
        let chart = Chart {
            title: self.title("density"),
            x: format!("log10 {}", self.t("frequency")),
            y: self.t("features"),
            marks: vec![Mark::Bars(edges, heights)],
            ..Chart::default()
        };
        self.chart("dist", "density", chart, String::new());
        for name in ["strength", "score"] {
            self.histogram(name, self.used(0, name), self.t(name), String::new());
        }
        for name in ["delta_sse", "delta_pearson"] {
            let all = self.used(0, name);
            let logarithms: Vec<f64> = all.iter().filter(|v| **v > 0.0).map(|v| v.log10()).collect();
            let note = self.words.with("not_shown", &[("n", (all.len() - logarithms.len()).to_string())]);
            self.histogram(name, logarithms, format!("log10 {}", self.t(name)), note);
        }
        self.values();
    }

    /// Values of active features by powers of two.
    fn values(&mut self) {
        let bins = self.report.analysis.histograms.activation;
        let counts = &self.report.columns.saes[0].histogram.histogram;
        let mut sums = vec![0.0; bins.positive / bins.per_octave];
        let mut negative = 0u64;
        for own in counts.chunks_exact(bins.count()) {
            negative += own[..bins.negative].iter().map(|&n| u64::from(n)).sum::<u64>();
            own[bins.negative..].iter().enumerate().for_each(|(i, &n)| sums[i / bins.per_octave] += f64::from(n));
        }
        let (Some(first), Some(last)) = (sums.iter().position(|s| *s > 0.0), sums.iter().rposition(|s| *s > 0.0))
        else {
            return;
        };
        let chart = Chart {
            title: self.title("values"),
            x: format!("log2 {}", self.t("value")),
            y: self.t("activations"),
            marks: vec![Mark::Bars(
                (first..=last + 1).map(|i| i as f64 + f64::from(bins.log2_lowest)).collect(),
                sums[first..=last].to_vec(),
            )],
            ..Chart::default()
        };
        let note =
            if negative > 0 { self.words.with("negative_values", &[("n", count(negative))]) } else { String::new() };
        self.chart("dist", "values", chart, note);
    }

    fn usage(&mut self) {
        let saes = &self.report.analysis.saes;
        let names: Vec<String> = self
            .sae_names()
            .iter()
            .zip(saes)
            .map(|(n, s)| format!("{n} · {} {}", self.t("gini"), fixed(s.usage.gini, 3)))
            .collect();
        let line = |points: Vec<[f64; 2]>, i: usize| Mark::Line { points, colour: Colour::Series(i), dashed: false };
        let mut marks: Vec<Mark> = saes
            .iter()
            .enumerate()
            .map(|(i, s)| line(s.usage.curve.iter().enumerate().map(|(p, v)| [p as f64, 100.0 * v]).collect(), i))
            .collect();
        marks.push(Mark::Line { points: vec![[0.0, 0.0], [100.0, 100.0]], colour: Colour::Muted, dashed: true });
        let mut legend = Self::legend(&names);
        legend.push((self.t("equal"), Colour::Muted));
        let chart = Chart {
            title: self.title("usage_curve"),
            x: format!("{} (%)", self.t("top_features")),
            y: format!("{} (%)", self.t("effect")),
            x_range: Some([0.0, 100.0]),
            y_range: Some([0.0, 100.0]),
            marks,
            legend,
        };
        self.chart("usage", "usage_curve", chart, String::new());
        let marks = (0..saes.len())
            .map(|s| {
                let mut own: Vec<f64> = self.used(s, "delta_sse").into_iter().filter(|v| *v > 0.0).collect();
                own.sort_by(|a, b| b.total_cmp(a));
                line(own.iter().enumerate().map(|(r, v)| [((r + 1) as f64).log10(), v.log10()]).collect(), s)
            })
            .collect();
        let chart = Chart {
            title: self.title("rank_plot"),
            x: format!("log10 {}", self.t("rank")),
            y: format!("log10 {}", self.t("delta_sse")),
            marks,
            legend: Self::legend(&names),
            ..Chart::default()
        };
        self.chart("usage", "rank_plot", chart, String::new());
    }

    /// Latents by rank, the first `n`.
    fn top(&self, n: usize) -> Vec<usize> {
        let mut order = by_rank(self.report);
        order.truncate(n);
        order
    }

    fn classes(&mut self) {
        if self.report.analysis.saes[0].classes.is_none() {
            return;
        }
        let names: Vec<String> = self.class_names();
        let n = names.len();
        let Some(classes) = &self.report.columns.saes[0].classes else { return };
        let mean = &classes.mean;
        let top = self.top(PROFILED);
        let most: Vec<f64> = top
            .iter()
            .map(|&h| mean[h * n..][..n].iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs())))
            .collect();
        let cell = |c: usize, i: usize| {
            let v = mean[top[i] * n + c];
            MatrixCell {
                colour: if v < 0.0 { Colour::Series(0) } else { Colour::Warm },
                opacity: if most[i] > 0.0 && v.is_finite() { (v.abs() / most[i]).min(1.0) } else { 0.0 },
                text: String::new(),
                tip: format!(
                    "{}, {} {}: {}",
                    self.words.with("feature", &[("h", top[i].to_string())]),
                    self.t("class"),
                    names[c],
                    fixed(v.into(), 4)
                ),
            }
        };
        let rows = n.min(20);
        let matrix = Matrix {
            title: self.title("profile"),
            rows: names[..rows].to_vec(),
            columns: top.iter().map(|h| h.to_string()).collect(),
            cells: (0..rows).map(|c| (0..top.len()).map(|i| cell(c, i)).collect()).collect(),
            size: [26.0, 24.0],
        };
        let svg = matrix.svg(self.target);
        self.push("classes", "profile", matrix.title, self.t("profile_note"), svg);
    }

    fn heat(&mut self) {
        let columns = &self.report.columns.saes[0];
        let (rows, start) = (&self.report.columns.sampled.row, &columns.sample.start);
        let (latent, value) = (&columns.sample.latent, &columns.sample.value);
        if rows.is_empty() || start.len() != rows.len() + 1 {
            return;
        }
        let across = HEATED.min(self.report.analysis.saes[0].latents as usize);
        let rank = &columns.latents.rank;
        let place = |h: u32| Some(rank[h as usize] as usize - 1).filter(|p| *p < across);
        let mut high = vec![0.0f64; across];
        for (&h, v) in latent.iter().zip(value.iter()) {
            if let Some(p) = place(h) {
                high[p] = high[p].max(v.abs());
            }
        }
        let class = |b: usize| self.report.analysis.cited[rows[b] as usize].class.unwrap_or(0) as usize;
        let mut pixels = vec![None; across * rows.len()];
        for b in 0..rows.len() {
            for i in start[b] as usize..start[b + 1] as usize {
                let Some(p) = place(latent[i]).filter(|p| high[*p] > 0.0) else { continue };
                pixels[b * across + p] = Some((class(b), 0.12 + 0.88 * (value[i].abs() / high[p]).sqrt()));
            }
        }
        let names = self.class_names();
        let [w, h] = [4.0, if rows.len() > 200 { 1.5 } else { 4.0 }];
        let height = h * rows.len() as f64;
        let png = series_png(&pixels, across);
        let picture = ImageFigure {
            title: self.title("heat_title"),
            size: [34.0 + w * across as f64, height + 22.0],
            images: vec![(STANDARD.encode(png), [34.0, 0.0, w * across as f64, height])],
            labels: vec![
                Label { at: [28.0, 10.0], anchor: "end", text: "1".into() },
                Label { at: [28.0, height], anchor: "end", text: rows.len().to_string() },
                Label { at: [34.0, height + 16.0], anchor: "start", text: format!("{} 1", self.t("rank")) },
                Label { at: [34.0 + w * across as f64, height + 16.0], anchor: "end", text: across.to_string() },
            ],
            legend: Self::legend(&names),
        };
        let svg = picture.svg(self.target);
        self.push("heat", "heat", picture.title, self.t("heat_note"), svg);
    }

    fn ensemble(&mut self) {
        let Some(e) = &self.report.analysis.ensemble else { return };
        let names = self.sae_names();
        let cell = |i: usize, j: usize| {
            let v = e.mmcs[i][j].get().unwrap_or(f64::NAN);
            let text = if i == j { String::new() } else { fixed(v.into(), 3) };
            let opacity = if v.is_finite() { 0.75 * v.clamp(0.0, 1.0) } else { 0.0 };
            MatrixCell { colour: Colour::Accent, opacity, tip: format!("{} → {}: {text}", names[i], names[j]), text }
        };
        let matrix = Matrix {
            title: self.title("mmcs"),
            rows: names.clone(),
            columns: names.clone(),
            cells: (0..names.len()).map(|i| (0..names.len()).map(|j| cell(i, j)).collect()).collect(),
            size: [58.0, 34.0],
        };
        let svg = matrix.svg(self.target);
        self.push("ensemble", "mmcs", matrix.title, String::new(), svg);
    }

    fn training(&mut self) {
        let saes = &self.report.analysis.saes;
        let names = self.sae_names();
        let legend = if names.len() > 1 { Self::legend(&names) } else { Vec::new() };
        let metrics = self.report.metrics;
        type Of = fn(&vibrissa_record::SaeLine) -> Option<f64>;
        let kinds: [(&'static str, Of); 3] = [
            ("loss", |s| s.loss.0.iter().find(|l| l.0 == "recon").and_then(|l| l.1.get())),
            ("held_pearson", |s| s.pearson),
            ("dead", |s| s.dead_latents.map(|d| d as f64)),
        ];
        if metrics.len() > 1 {
            for (name, of) in kinds {
                let marks = (0..names.len()).map(|s| Mark::Line {
                    points: metrics
                        .iter()
                        .filter_map(|l| Some([l.step as f64, of(l.saes.get(s)?).unwrap_or(f64::NAN)]))
                        .collect(),
                    colour: Colour::Series(s),
                    dashed: false,
                });
                let chart = Chart {
                    title: self.title(name),
                    x: self.t("step"),
                    y: self.t(name),
                    marks: marks.collect(),
                    legend: legend.clone(),
                    ..Chart::default()
                };
                self.chart("training", name, chart, String::new());
            }
        }
        if saes.iter().any(|s| s.history.len() > 1) {
            type OfMoment = fn(&vibrissa_record::analysis::CheckpointRecord) -> f64;
            let first = &saes[0].history;
            let born: u64 = first.iter().skip(1).map(|m| m.born).sum();
            let died: u64 = first.iter().map(|m| m.died).sum();
            let note = self.words.with("alive_note", &[("born", born.to_string()), ("died", died.to_string())]);
            let kinds: [(&'static str, String, String, OfMoment); 2] = [
                ("alive", self.t("features"), note, |m| m.alive as f64),
                ("stability", "Spearman ρ".into(), self.t("stability_note"), |m| {
                    m.stability.get().unwrap_or(f64::NAN)
                }),
            ];
            for (name, y, note, of) in kinds {
                let marks = saes.iter().enumerate().map(|(s, sae)| Mark::Line {
                    points: sae.history.iter().map(|m| [m.step as f64, of(m)]).collect(),
                    colour: Colour::Series(s),
                    dashed: false,
                });
                let chart = Chart {
                    title: self.title(name),
                    x: self.t("step"),
                    y,
                    marks: marks.collect(),
                    legend: legend.clone(),
                    ..Chart::default()
                };
                self.chart("training", name, chart, note);
            }
        }
    }

    fn pruning(&mut self) {
        let curves = self.report.pruning;
        let kinds = [("prune_pearson", self.t("pearson"), true), ("prune_fvu", "fvu".to_owned(), false)];
        for (name, y, pearson) in kinds {
            let marks = curves.iter().enumerate().map(|(i, curve)| Mark::Line {
                points: curve
                    .curve
                    .iter()
                    .map(|p| {
                        let v = if pearson { p.pearson } else { p.fvu };
                        [(p.features as f64).log2(), v.get().unwrap_or(f64::NAN)]
                    })
                    .collect(),
                colour: Colour::Series(i),
                dashed: false,
            });
            let names: Vec<String> = curves.iter().map(|c| self.t(c.by.name())).collect();
            let chart = Chart {
                title: self.title(name),
                x: format!("log2 {}", self.t("kept")),
                y,
                marks: marks.collect(),
                legend: Self::legend(&names),
                ..Chart::default()
            };
            let on = |c: &PruneRecord| {
                let values = [("by", self.t(c.by.name())), ("rows", c.rows.clone()), ("data", c.data.clone())];
                self.words.with("pruned_on", &values)
            };
            let note = curves.iter().map(on).collect::<Vec<_>>().join("; ");
            self.chart("pruning", name, chart, note);
        }
    }

    /// The first tiles by score, with their numbers.
    fn wall(&mut self) {
        let columns = &self.report.columns.saes[0];
        let Some(tiles) = &columns.tiles else { return };
        let &[n, channels, height, width] = &tiles.tile.shape[..] else { return };
        let score = &columns.latents.score;
        if n == 0 {
            return;
        }
        let (across, tile, gap) = (10, 56.0, [8.0, 32.0]);
        let tall = tile * height as f64 / width as f64;
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for i in 0..n.min(WALL) {
            let [x, y] = [(i % across) as f64 * (tile + gap[0]) + 2.0, (i / across) as f64 * (tall + gap[1]) + 2.0];
            let png = image_png(tiles.tile.row(i), channels, height, width, channels == 1);
            images.push((STANDARD.encode(png), [x, y, tile, tall]));
            let h = tiles.latent[i];
            let middle = x + tile / 2.0;
            labels.push(Label { at: [middle, y + tall + 12.0], anchor: "middle", text: h.to_string() });
            labels.push(Label {
                at: [middle, y + tall + 25.0],
                anchor: "middle",
                text: fixed(score[h as usize].into(), 3),
            });
        }
        let lines = n.min(WALL).div_ceil(across) as f64;
        let size = [across as f64 * (tile + gap[0]), lines * (tall + gap[1]) + 20.0];
        let note = self.t(if channels == 1 { "scale_signed" } else { "scale_colour" });
        let title = format!("{} · {}", self.t("wall"), self.t("score"));
        let picture = ImageFigure { title, size, images, labels, legend: vec![(note.clone(), Colour::Muted)] };
        let svg = picture.svg(self.target);
        self.push("wall", "features", picture.title, note, svg);
    }

    /// Worst, median and best row of each class beside what was made of them.
    fn reconstructions(&mut self) {
        let list = &self.report.analysis.saes[0].reconstructions;
        let Reconstructions::Images(images_of) = &self.report.columns.saes[0].reconstructions else { return };
        let &[n, channels, height, width] = &images_of.recon.shape[..] else { return };
        if n == 0 {
            return;
        }
        let names = self.class_names();
        let (tile, gap) = (84.0, [26.0, 40.0]);
        let tall = tile * height as f64 / width as f64;
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for (i, r) in list.iter().enumerate() {
            let [x, y] = [(i % 3) as f64 * (2.0 * tile + 4.0 + gap[0]) + 2.0, (i / 3) as f64 * (tall + gap[1]) + 2.0];
            for (k, all) in [&images_of.original, &images_of.recon].into_iter().enumerate() {
                let png = image_png(all.row(i), channels, height, width, false);
                images.push((STANDARD.encode(png), [x + k as f64 * (tile + 4.0), y, tile, tall]));
            }
            let class = self.report.analysis.cited[r.cited as usize].class;
            let class = class.and_then(|c| names.get(c as usize)).map_or(String::new(), |n| format!("{n} · "));
            let what = format!("{class}{} · r {}", self.t(&r.rank), fixed(r.pearson, 3));
            labels.push(Label { at: [x + tile + 2.0, y + tall + 16.0], anchor: "middle", text: what });
        }
        let lines = list.len().div_ceil(3) as f64;
        let size = [3.0 * (2.0 * tile + 4.0 + gap[0]), lines * (tall + gap[1])];
        let title = format!("{}: {}, {}", self.t("recons"), self.t("original"), self.t("reconstruction"));
        let picture = ImageFigure { title, size, images, labels, legend: Vec::new() };
        let svg = picture.svg(self.target);
        self.push("recons", "reconstructions", picture.title, self.t("recons_note"), svg);
    }
}
