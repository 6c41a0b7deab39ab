-- What one connection holds, without what lapsed.
-- ARGV: sid
local held = {}
for _, written in ipairs(redis.call('SMEMBERS', sid_key(ARGV[1]))) do
  local kind, key = read_place(written)
  local stored = redis.call('HGET', place_key(kind, key), ARGV[1])
  if stored and living(parse(stored)) then
    table.insert(held, kind)
    table.insert(held, key)
  end
end
return held
