//! The tables of an analysis, with a line for each SAE and latent: `features` and `features-metadata`, as CSV and, with
//! the feature `parquet`, as Parquet.

use crate::error::Result;
use crate::io::write_atomically;
use crate::record::analysis::columns::{AnalysisColumns, ClassColumns, ColumnGroup, LatentColumns, SaeColumns};
use crate::record::analysis::{Analysis, AnalysisRecord};
use crate::record::columns::{Array, Element, StoredColumn, StoredColumns};
use std::io::Write;
use std::path::Path;

/// Writes the tables of an analysis into a folder and removes those of another analysis that this one has not.
///
/// # Errors
/// [`crate::Error::Io`].
pub(super) fn write_tables(folder: &Path, analysis: &Analysis) -> Result<()> {
    let Analysis { record, columns } = analysis;
    let tables = [
        ("features", Some(features(record, columns))),
        ("features-metadata", (!record.metadata.is_empty()).then(|| metadata(record, columns))),
    ];
    type WriteTable = fn(&Table, &mut dyn Write) -> std::io::Result<()>;
    let formats: [(&str, Option<WriteTable>); 2] = [
        ("csv", Some(Table::csv)),
        #[cfg(feature = "parquet")]
        ("parquet", Some(Table::parquet)),
        #[cfg(not(feature = "parquet"))]
        ("parquet", None),
    ];
    for (name, table) in &tables {
        for (extension, write) in formats {
            let path = folder.join(format!("{name}.{extension}"));
            match (table, write) {
                (Some(table), Some(write)) => write_atomically(&path, |out| write(table, out))?,
                _ => drop(std::fs::remove_file(&path)),
            }
        }
    }
    Ok(())
}

/// Values of a column of a table.
enum TableColumn {
    /// Whole numbers.
    Counts(Vec<u32>),
    /// Figures; undefined ones are NaN.
    Figures(Vec<f64>),
    /// Text.
    Names(Vec<String>),
}

/// Columns of equal length, with their names.
#[derive(Default)]
struct Table(Vec<(String, TableColumn)>);

impl Table {
    fn counts(&mut self, name: &str, values: Vec<u32>) {
        self.0.push((name.to_owned(), TableColumn::Counts(values)));
    }

    fn figures(&mut self, name: &str, values: Vec<f64>) {
        self.0.push((name.to_owned(), TableColumn::Figures(values)));
    }

    fn names(&mut self, name: &str, values: Vec<String>) {
        self.0.push((name.to_owned(), TableColumn::Names(values)));
    }

    fn rows(&self) -> usize {
        self.0.first().map_or(0, |c| match &c.1 {
            TableColumn::Counts(v) => v.len(),
            TableColumn::Figures(v) => v.len(),
            TableColumn::Names(v) => v.len(),
        })
    }

    /// Writes CSV (RFC 4180): figures with all digits, undefined ones empty.
    fn csv(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(self.0.iter().map(|c| &c.0))?;
        for r in 0..self.rows() {
            writer.write_record(self.0.iter().map(|c| match &c.1 {
                TableColumn::Counts(v) => v[r].to_string(),
                TableColumn::Figures(v) if v[r].is_finite() => v[r].to_string(),
                TableColumn::Figures(_) => String::new(),
                TableColumn::Names(v) => v[r].clone(),
            }))?;
        }
        writer.flush()
    }

    /// Writes Parquet: required columns of INT32, DOUBLE (undefined: NaN) and UTF-8, compressed by Snappy.
    #[cfg(feature = "parquet")]
    fn parquet(&self, out: &mut dyn Write) -> std::io::Result<()> {
        use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
        use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type};
        use parquet::file::properties::WriterProperties;
        use parquet::file::writer::SerializedFileWriter;
        use parquet::schema::types::Type;
        use std::sync::Arc;
        let io = |e: parquet::errors::ParquetError| std::io::Error::other(e);
        let fields = self.0.iter().map(|(name, values)| {
            let (physical, logical) = match values {
                TableColumn::Counts(_) => (Physical::INT32, None),
                TableColumn::Figures(_) => (Physical::DOUBLE, None),
                TableColumn::Names(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            };
            let field = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
            field.with_logical_type(logical).build().map(Arc::new)
        });
        let fields = fields.collect::<std::result::Result<Vec<_>, _>>().map_err(io)?;
        let schema = Type::group_type_builder("features").with_fields(fields).build().map_err(io)?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut bytes = Vec::new();
        let mut file = SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::new(properties)).map_err(io)?;
        let mut group = file.next_row_group().map_err(io)?;
        for (_, values) in &self.0 {
            let mut column = group.next_column().map_err(io)?.expect("a column each");
            match values {
                TableColumn::Counts(v) => {
                    let v: Vec<i32> = v.iter().map(|&n| n as i32).collect();
                    column.typed::<Int32Type>().write_batch(&v, None, None).map_err(io)?;
                }
                TableColumn::Figures(v) => {
                    column.typed::<DoubleType>().write_batch(v, None, None).map_err(io)?;
                }
                TableColumn::Names(v) => {
                    let v: Vec<ByteArray> = v.iter().map(|n| ByteArray::from(n.as_str())).collect();
                    column.typed::<ByteArrayType>().write_batch(&v, None, None).map_err(io)?;
                }
            }
            column.close().map_err(io)?;
        }
        group.close().map_err(io)?;
        file.close().map_err(io)?;
        out.write_all(&bytes)
    }
}

