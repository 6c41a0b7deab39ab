-- Renews the lease of a turn that one still has. Answers 0 where one has it no more.
-- KEYS: turn    ARGV: token, lease
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
