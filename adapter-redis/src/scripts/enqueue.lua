-- Appends a message to a stream, unless it has as many as it may have. Answers its id, or nothing.
-- KEYS: stream    ARGV: cap, message
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return false end
return redis.call('XADD', KEYS[1], '*', 'event', ARGV[2])
