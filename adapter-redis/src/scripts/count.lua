-- How many documents of a collection live.
-- KEYS: collection
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
-- A key is there until its last millisecond is over, so its name in the list is too.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now))
return redis.call('ZCARD', KEYS[1])
