//! A system identifier of its own for every PostgreSQL cluster.
//!
//! All clusters are copies of one template, so all would carry its identifier, and a client that recognises foreign
//! clusters by the identifier could not be tested. `pg_resetwal` cannot set the identifier. But the identifier
//! stands in two known places: first in `pg_control`, which ends in a CRC-32C, and in the long header of the first
//! page of each WAL segment, which has no checksum.

use std::{
    fs::{self, OpenOptions},
    hash::{BuildHasher, RandomState},
    os::unix::fs::FileExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};

/// `xlp_sysid`, after the short page header of 20 bytes and its padding.
const IN_WAL: u64 = 24;

/// Seconds in the upper half, as `initdb` does it, and chance in the lower one.
pub(crate) fn random() -> u64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    (seconds << 32) | (RandomState::new().hash_one(seconds) >> 32)
}

/// Gives the cleanly stopped cluster in `data` another identifier.
pub(crate) fn set(data: &Path, identity: u64) -> Result<()> {
    let path = data.join("global/pg_control");
    let mut control = fs::read(&path).with_context(|| format!("{} is unreadable", path.display()))?;
    let crc_at = crc_position(&control).with_context(|| format!("{} has no checksum", path.display()))?;
    let old: [u8; 8] = control[..8].try_into().expect("a checksum was found behind these bytes");
    control[..8].copy_from_slice(&identity.to_ne_bytes());
    let crc = crc32c(&control[..crc_at]);
    control[crc_at..crc_at + 4].copy_from_slice(&crc.to_ne_bytes());

    for entry in fs::read_dir(data.join("pg_wal"))? {
        let entry = entry?;
        if entry.file_name().len() != 24 || !entry.file_type()?.is_file() {
            continue;
        }
        let segment = OpenOptions::new().read(true).write(true).open(entry.path())?;
        let mut found = [0; 8];
        segment.read_exact_at(&mut found, IN_WAL)?;
        // A segment made ahead of its use is all zeros.
        ensure!(found == old || found == [0; 8], "{:?} is of another cluster", entry.path());
        if found == old {
            segment.write_all_at(&identity.to_ne_bytes(), IN_WAL)?;
        }
    }
    fs::write(&path, control).with_context(|| format!("{} cannot be written", path.display()))
}

/// The place of the checksum depends on the version: it is the place where the checksum fits.
fn crc_position(control: &[u8]) -> Option<usize> {
    (64..control.len().min(1_024).checked_sub(4)?)
        .step_by(4)
        .find(|&at| crc32c(&control[..at]).to_ne_bytes() == control[at..at + 4])
}

fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn the_checksum_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }
}
