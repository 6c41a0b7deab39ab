-- Asks for the turn at a key. Answers -1 where it is given, else how many are before in the line.
-- Whoever waits asks again and again, and who has not asked for a while has left the line, so that a
-- dead pod holds nobody up.
-- KEYS: turn, line, seen    ARGV: token, lease, patience
local turn, line, seen = KEYS[1], KEYS[2], KEYS[3]
local token, lease, patience = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local micros = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now = math.floor(micros / 1000)

for _, gone in ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', now)) do
  redis.call('ZREM', line, gone)
  redis.call('ZREM', seen, gone)
end
redis.call('ZADD', line, 'NX', string.format('%.0f', micros), token)
redis.call('ZADD', seen, now + patience, token)
local before = redis.call('ZRANK', line, token)
if before == 0 and redis.call('SET', turn, token, 'NX', 'PX', lease) then
  redis.call('ZREM', line, token)
  redis.call('ZREM', seen, token)
  return -1
end
redis.call('PEXPIRE', line, patience * 2)
redis.call('PEXPIRE', seen, patience * 2)
return before
