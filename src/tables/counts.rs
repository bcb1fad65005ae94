//! The counts of a mirror's result.

/// One count.
pub struct CountRow {
    /// The name in the C getter and in the JSON document.
    pub name: &'static str,
    /// The description of the count.
    pub help: &'static str,
}

macro_rules! counts {
    ($(#[doc = $help:literal] $name:ident,)+) => {
        /// The counts of a mirror's result.
        #[derive(Clone, Debug, Default)]
        #[non_exhaustive]
        pub struct Counts {
            $(#[doc = $help] pub $name: u64,)+
        }

        /// Every count, in the order of the JSON document.
        pub static COUNTS: &[CountRow] = &[$(CountRow {
            name: stringify!($name),
            // The line of a doc comment begins with a space.
            help: $help.trim_ascii_start(),
        }),+];

        impl Counts {
            /// The counts with their names, in the order of the table.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),+].into_iter()
            }
        }
    };
}

counts! {
    /// Reports in the service's lists that the options select.
    listed,
    /// Reports that were added to the archive by this run.
    downloaded,
    /// Reports that were in the archive before this run.
    present,
    /// Reports that the service is still generating.
    not_ready,
    /// Reports that were deleted between the list and the download.
    vanished,
    /// Reports, or lists of them, that failed; each has an error.
    failed,
    /// Files that differed from the manifest and were replaced.
    repaired,
}
