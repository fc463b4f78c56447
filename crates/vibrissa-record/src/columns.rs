//! Columns by latent, by row or by picture, beside a record: plain arrays with names.

use std::collections::BTreeMap;
use std::path::Path;
use vibrissa_core::io::safetensors::{self, TensorData, TensorFile, printable};
use vibrissa_core::{Error, Result};

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

/// Writes columns beside a record: safetensors of F64, U32 and U8, with the schema as its only metadata.
///
/// # Errors
/// [`Error::Io`]; nothing is half-written.
pub fn write_columns(path: &Path, schema: &str, columns: &Columns) -> Result<()> {
    let tensors: Vec<TensorData> = columns
        .0
        .iter()
        .map(|(name, column)| match &column.values {
            Values::F64(v) => TensorData::new(name.clone(), &column.shape, v),
            Values::U32(v) => TensorData::new(name.clone(), &column.shape, v),
            Values::U8(v) => TensorData::new(name.clone(), &column.shape, v),
        })
        .collect();
    safetensors::write(path, &BTreeMap::from([("schema", schema.to_owned())]), &tensors)
}

const AGAIN: &str = "make it again with vibrissa analyze";

/// Reads the columns of a file of [`write_columns`].
///
/// # Errors
/// A file that is missing, damaged, or of another schema.
pub fn read_columns(path: &Path, schema: &str) -> Result<Columns> {
    let mut file = TensorFile::open(path, AGAIN, AGAIN)?;
    let found = file.header().metadata.get("schema").map_or("none", String::as_str);
    if found != schema {
        return Err(Error::file(path, format!("has schema {found}, this version reads {schema}"), AGAIN));
    }
    let mut columns = Columns::default();
    for (name, info) in file.header().tensors.clone() {
        let shape: Vec<usize> = info.shape.iter().map(|&n| n as usize).collect();
        match info.dtype.as_str() {
            "F64" => columns.figures(name.clone(), &shape, file.read(&name, &shape)?),
            "U32" => columns.counts(name.clone(), &shape, file.read(&name, &shape)?),
            "U8" => columns.bytes(name.clone(), &shape, file.read(&name, &shape)?),
            other => return Err(Error::file(path, format!("column {} is {other}", printable(&name)), AGAIN)),
        }
    }
    Ok(columns)
}
