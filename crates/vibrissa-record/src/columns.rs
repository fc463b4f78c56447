//! Arrays by name beside a record, as a file of columns (`analysis.safetensors`, a shard) holds them. The columns of an
//! analysis are defined, one by one, in [`super::analysis::columns`].

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::Path;
use vibrissa_core::io::safetensors::{self, TensorData, TensorFile, printable};
use vibrissa_core::{Error, Result};

/// A row-major array.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array<T> {
    /// The lengths of its dimensions, the slowest first.
    pub shape: Vec<usize>,
    /// Its values, as many as the product of `shape`.
    pub values: Vec<T>,
}

impl<T> Array<T> {
    /// An array of this shape.
    ///
    /// # Panics
    /// If there are not as many values as the shape has places.
    pub fn new(shape: &[usize], values: Vec<T>) -> Array<T> {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "an array of shape {shape:?}");
        Array { shape: shape.to_vec(), values }
    }

    /// An array of one dimension.
    pub fn vector(values: Vec<T>) -> Array<T> {
        Array { shape: vec![values.len()], values }
    }

    /// Values in each entry of the first dimension.
    pub fn stride(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// The values of entry `i` of the first dimension.
    ///
    /// # Panics
    /// If there is no such entry.
    pub fn row(&self, i: usize) -> &[T] {
        &self.values[i * self.stride()..][..self.stride()]
    }
}

/// The values in order.
impl<T> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values
    }
}

/// An array of any of the types that files of columns hold.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredColumn {
    /// Figures; undefined ones are NaN.
    F64(Array<f64>),
    /// Counts and indices.
    U32(Array<u32>),
    /// Pixels and raw bytes.
    U8(Array<u8>),
}

impl StoredColumn {
    /// The lengths of its dimensions, the slowest first.
    pub fn shape(&self) -> &[usize] {
        match self {
            StoredColumn::F64(a) => &a.shape,
            StoredColumn::U32(a) => &a.shape,
            StoredColumn::U8(a) => &a.shape,
        }
    }

    /// The name of the type of its values.
    fn element(&self) -> &'static str {
        match self {
            StoredColumn::F64(_) => f64::NAME,
            StoredColumn::U32(_) => u32::NAME,
            StoredColumn::U8(_) => u8::NAME,
        }
    }
}

/// A type of values that files of columns hold: `f64`, `u32` or `u8`.
pub trait Element: Sized {
    /// The name of the type.
    const NAME: &'static str;
    /// The array as a stored column.
    fn store(array: Array<Self>) -> StoredColumn;
    /// The array of a stored column, `None` if its values are of another type.
    fn get(column: &StoredColumn) -> Option<&Array<Self>>;
    /// As [`Element::get`], by value.
    fn take(column: StoredColumn) -> Option<Array<Self>>;
}

macro_rules! element {
    ($type:ty, $variant:ident) => {
        impl Element for $type {
            const NAME: &'static str = stringify!($type);

            fn store(array: Array<$type>) -> StoredColumn {
                StoredColumn::$variant(array)
            }

            fn get(column: &StoredColumn) -> Option<&Array<$type>> {
                match column {
                    StoredColumn::$variant(array) => Some(array),
                    _ => None,
                }
            }

            fn take(column: StoredColumn) -> Option<Array<$type>> {
                match column {
                    StoredColumn::$variant(array) => Some(array),
                    _ => None,
                }
            }
        }
    };
}

element!(f64, F64);
element!(u32, U32);
element!(u8, U8);

/// A column that is missing, or of another type or shape than its definition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnError {
    /// Name on disk.
    pub column: String,
    /// The type and shape that its definition says.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for ColumnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: expected {}, got {}", self.column, self.expected, self.found)
    }
}

impl std::error::Error for ColumnError {}

impl ColumnError {
    /// The same with the file that the column is in and a remedy.
    pub fn in_file(self, path: &Path, remedy: &str) -> Error {
        Error::Tensor {
            path: path.to_path_buf(),
            tensor: self.column,
            expected: self.expected,
            got: self.found,
            remedy: remedy.into(),
        }
    }
}

/// Columns by name, in order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredColumns(pub BTreeMap<String, StoredColumn>);

impl StoredColumns {
    /// Adds a column, in place of an earlier one of that name.
    pub fn insert<T: Element>(&mut self, name: impl Into<String>, array: Array<T>) {
        self.0.insert(name.into(), T::store(array));
    }

    /// True if there is a column of this name, whatever its type.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The column of this name.
    ///
    /// # Errors
    /// A column that is missing or whose values are of another type.
    pub fn get<T: Element>(&self, name: &str) -> std::result::Result<&Array<T>, ColumnError> {
        let column = self.0.get(name).ok_or_else(|| missing::<T>(name))?;
        T::get(column).ok_or_else(|| mistyped::<T>(name, column.element()))
    }

    /// As [`StoredColumns::get`], removing the column.
    ///
    /// # Errors
    /// A column that is missing or whose values are of another type.
    pub fn take<T: Element>(&mut self, name: &str) -> std::result::Result<Array<T>, ColumnError> {
        let column = self.0.remove(name).ok_or_else(|| missing::<T>(name))?;
        let element = column.element();
        T::take(column).ok_or_else(|| mistyped::<T>(name, element))
    }

    /// Writes the columns as safetensors of F64, U32 and U8, with `schema` as the only metadata.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is half-written.
    pub fn write(&self, path: &Path, schema: &str) -> Result<()> {
        let tensors: Vec<TensorData> = self
            .0
            .iter()
            .map(|(name, column)| match column {
                StoredColumn::F64(a) => TensorData::new(name.clone(), &a.shape, a),
                StoredColumn::U32(a) => TensorData::new(name.clone(), &a.shape, a),
                StoredColumn::U8(a) => TensorData::new(name.clone(), &a.shape, a),
            })
            .collect();
        safetensors::write(path, &BTreeMap::from([("schema", schema.to_owned())]), &tensors)
    }

    /// Reads a file that [`StoredColumns::write`] wrote.
    ///
    /// # Errors
    /// A file that is missing, damaged, or of another schema; `remedy` says what to do about it.
    pub fn read(path: &Path, schema: &str, remedy: &'static str) -> Result<StoredColumns> {
        let mut file = TensorFile::open(path, remedy, remedy)?;
        let found = file.header().metadata.get("schema").map_or("none", String::as_str);
        if found != schema {
            return Err(Error::file(path, format!("has schema {found}, this version reads {schema}"), remedy));
        }
        let mut columns = StoredColumns::default();
        for (name, info) in file.header().tensors.clone() {
            let shape: Vec<usize> = info.shape.iter().map(|&n| n as usize).collect();
            match info.dtype.as_str() {
                "F64" => columns.insert(&name, Array::<f64>::new(&shape, file.read(&name, &shape)?)),
                "U32" => columns.insert(&name, Array::<u32>::new(&shape, file.read(&name, &shape)?)),
                "U8" => columns.insert(&name, Array::<u8>::new(&shape, file.read(&name, &shape)?)),
                other => return Err(Error::file(path, format!("column {} is {other}", printable(&name)), remedy)),
            }
        }
        Ok(columns)
    }
}

fn missing<T: Element>(name: &str) -> ColumnError {
    ColumnError { column: name.into(), expected: T::NAME.into(), found: "no such column".into() }
}

fn mistyped<T: Element>(name: &str, found: &str) -> ColumnError {
    ColumnError { column: name.into(), expected: T::NAME.into(), found: found.into() }
}
