//! What every refusal has: a stable code, the check that it fails, its cause (blame),
//! and a remedy.
//!
//! A refusal is a row of a table ([`rejections!`]); the tables are put together in
//! [`Rejected`](crate::Rejected).

use crate::refusals::checks::CheckId;

/// The cause of a refusal. It decides the default remedy, and whether trying again, or
/// on another instance, can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The machine's evidence contradicts a signature, a binding or a demand of the
    /// policy, lacks what is demanded, or cannot be read at all.
    Machine,
    /// An honest change and an attack are the same bytes: this program cannot tell.
    Unknown,
    /// The evidence is genuine and newer than this program understands.
    Age,
    /// Intel's documents, or the source that served them.
    Collateral,
    /// A clock: this machine's, most likely.
    Clock,
    /// Data that the policy demands and that a source other than the machine provides.
    Sources,
    /// The request.
    Request,
}

impl Blame {
    /// Every value, in the order of the documents.
    pub const ALL: [Self; 7] = [
        Self::Machine,
        Self::Unknown,
        Self::Age,
        Self::Collateral,
        Self::Clock,
        Self::Sources,
        Self::Request,
    ];

    /// The stable name, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Unknown => "unknown",
            Self::Age => "age",
            Self::Collateral => "collateral",
            Self::Clock => "clock",
            Self::Sources => "sources",
            Self::Request => "request",
        }
    }

    /// The remedy of rows that state none of their own.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Machine => "Do not use this backend; report it to its operator.",
            Self::Unknown => {
                "An honest change and an attack look the same here. Ask the backend's operator, over another channel than this connection, whether and when the operator made this change."
            }
            Self::Age => {
                "Update verified-proxy: this version does not understand what the backend signed."
            }
            Self::Collateral => "Fetch Intel's documents again, or from another source.",
            Self::Clock => "Check the clock of this machine.",
            Self::Sources => "Check that this machine reaches the source, and try again.",
            Self::Request => "Check the request.",
        }
    }
}

/// The explanation of a code, for a person who meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// The stable code, in snake case.
    pub code: &'static str,
    /// The checks that it can fail; the first one where none had begun.
    pub checks: &'static [CheckId],
    /// Its cause.
    pub blame: Blame,
    /// What was found.
    pub meaning: &'static str,
    /// What to do next.
    pub remedy: &'static str,
}

/// A table of refusals: an enum with one variant a row.
///
/// ```text
/// Variant { fields }
///     "code" check CheckId|CheckId blame Blame
///     "message"
///     means "what was found"
///     remedy "what to do";      left out: the blame's own remedy
/// ```
///
/// `wraps Variant(Inner)` takes in the refusals of another table, codes and all.
macro_rules! rejections {
    ($(#[$doc:meta])* $name:ident $(wraps $wrapped:ident($inner:ty))*;
    $($variant:ident { $($field:ident: $kind:ty),* $(,)? }
        $code:literal check $($check:ident)|+ blame $blame:ident
        $message:literal
        means $meaning:literal
        $(remedy $remedy:literal)?;)*) => {
        $(#[$doc])*
        ///
        /// Messages quote foreign text bounded and escaped.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "the message and the explanation beside each variant document it")]
        pub enum $name {
            $(#[error($message)] $variant { $($field: $kind),* },)*
            $(#[error(transparent)] $wrapped(#[from] $inner),)*
        }

        impl $name {
            /// This table's rows, in the order in which the checks run.
            pub const EXPLANATIONS: &'static [$crate::Explanation] = &[
                $($crate::refusals::table::row!($code, [$($check),+], $blame, $meaning $(, $remedy)?),)*
            ];

            /// The row of this refusal.
            #[must_use]
            pub const fn explanation(&self) -> &'static $crate::Explanation {
                match self {
                    $(Self::$variant { .. } => {
                        const ROW: $crate::Explanation =
                            $crate::refusals::table::row!($code, [$($check),+], $blame, $meaning $(, $remedy)?);
                        &ROW
                    })*
                    $(Self::$wrapped(inner) => inner.explanation(),)*
                }
            }

            /// The stable code, in snake case.
            #[must_use]
            pub const fn code(&self) -> &'static str {
                self.explanation().code
            }

            /// Its cause.
            #[must_use]
            pub const fn blame(&self) -> $crate::Blame {
                self.explanation().blame
            }
        }
    };
}

macro_rules! row {
    ($code:literal, [$($check:ident),+], $blame:ident, $meaning:literal) => {
        $crate::refusals::table::row!(
            $code, [$($check),+], $blame, $meaning, $crate::Blame::$blame.remedy()
        )
    };
    ($code:literal, [$($check:ident),+], $blame:ident, $meaning:literal, $remedy:expr) => {
        $crate::Explanation {
            code: $code,
            checks: &[$($crate::CheckId::$check),+],
            blame: $crate::Blame::$blame,
            meaning: $meaning,
            remedy: $remedy,
        }
    };
}
pub(crate) use {rejections, row};
