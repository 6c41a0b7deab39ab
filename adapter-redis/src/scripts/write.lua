-- Writes a document with its time to live, and when it lapses into the list of its collection.
-- KEYS: document, collection    ARGV: id, document, ttl
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local ttl = tonumber(ARGV[3])
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', now + ttl)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. string.format('%.0f', now))
redis.call('ZADD', KEYS[2], now + ttl, ARGV[1])
-- The list lives as long as the document that lives longest.
if redis.call('PTTL', KEYS[2]) < ttl then redis.call('PEXPIRE', KEYS[2], ttl) end
