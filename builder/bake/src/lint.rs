//! Image lints: what a finished tree must not hold, and what it must.
