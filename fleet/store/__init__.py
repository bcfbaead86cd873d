"""Where the fleet's record lives: Redis, embedded or external, and a twin in memory."""
