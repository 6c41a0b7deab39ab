-- Every share of a place, with the time by which to tell the lapsed ones.
-- ARGV: kind, key
return { text(now), redis.call('HGETALL', place_key(ARGV[1], ARGV[2])) }
