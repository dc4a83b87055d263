-- Deletes a session's rows. Its epoch stays until it expires, so that a zombie can't start it anew.
-- KEYS: meta, log   ARGV: epoch, time to live in ms   Returns {'ok', 0}
local meta, log = KEYS[1], KEYS[2]
local epoch, ttl_ms = tonumber(ARGV[1]), ARGV[2]

local stored = redis.call('HGET', meta, 'epoch')
if not stored then
  redis.call('DEL', log)
elseif tonumber(stored) <= epoch then
  redis.call('DEL', log)
  redis.call('HSET', meta, 'epoch', epoch, 'bytes', 0)
  redis.call('PEXPIRE', meta, ttl_ms)
end
return {'ok', 0}
