-- Ends shares of a place, oldest first.
-- ARGV: pod, kind, key, by sid (0 or 1), sid, by holder (0 or 1), holder
local pod, kind, key = ARGV[1], ARGV[2], ARGV[3]
local by_sid, sid, by_holder, holder = ARGV[4] == '1', ARGV[5], ARGV[6] == '1', ARGV[7]

local place = place_key(kind, key)
local shares
if by_sid then
  local stored = redis.call('HGET', place, sid)
  shares = stored and { sid, stored } or {}
else
  shares = redis.call('HGETALL', place)
end

local ending = {}
for i = 1, #shares, 2 do
  local share = parse(shares[i + 1])
  if not by_holder or share.holder == holder then
    table.insert(ending, { sid = shares[i], since = share.since })
  end
end
table.sort(ending, function(a, b)
  if a.since ~= b.since then return a.since < b.since end
  return a.sid < b.sid
end)

local released = {}
for _, share in ipairs(ending) do
  local stored, last = drop(kind, key, share.sid, pod)
  table.insert(released, share.sid)
  table.insert(released, stored)
  table.insert(released, last)
end
return released
