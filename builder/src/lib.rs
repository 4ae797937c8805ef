//! An image build engine: the embeddable library and the kiln command.
