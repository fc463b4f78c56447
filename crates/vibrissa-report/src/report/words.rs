//! Words and figures of a report in its language.

use super::Language;
use std::collections::BTreeMap;
use vibrissa_record::Number;

/// All words, by language, then by key.
pub const WORDS: &str = include_str!("words.json");

/// The same, of what only a sweep's report says.
const OF_SWEEPS: &str = include_str!("sweep/words.json");

/// The words of one language.
#[derive(Debug)]
pub struct Words(BTreeMap<String, String>);

impl Words {
    /// Of this language.
    pub fn of(language: Language) -> Words {
        let own = |table: &str| {
            let mut all: BTreeMap<String, BTreeMap<String, String>> =
                serde_json::from_str(table).expect("a table of words");
            all.remove(language.code()).expect("a language")
        };
        let mut words = own(WORDS);
        words.extend(own(OF_SWEEPS));
        Words(words)
    }

    /// One text; unknown keys stand for themselves.
    pub fn get(&self, key: &str) -> String {
        self.0.get(key).cloned().unwrap_or_else(|| key.to_owned())
    }

    /// One text, with `{name}` filled in.
    pub fn with(&self, key: &str, values: &[(&str, String)]) -> String {
        values.iter().fold(self.get(key), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    }
}

/// A share in per cent; a very small one keeps its first digit.
pub fn percent(value: Number, digits: usize) -> String {
    let Some(v) = value.get().filter(|v| v.is_finite()) else { return "–".into() };
    let p = 100.0 * v;
    if p != 0.0 && p.abs() < 0.5 * 10f64.powi(-(digits as i32)) {
        let digits = (-p.abs().log10().floor()) as usize;
        return format!("{p:.digits$}\u{a0}%");
    }
    format!("{p:.digits$}\u{a0}%")
}

/// A figure with as many decimals.
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

/// A count with its thousands apart.
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

/// A text with its first letter large.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_have_the_same_words() {
        for table in [WORDS, OF_SWEEPS] {
            let all: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(table).expect("words");
            assert!(all["en"].keys().eq(all["zh"].keys()));
        }
        let [en, zh] = [Language::En, Language::Zh].map(Words::of);
        assert_eq!(en.0.keys().collect::<Vec<_>>(), zh.0.keys().collect::<Vec<_>>());
        for (key, text) in &en.0 {
            let names = |text: &str| {
                let mut all: Vec<String> =
                    text.split('{').skip(1).filter_map(|t| t.split_once('}')).map(|t| t.0.to_owned()).collect();
                all.sort();
                all.dedup();
                all
            };
            assert_eq!(names(text), names(&zh.0[key]), "{key}");
        }
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!([count(0), count(999), count(1000), count(12_345_678)].join(" "), "0 999 1,000 12,345,678");
        let p = |v: f64| percent(Number::from(v), 1).replace('\u{a0}', " ");
        assert_eq!([p(0.5), p(0.0), p(0.00001), p(f64::NAN)].join(", "), "50.0 %, 0.0 %, 0.001 %, –");
        assert_eq!(fixed(Number::from(0.123_456), 3), "0.123");
    }

    #[test]
    fn sentences_begin_with_a_capital() {
        assert_eq!((capital("all 4"), capital("")), ("All 4".into(), String::new()));
    }
}
