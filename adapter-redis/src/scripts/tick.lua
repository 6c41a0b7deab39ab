-- Renews one pod's lease in one namespace, and collects what lapsed there, up to a batch.
-- ARGV: pod, lease, batch
-- Answers: whether the pod was unknown, whether others had given it up, whether more is left, notices,
-- expired shares (kind, key, sid, stored, last, …), departed connections (each: sid, then kind, key,
-- stored, last, …)
local pod, lease, batch = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local known = base .. ':known'
local function grave(of) return base .. ':gone:' .. of end

-- Where nobody ticked for a while it was the store that was away, not every pod at once: all get their
-- time anew, so that a return does not begin with giving everybody up.
local pulse = tonumber(redis.call('GET', base .. ':pulse') or '0')
if now - pulse > lease * 2 / 3 then
  for _, other in ipairs(redis.call('ZRANGE', pods, 0, -1)) do
    redis.call('ZADD', pods, 'XX', now + lease, other)
  end
end
redis.call('SET', base .. ':pulse', text(now), 'PX', lease * 10)

local unknown = redis.call('SADD', known, pod)
local given_up = redis.call('DEL', grave(pod))
redis.call('ZADD', pods, now + lease, pod)

local notices = redis.call('LRANGE', notice_key(pod), 0, batch - 1)
if #notices > 0 then redis.call('LTRIM', notice_key(pod), #notices, -1) end

local expired = {}
local lapsed = redis.call('ZRANGEBYSCORE', expiring, '-inf', now, 'LIMIT', 0, batch)
for _, written in ipairs(lapsed) do
  local kind, sid, key = read_mark(written)
  local stored, last = drop(kind, key, sid, pod)
  if stored then
    for _, part in ipairs({ kind, key, sid, stored, last }) do table.insert(expired, part) end
  end
  redis.call('ZREM', expiring, written)
end

-- What a connection of a dead pod holds. A share that the connection has by another pod stays.
local function bury(sid, dead)
  local released = { sid }
  for _, place in ipairs(redis.call('SMEMBERS', sid_key(sid))) do
    local kind, key = read_place(place)
    local share = redis.call('HGET', place_key(kind, key), sid)
    if share and parse(share).pod == dead then
      local stored, last = drop(kind, key, sid, dead)
      for _, part in ipairs({ kind, key, stored, last }) do table.insert(released, part) end
    end
  end
  return released
end

local departed, work, left = {}, 0, 0
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', pods, '-inf', now, 'LIMIT', 0, 8)) do
  redis.call('SREM', known, dead)
  redis.call('SET', grave(dead), '1', 'PX', 3600000)
  while work < batch do
    local sid = redis.call('SPOP', pod_key(dead))
    if not sid then break end
    local released = bury(sid, dead)
    if #released > 1 then table.insert(departed, released) end
    work = work + #released
  end
  if redis.call('EXISTS', pod_key(dead)) == 1 then
    left = 1
  else
    redis.call('ZREM', pods, dead)
    redis.call('DEL', notice_key(dead))
  end
end
if #lapsed == batch or #notices == batch then left = 1 end
return { unknown, given_up, left, notices, expired, departed }
