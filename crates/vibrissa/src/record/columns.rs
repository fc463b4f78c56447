//! Columns by latent, by row or by picture, beside a record: plain arrays with names.

use std::collections::BTreeMap;

/// Values of one column.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Figures; undefined ones are NaN.
    F64(Vec<f64>),
    /// Counts and numbers of things.
    U32(Vec<u32>),
    /// Pictures.
    U8(Vec<u8>),
}

/// One column, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Lengths, the slowest first.
    pub shape: Vec<usize>,
    /// Their product of values.
    pub values: Values,
}

/// Columns by name, in order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns(pub BTreeMap<String, Column>);

impl Columns {
    /// Adds figures.
    pub fn figures(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<f64>) {
        self.add(name.into(), shape, values.len(), Values::F64(values));
    }

    /// Adds counts.
    pub fn counts(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<u32>) {
        self.add(name.into(), shape, values.len(), Values::U32(values));
    }

    /// Adds pictures.
    pub fn bytes(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<u8>) {
        self.add(name.into(), shape, values.len(), Values::U8(values));
    }

    fn add(&mut self, name: String, shape: &[usize], n: usize, values: Values) {
        assert_eq!(shape.iter().product::<usize>(), n, "{name}: as many values as its shape says");
        self.0.insert(name, Column { shape: shape.to_vec(), values });
    }

    /// Figures by name; none if there are none of that name.
    pub fn get_figures(&self, name: &str) -> &[f64] {
        match self.0.get(name).map(|c| &c.values) {
            Some(Values::F64(v)) => v,
            _ => &[],
        }
    }

    /// Counts by name; none if there are none of that name.
    pub fn get_counts(&self, name: &str) -> &[u32] {
        match self.0.get(name).map(|c| &c.values) {
            Some(Values::U32(v)) => v,
            _ => &[],
        }
    }

    /// Pictures by name with their shape; none if there are none of that name.
    pub fn get_bytes(&self, name: &str) -> (&[usize], &[u8]) {
        match self.0.get(name) {
            Some(Column { shape, values: Values::U8(v) }) => (shape, v),
            _ => (&[], &[]),
        }
    }
}
