"""Node side: accelerators, streams, the pose pipeline and what a node tells the fleet."""
