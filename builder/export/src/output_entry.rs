//! Files of images on their way out.

use kiln_graph::Entry;
use kiln_tree::TreePath;

/// A file of an image, and where its content lies.
pub type OutputEntry = (Entry, TreePath);
