use proptest::prelude::*;
use rustls::crypto::cipher::AeadKey;

use super::*;

fn keys() -> (Sealer, Opener) {
    let secrets = || ConnectionTrafficSecrets::Aes256Gcm {
        key: AeadKey::from([7; 32]),
        iv: Iv::from([9; 12]),
    };
    let sealer = Sealer::new(0, secrets(), 1 << 24).unwrap();
    (sealer, Opener::new(0, secrets()).unwrap())
}

/// A record with any inner plaintext, content type and padding included.
fn seal_inner(inner: &[u8]) -> Vec<u8> {
    let (mut sealer, _) = keys();
    let (content, data) = inner.split_last().unwrap();
    let mut out = vec![0; data.len() + OVERHEAD];
    sealer
        .seal(ContentType::from(*content), data, &mut out)
        .unwrap();
    out
}

fn open(record: &mut [u8]) -> Result<Option<Opened<'_>>, Error> {
    let (_, mut opener) = keys();
    opener.open(record)
}

#[test]
fn padding_is_taken_off() {
    let mut record = seal_inner(b"data\x17\0\0\0");
    let opened = open(&mut record).unwrap().unwrap();
    assert_eq!(opened.content, ContentType::ApplicationData);
    assert_eq!(opened.plaintext, b"data");
    assert_eq!(opened.taken, 4 + OVERHEAD + 3);
}

#[test]
fn a_record_of_padding_alone_is_refused() {
    assert_eq!(
        open(&mut seal_inner(&[0; 10])).unwrap_err(),
        PeerMisbehaved::IllegalTlsInnerPlaintext.into()
    );
}

#[test]
fn more_data_than_a_record_may_carry_is_refused() {
    let mut inner = vec![b'x'; MAX_PLAINTEXT + 1];
    inner.push(23);
    assert_eq!(
        open(&mut seal_inner(&inner)).unwrap_err(),
        Error::PeerSentOversizedRecord
    );
}

#[test]
fn a_header_is_judged_before_the_record_is_complete() {
    for (header, expected) in [
        ([23, 3, 3, 0x41, 1], Error::PeerSentOversizedRecord),
        (*b"GET /", InvalidMessage::InvalidContentType.into()),
    ] {
        let mut bytes = header;
        assert!(is_decided(&header) || header[0] != 23);
        assert_eq!(open(&mut bytes).unwrap_err(), expected);
    }
    for kind in [20, 21, 22] {
        assert!(matches!(
            open(&mut [kind, 3, 3, 0, 1, 1]).unwrap_err(),
            Error::InappropriateMessage { .. }
        ));
    }
}

#[test]
fn a_record_cannot_be_replayed() {
    let (mut sealer, mut opener) = keys();
    let mut record = [0; 100];
    let length = sealer
        .seal(ContentType::ApplicationData, b"once", &mut record)
        .unwrap();
    let mut again = record;
    assert!(opener.open(&mut record[..length]).is_ok());
    assert_eq!(
        opener.open(&mut again[..length]).unwrap_err(),
        Error::DecryptError
    );
}

proptest! {
    #[test]
    fn what_is_sealed_from_anywhere_is_opened(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..8),
    ) {
        let (mut sealer, mut opener) = keys();
        let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut input = Input::new(&slices);
        let mut opened = Vec::new();
        let mut record = vec![0; MAX_RECORD];
        while !input.is_empty() {
            let length = sealer.seal_data(&mut input, &mut record).unwrap();
            let one = opener.open(&mut record[..length]).unwrap().unwrap();
            prop_assert_eq!(one.taken, length);
            prop_assert!(one.plaintext.len() == MAX_PLAINTEXT || input.is_empty());
            opened.extend_from_slice(one.plaintext);
        }
        prop_assert_eq!(input.taken(), opened.len());
        prop_assert_eq!(opened, pieces.concat());
    }

    #[test]
    fn no_bytes_make_opening_panic(mut bytes: Vec<u8>, like_a_record: bool) {
        if like_a_record && bytes.len() >= HEADER {
            let length = (bytes.len() - HEADER) as u16;
            bytes[..3].copy_from_slice(&[23, 3, 3]);
            bytes[3..HEADER].copy_from_slice(&length.to_be_bytes());
        }
        prop_assert!(!matches!(open(&mut bytes), Ok(Some(_))));
    }
}
