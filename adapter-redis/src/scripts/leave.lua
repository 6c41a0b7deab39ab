-- Gives back a turn, or the place in the line for it.
-- KEYS: turn, line, seen    ARGV: token
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
