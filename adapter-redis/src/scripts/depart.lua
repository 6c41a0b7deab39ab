-- Ends everything that one connection holds.
-- ARGV: pod, sid
local released = {}
for _, written in ipairs(redis.call('SMEMBERS', sid_key(ARGV[2]))) do
  local kind, key = read_place(written)
  local stored, last = drop(kind, key, ARGV[2], ARGV[1])
  if stored then
    table.insert(released, kind)
    table.insert(released, key)
    table.insert(released, stored)
    table.insert(released, last)
  end
end
return released
