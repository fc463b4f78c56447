//! A shard of a pass as columns, and back. Every sum is kept in full, so that merged shards give the bits of one pass.

use super::exact::ExactSum;
use super::pairs::{PairSums, Partners};
use super::pass::{PassSums, RowQuality, SaeSums};
use super::sums::{BINS, EXAMPLES, ExampleRows, LatentSums};
use crate::record::columns::{Array, ColumnError, Element, StoredColumns};

/// Schema of the columns of a shard.
pub const SHARD_SCHEMA: &str = "vibrissa.shard/1";

/// Bytes of one example row: key, row and value.
const ENTRY: usize = 20;

/// The sums as columns; `belongs_to` is a hash of models and rows, which shards of one analysis share.
pub fn to_columns(sums: &PassSums, belongs_to: &[u8; 32]) -> StoredColumns {
    let mut out = StoredColumns::default();
    let classes = sums.class_rows.len();
    out.insert("belongs_to", Array::new(&[32], belongs_to.to_vec()));
    out.insert("class_rows", Array::new(&[classes], sums.class_rows.iter().map(|&n| n as f64).collect()));
    for (s, sae) in sums.saes.iter().enumerate() {
        sums_to_columns(&mut out, &format!("{s}"), &sae.latents, classes);
        if let Some(images) = &sae.images {
            sums_to_columns(&mut out, &format!("{s}.image"), images, classes);
        }
        let rows: Vec<f64> = sae
            .rows
            .iter()
            .flat_map(|r| [r.row as f64, f64::from(r.class), f64::from(r.l0), f64::from(r.pearson), r.sse])
            .collect();
        out.insert(format!("{s}.rows"), Array::new(&[sae.rows.len(), 5], rows));
        if let Some(partners) = &sae.partners {
            let (mut who, mut count, mut sums) = (Vec::new(), Vec::new(), Vec::new());
            for (i, own) in partners.iter().enumerate() {
                for (j, pair) in own.pairs(i) {
                    let (n, sum) = pair.parts();
                    who.extend([i as u32, j]);
                    count.push(n);
                    sums.extend(sum.to_le_bytes());
                }
            }
            let n = count.len();
            out.insert(format!("{s}.pair"), Array::new(&[n, 2], who));
            out.insert(format!("{s}.pair_count"), Array::new(&[n], count));
            out.insert(format!("{s}.pair_sum"), Array::new(&[n, 16], sums));
        }
    }
    out
}

fn sums_to_columns(out: &mut StoredColumns, name: &str, latents: &[LatentSums], classes: usize) {
    let h = latents.len();
    let (mut exact, mut bins, mut lengths, mut examples) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for l in latents {
        for sum in [&l.sum, &l.delta_sse, &l.delta_pearson].into_iter().chain(&l.class_sum) {
            exact.extend(sum.to_bytes());
        }
        bins.extend_from_slice(&l.bins);
        for kind in [&l.top, &l.random, &l.near] {
            lengths.push(kind.entries().len() as u32);
            let mut bytes = [0u8; ENTRY * EXAMPLES];
            for (place, &(key, row, value)) in bytes.chunks_exact_mut(ENTRY).zip(kind.entries()) {
                place[..8].copy_from_slice(&key.to_le_bytes());
                place[8..16].copy_from_slice(&row.to_le_bytes());
                place[16..].copy_from_slice(&value.to_le_bytes());
            }
            examples.extend(bytes);
        }
    }
    out.insert(format!("{name}.exact"), Array::new(&[h, 3 + classes, 32], exact));
    out.insert(format!("{name}.bins"), Array::new(&[h, classes, BINS], bins));
    out.insert(format!("{name}.examples_n"), Array::new(&[h, 3], lengths));
    out.insert(format!("{name}.examples"), Array::new(&[h, 3, EXAMPLES, ENTRY], examples));
    out.insert(format!("{name}.largest"), Array::new(&[h], latents.iter().map(|l| f64::from(l.largest)).collect()));
}

