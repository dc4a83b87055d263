-- Takes a session over: fences older epochs out and returns the rows that are stored.
-- KEYS: meta (hash: epoch, digest, bytes), log (list of records)
-- ARGV: epoch, digest, time to live in ms
-- Returns {'stale', stored epoch} or {'ok', records}
local meta, log = KEYS[1], KEYS[2]
local epoch, digest, ttl_ms = tonumber(ARGV[1]), ARGV[2], ARGV[3]

local stored = redis.call('HMGET', meta, 'epoch', 'digest')
if stored[1] and tonumber(stored[1]) > epoch then
  return {'stale', tonumber(stored[1])}
end
redis.call('HSET', meta, 'epoch', epoch)
-- Rows without meta (evicted apart from it) are of an unknown bundle, so they go as well.
if stored[2] ~= digest then
  redis.call('HSET', meta, 'digest', digest, 'bytes', 0)
  redis.call('DEL', log)
end
redis.call('PEXPIRE', meta, ttl_ms)
redis.call('PEXPIRE', log, ttl_ms)
return {'ok', redis.call('LRANGE', log, 0, -1)}
