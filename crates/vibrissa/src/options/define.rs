//! The macros that define options, and what is known of each option.

/// Kinds of values, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; a flag without a value means `true`.
    Flag,
    /// A whole number, 0 or more.
    Whole,
    /// A number.
    Number,
    /// One of a list of names, or a short notation.
    Name,
    /// Any text, such as a path.
    Text,
}

/// An option as defined: all that help texts and documentation need.
#[derive(Clone, Copy, Debug)]
pub struct OptionInfo {
    /// Name of the field, such as `k_aux`. The key in `config.toml` has dashes: `k-aux`.
    pub name: &'static str,
    /// Heading that it stands under.
    pub group: &'static str,
    /// Placeholder of its value, such as `STEPS`.
    pub value_name: &'static str,
    /// Lines of documentation; names of other options in backquotes.
    pub doc: &'static [&'static str],
    /// The value without it, in words.
    pub default: &'static str,
    /// Values that it takes, in words.
    pub range: &'static str,
    /// True for the dozen options that a short help lists.
    pub common: bool,
    /// Kind of its values.
    pub kind: Kind,
}

impl OptionInfo {
    /// The key in `config.toml`, such as `k-aux`.
    pub fn key(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The documentation as one paragraph.
    pub fn text(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

/// A type that an option can have.
pub(super) trait OptionValue {
    /// Kind of its values.
    const KIND: Kind;
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Defines a struct in which every option may be absent, and the list of its options.
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $Partial:ident;
        $(
            $group:literal {
                $(
                    $(#[doc = $doc:literal])+
                    #[default = $default:literal]
                    #[range = $range:literal]
                    $name:ident : $T:ty = $value:literal $(, $common:ident)? ;
                )+
            }
        )+
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", default)]
        pub struct $Partial {
            $($(
                $(#[doc = $doc])+
                #[doc = ""]
                #[doc = concat!("Default: ", $default, ". Range: ", $range, ".")]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$T>,
            )+)+
        }

        impl $Partial {
            /// All options of this struct, in order.
            pub const OPTIONS: &'static [$crate::options::OptionInfo] = &[
                $($($crate::options::OptionInfo {
                    name: stringify!($name),
                    group: $group,
                    value_name: $value,
                    doc: &[$($doc),+],
                    default: $default,
                    range: $range,
                    common: $crate::options::define::common!($($common)?),
                    kind: <$T as $crate::options::define::OptionValue>::KIND,
                },)+)+
            ];
        }
    };
}

/// Defines what [`options`] does, and a struct of the resolved options beside it. `name: T => R`: an option of type `T`, whose
/// resolved value has the type `R`.
macro_rules! resolved_options {
    (
        $(#[$partial_meta:meta])*
        pub struct $Partial:ident;
        $(#[$meta:meta])*
        pub struct $Resolved:ident;
        $(
            $group:literal {
                $(
                    $(#[doc = $doc:literal])+
                    #[default = $default:literal]
                    #[range = $range:literal]
                    $(#[serde($($serde:tt)*)])?
                    $name:ident : $T:ty => $R:ty = $value:literal $(, $common:ident)? ;
                )+
            }
        )+
    ) => {
        $crate::options::define::options! {
            $(#[$partial_meta])*
            pub struct $Partial;
            $(
                $group {
                    $(
                        $(#[doc = $doc])+
                        #[default = $default]
                        #[range = $range]
                        $name: $T = $value $(, $common)?;
                    )+
                }
            )+
        }

        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub struct $Resolved {
            $($(
                $(#[doc = $doc])+
                #[doc = ""]
                #[doc = concat!("Default: ", $default, ". Range: ", $range, ".")]
                $(#[serde($($serde)*)])?
                pub $name: $R,
            )+)+
        }
    };
}

macro_rules! common {
    () => {
        false
    };
    (common) => {
        true
    };
}

pub(super) use {common, options, resolved_options};
