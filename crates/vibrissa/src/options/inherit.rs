//! Options that a model prescribes to a training that starts from it.

use super::values::parse_sides;
use super::{PartialDataOptions, PartialTrainOptions, RunOptions};
use crate::error::{Error, Result};
use crate::format::ModelConfig;
use crate::loss::Loss;
use crate::model::Output;

/// The error for an option that differs from the model.
fn conflict(option: &str, model: &str, given: &str) -> Error {
    Error::option(option, format!("{model}, as in the model of `from`"), given, "leave it out")
}

impl RunOptions {
    /// Takes architecture, image size, colour and patches from a model.
    ///
    /// # Errors
    /// [`Error::Option`] for a given option that differs from the model.
    pub fn inherit(&mut self, model: &ModelConfig) -> Result<()> {
        self.train.inherit(model)?;
        self.data.inherit(model)
    }
}

impl PartialTrainOptions {
    fn inherit(&mut self, model: &ModelConfig) -> Result<()> {
        let sae = &model.sae;
        let loss = if sae.output == Output::Sigmoid { Loss::CrossEntropy } else { Loss::SquaredError };
        // Training does not start with more active latents than the model has: it would lose what it learned.
        let steered = sae.activation.steered_by_l1() && self.l1.is_none();
        let k_start = self.k_start.or(steered.then_some(sae.k));
        let model = PartialTrainOptions {
            activation: Some(sae.activation),
            free_decoder: Some(sae.free_decoder),
            loss: Some(loss),
            latents: Some(sae.latents),
            k: Some(sae.k),
            saes: Some(model.saes),
            tied: Some(sae.tied),
            raw_topk: Some(!sae.relu_after),
            no_decoder_bias: Some(!sae.decoder_bias),
            ..PartialTrainOptions::default()
        };
        let table = |options: &PartialTrainOptions| toml::Table::try_from(options).expect("plain data");
        let (given, prescribed) = (table(self), table(&model));
        for option in PartialTrainOptions::OPTIONS {
            let key = option.key();
            let (Some(given), Some(model)) = (given.get(&key), prescribed.get(&key)) else { continue };
            if given != model {
                let text = |v: &toml::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                return Err(conflict(option.name, &text(model), &text(given)));
            }
        }
        let merged = given.into_iter().chain(prescribed).collect::<toml::Table>();
        *self = merged.try_into().expect("options as they were");
        self.k_start = k_start;
        Ok(())
    }
}

impl PartialDataOptions {
    /// Images are brought to the size of the model's, and cut into patches of the same size. A model of patches takes
    /// images of any size, and patches any distance apart.
    fn inherit(&mut self, model: &ModelConfig) -> Result<()> {
        let (patch, stride) = (self.patch.take(), self.stride.take());
        if let Some(patches) = model.patches {
            self.set_patches(patches);
            self.stride = stride.or(self.stride.take());
        }
        let same = |a: &str, b: &str| parse_sides(a, 1).is_some_and(|a| Some(a) == parse_sides(b, 1));
        if let Some(given) = patch
            && !self.patch.as_deref().is_some_and(|own| same(own, &given))
        {
            return Err(conflict("patch", self.patch.as_deref().unwrap_or("whole images"), &given));
        }
        let Some(image) = model.image else { return Ok(()) };
        let size = format!("{}x{}", image.width, image.height);
        if let Some(given) = self.size.as_deref().filter(|given| self.patch.is_none() && !same(given, &size)) {
            return Err(conflict("size", &size, given));
        }
        let gray = image.channels == 1;
        if (gray && self.rgb == Some(true)) || (!gray && self.gray == Some(true)) {
            let model = if gray { "`gray`, as in the model of `from`" } else { "`rgb`, as in the model of `from`" };
            return Err(Error::option("colour", model, "the other", "leave it out"));
        }
        self.size = self.size.take().or(Some(size));
        self.set_colour(image.channels);
        Ok(())
    }
}
