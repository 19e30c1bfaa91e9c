//! A scrape.
