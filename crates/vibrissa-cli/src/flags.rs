//! Errors of the library in the words of the command. The library names fields, such as `k_aux`; here they become flags.

use clap::CommandFactory;
use std::collections::HashMap;
use std::sync::OnceLock;
use vibrissa::Error;

/// The flags of all commands.
pub fn flags() -> &'static Flags {
    static FLAGS: OnceLock<Flags> = OnceLock::new();
    FLAGS.get_or_init(|| Flags::of(&crate::Cli::command()))
}

/// Flags by field: `k_aux` → `--k-aux`, `k` → `-k`.
pub struct Flags(HashMap<String, String>);

impl Flags {
    /// The flags of all commands.
    pub fn of(command: &clap::Command) -> Flags {
        let mut flags = HashMap::new();
        for command in std::iter::once(command).chain(command.get_subcommands()) {
            for arg in command.get_arguments() {
                let long = arg.get_long().map(|l| format!("--{l}"));
                if let Some(flag) = long.or_else(|| arg.get_short().map(|s| format!("-{s}"))) {
                    flags.insert(arg.get_id().to_string().replace('-', "_"), flag);
                }
            }
        }
        Flags(flags)
    }

    /// `patch 8` → `--patch 8`; `None` if the first word is not a field.
    fn flag(&self, text: &str) -> Option<String> {
        let (field, rest) = text.split_once(' ').map_or((text, None), |(field, rest)| (field, Some(rest)));
        let flag = self.0.get(field)?;
        Some(rest.map_or(flag.clone(), |rest| format!("{flag} {rest}")))
    }

    /// An error as one line in which fields are flags: the option of [`Error::Option`], and names in backquotes.
    pub fn describe(&self, error: &Error) -> String {
        let text = error.to_string();
        let text = match error {
            Error::Option { option, .. } => match self.flag(option) {
                Some(flag) => flag + &text[option.len()..],
                None => text,
            },
            _ => text,
        };
        self.translate(&text)
    }

    /// Replaces names of fields in backquotes by flags.
    pub fn translate(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find('`') {
            let Some(length) = rest[start + 1..].find('`') else { break };
            let name = &rest[start + 1..start + 1 + length];
            out += &rest[..start];
            match self.flag(name) {
                Some(flag) => out += &flag,
                // The closing mark may open the next name.
                None => {
                    out += &rest[start..=start + length];
                    rest = &rest[start + 1 + length..];
                    continue;
                }
            }
            rest = &rest[start + 2 + length..];
        }
        out + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_flags() {
        let flags = Flags(HashMap::from([("k".into(), "-k".into()), ("k_aux".into(), "--k-aux".into())]));
        let error = Error::option("k_aux", "at most 4", 9, "choose a smaller `k_aux`, or `k 8`");
        assert_eq!(flags.describe(&error), "--k-aux: expected at most 4, got 9; choose a smaller --k-aux, or -k 8");
        let error = Error::option("data", "rows", "none", "`no` field, `k");
        assert_eq!(flags.describe(&error), "data: expected rows, got none; `no` field, `k");
        assert_eq!(flags.translate("`x` and `k_aux`"), "`x` and --k-aux");
    }
}
