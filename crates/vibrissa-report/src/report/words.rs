//! Words and numbers of a report in its language.

use super::Language;
use std::collections::BTreeMap;
use vibrissa_record::Number;

/// Words of the report of a run: key → language → text.
pub(crate) const RUN_WORDS: &str = include_str!("words.json");

/// Words that only the report of a sweep uses. Their keys start with `sw_`.
pub(crate) const SWEEP_WORDS: &str = include_str!("sweep/words.json");

/// Key → language → text.
type Table = BTreeMap<String, BTreeMap<String, String>>;

/// The words of one language.
#[derive(Debug)]
pub struct Words(BTreeMap<String, String>);

impl Words {
    /// The words of a language.
    pub fn of(language: Language) -> Words {
        let texts = |table: &str| {
            let table: Table = serde_json::from_str(table).expect("a table of words");
            table.into_iter().map(|(key, mut texts)| (key, texts.remove(language.code()).expect("every language")))
        };
        Words(texts(RUN_WORDS).chain(texts(SWEEP_WORDS)).collect())
    }

    /// The text of a key, if there is one.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The text of a key. A key without a text stands for itself (`fvu`, `SSIM`).
    pub fn get(&self, key: &str) -> String {
        self.find(key).unwrap_or(key).to_owned()
    }

    /// The text of a key with each `{name}` replaced by its value.
    pub fn with(&self, key: &str, values: &[(&str, String)]) -> String {
        values.iter().fold(self.get(key), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    }

    /// The texts that the page of a run uses, by key.
    pub(super) fn of_run(&self) -> BTreeMap<&str, &str> {
        let all = self.0.iter().filter(|(key, _)| !key.starts_with("sw_"));
        all.map(|(key, text)| (key.as_str(), text.as_str())).collect()
    }
}

/// A share in per cent with `digits` decimals; a very small share keeps its first digit.
pub fn percent(share: Number, digits: usize) -> String {
    let Some(v) = share.get().filter(|v| v.is_finite()) else { return "–".into() };
    let p = 100.0 * v;
    if p != 0.0 && p.abs() < 0.5 * 10f64.powi(-(digits as i32)) {
        let digits = (-p.abs().log10().floor()) as usize;
        return format!("{p:.digits$}\u{a0}%");
    }
    format!("{p:.digits$}\u{a0}%")
}

/// A number with `digits` decimals; a very small number in scientific notation.
pub fn fixed(value: Number, digits: usize) -> String {
    match value.get() {
        Some(v) if v.is_finite() => {
            if v != 0.0 && v.abs() < 0.5 * 10f64.powi(-(digits as i32)) {
                format!("{v:.1e}")
            } else {
                format!("{v:.digits$}")
            }
        }
        _ => "–".into(),
    }
}

/// A count with thousands separated: `60,000`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// A text with its first letter in upper case.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the values that a text leaves out, `{name}`.
    fn placeholders(text: &str) -> Vec<String> {
        let mut all: Vec<String> =
            text.split('{').skip(1).filter_map(|t| t.split_once('}')).map(|t| t.0.to_owned()).collect();
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn every_text_is_in_both_languages_with_the_same_values() {
        for (table, of_sweep) in [(RUN_WORDS, false), (SWEEP_WORDS, true)] {
            let table: Table = serde_json::from_str(table).expect("words");
            for (key, texts) in &table {
                assert_eq!(key.starts_with("sw_"), of_sweep, "{key}");
                assert!(texts.keys().eq(["en", "zh"]), "{key}");
                assert!(texts.values().all(|t| !t.trim().is_empty()), "{key}");
                assert_eq!(placeholders(&texts["en"]), placeholders(&texts["zh"]), "{key}");
            }
        }
        let [en, zh] = [Language::En, Language::Zh].map(Words::of);
        assert_eq!(en.0.keys().collect::<Vec<_>>(), zh.0.keys().collect::<Vec<_>>());
    }

    #[test]
    fn every_section_has_a_title() {
        let words = Words::of(Language::En);
        let of_runs = crate::report::sections::SECTIONS.iter().map(|s| format!("section_{}", s.id));
        let of_sweeps = crate::report::sweep::section_ids().map(|id| format!("sw_section_{id}"));
        for key in of_runs.chain(of_sweeps) {
            assert!(words.find(&key).is_some(), "{key}");
        }
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([count(0), count(999), count(1000), count(12_345_678)].join(" "), "0 999 1,000 12,345,678");
        let p = |v: f64| percent(Number::from(v), 1).replace('\u{a0}', " ");
        assert_eq!([p(0.5), p(0.0), p(0.00001), p(f64::NAN)].join(", "), "50.0 %, 0.0 %, 0.001 %, –");
        assert_eq!(fixed(Number::from(0.123_456), 3), "0.123");
    }

    #[test]
    fn sentences_start_with_a_capital() {
        assert_eq!((capital("all 4"), capital("")), ("All 4".into(), String::new()));
    }
}
