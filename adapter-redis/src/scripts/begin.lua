-- Marks a request as begun, if it is not known. Answers nothing where it was not; else what is
-- remembered of it: an empty text while somebody is at it, or the answer.
-- KEYS: request    ARGV: ttl
local known = redis.call('GET', KEYS[1])
if known then return known end
redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
return false
