//! The helper alone: for tests, and for embedders that can't call
//! [`kiln_sandbox::run_if_helper`] first thing in `main`.

fn main() {
    kiln_sandbox::run_if_helper();
}
