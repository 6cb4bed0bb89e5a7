-- Forget a copy that fades, and void the ticket for its place. KEYS: the copy, its queries, the ticket.
return redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
