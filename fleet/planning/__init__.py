"""From the picture of the world to actions; pure."""
