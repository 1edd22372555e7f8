//! Under construction: nft.
