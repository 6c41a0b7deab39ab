-- Replaces a document, if it is still what the caller read. Answers done, or other and what it is, or
-- none. The patch itself is applied by the caller: cjson does not tell an empty list from an empty
-- object, nor keep a number of seventeen digits.
-- KEYS: document, collection    ARGV: id, document, ttl, what was read
local stands = redis.call('GET', KEYS[1])
if not stands then return { 'none' } end
if stands ~= ARGV[4] then return { 'other', stands } end
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local ttl = tonumber(ARGV[3])
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', now + ttl)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. string.format('%.0f', now))
redis.call('ZADD', KEYS[2], now + ttl, ARGV[1])
if redis.call('PTTL', KEYS[2]) < ttl then redis.call('PEXPIRE', KEYS[2], ttl) end
return { 'done' }
