//! smf-sim
