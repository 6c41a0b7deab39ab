//! The hash slots of Redis Cluster.
//!
//! In comes a key or a channel, out comes the slot that it is in, by the rule of the cluster: what stands
//! between the first `{` and the next `}` counts, if anything does, else the whole.

/// How many there are.
pub(crate) const SLOTS: u16 = 16_384;

/// The slot of a key.
pub(crate) fn of(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

fn tag(key: &[u8]) -> &[u8] {
    let tagged = || {
        let (_, rest) = split(key, b'{')?;
        let (tag, _) = split(rest, b'}')?;
        (!tag.is_empty()).then_some(tag)
    };
    tagged().unwrap_or(key)
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let mut parts = bytes.splitn(2, |byte| *byte == at);
    Some((parts.next()?, parts.next()?))
}

/// CRC-16 with the polynomial 1021, as XMODEM has it.
pub(crate) fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            let carries = crc & 0x8000 != 0;
            if carries { (crc << 1) ^ 0x1021 } else { crc << 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `CLUSTER KEYSLOT` of Redis 7.0 answers.
    #[test]
    fn slots_are_those_of_redis() {
        let cases = [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}bar", 12_182),
            ("a{foo}{bar}", 12_182),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("foo{bar", 15_278),
            ("", 0),
        ];
        for (key, want) in cases {
            assert_eq!(of(key.as_bytes()), want, "{key:?}");
        }
    }
}
