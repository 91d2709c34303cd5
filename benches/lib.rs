//! Measurements: whole mounts side by side with their peers. Timings live here, never in tests.
