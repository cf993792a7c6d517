//! gtpu
