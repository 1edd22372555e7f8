//! Weft's own kinds, group `weft.dev/v1alpha1`.
