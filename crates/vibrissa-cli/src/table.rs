//! Tables that analyze leaves: one row for each SAE and latent, as CSV and, with the feature `parquet`, as Parquet.

use std::io::Write;
use vibrissa::record::analysis::AnalysisRecord;
use vibrissa::record::columns::Columns;

/// Values of one column.
pub enum Values {
    /// Whole numbers.
    Counts(Vec<u32>),
    /// Figures; undefined ones are NaN.
    Figures(Vec<f64>),
    /// Names.
    Names(Vec<String>),
}

/// Columns of one length with their names.
#[derive(Default)]
pub struct Table(Vec<(String, Values)>);

impl Table {
    fn counts(&mut self, name: &str, values: Vec<u32>) {
        self.0.push((name.to_owned(), Values::Counts(values)));
    }

    fn figures(&mut self, name: &str, values: Vec<f64>) {
        self.0.push((name.to_owned(), Values::Figures(values)));
    }

    fn names(&mut self, name: &str, values: Vec<String>) {
        self.0.push((name.to_owned(), Values::Names(values)));
    }

    fn rows(&self) -> usize {
        self.0.first().map_or(0, |c| match &c.1 {
            Values::Counts(v) => v.len(),
            Values::Figures(v) => v.len(),
            Values::Names(v) => v.len(),
        })
    }

    /// As RFC 4180 has it: all digits, empty where undefined.
    pub fn csv(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let heads: Vec<String> = self.0.iter().map(|c| quoted(&c.0)).collect();
        writeln!(out, "{}", heads.join(","))?;
        for r in 0..self.rows() {
            let cells = self.0.iter().map(|c| match &c.1 {
                Values::Counts(v) => v[r].to_string(),
                Values::Figures(v) if v[r].is_finite() => v[r].to_string(),
                Values::Figures(_) => String::new(),
                Values::Names(v) => quoted(&v[r]),
            });
            writeln!(out, "{}", cells.collect::<Vec<_>>().join(","))?;
        }
        Ok(())
    }

    /// As Parquet: required columns of INT32, DOUBLE (undefined: NaN) and UTF-8, compressed by Snappy.
    #[cfg(feature = "parquet")]
    pub fn parquet(&self, out: &mut dyn Write) -> std::io::Result<()> {
        use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
        use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type};
        use parquet::file::properties::WriterProperties;
        use parquet::file::writer::SerializedFileWriter;
        use parquet::schema::types::Type;
        use std::sync::Arc;
        let io = |e: parquet::errors::ParquetError| std::io::Error::other(e);
        let fields = self.0.iter().map(|(name, values)| {
            let (physical, logical) = match values {
                Values::Counts(_) => (Physical::INT32, None),
                Values::Figures(_) => (Physical::DOUBLE, None),
                Values::Names(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            };
            let field = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
            field.with_logical_type(logical).build().map(Arc::new)
        });
        let fields = fields.collect::<Result<Vec<_>, _>>().map_err(io)?;
        let schema = Type::group_type_builder("features").with_fields(fields).build().map_err(io)?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut bytes = Vec::new();
        let mut file = SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::new(properties)).map_err(io)?;
        let mut group = file.next_row_group().map_err(io)?;
        for (_, values) in &self.0 {
            let mut column = group.next_column().map_err(io)?.expect("a column each");
            match values {
                Values::Counts(v) => {
                    let v: Vec<i32> = v.iter().map(|&n| n as i32).collect();
                    column.typed::<Int32Type>().write_batch(&v, None, None).map_err(io)?;
                }
                Values::Figures(v) => {
                    column.typed::<DoubleType>().write_batch(v, None, None).map_err(io)?;
                }
                Values::Names(v) => {
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

/// A field as RFC 4180 has it.
pub fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Every latent of every SAE.
pub fn features(record: &AnalysisRecord, columns: &Columns) -> Table {
    const FIGURES: [&str; 11] = [
        "frequency",
        "strength",
        "score",
        "score_scaled",
        "delta_sse",
        "delta_pearson",
        "share",
        "encoder_norm",
        "decoder_norm",
        "cosine",
        "largest",
    ];
    let saes = 0..record.saes.len();
    let counts = |name: &str| -> Vec<u32> {
        saes.clone().flat_map(|s| columns.get_counts(&format!("{s}.{name}")).iter().copied()).collect()
    };
    let figures = |name: &str| -> Vec<f64> {
        saes.clone().flat_map(|s| columns.get_figures(&format!("{s}.{name}")).iter().copied()).collect()
    };
    let mut out = Table::default();
    let latents = |s: usize| record.saes[s].latents as u32;
    out.counts("sae", saes.clone().flat_map(|s| (0..latents(s)).map(move |_| s as u32)).collect());
    out.counts("latent", saes.clone().flat_map(|s| 0..latents(s)).collect());
    out.counts("rank", counts("rank"));
    out.counts("count", counts("count"));
    FIGURES.iter().for_each(|name| out.figures(name, figures(name)));
    let bucket = |f: &f64| match *f {
        0.0 => "dead",
        f if f < 0.001 => "rare",
        f if f > 0.5 => "dense",
        _ => "usual",
    };
    out.names("density", figures("frequency").iter().map(|f| bucket(f).to_owned()).collect());
    if record.saes.iter().any(|s| s.classes.is_some()) {
        ["information", "p", "q"].iter().for_each(|name| out.figures(name, figures(name)));
        let n = record.classes.0.len();
        for (c, (class, _)) in record.classes.0.iter().enumerate() {
            for name in ["mean", "difference", "frequency", "auc"] {
                let of_class = figures(&format!("class_{name}")).chunks_exact(n).map(|v| v[c]).collect();
                out.figures(&format!("{name}_{class}"), of_class);
            }
            out.figures(&format!("q_{class}"), figures("q"));
        }
    }
    out
}

/// Every latent that is ever active with every column of `--metadata`.
pub fn metadata(record: &AnalysisRecord, columns: &Columns) -> Table {
    let (mut saes, mut latents, mut names, mut kinds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut effects, mut ps, mut qs) = (Vec::new(), Vec::new(), Vec::new());
    for s in 0..record.saes.len() {
        for (j, known) in record.metadata.iter().enumerate().filter(|m| !m.1.kind.is_empty()) {
            let figures = |name: &str| columns.get_figures(&format!("{s}.metadata.{j}.{name}"));
            for (h, (effect, q)) in figures("effect").iter().zip(figures("q")).enumerate().filter(|v| v.1.1.is_finite())
            {
                saes.push(s as u32);
                latents.push(h as u32);
                names.push(known.column.clone());
                kinds.push(known.kind.clone());
                effects.push(*effect);
                ps.push(figures("p")[h]);
                qs.push(*q);
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
    fn csv_quotes_what_must_be_quoted() {
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
