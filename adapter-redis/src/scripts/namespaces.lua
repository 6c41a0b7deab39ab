-- Adds namespaces to those that are known, and answers all of them.
-- KEYS: the set    ARGV: namespaces
for _, namespace in ipairs(ARGV) do redis.call('SADD', KEYS[1], namespace) end
return redis.call('SMEMBERS', KEYS[1])