/// Returns the table of all latents of all SAEs: the columns of [`LatentColumns`], and the relation to the classes.
fn features(record: &AnalysisRecord, columns: &AnalysisColumns) -> Table {
    let mut out = Table::default();
    let latents = |s: usize| 0..record.saes[s].latents as u32;
    let saes = 0..record.saes.len();
    out.counts("sae", saes.clone().flat_map(|s| latents(s).map(move |_| s as u32)).collect());
    out.counts("latent", saes.flat_map(latents).collect());
    let stored: Vec<StoredColumns> = columns
        .saes
        .iter()
        .map(|sae| {
            let mut stored = StoredColumns::default();
            sae.latents.clone().store("", &mut stored);
            stored
        })
        .collect();
    for definition in LatentColumns::DEFINITIONS {
        match &stored[0].0[definition.name] {
            StoredColumn::F64(_) => out.figures(definition.name, joined(&stored, definition.name)),
            _ => out.counts(definition.name, joined(&stored, definition.name)),
        }
    }
    let figures = |of: fn(&SaeColumns) -> &Array<f64>| -> Vec<f64> {
        columns.saes.iter().flat_map(|sae| of(sae).iter().copied()).collect()
    };
    let density = |f: &f64| match *f {
        0.0 => "dead",
        f if f < 0.001 => "rare",
        f if f > 0.5 => "dense",
        _ => "usual",
    };
    out.names("density", figures(|sae| &sae.latents.frequency).iter().map(|f| density(f).to_owned()).collect());
    class_figures(&mut out, record, columns);
    out
}

/// Returns a column of all SAEs, one after another.
fn joined<T: Element + Copy>(stored: &[StoredColumns], name: &str) -> Vec<T> {
    stored.iter().flat_map(|s| s.get::<T>(name).expect("stored above").iter().copied()).collect()
}

/// Adds the relation of every latent to the classes, where there are two or more.
fn class_figures(out: &mut Table, record: &AnalysisRecord, columns: &AnalysisColumns) {
    let all: Vec<&ClassColumns> = columns.saes.iter().filter_map(|sae| sae.classes.as_ref()).collect();
    if all.is_empty() {
        return;
    }
    let figures = |of: fn(&ClassColumns) -> &Array<f64>| -> Vec<f64> {
        all.iter().flat_map(|classes| of(classes).iter().copied()).collect()
    };
    out.figures("information", figures(|c| &c.information));
    out.figures("p", figures(|c| &c.p));
    out.figures("q", figures(|c| &c.q));
    let n = record.classes.len();
    for (c, (class, _)) in record.classes.0.iter().enumerate() {
        let of_class = |of| figures(of).chunks_exact(n).map(|v| v[c]).collect::<Vec<f64>>();
        out.figures(&format!("mean_{class}"), of_class(|c| &c.mean));
        out.figures(&format!("difference_{class}"), of_class(|c| &c.difference));
        out.figures(&format!("frequency_{class}"), of_class(|c| &c.frequency));
        out.figures(&format!("auc_{class}"), of_class(|c| &c.auc));
        out.figures(&format!("q_{class}"), figures(|c| &c.q));
    }
}

/// Returns the table of the relations of latents to columns of metadata. Latents that are never active and columns that
/// were left out are not in it.
fn metadata(record: &AnalysisRecord, columns: &AnalysisColumns) -> Table {
    let (mut saes, mut latents, mut names, mut kinds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut effects, mut ps, mut qs) = (Vec::new(), Vec::new(), Vec::new());
    for (s, sae) in columns.saes.iter().enumerate() {
        for (column, relation) in record.metadata.iter().zip(&sae.metadata) {
            let Some(relation) = relation else { continue };
            for h in (0..relation.q.len()).filter(|&h| relation.q[h].is_finite()) {
                saes.push(s as u32);
                latents.push(h as u32);
                names.push(column.column.clone());
                kinds.push(column.kind.clone());
                effects.push(relation.effect[h]);
                ps.push(relation.p[h]);
                qs.push(relation.q[h]);
            }
        }
    }
    let mut out = Table::default();
    out.counts("sae", saes);
    out.counts("latent", latents);
    out.names("column", names);
    out.names("kind", kinds);
    out.figures("effect", effects);
    out.figures("p", ps);
    out.figures("q", qs);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut t = Table::default();
        t.counts("sae", vec![0, 1]);
        t.figures("a, \"b\"", vec![0.5, f64::NAN]);
        t.names("column", vec!["x".into(), "y\nz".into()]);
        t
    }

    #[test]
    fn csv_quotes_separators_quotes_and_newlines() {
        let mut out = Vec::new();
        table().csv(&mut out).expect("memory takes all");
        assert_eq!(String::from_utf8(out).expect("UTF-8"), "sae,\"a, \"\"b\"\"\",column\n0,0.5,x\n1,,\"y\nz\"\n");
    }

    #[cfg(feature = "parquet")]
    #[test]
    fn parquet_reads_back() {
        use parquet::file::reader::{FileReader, SerializedFileReader};
        use parquet::record::RowAccessor;
        let mut out = Vec::new();
        table().parquet(&mut out).expect("memory takes all");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.parquet");
        std::fs::write(&path, out).expect("written");
        let reader = SerializedFileReader::new(std::fs::File::open(path).expect("there")).expect("parquet");
        let rows: Vec<_> = reader.get_row_iter(None).expect("rows").map(|r| r.expect("a row")).collect();
        assert_eq!((rows.len(), rows[1].get_int(0).expect("a number")), (2, 1));
        assert_eq!(rows[0].get_double(1).expect("a figure"), 0.5);
        assert_eq!(rows[1].get_string(2).expect("a name"), "y\nz");
    }
}
