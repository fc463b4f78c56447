//! Values of options: their kinds, and their spelling.

use super::define::{Kind, OptionInfo, OptionValue};
use super::matryoshka::Matryoshka;
use crate::activation::Activation;
use crate::data::rows::{Fit, ValueRange};
use crate::error::{Error, Result};
use crate::init::Init;
use crate::loss::Loss;
use crate::optim::{Optimizer, Schedule};
use std::path::PathBuf;

macro_rules! kinds {
    ($($kind:ident: $($T:ty),+;)+) => {
        $($(impl OptionValue for $T { const KIND: Kind = Kind::$kind; })+)+
    };
}

kinds! {
    Flag: bool;
    Whole: usize, u64;
    Number: f64;
    Name: Activation, Init, Schedule, Optimizer, Loss, Fit, ValueRange, Matryoshka;
    Text: String, PathBuf;
}

impl OptionInfo {
    /// The error for a value that the option does not take.
    pub(super) fn refuse(&self, text: &str) -> Error {
        let expected = match self.kind {
            Kind::Flag => "true or false".to_owned(),
            Kind::Whole => format!("a whole number, {}", self.range),
            Kind::Number => format!("a number, {}", self.range),
            Kind::Name => format!("one of {}", self.range),
            Kind::Text => self.range.to_owned(),
        };
        Error::option(self.name, expected, text, format!("leave it out for the default ({})", self.default))
    }

    /// Parses the text of a value.
    ///
    /// # Errors
    /// [`Error::Option`] for a text that is not of the option's kind.
    pub fn parse(&self, text: &str) -> Result<toml::Value> {
        let refuse = || self.refuse(text);
        match self.kind {
            Kind::Flag => text.parse().map(toml::Value::Boolean).map_err(|_| refuse()),
            Kind::Whole => {
                let whole = text.parse::<u64>().ok().and_then(|n| i64::try_from(n).ok());
                whole.map(toml::Value::Integer).ok_or_else(refuse)
            }
            Kind::Number => text.parse().map(toml::Value::Float).map_err(|_| refuse()),
            Kind::Name | Kind::Text => Ok(toml::Value::String(text.to_owned())),
        }
    }
}

/// Sides of an image or patch, for messages.
pub(super) const SIDES: &str = "1 to 16384 pixels a side";

/// Parses `8` or `8x6` as (width, height) (8, 8) or (8, 6), each from `least` to 16384.
pub(super) fn parse_sides(text: &str, least: usize) -> Option<(usize, usize)> {
    let parse = |s: &str| s.trim().parse::<usize>().ok().filter(|n| (least..=16384).contains(n));
    match text.split_once(['x', 'X', '×']) {
        Some((w, h)) => parse(w).zip(parse(h)),
        None => parse(text).map(|n| (n, n)),
    }
}

/// Formats a width and height so that [`parse_sides`] reads them.
pub(super) fn format_sides(width: usize, height: usize) -> String {
    if width == height { width.to_string() } else { format!("{width}x{height}") }
}
