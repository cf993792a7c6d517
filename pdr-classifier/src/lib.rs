//! pdr-classifier
