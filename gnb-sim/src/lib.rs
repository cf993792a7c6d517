//! gnb-sim
