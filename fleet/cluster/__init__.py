"""How agents are started and told what to do."""
