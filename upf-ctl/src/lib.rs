//! upf-ctl
