//! The options of a run as flags. The library defines them (`vibrissa::options`); here they get their dashes.

use clap::{Arg, ArgMatches, Command};
use vibrissa::Result;
use vibrissa::options::{Kind, OptionInfo, RunOptions};

/// The flags of all options of a run that were given, with their values.
#[derive(Clone, Debug, Default)]
pub struct RunFlags(Vec<(String, String)>);

impl RunFlags {
    /// The options that the flags say.
    ///
    /// # Errors
    /// A value that an option does not take.
    pub fn options(&self) -> Result<RunOptions> {
        let mut options = RunOptions::default();
        self.0.iter().try_for_each(|(name, value)| options.set(name, value))?;
        Ok(options)
    }
}

/// The flag of an option: `--k-aux`, and `-k` for k.
fn flag(option: &OptionInfo) -> String {
    if option.name.len() == 1 { format!("-{}", option.name) } else { format!("--{}", option.key()) }
}

/// Replaces names of options in backquotes by flags.
fn with_flags(text: &str) -> String {
    RunOptions::options().fold(text.to_owned(), |text, o| text.replace(&format!("`{}`", o.name), &flag(o)))
}

fn arg(option: &'static OptionInfo) -> Arg {
    let text = with_flags(option.text().trim_end_matches('.'));
    let default = with_flags(option.default);
    let mut arg = Arg::new(option.name)
        .value_name(option.value_name)
        .help_heading(option.group)
        .help(format!("{text} [default: {default}]"))
        .hide_short_help(!option.common)
        .allow_negative_numbers(true);
    arg = match option.name.as_bytes() {
        [short] => arg.short(char::from(*short)),
        _ => arg.long(option.key()),
    };
    if option.kind == Kind::Flag {
        arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
    }
    match option.name {
        "steps" => arg.conflicts_with("epochs"),
        "gray" => arg.conflicts_with("rgb"),
        _ => arg,
    }
}

impl clap::Args for RunFlags {
    fn augment_args(command: Command) -> Command {
        RunOptions::options().fold(command, |command, option| command.arg(arg(option)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        RunFlags::augment_args(command)
    }
}

impl clap::FromArgMatches for RunFlags {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<RunFlags, clap::Error> {
        let value = |o: &OptionInfo| Some((o.name.to_owned(), matches.get_one::<String>(o.name)?.clone()));
        Ok(RunFlags(RunOptions::options().filter_map(value).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = RunFlags::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Parses the lower-case name of an enum, as serde knows it.
pub fn parse_named<T: for<'de> serde::Deserialize<'de>>(text: &str) -> std::result::Result<T, String> {
    T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text)).map_err(|e| e.to_string())
}
