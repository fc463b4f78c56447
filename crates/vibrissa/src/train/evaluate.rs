//! How good models are on given rows: each SAE, the mean of all, and the mean image as the baseline. Streams batches;
//! memory does not grow with the rows. Where rows are patches, the whole images that they make are evaluated
//! together (`vibrissa-data/src/patches.rs`); latents are counted by patch.

use crate::data::Dataset;
use crate::data::patches::map_images;
use crate::kernels::Isa;
use crate::matrix::{Latents, Mat};
use crate::metrics::{Evaluation, Summary};
use crate::model::{Output, Sae, Workspace};
use crate::record::{ByClass, EvalRecord, OfClass, Ordered, Reconstruction, Scores};
use crate::train::{Trainer, set::rescale};

/// Accumulators of one evaluation; several can be pooled (folds).
#[derive(Debug)]
pub struct Pool {
    saes: Vec<Evaluation>,
    ensemble: Evaluation,
    mean: Evaluation,
    images: bool,
    classes: Vec<String>,
    targets: Vec<usize>,
    /// Number of patches of an image, where rows are patches.
    places: Option<usize>,
}

impl Pool {
    /// Adds what another evaluation of the same kind saw.
    pub fn merge(&mut self, other: &Pool) {
        self.saes.iter_mut().zip(&other.saes).for_each(|(a, b)| a.merge(b));
        self.ensemble.merge(&other.ensemble);
        self.mean.merge(&other.mean);
    }

    /// Mean Pearson and fvu of each SAE.
    pub fn brief(&self) -> Vec<(Option<f64>, Option<f64>)> {
        self.saes.iter().map(|e| e.overall().reconstruction).map(|r| (r.pearson, r.fvu)).collect()
    }

    /// Mean squared error of each SAE; NaN where there is none.
    pub fn mse(&self) -> Vec<f64> {
        self.saes.iter().map(|e| e.overall().reconstruction.mse.unwrap_or(f64::NAN)).collect()
    }

    /// One that saw all rows.
    fn any(&self) -> &Evaluation {
        self.saes.first().unwrap_or(&self.mean)
    }

    /// Number of rows of each class, with its name.
    pub fn class_rows(&self) -> Vec<(String, u64)> {
        self.classes.iter().enumerate().map(|(c, name)| (name.clone(), self.any().class(c).rows)).collect()
    }

    /// The figures as a record.
    pub fn record(&self) -> EvalRecord {
        EvalRecord {
            rows: self.any().overall().rows,
            saes: self
                .saes
                .iter()
                .zip(&self.targets)
                .map(|(e, &k)| self.by_class(e, |s| self.scores(s, Some(k))))
                .collect(),
            // The mean of one is that one.
            ensemble: self
                .by_class(self.saes.first().filter(|_| self.saes.len() == 1).unwrap_or(&self.ensemble), |s| {
                    self.scores(s, None)
                }),
            mean_image: self.by_class(&self.mean, |s| self.reconstruction(s)),
            patches_per_image: self.places.map(|n| n as u64),
            tool_version: Some(env!("CARGO_PKG_VERSION").into()),
            ..EvalRecord::default()
        }
    }

    fn scores(&self, s: &Summary, k: Option<usize>) -> Scores {
        let with_latents = k.is_some();
        Scores {
            reconstruction: self.reconstruction(s),
            l0: s.l0.filter(|_| with_latents),
            l0_target: k.map(|k| k as f64),
            l0_image: s.l0.zip(self.places).filter(|_| with_latents).map(|(l0, places)| l0 * places as f64),
            l0_distance: s.l0.zip(k).map(|(l0, k)| l0 - k as f64),
            l0_train: None,
            dead_latents: s.dead_latents.filter(|_| with_latents),
            rare_latents: s.rare_latents.filter(|_| with_latents),
            latents: s.latents.filter(|_| with_latents),
            constant_rows: Some(s.constant_rows),
            density: s.density.clone().filter(|_| with_latents),
        }
    }

    /// The measures; PSNR needs a peak, which only images have.
    fn reconstruction(&self, s: &Summary) -> Reconstruction {
        let psnr = s.reconstruction.psnr.filter(|_| self.images);
        Reconstruction { psnr, ..s.reconstruction.clone() }
    }

    fn by_class<T>(&self, evaluation: &Evaluation, make: impl Fn(&Summary) -> T) -> ByClass<T> {
        let classes = self.classes.iter().enumerate().map(|(c, name)| {
            let s = evaluation.class(c);
            (name.clone(), OfClass { rows: s.rows, scores: make(&s) })
        });
        ByClass { scores: make(&evaluation.overall()), by_class: Ordered(classes.collect()) }
    }
}

