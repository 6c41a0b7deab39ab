-- Grants or denies one hold. Answers held, whether first, the time, and all shares; or conflict, whose
-- and which share; or full.
-- ARGV: pod, lease, kind, key, sid, holder, exclusive (0 or 1), data, ttl (0: none), at most (-1: no limit)
local pod, lease = ARGV[1], tonumber(ARGV[2])
local kind, key, sid, holder = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local exclusive, data = ARGV[7] == '1', ARGV[8]
local ttl, at_most = tonumber(ARGV[9]), tonumber(ARGV[10])

local conflict, conflict_sid, others, mine = stands_against(kind, key, sid, holder, exclusive)
if conflict then return { 'conflict', conflict_sid, conflict, {} } end
if at_most >= 0 and not mine and others >= at_most then return { 'full', '', '', {} } end

local place, counts = place_key(kind, key), count_key(kind, key)
local first = redis.call('HEXISTS', counts, 'h:' .. holder) == 0
-- Never older than what is there, whatever the clock does: shares are listed in the order of grants.
local newest = tonumber(redis.call('HGET', counts, '!newest') or '0')
local since = math.max(micros, newest + 1)
local before = redis.call('HGET', place, sid)
if before then since = parse(before).since end
local share = { holder = holder, pod = pod, exclusive = exclusive, since = since, deadline = 0 }
if ttl > 0 then share.deadline = now + ttl end
put(kind, key, sid, share, data)
-- A lease of its own, where a hold comes before the pod's tick.
redis.call('ZADD', pods, 'NX', now + lease, pod)

return { 'held', first and '1' or '0', text(now), redis.call('HGETALL', place) }
