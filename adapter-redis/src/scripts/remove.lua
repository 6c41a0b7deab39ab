-- Removes a document. Answers how many there were.
-- KEYS: document, collection    ARGV: id
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('DEL', KEYS[1])