/// Evaluates models on rows in units of the data. `full` adds the measures that cost more than all others (SSIM and the
/// perceptual distance). `on_progress(done, total)` is called after each batch.
///
/// # Shapes
/// `mean [D]`, of a whole image where rows are patches; `None` leaves out the figures of the mean. All SAEs take rows of D
/// values. Where rows are patches, `rows` holds all patches of an image, one after another.
pub fn evaluate(
    saes: &[&Sae],
    mean: Option<&[f32]>,
    data: &Dataset,
    rows: &[usize],
    full: bool,
    on_progress: &mut dyn FnMut(usize, usize),
) -> Pool {
    Evaluator { saes, mean, data, scale: 1.0, full }.run(rows, on_progress)
}

/// Evaluates the current weights of an ensemble in training, on rows in the scale of training.
pub fn evaluate_in_training(trainer: &Trainer, rows: &[usize]) -> Pool {
    let (data, scale) = (trainer.data(), trainer.facts().scale);
    Evaluator { saes: &trainer.saes(), mean: None, data, scale, full: false }.run(rows, &mut |_, _| ())
}

/// Models and data of one evaluation.
struct Evaluator<'a> {
    saes: &'a [&'a Sae],
    mean: Option<&'a [f32]>,
    data: &'a Dataset,
    /// Factor of all rows.
    scale: f32,
    full: bool,
}

impl Evaluator<'_> {
    fn new_pool(&self) -> Pool {
        let (dim, data) = (self.data.image_dim(), self.data);
        let shape = data.image_shape().filter(|_| self.full);
        let classes = data.classes().len();
        let entropy = self.saes.iter().any(|s| s.config().output == Output::Sigmoid);
        let new = |latents| Evaluation::new(dim, classes, shape, latents).with_cross_entropy(entropy);
        Pool {
            saes: self.saes.iter().map(|s| new(s.config().latents)).collect(),
            ensemble: new(0),
            mean: new(0),
            images: data.shape().is_some(),
            classes: data.classes().to_vec(),
            targets: self.saes.iter().map(|s| s.config().k).collect(),
            places: data.patches().map(|p| p.patches_per_image()),
        }
    }

    fn run(&self, rows: &[usize], on_progress: &mut dyn FnMut(usize, usize)) -> Pool {
        let (isa, data, saes) = (Isa::current(), self.data, self.saes);
        let mut pool = self.new_pool();
        let rows = &data.images(rows)[..];
        let (size, dim) = (data.batch_images(rows.len()), data.image_dim());
        let (mut x, mut recon, mut sum) = (Mat::zeros(size, dim), Mat::zeros(size, dim), Mat::zeros(size, dim));
        let (mut work, mut latents) = (Workspace::default(), Latents::default());
        for (done, batch) in rows.chunks(size).enumerate() {
            let n = batch.len();
            data.fill_images(batch, 0, x.first_rows_mut(n));
            rescale(x.first_rows_mut(n), self.scale);
            let labels: Vec<u16> = batch.iter().filter_map(|&r| data.label_of_image(r)).collect();
            sum.data_mut().fill(0.0);
            for (sae, evaluation) in saes.iter().zip(&mut pool.saes) {
                map_images(data.patches(), x.first_rows(n), recon.first_rows_mut(n), &mut |from, x, recon| {
                    sae.encode_lossy(x, &mut work, &mut latents);
                    sae.decode(&latents, &work, recon);
                    for (b, &image) in from.iter().enumerate() {
                        let (index, value) = latents.row(b);
                        evaluation.count_latents(labels.get(image).copied(), index, value);
                    }
                });
                evaluation.add(x.first_rows(n), recon.first_rows(n), &labels);
                if saes.len() > 1 {
                    isa.add_scaled(&mut sum.data_mut()[..n * dim], 1.0 / saes.len() as f32, &recon.data()[..n * dim]);
                }
            }
            if saes.len() > 1 {
                pool.ensemble.add(x.first_rows(n), sum.first_rows(n), &labels);
            }
            if let Some(mean) = self.mean {
                pool.mean.add_against(x.first_rows(n), mean, &labels);
            }
            on_progress(done * size + n, rows.len());
        }
        pool
    }
}

/// Reads whole images (rows, where rows are no patches) and reconstructs them. Returns both.
///
/// # Shapes
/// `images` n numbers → `[n, C · H · W]` each.
pub fn reconstruct_images(sae: &Sae, data: &Dataset, images: &[usize]) -> (Mat, Mat) {
    let (mut work, mut latents) = (Workspace::default(), Latents::default());
    let mut x = Mat::zeros(images.len(), data.image_dim());
    let mut recon = x.clone();
    data.fill_images(images, 0, x.view_mut());
    map_images(data.patches(), x.view(), recon.view_mut(), &mut |_, x, recon| {
        sae.encode_lossy(x, &mut work, &mut latents);
        sae.decode(&latents, &work, recon);
    });
    (x, recon)
}
