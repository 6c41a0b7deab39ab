-- The layout of what is held in one namespace, before each script that touches it.
-- KEYS[1] is the namespace's base name. Every other key begins with it and so is in its slot; they
-- cannot be declared, because which shares a tick finds is known only here.

local base = KEYS[1]
local clock = redis.call('TIME')
local micros = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now = math.floor(micros / 1000)
local pods = base .. ':pods'
local expiring = base .. ':expiring'

local function place_key(kind, key) return base .. ':hold:' .. kind .. ':' .. key end
local function count_key(kind, key) return base .. ':tally:' .. kind .. ':' .. key end
local function sid_key(sid) return base .. ':sid:' .. sid end
local function pod_key(pod) return base .. ':pod:' .. pod end
local function notice_key(pod) return base .. ':notices:' .. pod end

-- Numbers of sixteen digits keep all of them.
local function text(number) return string.format('%.0f', number) end

-- A mark of the time order: its sid is measured, so that any sid and any key can be told apart.
local function mark(kind, sid, key) return kind .. ':' .. #sid .. ':' .. sid .. key end
local function read_mark(written)
  local kind, length = string.match(written, '^(%l+):(%d+):')
  local begins = #kind + #length + 3
  local ends = begins + tonumber(length)
  return kind, string.sub(written, begins, ends - 1), string.sub(written, ends)
end

-- A connection's set names its places as kind:key.
local function read_place(written)
  local colon = string.find(written, ':', 1, true)
  return string.sub(written, 1, colon - 1), string.sub(written, colon + 1)
end

-- A share as it is stored: a header, one line of JSON, then the data as the caller wrote it, which no
-- script reads, since cjson would not give it back as it was.
local function parse(stored)
  local line = string.find(stored, '\n', 1, true)
  local header = cjson.decode(string.sub(stored, 1, line - 1))
  return {
    holder = header[1],
    pod = header[2],
    exclusive = header[3],
    since = tonumber(header[4]),
    deadline = tonumber(header[5]),
  }
end
local function living(share) return share.deadline == 0 or share.deadline > now end

-- The tally of a place: how many shares each holder has (h:holder), how many shares need a closer look
-- because they are exclusive or lapse (!special), and the newest share's time (!newest).
local function tally(counts, share, by)
  local left = redis.call('HINCRBY', counts, 'h:' .. share.holder, by)
  if left <= 0 then redis.call('HDEL', counts, 'h:' .. share.holder) end
  if share.exclusive or share.deadline ~= 0 then
    redis.call('HINCRBY', counts, '!special', by)
  end
  return left
end

-- What stands against a wish: the oldest conflicting share and its sid, or nothing; and how many living
-- shares others have, and whether this connection has one. A place of ordinary shares only is not
-- looked through.
local function stands_against(kind, key, sid, holder, exclusive)
  local place = place_key(kind, key)
  local special = tonumber(redis.call('HGET', count_key(kind, key), '!special') or '0')
  if special == 0 and not exclusive then
    local mine = redis.call('HEXISTS', place, sid)
    return nil, nil, redis.call('HLEN', place) - mine, mine == 1
  end
  local shares = redis.call('HGETALL', place)
  local oldest, oldest_sid, oldest_since
  local others, mine = 0, false
  for i = 1, #shares, 2 do
    local share = parse(shares[i + 1])
    if living(share) then
      local conflicts = share.holder ~= holder and (exclusive or share.exclusive)
      if conflicts and (not oldest or share.since < oldest_since) then
        oldest, oldest_sid, oldest_since = shares[i + 1], shares[i], share.since
      end
      if shares[i] == sid then mine = true else others = others + 1 end
    end
  end
  return oldest, oldest_sid, others, mine
end

-- Writes a share down everywhere. A share that the connection has already is replaced.
local function put(kind, key, sid, share, data)
  local place, counts = place_key(kind, key), count_key(kind, key)
  local before = redis.call('HGET', place, sid)
  if before then
    before = parse(before)
    tally(counts, before, -1)
    if before.pod ~= share.pod then redis.call('SREM', pod_key(before.pod), sid) end
  end
  tally(counts, share, 1)
  local newest = tonumber(redis.call('HGET', counts, '!newest') or '0')
  if share.since > newest then redis.call('HSET', counts, '!newest', text(share.since)) end
  local header = cjson.encode({
    share.holder, share.pod, share.exclusive, text(share.since), text(share.deadline),
  })
  local stored = header .. '\n' .. data
  redis.call('HSET', place, sid, stored)
  redis.call('SADD', sid_key(sid), kind .. ':' .. key)
  redis.call('SADD', pod_key(share.pod), sid)
  if share.deadline ~= 0 then
    redis.call('ZADD', expiring, share.deadline, mark(kind, sid, key))
  elseif before and before.deadline ~= 0 then
    redis.call('ZREM', expiring, mark(kind, sid, key))
  end
  return stored
end

-- Ends one share everywhere. Gives the share as it was stored and '1' where its holder has none left.
-- The pod that serves the connection is told by a notice, unless it is the one that asks, or is dead.
local function drop(kind, key, sid, asking)
  local place, counts = place_key(kind, key), count_key(kind, key)
  local stored = redis.call('HGET', place, sid)
  if not stored then return nil end
  local share = parse(stored)
  redis.call('HDEL', place, sid)
  local left = tally(counts, share, -1)
  if redis.call('EXISTS', place) == 0 then redis.call('DEL', counts) end
  redis.call('SREM', sid_key(sid), kind .. ':' .. key)
  if redis.call('EXISTS', sid_key(sid)) == 0 then redis.call('SREM', pod_key(share.pod), sid) end
  if share.deadline ~= 0 then redis.call('ZREM', expiring, mark(kind, sid, key)) end
  if share.pod ~= asking and redis.call('ZSCORE', pods, share.pod) then
    local notice = cjson.encode({ kind, key, sid, text(share.since) })
    redis.call('RPUSH', notice_key(share.pod), notice)
  end
  return stored, left <= 0 and '1' or '0'
end