/// The sums by latent of [`sums_to_columns`].
fn sums_from_columns(columns: &StoredColumns, name: &str, classes: usize) -> Result<Vec<LatentSums>, ColumnError> {
    let h = columns.get::<f64>(&format!("{name}.largest"))?.len();
    let sums = 3 + classes;
    let exact = sized::<u8>(columns, format!("{name}.exact"), &[h, sums, 32])?;
    let bins = sized::<u32>(columns, format!("{name}.bins"), &[h, classes, BINS])?;
    let lengths = sized::<u32>(columns, format!("{name}.examples_n"), &[h, 3])?;
    let examples = sized::<u8>(columns, format!("{name}.examples"), &[h, 3, EXAMPLES, ENTRY])?;
    let largest = sized::<f64>(columns, format!("{name}.largest"), &[h])?;
    let latent = |i: usize| -> LatentSums {
        let sum = |k: usize| {
            let at = (i * sums + k) * 32;
            ExactSum::from_bytes(exact[at..at + 32].try_into().expect("32 bytes"))
        };
        let kind = |k: usize| {
            let own = &examples[(i * 3 + k) * EXAMPLES * ENTRY..][..EXAMPLES * ENTRY];
            let entries = own.chunks_exact(ENTRY).take(lengths[i * 3 + k] as usize);
            let number = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("8 bytes"));
            ExampleRows::from_entries(
                entries
                    .map(|e| {
                        let value = f32::from_le_bytes(e[16..].try_into().expect("4 bytes"));
                        (number(&e[..8]), number(&e[8..16]), value)
                    })
                    .collect(),
            )
        };
        LatentSums {
            sum: sum(0),
            delta_sse: sum(1),
            delta_pearson: sum(2),
            largest: largest[i] as f32,
            class_sum: (0..classes).map(|c| sum(3 + c)).collect(),
            bins: bins[i * classes * BINS..][..classes * BINS].to_vec(),
            top: kind(0),
            random: kind(1),
            near: kind(2),
        }
    };
    Ok((0..h).map(latent).collect())
}

/// A column of this shape.
fn sized<'a, T: Element>(columns: &'a StoredColumns, name: String, shape: &[usize]) -> Result<&'a [T], ColumnError> {
    let array = columns.get::<T>(&name)?;
    if array.shape == shape {
        return Ok(array);
    }
    Err(ColumnError { column: name, expected: format!("{shape:?}"), found: format!("{:?}", array.shape) })
}

/// Reads what [`to_columns`] wrote.
///
/// # Errors
/// A column that is missing, or of another type or shape.
pub fn from_columns(columns: &StoredColumns) -> Result<(PassSums, [u8; 32]), ColumnError> {
    let belongs_to = sized::<u8>(columns, "belongs_to".into(), &[32])?.try_into().expect("32 bytes");
    let class_rows: Vec<u64> = columns.get::<f64>("class_rows")?.iter().map(|&n| n as u64).collect();
    let classes = class_rows.len();
    let mut saes = Vec::new();
    for s in 0.. {
        let name = format!("{s}");
        // The first SAE must be there.
        if s > 0 && !columns.contains(&format!("{name}.exact")) {
            break;
        }
        let latents = sums_from_columns(columns, &name, classes)?;
        let image = format!("{s}.image");
        let images = match columns.contains(&format!("{image}.exact")) {
            true => Some(sums_from_columns(columns, &image, classes)?),
            false => None,
        };
        let rows = columns.get::<f64>(&format!("{s}.rows"))?.chunks_exact(5).map(|r| RowQuality {
            row: r[0] as u64,
            class: r[1] as u16,
            l0: r[2] as u32,
            pearson: r[3] as f32,
            sse: r[4],
        });
        let partners = match columns.contains(&format!("{s}.pair_count")) {
            true => Some(partners_from_columns(columns, s, latents.len())?),
            false => None,
        };
        saes.push(SaeSums { latents, partners, rows: rows.collect(), images });
    }
    Ok((PassSums { saes, class_rows }, belongs_to))
}

/// The co-active pairs of SAE `s`, which has `h` latents.
fn partners_from_columns(columns: &StoredColumns, s: usize, h: usize) -> Result<Vec<Partners>, ColumnError> {
    let count = columns.get::<u32>(&format!("{s}.pair_count"))?;
    let who = sized::<u32>(columns, format!("{s}.pair"), &[count.len(), 2])?;
    let sums = sized::<u8>(columns, format!("{s}.pair_sum"), &[count.len(), 16])?;
    let mut partners = vec![Partners::default(); h];
    for ((&n, who), sum) in count.iter().zip(who.chunks_exact(2)).zip(sums.chunks_exact(16)) {
        let sum = i128::from_le_bytes(sum.try_into().expect("16 bytes"));
        if (who[0] as usize) < h {
            partners[who[0] as usize].merge(who[0] as usize, who[1], PairSums::from_parts(n, sum));
        }
    }
    Ok(partners)
}
