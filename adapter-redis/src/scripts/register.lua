-- Writes down again what a pod's connections hold, as the pod remembers it. What somebody else took
-- meanwhile is refused; the answer names those by their position, with '1' where the holder has no
-- other share of the place.
-- A share that stands already stays as it is, unless the pod knows better (over).
-- Where other pods ended shares of this one and it does not know yet, nothing is written down, and the
-- answer is those notices: else what ended would come back, and end twice.
-- ARGV: pod, lease, then for each hold: kind, key, sid, holder, exclusive, since, ttl (0: none), over, data
local pod, lease = ARGV[1], tonumber(ARGV[2])
local notices = redis.call('LRANGE', notice_key(pod), 0, 255)
if #notices > 0 then
  redis.call('LTRIM', notice_key(pod), #notices, -1)
  return { notices, {} }
end
redis.call('ZADD', pods, 'NX', now + lease, pod)
local refused = {}
for i = 3, #ARGV, 9 do
  local kind, key, sid, holder = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local exclusive, since, ttl = ARGV[i + 4] == '1', tonumber(ARGV[i + 5]), tonumber(ARGV[i + 6])
  local over = ARGV[i + 7] == '1'
  local stands = not over and redis.call('HEXISTS', place_key(kind, key), sid) == 1
  if not stands and stands_against(kind, key, sid, holder, exclusive) then
    local others = redis.call('HEXISTS', count_key(kind, key), 'h:' .. holder)
    table.insert(refused, tostring((i - 3) / 9))
    table.insert(refused, others == 0 and '1' or '0')
  elseif not stands then
    local share = { holder = holder, pod = pod, exclusive = exclusive, since = since, deadline = 0 }
    if ttl > 0 then share.deadline = now + ttl end
    put(kind, key, sid, share, ARGV[i + 8])
  end
end
return { {}, refused }
