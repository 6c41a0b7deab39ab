-- Charges token buckets, all or none. A bucket is the moment, in microseconds, at which it is full
-- again; a full one has no key.
-- KEYS: buckets    ARGV: for each, microseconds per token, burst, cost
-- Answers -1, or the first that is short and the microseconds to wait.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local after = {}
local short, wait = -1, 0
for i, bucket in ipairs(KEYS) do
  local token, burst, cost = tonumber(ARGV[i * 3 - 2]), tonumber(ARGV[i * 3 - 1]), tonumber(ARGV[i * 3])
  local full = after[bucket] or tonumber(redis.call('GET', bucket) or '0')
  full = math.max(full, now) + token * cost
  local missing = full - token * burst - now
  -- Half a microsecond is the sum's rounding, not a missing token.
  if missing > 0.5 then
    if short < 0 then short = i - 1 end
    wait = math.max(wait, missing)
  end
  after[bucket] = full
end
if short >= 0 then return { short, string.format('%.0f', math.ceil(wait)) } end
for bucket, full in pairs(after) do
  local lasts = math.min(math.ceil((full - now) / 1000) + 1, 1e14)
  redis.call('SET', bucket, string.format('%.3f', full), 'PX', string.format('%.0f', lasts))
end
return { -1, '0' }
