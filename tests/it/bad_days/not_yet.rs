//! The cells in which the library does not keep the law yet.

use self::Seen::{Always, Sometimes};

/// The runs in which a cell broke the law.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen {
    /// In every run: the test fails when the cell passes, so the list shrinks with each mend.
    Always(&'static str),
    /// In some runs: the mend of the mechanism takes the cell out.
    Sometimes(&'static str),
}

impl Seen {
    pub(super) fn text(self) -> &'static str {
        match self {
            Always(seen) | Sometimes(seen) => seen,
        }
    }
}

/// The name of a cell, and what was seen in it.
#[rustfmt::skip]
pub(super) const NOT_YET: &[(&str, Seen)] = &[
    ("mariadb / made read-only (primary) / primary + 1", Sometimes("after the mend a node is held to be a replica until a probe")),
    ("mariadb / made read-only (primary) / primary + 2", Sometimes("after the mend a node is held to be a replica until a probe")),
    // B14
    ("postgres / handles of killed nodes, just read / primary + 2", Always("24 of 24 reads fail")),
    ("mariadb / handles of killed nodes, just read / primary + 2", Always("24 of 24 reads fail")),
    // Nobody can do better than alone, and the library is a little worse.
    ("postgres / database gone (all) / primary + 1", Sometimes("after the mend a node is held to be down until a probe")),
    ("postgres / database gone (all) / primary + 2", Sometimes("after the mend a node is held to be down until a probe")),
    ("postgres / password changed (all) / primary + 1", Sometimes("after the mend a node is held to be down until a probe")),
    ("postgres / password changed (all) / primary + 2", Sometimes("after the mend a node is held to be down until a probe")),
    // B8
    ("postgres / half-open connections (replica) / primary + 1", Sometimes("on a busy machine some reads are not answered in 9 s")),
    ("postgres / half-open connections (replica) / primary + 2", Sometimes("on a busy machine some reads are not answered in 9 s")),
    ("mariadb / half-open connections (replica) / primary + 1", Sometimes("on a busy machine some reads are not answered in 9 s")),
    ("mariadb / half-open connections (replica) / primary + 2", Sometimes("on a busy machine some reads are not answered in 9 s")),
];
