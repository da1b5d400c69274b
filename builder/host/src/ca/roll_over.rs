//! The fleet's authorities while one takes the other's place. Pure: each step makes a new value of an old one.
//!
//! Members learn of a change at different times, so that no single step may be enough to make one refuse the other:
//!
//! 1. [`Authorities::next`]: a successor is made. Members trust both, all certificates are the present one's.
//! 2. [`Authorities::switch`], when all members trust the successor: it issues from now on. Members trust both still, and
//!    certificates of both are shown.
//! 3. [`Authorities::retire`], when no member shows a certificate of the former any more: only the successor is trusted.

use rolesmith_model::ids::FleetName;
use serde::{Deserialize, Serialize};

use super::{Authority, CaError};

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make a successor.
    Next,
    /// Let the successor issue.
    Switch,
    /// Let go of the former.
    Retire,
}

impl Step {
    /// As people type it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Switch => "switch",
            Self::Retire => "retire",
        }
    }
}

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Another step comes first.
    #[error("`ca {}` is out of order: {}", .asked.word(), why(*.due))]
    OutOfOrder {
        /// What was asked for.
        asked: Step,
        /// What is to be done.
        due: Step,
    },
    /// The successor could not be made.
    #[error(transparent)]
    Ca(#[from] CaError),
}

const fn why(due: Step) -> &'static str {
    match due {
        Step::Next => "there is one CA, and no successor was made",
        Step::Switch => "a successor was made and does not issue yet",
        Step::Retire => "the successor issues, and the former CA is still trusted",
    }
}

/// The other one beside the issuer.
#[derive(Debug)]
enum Other {
    None,
    /// It will issue.
    Next(Authority),
    /// It issued before. Its key stays until nobody trusts it: what has to be believed by all is signed with it.
    Former(Authority),
}

/// The fleet's authorities: one that issues, and at most one other.
#[derive(Debug)]
pub struct Authorities {
    /// Counts the steps, so that an older copy is told from a newer one.
    steps: u64,
    issuer: Authority,
    other: Other,
}

impl Authorities {
    /// A single authority, of which no successor was ever made.
    #[must_use]
    pub const fn first(issuer: Authority) -> Self {
        Self {
            steps: 0,
            issuer,
            other: Other::None,
        }
    }

    /// How many steps were made.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// What comes next.
    #[must_use]
    pub const fn due(&self) -> Step {
        match self.other {
            Other::None => Step::Next,
            Other::Next(_) => Step::Switch,
            Other::Former(_) => Step::Retire,
        }
    }

    /// The one that issues certificates.
    #[must_use]
    pub const fn issuer(&self) -> &Authority {
        &self.issuer
    }

    /// The same, alone.
    #[must_use]
    pub fn into_issuer(self) -> Authority {
        self.issuer
    }

    /// The one that will issue.
    #[must_use]
    pub const fn successor(&self) -> Option<&Authority> {
        match &self.other {
            Other::Next(next) => Some(next),
            _ => None,
        }
    }

    /// The one that issued before and is still trusted.
    #[must_use]
    pub const fn former(&self) -> Option<&Authority> {
        match &self.other {
            Other::Former(former) => Some(former),
            _ => None,
        }
    }

    /// The one whom members trust that have missed the last step, and all others too: it signs orders.
    #[must_use]
    pub fn eldest(&self) -> &Authority {
        self.former().unwrap_or(&self.issuer)
    }

    /// All that are trusted, the issuer first.
    pub fn all(&self) -> impl Iterator<Item = &Authority> {
        let other = match &self.other {
            Other::None => None,
            Other::Next(other) | Other::Former(other) => Some(other),
        };
        std::iter::once(&self.issuer).chain(other)
    }

    /// What members trust: the certificates one after the other, in PEM.
    #[must_use]
    pub fn bundle(&self) -> String {
        self.all()
            .map(|authority| format!("{}\n", authority.certificate().pem().trim_end()))
            .collect()
    }

    /// Makes a successor; `now` is Unix seconds.
    ///
    /// # Errors
    /// [`StepError`].
    pub fn next(self, fleet: &FleetName, now: u64) -> Result<Self, StepError> {
        self.check(Step::Next)?;
        // A name of its own: some verifiers look for an issuer by name before they look at keys, and people do.
        let number = self.steps / 3 + 2;
        let next = Authority::named(&format!("{fleet} fleet CA {number}"), now)?;
        Ok(self.step(|issuer, _| (issuer, Other::Next(next))))
    }

    /// Lets the successor issue.
    ///
    /// # Errors
    /// [`StepError::OutOfOrder`].
    pub fn switch(self) -> Result<Self, StepError> {
        self.check(Step::Switch)?;
        Ok(self.step(|issuer, other| match other {
            Other::Next(next) => (next, Other::Former(issuer)),
            other => (issuer, other),
        }))
    }

    /// Lets go of the former.
    ///
    /// # Errors
    /// [`StepError::OutOfOrder`].
    pub fn retire(self) -> Result<Self, StepError> {
        self.check(Step::Retire)?;
        Ok(self.step(|issuer, _| (issuer, Other::None)))
    }

    /// Whether this step is the one that is due.
    ///
    /// # Errors
    /// [`StepError::OutOfOrder`].
    pub fn check(&self, asked: Step) -> Result<(), StepError> {
        let due = self.due();
        if due == asked {
            Ok(())
        } else {
            Err(StepError::OutOfOrder { asked, due })
        }
    }

    fn step(self, change: impl FnOnce(Authority, Other) -> (Authority, Other)) -> Self {
        let (issuer, other) = change(self.issuer, self.other);
        Self {
            steps: self.steps + 1,
            issuer,
            other,
        }
    }

    /// As the operator's secrets keep it.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&Record {
            steps: self.steps,
            issuer: Pair::of(&self.issuer),
            next: self.successor().map(Pair::of),
            former: self.former().map(Pair::of),
        })
    }

    /// Reads what [`Authorities::to_toml`] wrote. The error's text does not quote the file.
    pub(crate) fn from_toml(text: &str) -> Result<Self, String> {
        let record: Record = toml::from_str(text).map_err(|error: toml::de::Error| {
            // Only the place: the error's text could quote a key.
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            format!("not the CAs as this program writes them (line {line})")
        })?;
        let read = |pair: Pair| {
            Authority::from_pem(&pair.key, &pair.certificate).map_err(|error| error.to_string())
        };
        let other = match (record.next, record.former) {
            (None, None) => Other::None,
            (Some(next), None) => Other::Next(read(next)?),
            (None, Some(former)) => Other::Former(read(former)?),
            (Some(_), Some(_)) => return Err("a successor beside a former CA".to_owned()),
        };
        Ok(Self {
            steps: record.steps,
            issuer: read(record.issuer)?,
            other,
        })
    }
}

/// The file's shape.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    steps: u64,
    issuer: Pair,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Pair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    former: Option<Pair>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn of(authority: &Authority) -> Self {
        Self {
            certificate: authority.certificate().pem().to_owned(),
            key: authority.key_pem(),
        }
    }
}
